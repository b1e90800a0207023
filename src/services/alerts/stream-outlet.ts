/** A stream whose events are pushed (RFC 8935). */
import { Refused } from '../../domain/refusals.ts';
import { type SignalStream, setType } from '../../domain/signals.ts';
import type { Outbound } from '../../ports/outbound.ts';
import type { Core } from '../core.ts';
import type { Outcome, OutletKind } from './outlet.ts';
import { openAuthorization } from './sealed.ts';
import { signedEvent, streamSteps, type Unsigned } from './stream-steps.ts';
import { outcomeOf, sendTimeoutMs } from './webhook-outlet.ts';

/** Section 2.4 and the registry of section 7.1; another word is not repeated. */
const errorCodes = new Set([
  'invalid_request',
  'invalid_key',
  'invalid_issuer',
  'invalid_audience',
  'authentication_failed',
  'access_denied',
]);

/** Section 2.3: 400 with a reason means that the receiver had the event and did not want it. */
const refusalIn = (body: string): string | undefined => {
  try {
    const { err }: { err?: unknown } = JSON.parse(body) ?? {};
    if (typeof err !== 'string') return undefined;
    return errorCodes.has(err) ? err : 'other';
  } catch {
    return undefined;
  }
};

const push = async (
  core: Core,
  outbound: Outbound,
  stream: SignalStream,
  message: { id: string; content: Unsigned },
  signal: AbortSignal,
): Promise<Outcome> => {
  let token: string;
  let authorization: string | undefined;
  try {
    token = await signedEvent(core, stream, message.id, message.content);
    authorization = openAuthorization(core.keyring, stream);
  } catch (error) {
    if (error instanceof Refused) return { ok: false, failure: error.refusal.code, waits: true };
    core.log.error({ err: error, stream: stream.name }, 'what a stream needs to push does not open');
    return { ok: false, failure: 'secret_unreadable' };
  }
  const answer = await outbound.post({
    url: stream.endpoint_url ?? '',
    headers: {
      'content-type': `application/${setType}`,
      accept: 'application/json',
      'user-agent': 'warder',
      ...(authorization === undefined ? {} : { authorization }),
    },
    body: token,
    allowPrivateNetwork: stream.allow_private_network,
    timeoutMs: sendTimeoutMs,
    signal,
  });
  const refusal = answer.answered && answer.status === 400 ? refusalIn(answer.body) : undefined;
  if (refusal !== undefined) return { ok: false, status: 400, failure: `refused_${refusal}`, refused: true };
  return outcomeOf(answer, core.clock.now());
};

export const streamOutlet = (core: Core, outbound: Outbound, id: string): OutletKind<SignalStream, Unsigned> => ({
  noun: 'stream',
  row: () => core.state.signalStreams.get(id),
  ready: ({ method, status }) => method === 'push' && status === 'enabled',
  steps: (row, from, limit) => streamSteps(core, row, from, limit),
  send: (row, message, signal) => push(core, outbound, row, message, signal),
  move: (row, set, progress) => ({ write: 'update', table: 'signal_streams', id: row, set, from: { progress } }),
});
