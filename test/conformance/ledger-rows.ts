/** Rows, entries and changesets to test a ledger with. Every call makes new ids and names, so tests do not collide. */
import { type AuditEvent, type AuditRecord, auditRecord } from '../../src/domain/audit-entry.ts';
import { placeAt } from '../../src/domain/delivery.ts';
import type { FenceFacts } from '../../src/domain/fences.ts';
import { type IdPrefix, idEntropyBytes, makeId } from '../../src/domain/ids.ts';
import { type Freeze, type Incident, type IncidentItem, noMeasures } from '../../src/domain/incident.ts';
import { emptyRoot, nodeHash } from '../../src/domain/merkle.ts';
import type * as model from '../../src/domain/model.ts';
import { type SignalStream, signalEvents } from '../../src/domain/signals.ts';
import type { Webhook } from '../../src/domain/webhook.ts';
import {
  type Changeset,
  type Ledger,
  type LedgerStore,
  type TableName,
  type Tables,
  unassigned,
  type Write,
} from '../../src/ports/ledger.ts';

/** A store under test. */
export interface OpenedLedger {
  store: LedgerStore;
  /** Closes what is open and opens the same data again. */
  reopen(): Promise<LedgerStore>;
  close(): Promise<void>;
}
/** Opens a store on fresh data. */
export type OpenLedger = () => Promise<OpenedLedger>;

/** The moment the tests take place. */
export const now = Date.UTC(2026, 10, 22, 12);
export const minute = 60_000;
export const hour = 60 * minute;

let made = 0;
/** @returns a number not returned before */
export const unique = (): number => {
  made += 1;
  return made;
};

/** @returns an id as the product makes them: those of one millisecond sort in the order they were made */
export const id = (prefix: IdPrefix, at = now): string => {
  const random = Buffer.alloc(idEntropyBytes);
  random.writeUInt32BE(unique(), idEntropyBytes - 4);
  return makeId(prefix, at, random);
};

const sealed = (text: string): model.SealedBox => ({ kek: 1, key_nonce: 'AAAA', key: 'BBBB', nonce: 'CCCC', text });
const stamps = { version: 1, created_at: now, updated_at: now } as const;

export const agent = (over: Partial<model.Agent> = {}): model.Agent => ({
  id: id('agt'),
  name: `agent-${unique()}`,
  owner: 'team-a',
  purpose: null,
  auth: { method: 'client_secret_basic', secret_digest: 'ab' },
  dpop: 'optional',
  status: 'active',
  ...stamps,
  ...over,
});

export const operator = (over: Partial<model.Operator> = {}): model.Operator => ({
  id: id('op'),
  name: `operator-${unique()}`,
  roles: ['auditor'],
  token_digest: 'cd',
  status: 'active',
  expires_at: null,
  ...stamps,
  ...over,
});

export const connection = (over: Partial<model.Connection> = {}): model.Connection => ({
  id: id('con'),
  name: `connection-${unique()}`,
  provider: 'api-key',
  owner: null,
  settings: {},
  status: 'active',
  secret_version: null,
  secret_source: null,
  ...stamps,
  ...over,
});

export const secret = (
  of: Pick<model.Connection, 'id'>,
  over: Partial<model.SecretVersion> = {},
): model.SecretVersion => ({
  id: id('sec'),
  connection_id: of.id,
  number: 1,
  state: 'current',
  sealed: sealed('DDDD'),
  ...stamps,
  ...over,
});

export const entitlement = (
  whose: Pick<model.Agent, 'id'>,
  on: Pick<model.Connection, 'id'>,
  over: Partial<model.Entitlement> = {},
): model.Entitlement => ({
  id: id('ent'),
  agent_id: whose.id,
  connection_id: on.id,
  scopes: ['read'],
  max_ttl_seconds: 3600,
  approval: 'none',
  hours: null,
  budget: null,
  reason: null,
  on_behalf_of: null,
  granted_by: 'op',
  expires_at: null,
  ...stamps,
  ...over,
});

export const grant = (over: Partial<model.Grant> = {}): model.Grant => {
  const issued = over.issued_at ?? now;
  return {
    id: id('grt', issued),
    seq: unassigned,
    agent_id: 'agt_1',
    connection_id: 'con_1',
    entitlement_id: 'ent_1',
    provider: 'api-key',
    owner: 'team-a',
    subject: null,
    issuers: [],
    scopes: ['read'],
    enforcement: 'gateway',
    credential_type: 'gateway',
    status: 'active',
    token_digest: null,
    jkt: null,
    authorization_details: null,
    handle: null,
    upstream: null,
    reason: null,
    revocation_id: null,
    issued_at: issued,
    expires_at: issued + hour,
    max_expires_at: Math.max(issued + hour, over.expires_at ?? 0),
    version: 1,
    ...over,
  };
};

