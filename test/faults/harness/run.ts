/**
 * Kills brokers at work and checks what must be so after each restart, until there were enough kills and enough work.
 * Lanes run side by side, each with a data directory, an upstream and clients of its own.
 */
import type { ChildBroker } from '../../support/child-broker.ts';
import { canTrace } from '../strace.ts';
import { checkAll } from './checks.ts';
import { allWork } from './clients.ts';
import { Figures } from './findings.ts';
import {
  afterThat,
  canAttach,
  endOfWork,
  type Kill,
  killAtSync,
  type LifeLimits,
  underTrace,
  within,
} from './kills.ts';
import { type Chance, chanceOf } from './random.ts';
import type { Work } from './work.ts';
import { killGroup, makeWorld, type World } from './world.ts';

export interface RunOptions {
  seed: number;
  /** The run goes on until there were so many kills and so many issues, rotations and revocations. */
  points: number;
  operations: number;
  lanes: number;
  /** Of the time that a broker works before it is killed; a hundred operations take a second or two. */
  longestLife: LifeLimits;
  /** Of grants alive and of dead ones at most so many are used after each restart. */
  tried: number;
  /** Told after each life. */
  onLife?(figures: Figures, life: string): void;
  /** Ends the run early, cleanly. */
  signal?: AbortSignal;
}

export interface RunResult {
  figures: Figures;
  /** Why there were no kills at syncs, where there were none. */
  untraced: string | undefined;
  /** Data directories that were left to be looked at, as something was found in them. */
  kept: string[];
}

/** The whole log is verified this often, and rotations are waited for; and at the end. */
const wholeEvery = 5;
/** A life that does not get as far as its kill ends here. */
const longestLifeMs = 12_000;

interface Lane {
  world: World;
  number: number;
  options: RunOptions;
  figures: Figures;
  chance: Chance;
  traced: boolean;
}

const workOf = (
  { world, figures, chance, number, options: { tried } }: Lane,
  broker: ChildBroker,
  life: number,
): Work => ({
  world,
  broker,
  figures,
  chance: chance.fork(`life ${life}`),
  tried,
  over: { value: false },
  found: (invariant, what) => figures.findings.push({ invariant, at: `${number}.${life}`, what }),
});

/** Lets everybody work and kills the broker under them. */
const workUntilKilled = async (lane: Lane, broker: ChildBroker, life: number): Promise<void> => {
  let kill = endOfWork(lane.chance, lane.traced, lane.options.longestLife);
  const tracer = kill.kind === 'sync' ? await killAtSync(broker.greeting.pid ?? 0, kill.at) : undefined;
  if (kill.kind === 'sync' && !tracer) kill = { kind: 'time', at: kill.at };
  const ended = allWork(workOf(lane, broker, life));
  // It is waited for below; until then a failure is nobody's.
  ended.catch(() => undefined);
  await within(kill.kind === 'time' ? kill.at : longestLifeMs, broker.child.ended);
  const { exitCode, signalCode } = broker.child.process;
  // A life that has not synced so often ends by the clock.
  const byTracer = kill.kind === 'sync' && (exitCode !== null || signalCode !== null);
  lane.figures.kills.add(byTracer ? 'sync' : 'time');
  await broker.kill();
  await Promise.all([ended, tracer?.ended]);
};

/** A start that does not end well. */
const killedStart = async ({ world, figures }: Lane, kill: Kill): Promise<void> => {
  if (kill.kind === 'recovery') {
    const { broker } = await world.start();
    await within(kill.at, broker.child.ended);
    await broker.kill();
  } else {
    const traced = kill.kind === 'start-sync';
    const child = world.spawn(traced ? underTrace(kill.at) : []);
    const listens = child.line('{').then(
      () => true,
      () => false,
    );
    // Under a tracer it starts slowly, and lives on when it does not sync so often.
    await within(traced ? longestLifeMs : kill.at, listens);
    killGroup(child);
    await child.ended;
  }
  figures.kills.add(kill.kind);
};

const runLane = async (lane: Lane, enough: () => boolean): Promise<void> => {
  const { world, figures, chance, options, number } = lane;
  let { broker } = await world.start();
  for (let life = 0; !enough(); life += 1) {
    const at = `${number}.${life}`;
    try {
      await workUntilKilled(lane, broker, life);
      const extra = afterThat(chance, lane.traced);
      if (extra && !enough()) await killedStart(lane, extra);
      const started = await world.start();
      broker = started.broker;
      figures.readyMs.push(started.readyMs);
      await checkAll(workOf(lane, broker, life), at, life % wholeEvery === wholeEvery - 1 || enough());
    } catch (error) {
      // Whoever interrupts a run at a terminal interrupts its brokers, too.
      if (options.signal?.aborted) return;
      // It does not start any more, or answers what nobody can read: this lane has nothing to go on with.
      const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
      figures.findings.push({ invariant: 12, at, what });
      return;
    } finally {
      options.onLife?.(figures, at);
    }
  }
  await broker.stop();
};

/** @throws Error when nothing could be set up; whatever goes wrong after that is a finding */
export const runHarness = async (options: RunOptions): Promise<RunResult> => {
  const figures = new Figures();
  const attach = await canAttach();
  const untraced = attach
    ? undefined
    : canTrace
      ? 'a running process may not be traced here'
      : 'strace does not work here';
  // A lane that gave up ends the others, too.
  let failed = false;
  const enough = (): boolean =>
    failed ||
    figures.findings.some(({ invariant }) => invariant === 12) ||
    options.signal?.aborted === true ||
    (figures.points >= options.points && figures.operations >= options.operations);
  const kept: string[] = [];
  const lane = async (number: number): Promise<void> => {
    const chance = chanceOf(options.seed).fork(`lane ${number}`);
    const world = await makeWorld().catch((error: unknown) => {
      failed = true;
      throw error;
    });
    try {
      await runLane({ world, number, options, figures, chance, traced: attach }, enough);
    } finally {
      const keep = figures.findings.some(({ at }) => at.startsWith(`${number}.`));
      if (keep) kept.push(world.dataDir);
      await world.end(keep);
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: options.lanes }, (_, number) => lane(number)));
  for (const one of lanes) if (one.status === 'rejected') throw one.reason;
  return { figures, untraced, kept };
};
