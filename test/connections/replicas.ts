/** Two processes over one ledger: the owner of the store, and a handle on each of the others. */
import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import type { Changeset, LedgerStore } from '../../src/ports/ledger.ts';

export type FromReplica =
  | { kind: 'ready' }
  | { kind: 'ask'; call: number; of: 'ledger' | 'reader'; method: string; args: unknown[] }
  | { kind: 'log'; level: string; message: string; fields: string }
  | { kind: 'done'; job: number; outcome: string };
export type ToReplica =
  | { kind: 'answer'; call: number; ok: true; value: unknown }
  | { kind: 'answer'; call: number; ok: false; why: string }
  | { kind: 'committed'; changeset: Changeset; seq: number }
  | { kind: 'work'; job: number; what: 'issue' | 'gateway' };

export interface Replica {
  /** @returns `token …` or `failed <code>` */
  work(what: 'issue' | 'gateway'): Promise<string>;
  /** What it logged, as `level message fields`. */
  log: string[];
  /** kill -9 */
  kill(): Promise<void>;
}

export interface ReplicaOptions {
  keyPath: string;
  markerMs?: number;
  /** Looks at each changeset before it is committed; false: it never is, and nobody answers. */
  admit?(changeset: Changeset): boolean;
}

const refusesToAnswer = Symbol('refused');

export const startReplica = async (store: LedgerStore, options: ReplicaOptions): Promise<Replica> => {
  const child: ChildProcess = fork(
    join(import.meta.dirname, 'replica.ts'),
    [options.keyPath, String(options.markerMs ?? 15_000)],
    { serialization: 'advanced', stdio: ['ignore', 'ignore', 'inherit', 'ipc'] },
  );
  const tell = (message: ToReplica): void => {
    if (child.connected) child.send(message);
  };
  const jobs = new Map<number, (outcome: string) => void>();
  const log: string[] = [];
  let job = 0;
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  // Told of every commit, also of its own, before its answer: both go over one channel, in order.
  const silence = store.ledger.onCommitted((changeset, seq) => tell({ kind: 'committed', changeset, seq }));
  const answer = async (asked: Extract<FromReplica, { kind: 'ask' }>): Promise<unknown> => {
    const { of, method, args } = asked;
    if (of === 'ledger') {
      const changeset = args[0] as Changeset;
      if (options.admit?.(changeset) === false) return refusesToAnswer;
      return store.ledger.commit(changeset);
    }
    const reader = store.reader as unknown as Record<string, (...given: unknown[]) => Promise<unknown>>;
    return reader[method]?.(...args);
  };
  const ready = new Promise<void>((resolve, reject) => {
    exited.then(() => reject(new Error('a replica ended as it started')));
    child.on('message', (message: FromReplica) => {
      if (message.kind === 'ready') resolve();
      if (message.kind === 'log') log.push(`${message.level} ${message.message} ${message.fields}`);
      if (message.kind === 'done') {
        jobs.get(message.job)?.(message.outcome);
        jobs.delete(message.job);
      }
      if (message.kind !== 'ask') return;
      const { call } = message;
      answer(message).then(
        (value) => (value === refusesToAnswer ? undefined : tell({ kind: 'answer', call, ok: true, value })),
        (error: unknown) => tell({ kind: 'answer', call, ok: false, why: String(error) }),
      );
    });
  });
  await ready;
  return {
    log,
    work: (what) => {
      job += 1;
      const mine = job;
      return new Promise((resolve) => {
        jobs.set(mine, resolve);
        tell({ kind: 'work', job: mine, what });
      });
    },
    kill: async () => {
      silence();
      child.kill('SIGKILL');
      await exited;
      for (const resolve of jobs.values()) resolve('failed killed');
    },
  };
};