export const agentToken = (over: Partial<model.AgentToken> = {}): model.AgentToken => ({
  id: id('tok'),
  seq: unassigned,
  agent_id: 'agt_1',
  owner: 'team-a',
  subject: null,
  issuers: [],
  jkt: null,
  subject_expires_at: null,
  token_digest: 'ef',
  status: 'active',
  issued_at: now,
  expires_at: now + hour,
  version: 1,
  ...over,
});

export const trustedIssuer = (over: Partial<model.TrustedIssuer> = {}): model.TrustedIssuer => {
  const name = `issuer-${unique()}`;
  return {
    id: id('iss'),
    name,
    issuer: `https://${name}.example`,
    keys: { from: 'discovery' },
    audiences: [],
    algorithms: ['ES256'],
    uses: ['subject'],
    subject_claim: 'sub',
    claims: {},
    max_token_age_seconds: 3600,
    single_use: true,
    status: 'active',
    ...stamps,
    ...over,
  };
};

export const fence = (selector: model.Selector, over: Partial<model.Fence> = {}): model.Fence => ({
  id: `${id('rev')}:fence`,
  seq: unassigned,
  revocation_id: id('rev'),
  selector,
  created_at: now,
  ...over,
});

export const revocation = (over: Partial<model.Revocation> = {}): model.Revocation => ({
  id: id('rev'),
  seq: unassigned,
  selector: { agent: 'agt_1' },
  reason: 'a test',
  requested_by: 'op',
  suspend: false,
  suspended: null,
  owned_agents: null,
  rotate: false,
  rotations: null,
  grants: null,
  upstream_pending: 0,
  upstream_revoked: 0,
  upstream_unrevocable: 0,
  created_at: now,
  completed_at: null,
  version: 1,
  ...over,
});

export const keyEncryptionKey = (over: Partial<model.KeyEncryptionKey> = {}): model.KeyEncryptionKey => {
  const number = unique();
  return {
    id: `kek_${number}`,
    number,
    kms: 'local',
    wrapped: 'EEEE',
    state: 'current',
    version: 1,
    created_at: now,
    ...over,
  };
};

export const signingKey = (over: Partial<model.SigningKey> = {}): model.SigningKey => ({
  id: `key_${unique()}`,
  purpose: 'jwt',
  algorithm: 'ES256',
  public_jwk: { kty: 'EC' },
  sealed: sealed('FFFF'),
  state: 'current',
  retire_at: null,
  version: 1,
  created_at: now,
  ...over,
});

export const freeze = (over: Partial<Freeze> = {}): Freeze => ({
  id: id('frz'),
  seq: unassigned,
  selector: { agent: 'agt_1' },
  reason: 'test',
  incident_id: null,
  created_by: 'op',
  created_at: now,
  lifted_at: null,
  lifted_by: null,
  lift_reason: null,
  version: 1,
  ...over,
});

export const incident = (over: Partial<Incident> = {}): Incident => ({
  id: id('inc'),
  title: 'something happened',
  severity: 'high',
  status: 'open',
  drill: false,
  selector: { agent: 'agt_1' },
  names: {},
  window_from: now - hour,
  window_to: null,
  reason: 'test',
  opened_by: 'op',
  measures: { ...noMeasures },
  changes: [],
  contained_at: null,
  recovered_at: null,
  closed_at: null,
  ...stamps,
  ...over,
});

export const incidentItem = (of: Pick<Incident, 'id'>, over: Partial<IncidentItem> = {}): IncidentItem => {
  const number = over.number ?? 1;
  return {
    id: `${of.id}:${number}`,
    incident_id: of.id,
    number,
    kind: 'rotate',
    about: 'connection:con_1',
    text: 'rotate it',
    assigned_to: null,
    status: 'open',
    note: null,
    closed_by: null,
    closed_at: null,
    ...stamps,
    ...over,
  };
};

export const usedOnce = (over: Partial<model.UsedOnce> = {}): model.UsedOnce => ({
  id: `jti_${unique()}`,
  expires_at: now + hour,
  ...over,
});

export const budgetUse = (over: Partial<model.BudgetUse> = {}): model.BudgetUse => ({
  id: `ent_1:60:${unique()}`,
  entitlement_id: 'ent_1',
  window_start: now,
  used: 1,
  expires_at: now + minute,
  ...over,
});

