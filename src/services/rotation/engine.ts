/**
 * The rotation engine: begins what is due or was asked for, and goes on with what was begun. It works from what the
 * ledger says, so it goes on after a restart where it was; it leads by a lease (lease.ts), taken when there is work.
 */
import { randomUUID } from 'node:crypto';
import { Refused } from '../../domain/refusals.ts';
import type { Rotation } from '../../domain/rotation.ts';
import { record } from '../core.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { refreshAccounts } from './accounts.ts';
import { begin, createWasInterrupted, setStep, testStep } from './attempt.ts';
import { endFailed } from './end.ts';
import { commitLeading, type Hand, Interrupted, type Next, putOff, rotationCaller, Unreadable } from './hand.ts';
import { Leadership, LeaseLost } from './lease.ts';
import { isAccountsMethod } from './method.ts';
import { nextTask, type Task } from './next-task.ts';
import { leaseMarginMs, type RotationPace, rotationPace } from './pace.ts';
import { askedRecord, askedRow, rotationNames } from './request-rotation.ts';
import { retireStep } from './retire.ts';
import { rotateKey } from './rotate-key.ts';
import { undoStep } from './undo.ts';

/** So many at once: each holds a few secrets opened, and an upstream that hangs keeps the others waiting no longer. */
const maxAtOnce = 8;
/** Looked at this often at least: time may jump, and another process may have let go of the lease. */
const longestSleepMs = 30_000;
/** After what could not be written, or while somebody else leads. */
const restMs = 2_000;

export interface EngineOptions {
  pace?: RotationPace | undefined;
  /** Nobody else can be alive over this ledger: a lease left behind by a crash is taken at once. */
  exclusive: boolean;
}

export class RotationEngine {
  readonly #hand: Hand;
  readonly #stop = new AbortController();
  /** What is worked on, by policy: one task of a policy at a time. */
  readonly #working = new Map<string, Promise<void>>();
  /** Policies that are left alone until a moment, after something that could not be recorded. */
  readonly #resting = new Map<string, number>();
  #looking: Promise<void> | undefined;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #unhear = (): void => undefined;

  constructor(core: CoreWithSecrets, { pace = rotationPace, exclusive }: EngineOptions) {
    const lease = new Leadership(core, { holder: randomUUID(), leaseMs: pace.leaseMs, exclusive });
    this.#hand = { core, lease, pace, stop: this.#stop.signal };
  }

