/**
 * Undo: what was intended and did not become a grant is taken back upstream, then marked aborted. The live path, the
 * drain and the start after a crash run this same code.
 */
import { canonicalJson } from '../../domain/canonical-json.ts';
import type { Connection, Grant } from '../../domain/model.ts';
import { providersHandle, whenGone, whenUnrevocable, withEnd } from '../../domain/stored-handle.ts';
import { type Handle, type LivesOn, ProviderFailure } from '../../ports/provider.ts';
import { type Caller, commit, record } from '../core.ts';
import { inTime } from '../issuing/provider-calls.ts';
import { type CoreWithSecrets, providerContext } from '../issuing/provider-context.ts';

/**
 * `later`: nothing was tried, or the try does not count, because Warder is sealed or stopping. `lives_on`: it cannot be
 * taken back and ends by itself at `endsBy`, in milliseconds since the epoch.
 */
export type Revoked =
  | { how: 'gone' }
  | { how: 'lives_on'; endsBy: number }
  | { how: 'failed'; why: string }
  | { how: 'later' };

/**
 * Revokes a grant's artefact at its provider: one try.
 * @param options `stop` ends the try before its time; `connection` is the row to use when it was deleted meanwhile
 */
export const revokeUpstream = async (
  core: CoreWithSecrets,
  grant: Grant,
  caller: Caller,
  options: { stop?: AbortSignal; connection?: Connection } = {},
): Promise<Revoked> => {
  const { stop } = options;
  const connection = core.state.connections.get(grant.connection_id) ?? options.connection;
  const provider = core.providers.get(grant.provider);
  if (!connection || !provider) return { how: 'failed', why: 'its connection or provider is gone' };
  const notNow = (): boolean => stop?.aborted === true || core.keyring.state().sealed;
  if (notNow()) return { how: 'later' };
  try {
    const { context } = providerContext(core, grant, connection, caller, stop);
    const known = { id: grant.id, handle: providersHandle(grant.handle) };
    const revoking = async (): Promise<LivesOn | undefined> =>
      (await provider.revoke(known, connection, context)) ?? undefined;
    const left = await inTime(context.signal, revoking());
    if (left && !Number.isSafeInteger(left.endsBy)) throw new Error('the provider did not say when it ends');
    return left && left.endsBy > core.clock.now() ? { how: 'lives_on', endsBy: left.endsBy } : { how: 'gone' };
  } catch (error) {
    if (notNow()) return { how: 'later' };
    core.log.warn({ err: error, grant: grant.id }, 'revoking upstream failed');
    // A provider's own message is public (ports/provider.ts); any other may say anything.
    return { how: 'failed', why: error instanceof ProviderFailure ? error.message : 'the provider failed' };
  }
};

/**
 * What became of an intent: `aborted` when it is gone upstream, `unrevocable` when the upstream failed to the last try.
 * A grant that is no longer intended is left alone, and one whose handle was journalled meanwhile: the drain has it next.
 * @param outcome `better`: the grant's handle is a newer one than the recorded; `mayAppear`: the upstream went silent and
 * may still do what it was asked, so the drain looks there once more; `endsBy`: what it may have made cannot be taken back
 * and ends by itself
 */
export const recordUndone = async (
  core: CoreWithSecrets,
  grant: Grant,
  caller: Caller,
  outcome: { why: string; better?: boolean; failure?: string; mayAppear?: boolean; endsBy?: number },
): Promise<void> => {
  const { why, failure, endsBy } = outcome;
  const status = failure === undefined ? 'aborted' : 'unrevocable';
  const upstream = failure !== undefined ? 'unrevocable' : outcome.mayAppear || endsBy !== undefined ? 'live' : 'gone';
  const at = core.clock.now();
  const handle = endsBy === undefined ? grant.handle : withEnd(grant.handle, endsBy);
  const byHand = byHandFor(core, grant);
  const ended =
    failure === undefined ? whenGone(handle, at) : whenUnrevocable(handle, { at, failure, byHand, before: 'aborted' });
  await commit(core, {
    writes: [
      {
        write: 'update',
        table: 'grants',
        id: grant.id,
        set: {
          status,
          upstream,
          handle: upstream === 'live' ? handle : ended,
          version: grant.version + 1,
        },
        from: { status: 'intended', ...(outcome.better ? {} : { handle: grant.handle }) },
      },
    ],
    audit: [
      record(core, caller, {
        type: `grant.${status}`,
        ...grantNames(core, grant),
        data: {
          why,
          ...(failure === undefined ? {} : { failure, by_hand: byHand, handle: providersHandle(grant.handle) }),
          ...(endsBy === undefined ? {} : { ends_by: new Date(endsBy).toISOString() }),
        },
      }),
    ],
  });
};