export const authorization = (
  of: Pick<model.Connection, 'id'>,
  over: Partial<model.Authorization> = {},
): model.Authorization => ({
  id: id('aut'),
  connection_id: of.id,
  subject: null,
  status: 'connected',
  sealed: sealed('GGGG'),
  tokens_version: 1,
  scopes: [],
  account: null,
  connected_by: 'op_1',
  redeeming: null,
  last_refreshed_at: null,
  failure: null,
  ...stamps,
  ...over,
});

export const authorizationFlow = (
  of: Pick<model.Connection, 'id'>,
  over: Partial<model.AuthorizationFlow> = {},
): model.AuthorizationFlow => ({
  id: id('flw'),
  connection_id: of.id,
  subject: null,
  operator_id: 'op_1',
  status: 'offered',
  link_digest: 'ab',
  state_digest: null,
  cookie_digest: null,
  sealed: null,
  redirect_uri: 'https://warder.example/oauth/callback',
  failure: null,
  authorization_id: null,
  expires_at: now + minute,
  ...stamps,
  ...over,
});

export const webhook = (over: Partial<Webhook> = {}): Webhook => ({
  id: id('whk'),
  name: `webhook-${unique()}`,
  url: 'https://alerts.example.com/warder',
  events: ['*'],
  allow_private_network: false,
  status: 'active',
  disabled_because: null,
  sealed: sealed('whsec'),
  secret_number: 1,
  previous_until: null,
  ...placeAt(0),
  ...stamps,
  ...over,
});

export const signalStream = (over: Partial<SignalStream> = {}): SignalStream => ({
  id: id('ssf'),
  name: `stream-${unique()}`,
  aud: ['https://receiver.example.com'],
  token_digest: 'ef',
  events_supported: [...signalEvents],
  events_requested: null,
  allow_private_network: false,
  share_reasons: false,
  method: 'poll',
  endpoint_url: null,
  sealed: null,
  status: 'absent',
  status_reason: null,
  description: null,
  acked: [],
  ...placeAt(0),
  ...stamps,
  ...over,
});

/** What a fence looks at, of something nothing matches unless `over` says so. */
export const facts = (over: Partial<FenceFacts> = {}): FenceFacts => ({
  agent: 'agt_of_facts',
  connection: null,
  provider: null,
  owners: [],
  subject: null,
  issuers: [],
  entitlement: null,
  grant: null,
  ...over,
});

export const entry = (over: Partial<AuditEvent> = {}): AuditRecord =>
  auditRecord({
    type: 'test.done',
    at: now,
    actor: { kind: 'system', name: 'test' },
    outcome: 'done',
    data: { n: unique() },
    ...over,
  });

// A table and a row of that table are a write of it; the union of all tables does not see that through a type variable.
export const insert = <T extends TableName>(table: T, row: Tables[T]): Write =>
  ({ write: 'insert', table, row }) as Write;
export const update = <T extends TableName>(
  table: T,
  rowId: string,
  set: Partial<Tables[T]>,
  from?: Partial<Tables[T]>,
): Write => ({ write: 'update', table, id: rowId, set, ...(from ? { from } : {}) }) as Write;
export const remove = <T extends TableName>(table: T, rowId: string, from?: Partial<Tables[T]>): Write =>
  ({ write: 'delete', table, id: rowId, ...(from ? { from } : {}) }) as Write;
export const spend = (row: model.BudgetUse, limit: number): Write => ({
  write: 'spend',
  table: 'budget_uses',
  row,
  limit,
});

/** A changeset of these writes with one entry. */
export const changeset = (...writes: Write[]): Changeset => ({ writes, audit: [entry()] });

/**
 * Commits what must be accepted.
 * @returns its sequence number
 */
export const accept = async (ledger: Ledger, what: Changeset): Promise<number> => {
  const result = await ledger.commit(what);
  if (!result.ok) throw new Error(`refused: ${JSON.stringify(result)}`);
  return result.seq;
};

/** Sends them all behind one that is being synced: where a store commits in groups, they share a batch. */
export const commitTogether = async (ledger: Ledger, changesets: Changeset[]) => {
  const first = ledger.commit(changeset());
  const results = changesets.map((one) => ledger.commit(one));
  await first;
  return Promise.all(results);
};

/** The bodies of all entries, in order. */
export const allBodies = async (store: LedgerStore): Promise<string[]> => {
  const { size } = await store.reader.treeHead();
  return (await store.reader.auditRange({}, 0, size, size)).map((stored) => stored.body);
};

/** MTH of RFC 6962 section 2.1, as it is written there. */
export const simpleRoot = (leaves: readonly Uint8Array[]): Uint8Array => {
  const [only] = leaves;
  if (only === undefined) return emptyRoot;
  if (leaves.length === 1) return only;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return nodeHash(simpleRoot(leaves.slice(0, k)), simpleRoot(leaves.slice(k)));
};
