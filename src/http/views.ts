/** How rows are shown. No digest, no sealed box, no handle ever passes through here. */
import { shownStatus } from '../domain/liveness.ts';
import type {
  Agent,
  AgentAuth,
  Authorization,
  Connection,
  Entitlement,
  Grant,
  Operator,
  Revocation,
  Selector,
  TrustedIssuer,
} from '../domain/model.ts';
import { endingIn, endsByIn } from '../domain/stored-handle.ts';
import type { UpstreamProgress } from '../ports/ledger.ts';
import type { Core } from '../services/core.ts';
import { sourceView } from '../services/secrets/refer-secret.ts';

export const iso = (ms: number): string => new Date(ms).toISOString();
export const isoOrNull = (ms: number | null): string | null => (ms === null ? null : iso(ms));

const stamps = (row: { version: number; created_at: number; updated_at: number }) => ({
  version: row.version,
  created_at: iso(row.created_at),
  updated_at: iso(row.updated_at),
});

export const agentView = (core: Core, agent: Agent) => {
  const { auth } = agent;
  return {
    id: agent.id,
    name: agent.name,
    client_id: agent.name,
    owner: agent.owner,
    purpose: agent.purpose,
    auth: authView(core, auth),
    dpop: agent.dpop,
    status: agent.status,
    ...stamps(agent),
  };
};

/** Whose account it is and how it does; no token. */
export const authorizationView = (core: Core, row: Authorization) => ({
  id: row.id,
  connection: core.state.connections.get(row.connection_id)?.name ?? row.connection_id,
  subject: row.subject,
  status: row.status,
  account: row.account,
  scopes: row.scopes,
  failure: row.failure,
  connected_by: core.state.operators.get(row.connected_by)?.name ?? row.connected_by,
  last_refreshed_at: isoOrNull(row.last_refreshed_at),
  ...stamps(row),
});

/** How an OAuth connection does: its own account, and how many of its users'. */
const accountsView = (core: Core, connection: Connection) => {
  const rows = core.state.authorizations.ofConnection(connection.id);
  const own = rows.find((row) => row.subject === null);
  const users = (status: Authorization['status']): number =>
    rows.filter((row) => row.subject !== null && row.status === status).length;
  return {
    status: own?.status ?? 'not_connected',
    account: own?.account ?? null,
    failure: own?.failure ?? null,
    subjects: {
      connected: users('connected'),
      needs_reconnect: users('needs_reconnect'),
      disconnected: users('disconnected'),
    },
  };
};

export const connectionView = (core: Core, connection: Connection) => {
  const provider = core.providers.get(connection.provider);
  return {
    id: connection.id,
    name: connection.name,
    provider: connection.provider,
    owner: connection.owner,
    settings: connection.settings,
    scopes: provider?.scopes(connection.settings) ?? [],
    enforcement: provider?.enforcement(connection.settings) ?? null,
    status: connection.status,
    ...(provider?.authorizations?.needsConsent(connection.settings)
      ? { authorization: accountsView(core, connection) }
      : {}),
    secret: connection.secret_source
      ? { from: sourceView(connection.secret_source, (id) => core.state.connections.get(id)) }
      : connection.secret_version === null
        ? null
        : { version: connection.secret_version },
    ...stamps(connection),
  };
};

const authView = (core: Core, auth: AgentAuth) => {
  if (auth.method === 'private_key_jwt') return auth;
  if (auth.method !== 'workload') return { method: auth.method };
  return { ...auth, issuer: core.state.trustedIssuers.get(auth.issuer)?.name ?? auth.issuer };
};

export const issuerView = ({ keys, ...row }: TrustedIssuer) => {
  const { from, ...source } = keys;
  return {
    id: row.id,
    name: row.name,
    issuer: row.issuer,
    keys: from,
    ...source,
    audiences: row.audiences,
    algorithms: row.algorithms,
    uses: row.uses,
    subject_claim: row.subject_claim,
    claims: row.claims,
    max_token_age_seconds: row.max_token_age_seconds,
    single_use: row.single_use,
    status: row.status,
    ...stamps(row),
  };
};

const minutes = (text: number): string =>
  `${String(Math.floor(text / 60)).padStart(2, '0')}:${String(text % 60).padStart(2, '0')}`;

