/** The events of a stream, along the log: for pushing and for polling alike. */
import { messageId } from '../../domain/delivery.ts';
import {
  eventsDelivered,
  eventUris,
  type Signal,
  type SignalStream,
  setClaims,
  signalTypes,
} from '../../domain/signals.ts';
import type { LoggedEvent } from '../../domain/webhook.ts';
import type { Core } from '../core.ts';
import type { Place, Step } from './outlet.ts';
import { signalsOf } from './signals-of.ts';

/** What a token is made of, once it is signed. */
export interface Unsigned {
  signal: Signal;
  /** The entry's place in the log: all events of one entry have it in common. */
  txn: string;
}

const isWanted = (stream: SignalStream, { event }: Signal): boolean =>
  event === eventUris.verification ||
  event === eventUris.streamUpdated ||
  eventsDelivered(stream).some((wanted) => wanted === event);

/** What lies behind a place, at most `limit` steps; none when there is nothing yet. */
export const streamSteps = async (
  core: Core,
  stream: SignalStream,
  from: Place,
  limit: number,
): Promise<Step<Unsigned>[]> => {
  const steps: Step<Unsigned>[] = [];
  for (const { seq, type, at, body } of await core.reader.entriesToTell(signalTypes, from.seq, limit)) {
    if (steps.length >= limit) break;
    const step = { seq, part: '', last: true, type, at };
    if (body === null) {
      steps.push({ ...step, dropped: true });
      continue;
    }
    const entry: LoggedEvent = JSON.parse(body);
    const after = seq === from.seq ? from.part : '';
    const { parts, complete } = await signalsOf(core, stream, entry, after, limit - steps.length);
    const wanted = parts.map(({ part, signal }) => ({
      ...step,
      part,
      last: false,
      ...(isWanted(stream, signal)
        ? { message: { id: messageId(seq, body, part), content: { signal, txn: String(seq) } } }
        : {}),
    }));
    const end = wanted.at(-1);
    if (complete && end) end.last = true;
    steps.push(...(complete && !end ? [step] : wanted));
  }
  return steps;
};

/**
 * Signs an event for the receiver of a stream.
 * @throws Refused `sealed`
 */
export const signedEvent = (
  core: Core,
  stream: SignalStream,
  jti: string,
  { signal, txn }: Unsigned,
): Promise<string> =>
  core.signingKeys.signSecurityEvent(
    setClaims(core.issuer, stream.aud, jti, txn, Math.floor(core.clock.now() / 1000), signal),
  );
