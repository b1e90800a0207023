/**
 * The issuance cycle: the one way a credential comes to exist. docs/architecture.md says why the steps stand in this
 * order; the short of it: what may exist upstream is recorded before it is made, what is delivered is recorded before
 * it is delivered, and what was decided is checked again in the commit that makes it true.
 */
import { hash } from 'node:crypto';
import { detailsType } from '../../domain/authorization-details.ts';
import { canonicalJson } from '../../domain/canonical-json.ts';
import { type Decision, decide } from '../../domain/decide.ts';
import { grantFacts } from '../../domain/liveness.ts';
import type { Agent, Connection, Grant } from '../../domain/model.ts';
import { isName, isScopeName } from '../../domain/names.ts';
import { Refused } from '../../domain/refusals.ts';
import { makeToken, tokenDigest, tokenEntropyBytes } from '../../domain/tokens.ts';
import {
  type Changeset,
  type CommitRefusal,
  type Committed,
  type Guard,
  unassigned,
  type Write,
} from '../../ports/ledger.ts';
import { type Handle, type Minted, type MintRequest, type Provider, ProviderFailure } from '../../ports/provider.ts';
import { type Caller, commit, newId, record } from '../core.ts';
import { frozen, requireUnfrozen } from '../incidents/freeze.ts';
import { InvalidInput } from '../invalid-input.ts';
import { undoIntended } from '../revocation/undo-intended.ts';
import { inTime, refusalOfProvider } from './provider-calls.ts';
import { type CoreWithSecrets, providerContext } from './provider-context.ts';

export interface IssueRequest {
  /** Authenticated by the edge: by agent token, or as a client of the token endpoint. */
  agent: Agent;
  connection: string;
  scopes: readonly string[];
  ttlSeconds?: number | undefined;
  reason?: string | undefined;
  subject?: string | undefined;
  /** What the provider wants to know beside scopes. */
  parameters?: Record<string, unknown> | undefined;
  /** Refuse, before anything is made, a credential that is not one bearer token: the token endpoint can only give that. */
  bearerOnly?: boolean;
  /** Likewise one that is not a JWT of Warder's own. */
  jwtOnly?: boolean | undefined;
  /** Ids of trusted issuers on whose word it is asked for. */
  issuers?: readonly string[] | undefined;
  /** Thumbprint of the key the credential is to be bound to, where Warder makes it (RFC 9449). */
  jkt?: string | undefined;
  /** It ends by then, in milliseconds since the epoch: what it is asked for with ends then. */
  notAfter?: number | undefined;
  /** Asked for as authorization_details (RFC 9396): what is granted is told in that form. */
  detailed?: boolean | undefined;
  /** What must still be so when it is committed, beside what issuing itself needs. */
  guards?: readonly Guard[] | undefined;
}

export interface Issued {
  grant: Grant;
  connection: Connection;
  credential: Record<string, unknown> & { type: string };
}

type Allowed = Extract<Decision, { outcome: 'allow' }>;

const bearerTypes = new Set(['gateway', 'bearer', 'jwt']);
/** Credentials that Warder itself makes: the others are bound to a key by nobody. */
const bindableTypes = new Set(['gateway', 'jwt']);

/** How often a decision is taken anew because what it rested on changed before it could be committed. */
const maxAttempts = 3;

/**
 * Issues a grant and its credential.
 * @throws Refused with the code the agent is told; the refusal is in the audit log
 */
export const issueGrant = async (core: CoreWithSecrets, request: IssueRequest, caller: Caller): Promise<Issued> => {
  try {
    for (let attempt = 1; ; attempt += 1) {
      const id = newId(core, 'grt');
      // While it is here, an intent of this grant is somebody's work; afterwards it is the drain's (drain-upstream.ts).
      core.state.issuing.add(id);
      try {
        const issued = await attemptIssue(core, id, request, caller);
        if (issued) return issued;
      } finally {
        core.state.issuing.delete(id);
      }
      if (attempt === maxAttempts) throw new Refused('conflict', 'the rules changed while this was decided; try again');
    }
  } catch (error) {
    const refused = error instanceof Refused ? error : undefined;
    await recordRefusal(core, request, caller, refused?.refusal.code ?? 'internal');
    throw error;
  }
};

