/** How far the clean-up of a revocation has come, told as it goes on: an event for each change, a few a second at most. */
import type { Revocation } from '../../domain/model.ts';
import type { Core } from '../../services/core.ts';
import type { EventStream } from '../event-streams.ts';
import { revocationView } from '../views.ts';

/** A person sees no more, and each asks the ledger. */
const betweenMs = 250;
/** What no commit of this revocation tells of (a count that another one's clean-up changed) shows after this time. */
const atLeastMs = 5_000;

/** Its row counts what is done when all is; until then what the drain has recorded is counted. */
export const shownRevocation = async (core: Core, row: Revocation) => {
  if (row.completed_at !== null) return revocationView(core, row);
  const progress = await core.reader.upstreamProgress(row.id);
  const all = row.upstream_pending + row.upstream_revoked + row.upstream_unrevocable;
  const counted = {
    ...row,
    // Until it is counted the row says 0; what is known to be left is left all the same.
    upstream_pending: Math.max(progress.livesOn, all - progress.revoked - progress.unrevocable),
    upstream_revoked: progress.revoked,
    upstream_unrevocable: progress.unrevocable,
  };
  return revocationView(core, counted, progress);
};

type Shown = Awaited<ReturnType<typeof shownRevocation>>;

/** The same as long as nothing has changed: whoever comes back with it is told nothing twice. */
const idOf = ({ grants, upstream, completed_at, rotations }: Shown): string =>
  [
    grants ?? 'x',
    upstream.pending,
    upstream.revoked,
    upstream.unrevocable,
    upstream.lives_on,
    rotations === null ? 0 : 1,
    completed_at ?? 'open',
  ].join('~');

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });

/**
 * Sends `progress` until the clean-up has ended, then `completed`, and ends the stream.
 * @param lastId what the listener heard last, if it comes back
 */
export const tellProgress = async (
  core: Core,
  id: string,
  stream: EventStream,
  lastId: string | undefined,
): Promise<void> => {
  let changed = new AbortController();
  const unhear = core.ledger.onCommitted(({ writes }) => {
    const ours = writes.some(
      (write) =>
        (write.table === 'revocations' && write.write === 'update' && write.id === id) ||
        (write.table === 'grants' && write.write === 'update' && write.set.revocation_id === id),
    );
    if (ours) changed.abort();
  });
  try {
    for (let told = lastId; !stream.signal.aborted; ) {
      changed = new AbortController();
      const row = await core.reader.revocation(id);
      if (!row) return;
      const view = await shownRevocation(core, row);
      const eventId = idOf(view);
      if (view.completed_at !== null) {
        stream.end('completed', eventId, view);
        return;
      }
      if (eventId !== told) stream.send('progress', eventId, view);
      told = eventId;
      await pause(betweenMs, stream.signal);
      if (!changed.signal.aborted) await pause(atLeastMs, AbortSignal.any([stream.signal, changed.signal]));
    }
  } finally {
    unhear();
    stream.end();
  }
};