  start(): void {
    this.#unhear = this.#hand.core.ledger.onCommitted(({ writes }) => {
      const concerns = writes.some(
        ({ table }) => table === 'rotations' || table === 'rotation_policies' || table === 'connections',
      );
      // Later: memory hears of it in the same turn, and whoever committed it goes first.
      if (concerns) setImmediate(() => this.wake());
    });
    this.wake();
  }

  /** What is under way upstream is ended as a call in doubt. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#unhear();
    clearTimeout(this.#timer);
    await this.#looking;
    await Promise.all(this.#working.values());
  }

  /** Looks now, or again after the look that is under way. */
  wake(): void {
    if (this.#stop.signal.aborted) return;
    if (this.#looking) {
      this.#again = true;
      return;
    }
    this.#again = false;
    this.#looking = this.#look()
      .catch((error: unknown) => {
        this.#hand.core.log.error({ err: error }, 'rotations could not be looked at; it is tried again');
        return restMs;
      })
      .then((sleepMs) => {
        this.#looking = undefined;
        if (this.#stop.signal.aborted) return;
        if (this.#again) return this.wake();
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.wake(), sleepMs);
        this.#timer.unref();
      });
  }

  /** @returns how long nothing more will be due */
  async #look(): Promise<number> {
    const { core, lease, pace } = this.#hand;
    if (core.keyring.state().sealed) return restMs;
    let { tasks, at } = this.#tasks();
    if (tasks.length === 0) return sleepUntil(at, core.clock.now());
    if (!(await lease.have(pace.callMs + leaseMarginMs))) return restMs;
    // As it is now: whoever led before may have been at work meanwhile.
    ({ tasks, at } = this.#tasks());
    for (const [policyId, task] of tasks) {
      if (this.#working.size >= maxAtOnce) break;
      this.#work(policyId, task);
    }
    return sleepUntil(at, core.clock.now());
  }

  #tasks(): { tasks: [string, Task][]; at: number } {
    const { core } = this.#hand;
    const now = core.clock.now();
    const policies = new Set([
      ...core.state.rotationPolicies.all().map(({ id }) => id),
      ...core.state.rotations.all().map(({ policy_id }) => policy_id),
    ]);
    const tasks: [string, Task][] = [];
    let at = Number.POSITIVE_INFINITY;
    for (const id of policies) {
      if (this.#working.has(id)) continue;
      const restUntil = this.#resting.get(id) ?? 0;
      if (restUntil > now) {
        at = Math.min(at, restUntil);
        continue;
      }
      const next = nextTask(core, id, now);
      if (!next) continue;
      if ('do' in next) tasks.push([id, next]);
      else at = Math.min(at, next.at);
    }
    return { tasks, at };
  }

  #work(policyId: string, task: Task): void {
    const { core } = this.#hand;
    const work = this.#run(task)
      .then(() => void this.#resting.delete(policyId))
      .catch((error: unknown) => {
        // What was not recorded is found again; not at once, or a fault would be a loop.
        this.#resting.set(policyId, core.clock.now() + restMs);
        if (this.#stop.signal.aborted) return;
        if (error instanceof LeaseLost || error instanceof Interrupted) {
          core.log.info({ why: error.message, policy: policyId }, 'a rotation was interrupted; it is looked at again');
          return;
        }
        const known = error instanceof Refused && error.refusal.code !== 'internal';
        core.log[known ? 'warn' : 'error']({ err: error, policy: policyId }, 'a rotation was interrupted; it goes on');
      })
      .finally(() => {
        this.#working.delete(policyId);
        this.wake();
      });
    this.#working.set(policyId, work);
  }

  async #run(task: Task): Promise<void> {
    switch (task.do) {
      case 'ask':
        return this.#ask(task);
      case 'report overdue':
        return this.#reportOverdue(task);
      case 'begin':
        return this.#goOn(task.row.id, await this.#begin(task.row));
      case 'go on':
        return this.#goOn(task.row.id, await this.#step(task.row, task));
    }
  }

  #begin(row: Rotation): Promise<Next> {
    return row.connection_id === null ? rotateKey(this.#hand, row) : begin(this.#hand, row);
  }

  /** Step after step, until one has to wait. */
  async #goOn(id: string, first: Next): Promise<void> {
    for (let next = first; next === 'goes on'; ) {
      const { core } = this.#hand;
      const row = core.state.rotations.get(id);
      if (!row || this.#stop.signal.aborted) return;
      if (row.status === 'grace' && (row.retire_at ?? 0) > core.clock.now()) return;
      next = await this.#step(row, { nudged: false, wanted: false });
    }
  }

  async #step(row: Rotation, task: { nudged: boolean; wanted: boolean }): Promise<Next> {
    const hand = this.#hand;
    try {
      return await this.#take(row, task);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      const now = hand.core.state.rotations.get(row.id) ?? row;
      return putOff(hand, now, error.message, now.tries + 1 >= hand.pace.cleanTries ? { status: 'stuck' } : {});
    }
  }

  async #take(row: Rotation, { nudged, wanted }: { nudged: boolean; wanted: boolean }): Promise<Next> {
    const hand = this.#hand;
    if (!hand.core.state.connections.get(row.connection_id ?? '')) {
      return endFailed(hand, row, { failure: 'the connection was deleted', again: false });
    }
    if (isAccountsMethod(row.method)) return refreshAccounts(hand, row);
    switch (row.step) {
      case 'create':
        return createWasInterrupted(hand, row);
      case 'set':
        return setStep(hand, row);
      case 'test':
        return testStep(hand, row);
      case 'retire':
        return retireStep(hand, row, wanted);
      case 'undo':
        return undoStep(hand, row, nudged);
      case 'finish':
        throw new Error('a rotation that is finished is not under way');
    }
  }

  async #ask({ policy }: Task & { do: 'ask' }): Promise<void> {
    const { core } = this.#hand;
    const row = askedRow(core, {
      policy_id: policy.id,
      connection_id: policy.connection_id,
      cause: 'schedule',
      reason: null,
      requested_by: rotationCaller.actor.kind === 'system' ? rotationCaller.actor.name : 'rotation',
      fence: policy.fence,
      at_once: false,
      grace_seconds: policy.grace_seconds,
    });
    await commitLeading(this.#hand, {
      guards: [{ guard: 'unchanged', table: 'rotation_policies', id: policy.id, version: policy.version }],
      writes: [{ write: 'insert', table: 'rotations', row }],
      audit: [askedRecord(core, rotationCaller, row)],
    });
  }

  async #reportOverdue({ policy, due }: Task & { do: 'report overdue' }): Promise<void> {
    const { core } = this.#hand;
    const open = core.state.rotations.ofPolicy(policy.id).at(-1);
    await commitLeading(this.#hand, {
      writes: [
        {
          write: 'update',
          table: 'rotation_policies',
          id: policy.id,
          set: { overdue_reported: due, version: policy.version + 1 },
          from: { version: policy.version },
        },
      ],
      audit: [
        record(core, rotationCaller, {
          type: 'rotation.overdue',
          ...rotationNames(core, { policy_id: policy.id, connection_id: policy.connection_id }),
          data: {
            ...(policy.connection_id === null ? { key: policy.id } : {}),
            due_at: new Date(due).toISOString(),
            rotation: open?.id,
            failure: open?.failure ?? undefined,
          },
        }),
      ],
    });
  }
}

const sleepUntil = (at: number, now: number): number => Math.max(10, Math.min(at - now, longestSleepMs));
