/**
 * Revocation: one fence, committed with its record. From the moment the commit is heard every check point refuses what
 * the selector matches; the price does not depend on how much that is. Clean-up upstream follows (drain-upstream.ts).
 */
import type { AuditRecord } from '../../domain/audit-entry.ts';
import type { Agent, Operator, Revocation, Selector } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { nothingFollowed } from '../../domain/revocation.ts';
import { type Changeset, unassigned, type Write } from '../../ports/ledger.ts';
import type { StandingFence } from '../../ports/readers/revocations.ts';
import { type Caller, type Core, commit, newId, record } from '../core.ts';

export interface RevocationRequest {
  selector: Selector;
  reason: string;
  suspend: boolean;
  /** Whether the secrets of the connections it reaches are replaced, too: behind the fence, by rotate-after.ts. */
  rotate?: boolean | undefined;
  /** The incident it contains: its record says so. */
  incident?: string | undefined;
  /**
   * What is committed with the fence. Asked anew when an incident among it was changed meanwhile, and then to leave out
   * sooner or later what can be refused: the fence waits for nobody.
   */
  along?: ((revocation: Revocation) => Promise<{ writes: Write[]; audit: AuditRecord[] }>) | undefined;
}

/**
 * The answer waits this long for the count of what was killed. Counting a million grants takes longer than killing
 * them; then `grants` is null and `GET /admin/v1/revocations/:id` has the number a moment later.
 */
const countPatienceMs = 20;

/** Which agents the selector reaches: all, one, or an owner's. A selector without an agent or owner reaches none. */
export const reachedAgents = (core: Core, selector: Selector) =>
  core.state.agents
    .all()
    .filter(
      (agent) =>
        selector.everything === true ||
        ((selector.agent !== undefined || selector.owner !== undefined) &&
          (selector.agent === undefined || agent.id === selector.agent) &&
          (selector.owner === undefined || agent.owner === selector.owner)),
    );

/**
 * Counts up the version of an agent that is to be suspended and is so already: whoever decided a moment ago to resume it,
 * and knew nothing of this, is refused.
 */
export const heldSuspended = ({ id, version }: Agent): Write => ({
  write: 'update',
  table: 'agents',
  id,
  set: { version: version + 1 },
  from: { version },
});

export const ownedBy = (core: Pick<Core, 'state'>, selector: Selector): string[] =>
  selector.owner === undefined
    ? []
    : core.state.agents
        .all()
        .filter((agent) => agent.owner === selector.owner)
        .map((agent) => agent.id);

/** The fence of a revocation, as it was put up; rows of earlier versions do not say whom an owner owned then. */
export const fenceOf = (
  core: Pick<Core, 'state'>,
  { selector, owned_agents, seq, created_at }: Revocation,
): StandingFence => ({ selector, ownedAgents: owned_agents ?? ownedBy(core, selector), seq, at: created_at });

/**
 * Commits the fence. When this returns, no use of a matching grant succeeds any more.
 * @throws Refused `ledger_unavailable`: then nothing was revoked
 */
export const revoke = async (core: Core, request: RevocationRequest, caller: Caller): Promise<Revocation> => {
  const now = core.clock.now();
  const id = newId(core, 'rev');
  const row: Revocation = {
    id,
    seq: unassigned,
    selector: request.selector,
    reason: request.reason,
    requested_by: caller.actor.kind === 'anonymous' ? 'anonymous' : caller.actor.name,
    suspend: request.suspend,
    rotate: request.rotate === true,
    created_at: now,
    ...nothingFollowed,
    owned_agents: request.selector.owner === undefined ? null : ownedBy(core, request.selector),
  };
  const fenced = await commitFence(core, request, caller, row);
  const counting = settleCount(core, fenced);
  const counted = await Promise.race([
    counting,
    new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), countPatienceMs)),
  ]);
  counting.catch((error: unknown) => core.log.error({ err: error, revocation: id }, 'counting a revocation failed'));
  return counted ?? fenced;
};