export const entitlementView = (core: Core, row: Entitlement) => ({
  id: row.id,
  agent: core.state.agents.get(row.agent_id)?.name ?? row.agent_id,
  connection: core.state.connections.get(row.connection_id)?.name ?? row.connection_id,
  scopes: row.scopes,
  max_ttl_seconds: row.max_ttl_seconds,
  approval: row.approval,
  hours: row.hours && { from: minutes(row.hours.from), to: minutes(row.hours.to) },
  budget: row.budget,
  reason: row.reason,
  on_behalf_of: row.on_behalf_of,
  granted_by: row.granted_by,
  expires_at: isoOrNull(row.expires_at),
  ...stamps(row),
});

export const operatorView = (row: Operator) => ({
  id: row.id,
  name: row.name,
  roles: row.roles,
  status: row.status,
  expires_at: isoOrNull(row.expires_at),
  ...stamps(row),
});

/** What an agent sees of its grant. */
export const grantView = (core: Core, grant: Grant) => {
  const agent = core.state.agents.get(grant.agent_id);
  return {
    id: grant.id,
    agent: agent?.name ?? grant.agent_id,
    connection: core.state.connections.get(grant.connection_id)?.name ?? grant.connection_id,
    scopes: grant.scopes,
    ...(grant.subject === null ? {} : { subject: grant.subject }),
    status: shownStatus(grant, agent, core.state.fences, core.clock.now()),
    enforcement: grant.enforcement,
    issued_at: iso(grant.issued_at),
    expires_at: iso(grant.expires_at),
  };
};

/** How its clean-up upstream ended: since when it is gone; or when, why, and what a person can do, if it was given up on. */
const endingView = (grant: Grant) => {
  const { at, failure, byHand } = endingIn(grant.handle);
  return { upstream_ended_at: isoOrNull(at), failure, by_hand: byHand };
};

/** What an operator sees of it. */
export const grantAdminView = (core: Core, grant: Grant) => ({
  ...grantView(core, grant),
  entitlement: grant.entitlement_id,
  provider: grant.provider,
  credential_type: grant.credential_type,
  subject: grant.subject,
  issuers: grant.issuers.map((id) => core.state.trustedIssuers.get(id)?.name ?? id),
  dpop: grant.jkt !== null,
  owner: grant.owner,
  reason: grant.reason,
  upstream: grant.upstream,
  /** When a credential that cannot be taken back ends by itself; null when none was found to live on. */
  upstream_ends_by: isoOrNull(endsByIn(grant.handle) ?? null),
  ...endingView(grant),
  max_expires_at: iso(grant.max_expires_at),
});

/** Selectors hold ids; people know names. */
export const selectorView = (core: Core, selector: Selector): Record<string, unknown> => ({
  ...selector,
  ...(selector.agent === undefined ? {} : { agent: core.state.agents.get(selector.agent)?.name ?? selector.agent }),
  ...(selector.connection === undefined
    ? {}
    : { connection: core.state.connections.get(selector.connection)?.name ?? selector.connection }),
  ...(selector.issuer === undefined
    ? {}
    : { issuer: core.state.trustedIssuers.get(selector.issuer)?.name ?? selector.issuer }),
});

/** @param left what of it lives on and cannot be taken back: counted in `pending`, too */
export const revocationView = (
  core: Core,
  row: Revocation,
  left: Pick<UpstreamProgress, 'livesOn' | 'endsBy'> = { livesOn: 0, endsBy: null },
) => ({
  id: row.id,
  selector: selectorView(core, row.selector),
  reason: row.reason,
  requested_by: row.requested_by,
  suspend: row.suspend,
  suspended: row.suspended,
  rotate: row.rotate,
  /** null: not worked out yet. */
  rotations: row.rotations ?? (row.rotate ? null : []),
  fenced_at: iso(row.created_at),
  fence: row.seq,
  grants: row.grants,
  upstream: {
    pending: row.upstream_pending,
    revoked: row.upstream_revoked,
    unrevocable: row.upstream_unrevocable,
    lives_on: left.livesOn,
    ends_by: isoOrNull(left.endsBy),
  },
  completed_at: isoOrNull(row.completed_at),
});
