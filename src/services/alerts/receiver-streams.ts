/** What a receiver does with its own stream (SSF 1.0 section 8): make, change, replace, pause, delete it. */
import { movedTo } from '../../domain/delivery.ts';
import { endpointOrigin } from '../../domain/endpoint-url.ts';
import { Refused } from '../../domain/refusals.ts';
import type { SignalStream } from '../../domain/signals.ts';
import { commitChanges } from '../change.ts';
import { type Caller, type Core, record } from '../core.ts';
import { changeStream, namedStream, requirePushUrl } from './manage-streams.ts';
import { sealAuthorization } from './sealed.ts';

/** What a receiver says about its stream; a field that is undefined is not spoken of. */
export interface ReceiverSettings {
  delivery?: { method: 'poll' } | { method: 'push'; endpoint_url: string; authorization_header?: string | undefined };
  events_requested?: string[] | null;
  description?: string | null;
}

/** @throws InvalidInput, Refused `sealed` where there is a header to keep */
const deliveryColumns = (
  core: Core,
  row: SignalStream,
  delivery: NonNullable<ReceiverSettings['delivery']>,
): Partial<SignalStream> => {
  if (delivery.method === 'poll') return { method: 'poll', endpoint_url: null, sealed: null };
  requirePushUrl(delivery.endpoint_url, row.allow_private_network);
  const header = delivery.authorization_header;
  const kept = row.method === 'push' && row.endpoint_url === delivery.endpoint_url ? row.sealed : null;
  return {
    method: 'push',
    endpoint_url: delivery.endpoint_url,
    // Read back it is left out, so one that is sent back without it for the same address means no change.
    sealed: header === undefined ? kept : sealAuthorization(core.keyring, row, header),
    acked: [],
  };
};

const columnsOf = (core: Core, row: SignalStream, asked: ReceiverSettings): Partial<SignalStream> => ({
  ...(asked.delivery === undefined ? {} : deliveryColumns(core, row, asked.delivery)),
  ...(asked.events_requested === undefined ? {} : { events_requested: asked.events_requested }),
  ...(asked.description === undefined ? {} : { description: asked.description }),
});

const commitStream = async (
  core: Core,
  row: SignalStream,
  type: string,
  set: Partial<SignalStream>,
  data: Record<string, unknown>,
  caller: Caller,
): Promise<SignalStream> => {
  await commitChanges(core, {
    writes: [changeStream(core, row, set)],
    audit: [record(core, caller, { type, data: { ...namedStream(row), ...data } })],
  });
  return core.state.signalStreams.get(row.id) ?? row;
};

const factsOf = (set: Partial<SignalStream>): Record<string, unknown> => ({
  method: set.method,
  origin: set.endpoint_url ? endpointOrigin(set.endpoint_url) : undefined,
  events_requested: set.events_requested,
});

/** Makes the receiver's stream; it begins with what happens from now on. @throws Refused `conflict` when it has one */
export const openReceiverStream = (
  core: Core,
  row: SignalStream,
  asked: ReceiverSettings,
  caller: Caller,
): Promise<SignalStream> => {
  if (row.status !== 'absent') throw new Refused('conflict', 'there is a stream for this receiver already');
  const set: Partial<SignalStream> = {
    events_requested: null,
    description: null,
    ...columnsOf(core, row, { delivery: { method: 'poll' }, ...asked }),
    ...movedTo(row, core.state.newestSeq + 1),
    acked: [],
    status: 'enabled',
    status_reason: null,
  };
  return commitStream(core, row, 'stream.opened', set, factsOf(set), caller);
};

export const changeReceiverStream = (
  core: Core,
  row: SignalStream,
  asked: ReceiverSettings,
  caller: Caller,
): Promise<SignalStream> => {
  // Another way of delivery, or another address, is tried at once.
  const set: Partial<SignalStream> = {
    ...columnsOf(core, row, asked),
    ...(asked.delivery === undefined ? {} : { ...movedTo(row, row.cursor), cursor_part: row.cursor_part }),
  };
  return commitStream(core, row, 'stream.updated', set, factsOf(set), caller);
};

/** Where a stream that is enabled again goes on: disabled, it held nothing. */
const goingOn = (core: Core, row: SignalStream): Partial<SignalStream> =>
  row.status === 'disabled'
    ? { ...movedTo(row, core.state.newestSeq + 1), acked: [] }
    : { ...movedTo(row, row.cursor), cursor_part: row.cursor_part };

/** Paused holds what comes; disabled does not, and goes on with what happens after it is enabled again. */
export const setStreamStatus = (
  core: Core,
  row: SignalStream,
  status: Exclude<SignalStream['status'], 'absent'>,
  reason: string | null,
  caller: Caller,
): Promise<SignalStream> => {
  const anew = row.status === 'disabled' && status !== 'disabled';
  const set: Partial<SignalStream> = {
    status,
    status_reason: reason,
    ...(anew ? goingOn(core, row) : {}),
  };
  return commitStream(core, row, 'stream.status_changed', set, { status, was: row.status }, caller);
};

/**
 * An operator has a stream that is not enabled go on; its receiver is told of that in its place.
 * @throws Refused `conflict`
 */
export const resumeStream = (core: Core, row: SignalStream, caller: Caller): Promise<SignalStream> => {
  if (row.status === 'absent') throw new Refused('conflict', 'its receiver has no stream at this moment');
  const set: Partial<SignalStream> = { status: 'enabled', status_reason: null, ...goingOn(core, row) };
  return commitStream(core, row, 'stream.resumed', set, { was: row.status }, caller);
};

/** The receiver keeps its token, and may make another stream. */
export const closeReceiverStream = async (core: Core, row: SignalStream, caller: Caller): Promise<void> => {
  const set: Partial<SignalStream> = {
    status: 'absent',
    status_reason: null,
    method: 'poll',
    endpoint_url: null,
    sealed: null,
    acked: [],
    ...movedTo(row, row.cursor),
  };
  await commitStream(core, row, 'stream.closed', set, {}, caller);
};