/** @returns undefined when the decision was overtaken before anything came to exist: decide again */
const attemptIssue = async (
  core: CoreWithSecrets,
  id: string,
  request: IssueRequest,
  caller: Caller,
): Promise<Issued | undefined> => {
  // 1. Authenticate. The edge did, against a row that may have changed since: this is the row as of now.
  const agent = core.state.agents.get(request.agent.id);
  if (!agent) throw new Refused('unauthenticated', 'no valid token was presented');

  // 2. Resolve. From memory, and with it the point in the ledger this decision rests on.
  const decidedAt = core.state.newestSeq;
  const connection = core.state.connections.named(request.connection);
  const entitlements = connection ? core.state.entitlementsOf(agent.id, connection.id) : [];
  const provider = connection ? core.providers.get(connection.provider) : undefined;
  const offered = connection && provider ? provider.scopes(connection.settings) : [];

  // 3. Decide. Pure: the same facts give the same answer.
  const now = core.clock.now();
  const decision = decide(agent, connection, entitlements, offered, request, now);
  if (decision.outcome === 'deny') {
    const scopes = decision.code === 'scope_not_allowed' ? { scopes: request.scopes } : {};
    throw new Refused(decision.code, decision.detail, scopes);
  }
  if (decision.outcome === 'needs_approval' || !connection || !provider) {
    throw new Refused('approval_denied', 'this entitlement needs an approval, and nobody can give one here');
  }
  core.keyring.requireUnsealed();
  const grant = plannedGrant(id, request, agent, connection, provider, decision);
  // Only now, after the decision: whoever is not entitled learns nothing of freezes.
  requireUnfrozen(core, grantFacts(grant, agent));
  const asked = checkedRequest(provider, mintRequest(grant, agent, connection, request.parameters));
  const plan = provider.plan(asked);
  grant.credential_type = plan.credentialType;
  grant.handle = plan.handle;
  grant.upstream = plan.handle === null ? null : 'live';
  if (!bindableTypes.has(plan.credentialType)) grant.jkt = null;
  if (request.bearerOnly && !bearerTypes.has(plan.credentialType)) {
    throw new Refused('not_found', 'the credential of this connection is not a bearer token; ask for it at /v1/grants');
  }
  if (connection.secret_version === null && !connection.secret_source && needsSecret(provider)) {
    throw new Refused('conflict', 'this connection has no secret yet');
  }
  if (provider.authorizations?.needsConsent(connection.settings)) {
    core.authorizations.require(core, connection.id, grant.subject);
  }
  if (request.jwtOnly && plan.credentialType !== 'jwt') {
    throw new Refused('invalid_request', 'the credential of this connection is not of the requested token type');
  }
  const asFound = request.guards ?? [];
  const guards = [...guardsOf(grant, agent, connection, decision, decidedAt), ...asFound];
  const spending = budgetWrites(decision, now);
  const named = {
    agent: { id: agent.id, name: agent.name },
    connection: { id: connection.id, name: connection.name },
    grant: grant.id,
  };

  // 4. Intend. Only when something will exist upstream: from here on a crash leaves a record of what to undo.
  const intended = plan.handle !== null;
  if (intended) {
    const result = await commit(core, {
      guards,
      writes: [{ write: 'insert', table: 'grants', row: { ...grant, status: 'intended' } }, ...spending],
      audit: [record(core, caller, { type: 'grant.intended', ...named, data: facts(grant, request) })],
    });
    if (!result.ok) return overtaken(result);
  }

  // 5. Mint. The only step that touches the outside world.
  const handed = providerContext(core, grant, connection, caller);
  const undo = (why: string, handle: Handle | null, mayAppear = false) =>
    undoIntended(core, grant.id, caller, { why, connection, handle, mayAppear });
  let minted: Minted;
  try {
    const minting = provider.mint(asked, plan, handed.context);
    minted = await (intended ? inTime(handed.context.signal, minting) : minting);
  } catch (error) {
    // Whatever was journalled is recorded: nothing knows a better handle than that.
    if (intended) await undo('minting failed', null, wentSilent(error));
    throw refusalOfProvider(error);
  }
  const { credential, digest } = finish(core, grant, connection, minted);
  const settled: Grant = {
    ...grant,
    status: 'active',
    token_digest: digest,
    handle: handed.handleWith(minted),
  };

  // 6. Settle. All that was decided must still be so in the very commit that issues.
  const settling = (current: Connection): Changeset => ({
    guards: [...guardsOf(settled, agent, current, decision, decidedAt), ...asFound],
    writes: intended
      ? [
          {
            write: 'update',
            table: 'grants',
            id: grant.id,
            set: { status: 'active', token_digest: digest, handle: settled.handle, seq: unassigned, version: 2 },
            from: { status: 'intended' },
          },
        ]
      : [{ write: 'insert', table: 'grants', row: settled }, ...spending],
    audit: [record(core, caller, { type: 'grant.issued', ...named, data: facts(settled, request) })],
  });
  let result: Committed;
  try {
    result = await commitOverSecret(core, connection, settling);
  } catch (error) {
    // Nobody knows whether it was written. The intent was: what cannot be undone now, the drain or a restart undoes.
    if (intended) {
      await undo('settling failed', settled.handle).catch((failure: unknown) =>
        core.log.error({ err: failure, grant: grant.id }, 'undo must wait for the ledger'),
      );
    }
    throw error;
  }
  if (!result.ok) {
    if (!intended) return overtaken(result);
    await undo(`settling was refused: ${result.why}`, settled.handle);
    overtaken(result);
    throw new Refused('conflict', 'the rules changed while this was issued; it was taken back');
  }

  // 7. Deliver. The entry is durable; only now does the credential leave.
  const told = settled.jkt === null ? credential : { ...credential, token_type: 'DPoP' };
  return { grant: { ...settled, seq: result.seq }, connection, credential: told };
};

