/** Receivers of Shared Signals, as operators see them: who may have a stream, and the token it proves that with. */
import { movedTo, placeAt } from '../../domain/delivery.ts';
import { endpointOrigin, endpointUrlProblem } from '../../domain/endpoint-url.ts';
import { Refused } from '../../domain/refusals.ts';
import type { SignalEvent, SignalStream } from '../../domain/signals.ts';
import { makeToken, sameDigest, tokenDigest, tokenEntropyBytes, tokenRowId } from '../../domain/tokens.ts';
import type { Write } from '../../ports/ledger.ts';
import { commitChanges } from '../change.ts';
import { type Caller, type Core, newId, record } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import { placeNamed } from './manage-webhooks.ts';
import { sealAuthorization } from './sealed.ts';

export interface StreamInput {
  name: string;
  aud: string[];
  events: SignalEvent[];
  allow_private_network: boolean;
  share_reasons: boolean;
  /**
   * What its stream is like at once; undefined leaves it to the receiver, which makes one over the management API.
   */
  delivery:
    | { method: 'poll' }
    | { method: 'push'; endpoint_url: string; authorization_header?: string | undefined }
    | undefined;
}

/** Each has one push under way at most, or one poll that waits. */
export const maxStreams = 50;

/** @throws Refused `not_found` */
export const streamCalled = (core: Core, nameOrId: string): SignalStream => {
  const row = core.state.signalStreams.named(nameOrId) ?? core.state.signalStreams.get(nameOrId);
  if (!row) throw new Refused('not_found', 'there is no such stream');
  return row;
};

export const namedStream = (row: SignalStream) => ({ stream: { id: row.id, name: row.name } });

/** @throws InvalidInput when nothing may be pushed there */
export const requirePushUrl = (url: string, allowPrivateNetwork: boolean): void => {
  const problem = endpointUrlProblem(url, allowPrivateNetwork);
  if (problem !== undefined) throw new InvalidInput([`delivery.endpoint_url: ${problem}`]);
};

/** The receiver of this token. @throws Refused `unauthenticated`, the same for every token that is none */
export const authenticateReceiver = (core: Core, token: string): SignalStream => {
  const id = tokenRowId('receiver', token);
  const row = id === undefined ? undefined : core.state.signalStreams.get(id);
  if (!row || !sameDigest(row.token_digest, tokenDigest(token))) {
    throw new Refused('unauthenticated', 'no valid token was presented');
  }
  return row;
};

/** Who a receiver is in the log. */
export const receiverCaller = (row: SignalStream, requestId: string): Caller => ({
  actor: { kind: 'system', name: `receiver ${row.name}` },
  requestId,
});

/** A write that holds on to the row as it was, and to its place where it changes that. */
export const changeStream = (core: Core, row: SignalStream, set: Partial<SignalStream>): Write => ({
  write: 'update',
  table: 'signal_streams',
  id: row.id,
  set: { ...set, version: row.version + 1, updated_at: core.clock.now() },
  from: { version: row.version, ...(set.progress === undefined ? {} : { progress: row.progress }) },
});

/** @returns the row and the receiver's token, which nobody will see again */
export const createStream = async (core: Core, input: StreamInput, caller: Caller) => {
  const { delivery, events, ...rest } = input;
  const push = delivery?.method === 'push' ? delivery : undefined;
  if (push) requirePushUrl(push.endpoint_url, input.allow_private_network);
  if (core.state.signalStreams.named(input.name)) {
    throw new Refused('conflict', `there is a stream ${input.name} already`);
  }
  if (core.state.signalStreams.size >= maxStreams)
    throw new Refused('conflict', `there are ${maxStreams} streams already`);
  const now = core.clock.now();
  const id = newId(core, 'ssf');
  const token = makeToken('receiver', id, core.entropy(tokenEntropyBytes));
  const header = push?.authorization_header;
  const row: SignalStream = {
    id,
    ...rest,
    token_digest: tokenDigest(token),
    events_supported: events,
    events_requested: null,
    method: delivery?.method ?? 'poll',
    endpoint_url: push?.endpoint_url ?? null,
    sealed: header === undefined ? null : sealAuthorization(core.keyring, { id }, header),
    status: delivery ? 'enabled' : 'absent',
    status_reason: null,
    description: null,
    acked: [],
    ...placeAt(core.state.newestSeq + 1),
    version: 1,
    created_at: now,
    updated_at: now,
  };
  await commitChanges(core, {
    writes: [{ write: 'insert', table: 'signal_streams', row }],
    audit: [
      record(core, caller, {
        type: 'stream.created',
        data: {
          ...namedStream(row),
          aud: row.aud,
          events,
          method: delivery?.method,
          origin: push && endpointOrigin(push.endpoint_url),
          allow_private_network: row.allow_private_network,
          share_reasons: row.share_reasons,
        },
      }),
    ],
  });
  return { stream: core.state.signalStreams.get(id) ?? row, token };
};

/** A new token for the receiver; the old one is dead at once. */
export const renewReceiverToken = async (core: Core, row: SignalStream, caller: Caller): Promise<string> => {
  const token = makeToken('receiver', row.id, core.entropy(tokenEntropyBytes));
  await commitChanges(core, {
    writes: [changeStream(core, row, { token_digest: tokenDigest(token) })],
    audit: [record(core, caller, { type: 'stream.token_renewed', data: namedStream(row) })],
  });
  return token;
};

/** The receiver and its stream are gone, and so is its token. */
export const deleteStream = async (core: Core, row: SignalStream, caller: Caller): Promise<void> => {
  await commitChanges(core, {
    writes: [{ write: 'delete', table: 'signal_streams', id: row.id, from: { version: row.version } }],
    audit: [record(core, caller, { type: 'stream.deleted', data: namedStream(row) })],
  });
};

/** As of a webhook: its events from there on come again, under the same names. */
export const replayStream = async (
  core: Core,
  row: SignalStream,
  from: number | 'now',
  caller: Caller,
): Promise<SignalStream> => {
  const cursor = placeNamed(core, from);
  await commitChanges(core, {
    writes: [changeStream(core, row, { ...movedTo(row, cursor), acked: [] })],
    audit: [
      record(core, caller, { type: 'stream.replayed', data: { ...namedStream(row), from: cursor, was: row.cursor } }),
    ],
  });
  return core.state.signalStreams.get(row.id) ?? row;
};

/** Has a verification event sent over the stream. @param state what the receiver wants to find in it */
export const requestVerification = async (
  core: Core,
  row: SignalStream,
  state: string | undefined,
  caller: Caller,
): Promise<void> => {
  if (row.status === 'absent') throw new Refused('conflict', 'its receiver has no stream at this moment');
  await commitChanges(core, {
    writes: [],
    audit: [record(core, caller, { type: 'stream.verification_requested', data: { ...namedStream(row), state } })],
  });
};
