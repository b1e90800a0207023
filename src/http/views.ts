/** How rows are shown. No digest, no sealed box, no handle ever passes through here. */
import { shownStatus } from '../domain/liveness.ts';
import type { Agent, Connection, Entitlement, Grant, Operator, Revocation, Selector } from '../domain/model.ts';
import type { Core } from '../services/core.ts';

export const iso = (ms: number): string => new Date(ms).toISOString();
export const isoOrNull = (ms: number | null): string | null => (ms === null ? null : iso(ms));

const stamps = (row: { version: number; created_at: number; updated_at: number }) => ({
  version: row.version,
  created_at: iso(row.created_at),
  updated_at: iso(row.updated_at),
});

export const agentView = (agent: Agent) => {
  const { auth } = agent;
  return {
    id: agent.id,
    name: agent.name,
    client_id: agent.name,
    owner: agent.owner,
    purpose: agent.purpose,
    auth: auth.method === 'private_key_jwt' ? auth : { method: auth.method },
    status: agent.status,
    ...stamps(agent),
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
    secret: connection.secret_version === null ? null : { version: connection.secret_version },
    ...stamps(connection),
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
    status: shownStatus(grant, agent, core.state.fences, core.clock.now()),
    enforcement: grant.enforcement,
    issued_at: iso(grant.issued_at),
    expires_at: iso(grant.expires_at),
  };
};

/** What an operator sees of it. */
export const grantAdminView = (core: Core, grant: Grant) => ({
  ...grantView(core, grant),
  entitlement: grant.entitlement_id,
  provider: grant.provider,
  credential_type: grant.credential_type,
  subject: grant.subject,
  owner: grant.owner,
  reason: grant.reason,
  upstream: grant.upstream,
  max_expires_at: iso(grant.max_expires_at),
});

/** Selectors hold ids; people know names. */
export const selectorView = (core: Core, selector: Selector): Record<string, unknown> => ({
  ...selector,
  ...(selector.agent === undefined ? {} : { agent: core.state.agents.get(selector.agent)?.name ?? selector.agent }),
  ...(selector.connection === undefined
    ? {}
    : { connection: core.state.connections.get(selector.connection)?.name ?? selector.connection }),
});

export const revocationView = (core: Core, row: Revocation) => ({
  id: row.id,
  selector: selectorView(core, row.selector),
  reason: row.reason,
  requested_by: row.requested_by,
  suspend: row.suspend,
  fenced_at: iso(row.created_at),
  fence: row.seq,
  grants: row.grants,
  upstream: {
    pending: row.upstream_pending,
    revoked: row.upstream_revoked,
    unrevocable: row.upstream_unrevocable,
  },
  completed_at: isoOrNull(row.completed_at),
});
