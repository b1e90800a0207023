/** Rows of the model for tests of pure rules: plain values, everything overridable. */
import type { Agent, AgentToken, Connection, Entitlement, Grant } from '../../src/domain/model.ts';

export const noon = Date.UTC(2026, 10, 22, 12);

const stamps = { version: 1, created_at: noon, updated_at: noon };

export const agentRow = (over: Partial<Agent> = {}): Agent => ({
  id: 'agt_1',
  name: 'reporter',
  owner: 'team-a',
  purpose: null,
  auth: { method: 'client_secret_basic', secret_digest: '' },
  dpop: 'optional',
  status: 'active',
  ...stamps,
  ...over,
});

export const connectionRow = (over: Partial<Connection> = {}): Connection => ({
  id: 'con_1',
  name: 'billing-db',
  provider: 'api-key',
  owner: null,
  settings: {},
  status: 'active',
  secret_version: 1,
  secret_source: null,
  ...stamps,
  ...over,
});

export const entitlementRow = (over: Partial<Entitlement> = {}): Entitlement => ({
  id: 'ent_1',
  agent_id: 'agt_1',
  connection_id: 'con_1',
  scopes: ['read'],
  max_ttl_seconds: 3600,
  approval: 'none',
  hours: null,
  budget: null,
  reason: null,
  on_behalf_of: null,
  granted_by: 'admin',
  expires_at: null,
  ...stamps,
  ...over,
});

export const grantRow = (over: Partial<Grant> = {}): Grant => ({
  id: 'grt_1',
  seq: 10,
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
  issued_at: noon,
  expires_at: noon + 300_000,
  max_expires_at: noon + 3_600_000,
  version: 1,
  ...over,
});

export const agentTokenRow = (over: Partial<AgentToken> = {}): AgentToken => ({
  id: 'tok_1',
  seq: 10,
  agent_id: 'agt_1',
  owner: 'team-a',
  subject: null,
  issuers: [],
  jkt: null,
  subject_expires_at: null,
  token_digest: '',
  status: 'active',
  issued_at: noon,
  expires_at: noon + 300_000,
  version: 1,
  ...over,
});
