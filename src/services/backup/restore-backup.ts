/**
 * Restoring: the backup is read as a whole beside the data directory's ledger, fenced there in one commit, closed, and
 * only then given the name under which a broker looks for it. Whatever goes wrong before leaves everything as it was.
 */
import type { AuditRecord } from '../../domain/audit-entry.ts';
import { BadBackup, type RestoreReport, type RestoreRequest } from '../../domain/backup.ts';
import { Refused } from '../../domain/refusals.ts';
import type { RestorePlace } from '../../ports/backup.ts';
import type { Clock, Entropy } from '../../ports/clock.ts';
import type { Write } from '../../ports/ledger.ts';
import { type Caller, record } from '../core.ts';
import { State } from '../state.ts';
import { type Examined, type Examiner, examineBackup } from './examine-backup.ts';
import { fencing, type RestoredCore } from './fence-restored.ts';

export interface Restorer extends Examiner {
  /** The public URL of the configuration. */
  issuer: string;
  entropy: Entropy;
  place: RestorePlace;
  /** @param newestAt time does not go back behind it */
  clockFrom(newestAt: number): Clock;
}

const restorer: Caller = { actor: { kind: 'system', name: 'restore' }, requestId: 'restore' };

/**
 * @throws BadBackup, NoRoom; Refused `conflict` when there is a ledger already, or the configuration is another broker's
 */
export const restoreBackup = async (parts: Restorer, request: RestoreRequest): Promise<RestoreReport> => {
  const { place, file } = parts;
  if (place.occupied && !request.replace) {
    throw new Refused('conflict', 'there is a ledger already: --force moves it aside, and keeps it');
  }
  if (file.header.issuer !== parts.issuer) {
    throw new BadBackup(
      `this backup is of ${file.header.issuer}, and the configuration is of ${parts.issuer}; set WARDER_PUBLIC_URL to what it was`,
    );
  }
  const examined = await examineBackup(parts, { path: place.stagingPath, bytes: place.room() }, request.checkpoints);
  const report = await fenceAndClose(parts, examined, request);
  return { ...report, replaced: place.adopt() };
};

const fenceAndClose = async (parts: Restorer, examined: Examined, request: RestoreRequest) => {
  const { store, snapshot, keyring } = examined;
  try {
    parts.onProgress('fencing');
    const core: RestoredCore = {
      clock: parts.clockFrom(snapshot.newestAt),
      entropy: parts.entropy,
      state: new State(snapshot, store.ledger, store.reader),
      reader: store.reader,
      keyring,
    };
    return await commitRestored(core, examined, request);
  } finally {
    keyring.seal('restored');
    await store.close();
  }
};

const commitRestored = async (
  core: RestoredCore,
  { header, store, snapshot, boxes, missing }: Examined,
  { keepGrants }: RestoreRequest,
): Promise<Omit<RestoreReport, 'replaced'>> => {
  const fence = keepGrants ? undefined : await fencing(core, header, restorer);
  const said: AuditRecord = record(core, restorer, {
    type: 'backup.restored',
    data: {
      backup: header.id,
      made_at: header.created_at,
      entries: header.entries,
      root: header.root,
      missing_entries: missing,
      kept_grants: keepGrants !== undefined,
      reason: keepGrants?.reason,
      ...fence?.facts,
    },
  });
  const writes: Write[] = fence?.writes ?? [];
  const result = await store.ledger.commit({ writes, audit: [said, ...(fence?.audit ?? [])] });
  // Nobody else writes here.
  if (!result.ok) throw new Error(`the restored ledger refused to be fenced: ${result.why}`);
  return {
    backup: header.id,
    made_at: header.created_at,
    entries: header.entries,
    missing_entries: missing ?? null,
    seq: result.seq,
    kept_grants: keepGrants !== undefined,
    broken_boxes: boxes.broken,
    fenced: fence?.report ?? null,
    secrets: await keptSecrets(core, store),
    accounts: snapshot.authorizations
      .filter((row) => row.status === 'connected')
      .map((row) => ({
        connection: core.state.connections.get(row.connection_id)?.name ?? row.connection_id,
        subject: row.subject,
      })),
  };
};

/** Secrets that Warder keeps itself: each may have been replaced since, and then this one is dead. */
const keptSecrets = async (core: RestoredCore, { reader }: Examined['store']): Promise<RestoreReport['secrets']> => {
  const kept: RestoreReport['secrets'] = [];
  for (const { id, name, secret_version: version, secret_source: source } of core.state.connections.all()) {
    if (version === null || source !== null) continue;
    const secret = await reader.secret(id, version);
    if (secret) kept.push({ connection: name, version, set_at: new Date(secret.created_at).toISOString() });
  }
  return kept.sort((a, b) => (a.connection < b.connection ? -1 : 1));
};