/** The upstream may have heard, and may yet do it: anything but a clear no. */
const wentSilent = (error: unknown): boolean =>
  !(error instanceof ProviderFailure && error.kind === 'refused' && !error.made);

/**
 * Commits what rests on a connection. A new secret does not change what was decided, so that one set meanwhile (by an
 * operator, by this grant's provider or another's) only means to hold on to the newer row.
 */
const commitOverSecret = async (
  core: CoreWithSecrets,
  decidedOn: Connection,
  changeset: (current: Connection) => Changeset,
): Promise<Committed> => {
  const decisive = ({ status, settings }: Connection): string => JSON.stringify({ status, settings });
  for (let held = decidedOn; ; ) {
    const result = await commit(core, changeset(held));
    const current = core.state.connections.get(held.id);
    const changed = !result.ok && result.why === 'changed' && result.table === 'connections';
    if (!changed || !current || current.version === held.version || decisive(current) !== decisive(decidedOn)) {
      return result;
    }
    held = current;
  }
};

const needsSecret = (provider: Provider): boolean => !provider.checkSecret(undefined).ok;

const plannedGrant = (
  id: string,
  request: IssueRequest,
  agent: Agent,
  connection: Connection,
  provider: Provider,
  decision: Allowed,
): Grant => ({
  id,
  seq: unassigned,
  agent_id: agent.id,
  connection_id: connection.id,
  entitlement_id: decision.entitlement.id,
  provider: connection.provider,
  owner: agent.owner,
  subject: request.subject ?? null,
  issuers: [...(request.issuers ?? [])],
  scopes: decision.scopes,
  enforcement: provider.enforcement(connection.settings),
  credential_type: '',
  status: 'active',
  token_digest: null,
  jkt: request.jkt ?? null,
  authorization_details: request.detailed
    ? [
        {
          type: detailsType,
          connection: connection.name,
          scopes: decision.scopes,
          ttl_seconds: Math.floor((decision.expiresAt - decision.issuedAt) / 1000),
        },
      ]
    : null,
  handle: null,
  upstream: null,
  reason: request.reason ?? null,
  revocation_id: null,
  issued_at: decision.issuedAt,
  expires_at: decision.expiresAt,
  max_expires_at: decision.maxExpiresAt,
  version: 1,
});

const mintRequest = (
  grant: Grant,
  agent: Agent,
  connection: Connection,
  parameters: Record<string, unknown> | undefined,
): MintRequest => ({
  grantId: grant.id,
  agent: { id: agent.id, name: agent.name },
  connection,
  scopes: grant.scopes,
  subject: grant.subject,
  issuedAt: grant.issued_at,
  expiresAt: grant.expires_at,
  jkt: grant.jkt,
  authorizationDetails: grant.authorization_details,
  ...(parameters === undefined ? {} : { parameters }),
});