/** Longer handles are in the audit entry, whole. */
const byHandHandleChars = 400;

/** What a person can do about what could not be taken back: what the provider says, or where its handle leads. */
export const byHandFor = (core: CoreWithSecrets, grant: Grant): string => {
  const connection = core.state.connections.get(grant.connection_id);
  const known = { id: grant.id, handle: providersHandle(grant.handle) };
  try {
    const told = connection && core.providers.get(grant.provider)?.byHand?.(known, connection);
    if (told) return told;
  } catch (error) {
    // A handle that its provider cannot read any more is shown as it is.
    core.log.warn({ err: error, grant: grant.id }, 'what to do by hand is not known');
  }
  const where = connection ? `the system behind connection ${connection.name}` : `the ${grant.provider} system`;
  const handle = canonicalJson(known.handle).slice(0, byHandHandleChars);
  return `In ${where}, end what this handle names: ${handle}`;
};

/** What an audit entry about a grant is found by. */
export const grantNames = (core: CoreWithSecrets, grant: Grant) => ({
  agent: { id: grant.agent_id, name: core.state.agents.get(grant.agent_id)?.name ?? grant.agent_id },
  connection: {
    id: grant.connection_id,
    name: core.state.connections.get(grant.connection_id)?.name ?? grant.connection_id,
  },
  grant: grant.id,
});

/** The better handle is all that leads to what was made: the drain goes on with it. */
const rememberHandle = async (core: CoreWithSecrets, grant: Grant, caller: Caller): Promise<void> => {
  await commit(core, {
    writes: [
      { write: 'update', table: 'grants', id: grant.id, set: { handle: grant.handle }, from: { status: 'intended' } },
    ],
    audit: [record(core, caller, { type: 'grant.journalled', ...grantNames(core, grant) })],
  });
};

/**
 * Undoes an intent while an agent waits: one try. What that does not end is left as intended, and the drain goes on
 * with it when this process no longer issues it.
 * @param undo `handle` is a better one than the recorded, when minting returned it and it was not settled;
 * `connection` the row it was minted with; `mayAppear`, after minting failed: whether the upstream may have made
 * something, or make it yet
 */
export const undoIntended = async (
  core: CoreWithSecrets,
  grantId: string,
  caller: Caller,
  undo: { why: string; connection: Connection; handle?: Handle | null; mayAppear?: boolean },
): Promise<void> => {
  const found = await core.state.grants.get(grantId);
  if (found?.status !== 'intended') return;
  const grant = undo.handle ? { ...found, handle: undo.handle } : found;
  const revoked = await revokeUpstream(core, grant, caller, { connection: undo.connection });
  const better = canonicalJson(grant.handle) !== canonicalJson(found.handle);
  if (better && (revoked.how === 'failed' || revoked.how === 'later')) await rememberHandle(core, grant, caller);
  const { why, mayAppear } = undo;
  if (revoked.how === 'gone') await recordUndone(core, grant, caller, { why, better, mayAppear: mayAppear === true });
  if (revoked.how !== 'lives_on') return;
  // A provider that knows nothing better says until when something may live; a clear no says that nothing was made.
  const made = mayAppear === false ? {} : { endsBy: revoked.endsBy };
  await recordUndone(core, grant, caller, { why, better, ...made });
};
