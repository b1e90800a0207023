/** Fills a ledger with live grants, straight through its writer: a million of them over HTTP would take an hour. */
import { randomBytes } from 'node:crypto';
import { openForReading, openForWriting } from '../adapters/stores/sqlite/connection.ts';
import { makeReader } from '../adapters/stores/sqlite/reader.ts';
import { Writer } from '../adapters/stores/sqlite/writer.ts';
import { auditRecord } from '../src/domain/audit-entry.ts';
import { idEntropyBytes, makeId } from '../src/domain/ids.ts';
import type { Agent, Connection, Entitlement, Grant } from '../src/domain/model.ts';
import type { Changeset } from '../src/ports/ledger.ts';

const batchSize = 5000;

const grantOf = (agent: Agent, connection: Connection, entitlement: Entitlement, now: number): Changeset => {
  const id = makeId('grt', now, randomBytes(idEntropyBytes));
  const grant: Grant = {
    id,
    seq: -1,
    agent_id: agent.id,
    connection_id: connection.id,
    entitlement_id: entitlement.id,
    provider: connection.provider,
    owner: agent.owner,
    subject: null,
    issuers: [],
    scopes: entitlement.scopes,
    enforcement: 'gateway',
    credential_type: 'gateway',
    status: 'active',
    token_digest: randomBytes(32).toString('hex'),
    jkt: null,
    authorization_details: null,
    handle: null,
    upstream: null,
    reason: 'seeded',
    revocation_id: null,
    issued_at: now,
    expires_at: now + 3_600_000,
    max_expires_at: now + 3_600_000,
    version: 1,
  };
  return {
    writes: [{ write: 'insert', table: 'grants', row: grant }],
    audit: [
      auditRecord({
        type: 'grant.issued',
        at: now,
        actor: { kind: 'agent', id: agent.id, name: agent.name },
        outcome: 'done',
        agent: { id: agent.id, name: agent.name },
        connection: { id: connection.id, name: connection.name },
        grant: id,
        request_id: makeId('req', now, randomBytes(idEntropyBytes)),
        data: {
          scopes: grant.scopes,
          entitlement: entitlement.id,
          provider: connection.provider,
          credential_type: 'gateway',
          enforcement: 'gateway',
          expires_at: new Date(grant.expires_at).toISOString(),
          max_expires_at: new Date(grant.max_expires_at).toISOString(),
          reason: 'seeded',
        },
      }),
    ],
  };
};

/** Adds `count` live grants to a database no broker has open. */
export const seedGrants = (databasePath: string, count: number): void => {
  const reading = openForReading(databasePath);
  const snapshot = makeReader(reading).snapshot();
  reading.close();
  const entitlement = snapshot.entitlements[0];
  const agent = snapshot.agents.find((row) => row.id === entitlement?.agent_id);
  const connection = snapshot.connections.find((row) => row.id === entitlement?.connection_id);
  if (!agent || !connection || !entitlement)
    throw new Error('seed a ledger that has an agent, a connection, an entitlement');
  const db = openForWriting(databasePath);
  // Seeding is not what is measured, and nobody is told that it is durable.
  db.pragma('synchronous = OFF');
  const writer = new Writer(db);
  for (let done = 0; done < count; done += batchSize) {
    const now = Date.now();
    const size = Math.min(batchSize, count - done);
    writer.apply(Array.from({ length: size }, () => grantOf(agent, connection, entitlement, now)));
  }
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
};