/** @throws Refused `invalid_request` with what the provider says */
const checkedRequest = (provider: Provider, request: MintRequest): MintRequest => {
  if (!provider.checkRequest) {
    if (request.parameters === undefined) return request;
    throw new InvalidInput(['parameters: this connection takes none']);
  }
  const checked = provider.checkRequest(request);
  if (!checked.ok) throw new InvalidInput(checked.problems);
  return Object.keys(checked.value).length === 0 ? request : { ...request, parameters: checked.value };
};

const guardsOf = (
  grant: Grant,
  agent: Agent,
  connection: Connection,
  decision: Allowed,
  decidedAt: number,
): Guard[] => [
  { guard: 'unfenced', since: decidedAt, facts: grantFacts(grant, agent), unfrozen: true },
  { guard: 'unchanged', table: 'agents', id: agent.id, version: agent.version },
  { guard: 'unchanged', table: 'connections', id: connection.id, version: connection.version },
  { guard: 'unchanged', table: 'entitlements', id: decision.entitlement.id, version: decision.entitlement.version },
];

const budgetWrites = (decision: Allowed, now: number): Write[] => {
  const { budget, id } = decision.entitlement;
  if (!budget) return [];
  const lengthMs = budget.per_seconds * 1000;
  const start = Math.floor(now / lengthMs) * lengthMs;
  return [
    {
      write: 'spend',
      table: 'budget_uses',
      limit: budget.grants,
      row: {
        id: `${id}:${budget.per_seconds}:${start}`,
        entitlement_id: id,
        window_start: start,
        used: 1,
        expires_at: start + lengthMs,
      },
    },
  ];
};

/** A refused commit: undefined where deciding again may help, otherwise the refusal itself. */
const overtaken = (result: { why: CommitRefusal['why'] }): undefined => {
  if (result.why === 'fenced') throw new Refused('revoked', 'a revocation took place while this was issued');
  if (result.why === 'frozen') throw frozen();
  if (result.why === 'spent')
    throw new Refused('budget_exhausted', 'the budget of this entitlement is used up for now');
  return undefined;
};

/** The credential as delivered. A gateway token is made here, whatever the provider: only Warder can honour it. */
const finish = (
  core: CoreWithSecrets,
  grant: Grant,
  connection: Connection,
  minted: Minted,
): { credential: Issued['credential']; digest: string | null } => {
  if (grant.credential_type !== 'gateway') {
    return { credential: minted.credential, digest: minted.bearer === undefined ? null : tokenDigest(minted.bearer) };
  }
  const token = makeToken('gateway', grant.id, core.entropy(tokenEntropyBytes));
  return {
    credential: { type: 'gateway', token, base_url: `${core.issuer}/gateway/${connection.name}` },
    digest: tokenDigest(token),
  };
};

const facts = (grant: Grant, request: IssueRequest): Record<string, unknown> => ({
  credential_type: grant.credential_type,
  enforcement: grant.enforcement,
  entitlement: grant.entitlement_id,
  expires_at: new Date(grant.expires_at).toISOString(),
  max_expires_at: new Date(grant.max_expires_at).toISOString(),
  // Whatever an agent wrote: which parameters they were can be proved, and nothing of them is in the log.
  parameters_sha256: request.parameters && hash('sha256', canonicalJson(request.parameters), 'base64url'),
  provider: grant.provider,
  reason: request.reason,
  scopes: grant.scopes,
  subject: request.subject,
  issuers: grant.issuers.length > 0 ? grant.issuers : undefined,
  jkt: grant.jkt ?? undefined,
});

const recordRefusal = async (
  core: CoreWithSecrets,
  request: IssueRequest,
  caller: Caller,
  code: string,
): Promise<void> => {
  if (code === 'ledger_unavailable') return;
  const connection = core.state.connections.named(request.connection);
  await commit(core, {
    writes: [],
    audit: [
      record(core, caller, {
        type: 'grant.refused',
        outcome: 'refused',
        agent: { id: request.agent.id, name: request.agent.name },
        connection: connection && { id: connection.id, name: connection.name },
        data: {
          code,
          // The token endpoint passes on what it was given: what is no name may be anything, a secret too.
          asked: isName(request.connection) ? request.connection : undefined,
          scopes: request.scopes.filter(isScopeName).slice(0, 50),
          ttl_seconds: request.ttlSeconds,
          reason: request.reason,
        },
      }),
    ],
  });
};
