/** What an agent does with grants it has: look, prolong, give back. Another's grant is as unknown as none. */
import { renewedEnd } from '../../domain/decide.ts';
import { deadGrant, grantFacts, shownStatus } from '../../domain/liveness.ts';
import type { Agent, Grant } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { providersHandle } from '../../domain/stored-handle.ts';
import { type Caller, type Core, commit, record } from '../core.ts';
import { frozen, requireUnfrozen } from '../incidents/freeze.ts';
import { inTime, refusalOfProvider } from './provider-calls.ts';
import { type CoreWithSecrets, providerContext } from './provider-context.ts';

const namesOf = (core: Core, grant: Grant) => {
  const agent = core.state.agents.get(grant.agent_id);
  const connection = core.state.connections.get(grant.connection_id);
  return {
    agent: { id: grant.agent_id, name: agent?.name ?? grant.agent_id },
    connection: { id: grant.connection_id, name: connection?.name ?? grant.connection_id },
    grant: grant.id,
  };
};

/** @throws Refused `not_found`, also for a grant of another agent */
export const ownGrant = async (core: Core, agent: Agent, id: string): Promise<Grant> => {
  const grant = await core.state.grants.get(id);
  if (!grant || grant.agent_id !== agent.id || grant.status === 'intended') {
    throw new Refused('not_found', 'this agent has no such grant');
  }
  return grant;
};

/**
 * Prolongs a living grant, never past its longest life. Check point `renewal`.
 * @param ttlSeconds from now; undefined = as long as it was given at first
 * @throws Refused `not_found`, `revoked`, `expired`, `frozen`, `ttl_too_long`, `conflict`, or what the provider says
 */
export const renewGrant = async (
  core: CoreWithSecrets,
  agent: Agent,
  id: string,
  ttlSeconds: number | undefined,
  caller: Caller,
): Promise<Grant> => {
  const grant = await ownGrant(core, agent, id);
  const decidedAt = core.state.newestSeq;
  const now = core.clock.now();
  const connection = core.state.connections.get(grant.connection_id);
  const dead = deadGrant(grant, core.state.agents.get(agent.id), connection, core.state.fences, now);
  if (dead) throw new Refused(dead.code, dead.detail);
  const facts = grantFacts(grant, core.state.agents.get(agent.id));
  requireUnfrozen(core, facts);
  core.keyring.requireUnsealed();
  const provider = core.providers.get(grant.provider);
  if (!connection || !provider?.renew || provider.renewable?.(connection.settings) === false) {
    throw new Refused('conflict', 'this kind of credential cannot be prolonged; ask for a new grant');
  }
  const left = Math.floor((grant.max_expires_at - now) / 1000);
  if (ttlSeconds !== undefined && ttlSeconds > left) {
    throw new Refused('ttl_too_long', `at most ${left} seconds are left of this grant’s longest life`);
  }
  const asked = ttlSeconds ?? Math.ceil((grant.expires_at - grant.issued_at) / 1000);
  const expiresAt = Math.max(grant.expires_at, renewedEnd(grant, asked, now));
  // Upstream first: if recording fails, the drain still ends it at the time that is recorded.
  if (grant.upstream !== null) {
    try {
      const { context } = providerContext(core, grant, connection, caller);
      const known = { ...grant, handle: providersHandle(grant.handle) };
      await inTime(context.signal, provider.renew(known, connection, expiresAt, context));
    } catch (error) {
      throw refusalOfProvider(error);
    }
    // The upstream took its time, and the drain may be at the grant already (drain-upstream.ts, `expiryGraceMs`).
    if (grant.expires_at <= core.clock.now()) throw new Refused('expired', 'this credential has expired meanwhile');
  }
  const result = await commit(core, {
    guards: [
      { guard: 'unfenced', since: decidedAt, facts, unfrozen: true },
      { guard: 'unchanged', table: 'agents', id: agent.id, version: agent.version },
    ],
    writes: [
      {
        write: 'update',
        table: 'grants',
        id: grant.id,
        set: { expires_at: expiresAt, version: grant.version + 1 },
        from: { status: 'active', version: grant.version },
      },
    ],
    audit: [
      record(core, caller, {
        type: 'grant.renewed',
        ...namesOf(core, grant),
        data: { expires_at: new Date(expiresAt).toISOString() },
      }),
    ],
  });
  if (!result.ok) {
    if (result.why === 'fenced') throw new Refused('revoked', 'this credential was revoked');
    if (result.why === 'frozen') throw frozen();
    throw new Refused('conflict', 'this grant changed at this moment; try again');
  }
  return { ...grant, expires_at: expiresAt, version: grant.version + 1 };
};

/**
 * Gives a grant back early; what exists upstream is drained. Again or too late is no error, but recorded: what a
 * revocation killed stays revoked.
 */
export const returnGrant = async (core: Core, grant: Grant, caller: Caller): Promise<void> => {
  for (;;) {
    // Renewed or drained meanwhile: as it is now.
    const current = (await core.state.grants.get(grant.id)) ?? grant;
    const { state, clock } = core;
    const agent = state.agents.get(current.agent_id);
    const since = state.newestSeq;
    const status = shownStatus(current, agent, state.fences, clock.now());
    const alive = status === 'active';
    const result = await commit(core, {
      // A fence that comes at this moment killed it: its receipt says so.
      guards: alive ? [{ guard: 'unfenced', since, facts: grantFacts(current, agent) }] : [],
      writes: alive
        ? [
            {
              write: 'update',
              table: 'grants',
              id: current.id,
              set: { status: 'returned', version: current.version + 1 },
              from: { status: 'active', version: current.version },
            },
          ]
        : [],
      audit: [
        record(core, caller, {
          type: alive ? 'grant.returned' : 'grant.return_ignored',
          ...namesOf(core, current),
          ...(alive ? {} : { data: { why: status } }),
        }),
      ],
    });
    if (result.ok) return;
  }
};