/** Suspensions are compared and swapped; an agent that changed at this moment is read again, never skipped. */
const commitFence = async (
  core: Core,
  request: RevocationRequest,
  caller: Caller,
  row: Revocation,
): Promise<Revocation> => {
  for (;;) {
    const reached = request.suspend ? reachedAgents(core, request.selector) : [];
    const suspended = reached.filter((agent) => agent.status === 'active');
    const recorded = { ...row, suspended: suspended.map(({ id, name }) => ({ id, name })) };
    const along = await request.along?.(recorded);
    const writes: Write[] = [
      { write: 'insert', table: 'revocations', row: recorded },
      ...fenceWrites(row),
      ...suspended.map(
        (agent): Write => ({
          write: 'update',
          table: 'agents',
          id: agent.id,
          set: { status: 'suspended', version: agent.version + 1, updated_at: row.created_at },
          from: { version: agent.version },
        }),
      ),
      ...reached.filter((agent) => agent.status !== 'active').map(heldSuspended),
      ...(along?.writes ?? []),
    ];
    const { agent, connection } = await named(core, request.selector);
    const audit: Changeset['audit'] = [
      record(core, caller, {
        type: 'revocation.created',
        agent: agent && { id: agent.id, name: agent.name },
        connection: connection && { id: connection.id, name: connection.name },
        grant: request.selector.grant,
        data: {
          revocation: row.id,
          selector: request.selector,
          reason: request.reason,
          suspend: request.suspend,
          rotate: row.rotate,
          incident: request.incident,
        },
      }),
      ...suspended.map((one) =>
        record(core, caller, {
          type: 'agent.suspended',
          agent: { id: one.id, name: one.name },
          data: { revocation: row.id, reason: request.reason },
        }),
      ),
      ...(along?.audit ?? []),
    ];
    const result = await commit(core, { writes, audit });
    if (result.ok) return { ...recorded, seq: result.seq };
    const overtaken = result.why === 'changed' && (result.table === 'agents' || result.table === 'incidents');
    if (!overtaken) throw new Refused('conflict', 'the revocation collided');
  }
};

/** Whom and what a selector names, directly or by a grant: what the record is found by. */
const named = async (core: Core, selector: Selector) => {
  const grant = selector.grant === undefined ? undefined : await core.state.grants.get(selector.grant);
  return {
    agent: core.state.agents.get(selector.agent ?? grant?.agent_id ?? ''),
    connection: core.state.connections.get(selector.connection ?? grant?.connection_id ?? ''),
  };
};

/** The write every kind of taking back has in common. */
export const fenceWrites = (row: Pick<Revocation, 'id' | 'selector' | 'created_at'>): Write[] => [
  {
    write: 'insert',
    table: 'fences',
    row: {
      id: `${row.id}:fence`,
      seq: unassigned,
      revocation_id: row.id,
      selector: row.selector,
      created_at: row.created_at,
    },
  },
];

/** What a standing fence killed: live grants, and what has become of those with something upstream. */
export type Killed = Pick<Revocation, 'grants' | 'upstream_pending' | 'upstream_revoked' | 'upstream_unrevocable'>;

/** Counts what lived at the fence, however late it is asked; what the drain has cleaned up by now did, too. */
export const countKilled = async (core: Core, revocation: Revocation): Promise<Killed> => {
  const { live, revoked, unrevocable } = await core.reader.countKilled(revocation.id, fenceOf(core, revocation));
  return {
    grants: live.total + revoked + unrevocable,
    upstream_pending: live.upstream,
    upstream_revoked: revoked,
    upstream_unrevocable: unrevocable,
  };
};

/** Counts what the fence killed and records it; where nothing it matches is left upstream the revocation is complete. */
const settleCount = async (core: Core, fenced: Revocation): Promise<Revocation> => {
  const [killed, left] = await Promise.all([
    countKilled(core, fenced),
    // Also what had ended before, and is still being taken back: the receipt says what became of it.
    core.reader.upstreamGrantsOf(fenceOf(core, fenced), core.clock.now(), '', 1, []),
  ]);
  const complete = killed.upstream_pending === 0 && left.length === 0;
  const set = {
    ...killed,
    completed_at: complete ? core.clock.now() : null,
    version: 2,
  };
  const row = { ...fenced, ...set };
  // The number is for people: it is recorded behind the answer, which does not wait for another sync.
  void commit(core, {
    // The drain may have been quicker: then it has counted, too.
    writes: [{ write: 'update', table: 'revocations', id: fenced.id, set, from: { version: 1 } }],
    audit: [
      record(core, systemCaller('revocation'), {
        type: 'revocation.counted',
        data: { revocation: fenced.id, grants: killed.grants, upstream: killed.upstream_pending },
      }),
    ],
  }).catch((error: unknown) => core.log.error({ err: error, revocation: fenced.id }, 'recording a count failed'));
  return row;
};

export const systemCaller = (name: string): Caller => ({ actor: { kind: 'system', name }, requestId: 'background' });

/** A fence that some other change brings with it (a deletion, a narrowing), with its own record. */
export const accompanyingFence = (
  core: Pick<Core, 'clock' | 'entropy' | 'state'>,
  selector: Selector,
  reason: string,
  operator: Pick<Operator, 'name'>,
): { writes: Write[]; revocationId: string } => {
  const now = core.clock.now();
  const row: Revocation = {
    id: newId(core, 'rev'),
    seq: unassigned,
    selector,
    reason,
    requested_by: operator.name,
    suspend: false,
    rotate: false,
    created_at: now,
    ...nothingFollowed,
    owned_agents: selector.owner === undefined ? null : ownedBy(core, selector),
  };
  return { revocationId: row.id, writes: [{ write: 'insert', table: 'revocations', row }, ...fenceWrites(row)] };
};
