/** The thread that owns a read-only connection: one call in, one answer out, in order. */
import { parentPort, workerData } from 'node:worker_threads';
import type { LedgerReader } from '../../../src/ports/ledger.ts';
import { openForReading } from './connection.ts';
import { makeReader } from './reader.ts';

export interface ReaderData {
  databasePath: string;
}
export type ToReader = { kind: 'ask'; call: number; method: keyof LedgerReader; args: unknown[] } | { kind: 'close' };
export type FromReader =
  | { kind: 'ready' }
  | { kind: 'answer'; call: number; value: unknown }
  | { kind: 'failed'; call: number; message: string };

const port = parentPort;
if (!port) throw new Error('reader-thread.ts runs as a worker thread');
const db = openForReading((workerData as ReaderData).databasePath);
const reader = makeReader(db);
const send = (message: FromReader): void => port.postMessage(message);

port.on('message', (message: ToReader) => {
  if (message.kind === 'close') {
    db.close();
    port.close();
    return;
  }
  const { call } = message;
  try {
    const method = reader[message.method] as (...args: unknown[]) => unknown;
    send({ kind: 'answer', call, value: method(...message.args) });
  } catch (error) {
    send({ kind: 'failed', call, message: error instanceof Error ? error.message : String(error) });
  }
});
send({ kind: 'ready' });
