/**
 * Undo: what was intended and did not become a grant is taken back upstream, then marked aborted. The live path and the
 * start after a crash run this same code.
 */
import type { Grant } from '../domain/model.ts';
import type { Handle } from '../ports/provider.ts';
import { type Caller, commit, record } from './core.ts';
import { type CoreWithSecrets, providerContext } from './provider-context.ts';

/** How often undo is tried before the grant is marked `unrevocable`, where everybody sees it. */
const maxTries = 5;
const firstDelayMs = 200;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Revokes upstream what this intent may have made and commits `grant.aborted`, or `grant.unrevocable` when the
 * upstream refused to the last try. Idempotent: a grant that is no longer intended is left alone.
 * @param handle a better handle than the recorded one, when minting returned it and it was not settled
 */
export const undoIntended = async (
  core: CoreWithSecrets,
  grantId: string,
  caller: Caller,
  why: string,
  handle?: Handle | null,
): Promise<void> => {
  const found = await core.state.grants.get(grantId);
  if (found?.status !== 'intended') return;
  const grant = handle ? { ...found, handle } : found;
  const failure = await revokeUpstream(core, grant, caller);
  const status = failure === undefined ? 'aborted' : 'unrevocable';
  const agent = core.state.agents.get(grant.agent_id);
  const connection = core.state.connections.get(grant.connection_id);
  await commit(core, {
    writes: [
      {
        write: 'update',
        table: 'grants',
        id: grant.id,
        set: { status, upstream: failure === undefined ? 'gone' : 'unrevocable', version: grant.version + 1 },
        from: { status: 'intended' },
      },
    ],
    audit: [
      record(core, caller, {
        type: `grant.${status}`,
        agent: { id: grant.agent_id, name: agent?.name ?? grant.agent_id },
        connection: { id: grant.connection_id, name: connection?.name ?? grant.connection_id },
        grant: grant.id,
        data: { why, ...(failure === undefined ? {} : { failure, handle: grant.handle }) },
      }),
    ],
  });
};

/**
 * Revokes a grant's artefact at its provider, trying again with growing delays.
 * @returns undefined when it is gone, otherwise why not, in words fit for the audit log
 */
export const revokeUpstream = async (
  core: CoreWithSecrets,
  grant: Grant,
  caller: Caller,
): Promise<string | undefined> => {
  for (let attempt = 1; ; attempt += 1) {
    const connection = core.state.connections.get(grant.connection_id);
    const provider = core.providers.get(grant.provider);
    if (!connection || !provider) return 'its connection or provider is gone';
    try {
      const { context } = await providerContext(core, grant, connection, caller);
      await provider.revoke(grant, connection, context);
      return undefined;
    } catch (error) {
      core.log.warn({ err: error, grant: grant.id, attempt }, 'revoking upstream failed');
      if (attempt === maxTries) return `the provider failed ${maxTries} times`;
      await pause(firstDelayMs * 2 ** (attempt - 1));
    }
  }
};

/**
 * After a crash: every intent left behind goes through {@link undoIntended}.
 * @param upToSeq the newest entry when this process started: later intents are its own, and under way
 * @returns how many there were
 */
export const recoverIntended = async (core: CoreWithSecrets, upToSeq: number): Promise<number> => {
  const caller: Caller = { actor: { kind: 'system', name: 'recovery' }, requestId: 'start' };
  let count = 0;
  const batch = 100;
  for (;;) {
    const left = await core.reader.intendedGrants(upToSeq, batch);
    if (left.length === 0) return count;
    for (const grant of left) await undoIntended(core, grant.id, caller, 'Warder stopped while it was issued');
    count += left.length;
  }
};
