/** One data directory, one upstream and one target, through many lives of a broker. */
import { rmSync } from 'node:fs';
import { type Answer, type BrokerClient, freePort, temporaryDir } from '../../support/broker.ts';
import { type ChildBroker, newAdminToken, spawnBroker, startChildBroker } from '../../support/child-broker.ts';
import { eventually } from '../../support/eventually.ts';
import { startUpstream, type Upstream } from '../../support/upstream-provider.ts';
import type { Child } from '../child-process.ts';
import { AuditView } from './audit-view.ts';
import { connections, Memory, providersOf, Register } from './memory.ts';
import { graceSeconds } from './rotations.ts';
import { startTarget, type Target } from './target.ts';

export interface World {
  dataDir: string;
  /** The public URL of every broker of this world. */
  issuer: string;
  /** For files of the run. */
  scratchDir: string;
  upstream: Upstream;
  target: Target;
  memory: Memory;
  view: AuditView;
  /** Checkpoints that were shown, oldest first. */
  checkpoints: { source: string; note: string }[];
  /** Starts a broker and waits until it is ready. */
  start(under?: readonly string[]): Promise<{ broker: ChildBroker; readyMs: number }>;
  /** Only starts the process, in a group of its own, for one that is killed meanwhile: {@link killGroup}. */
  spawn(under?: readonly string[]): Child;
  /** Ends all that runs. @param keep leaves the data directory, to be looked at */
  end(keep: boolean): Promise<void>;
}

/** Ends a process and all it started: what traces a broker, and the broker with it. */
export const killGroup = ({ process: { pid, exitCode, signalCode } }: Child): void => {
  // Not after its end: the number may be another group's by then.
  if (pid === undefined || exitCode !== null || signalCode !== null) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    // It is not a group yet, and so has started nothing; or it ended at this moment.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
    process.kill(pid, 'SIGKILL');
  }
};

const must = (answer: Answer, ...fine: number[]): Answer => {
  if (!fine.includes(answer.status)) throw new Error(`setting up: ${answer.status} ${answer.text}`);
  return answer;
};

const firstSecret = 'sk_0_0123456789abcdef';
const owners = ['red@example.com', 'blue@example.com'];
/** No grant of a run outlives it by more than this; most outlive it. */
const longestSeconds = 24 * 3600;

/** Registers everything, at the first life of the broker. */
const settleIn = async (broker: BrokerClient, upstream: Upstream, target: Target, memory: Memory): Promise<void> => {
  const key = { id: 'key-0', value: 'key_0_0123456789abcdef' };
  await upstream.keys(key);
  const at = { url: upstream.url, scopes: ['all'] };
  const settings = { jwt: { audience: 'https://orders.example', scopes: ['all'] }, made: at, lease: at, keyed: at };
  must(await broker.connection('gate', target.url, { secret: firstSecret }), 201);
  for (const name of ['jwt', 'made', 'lease', 'keyed'] as const) {
    const secret = name === 'keyed' ? { secret: key } : {};
    const made = { name, provider: providersOf[name], settings: settings[name], ...secret };
    must(await broker.admin('POST', '/connections', made), 201);
  }
  // Without a schedule: rotations are asked for.
  must(await broker.admin('PUT', '/connections/keyed/rotation', { grace_seconds: graceSeconds }), 200);
  for (const [i, name] of ['ada', 'bob', 'cyd', 'dan'].entries()) {
    const owner = owners[i % 2] ?? '';
    const entitlements: Memory['agents'][number]['entitlements'] = new Map();
    const agent = { ...(await broker.agent(name, owner)), owner, token: undefined, entitlements };
    for (const connection of connections) {
      const limits = { max_ttl_seconds: longestSeconds };
      const { body } = must(await broker.entitle(name, connection, ['all'], limits), 201);
      entitlements.set(connection, String(body['id']));
    }
    memory.agents.push(agent);
    memory.suspended.set(agent, new Register(`whether ${name} is suspended`, false));
  }
};

export const makeWorld = async (): Promise<World> => {
  const [upstream, target] = await Promise.all([startUpstream(), startTarget()]);
  const options = { dataDir: temporaryDir(), port: await freePort(), adminToken: newAdminToken() };
  const scratchDir = temporaryDir();
  const memory = new Memory(firstSecret);
  /** How to end what is running. */
  const running = new Map<Child, (child: Child) => void>();
  const known = (child: Child, kill = (one: Child): unknown => one.process.kill('SIGKILL')): Child => {
    running.set(child, kill);
    const over = (): void => void running.delete(child);
    child.ended.then(over, over);
    return child;
  };
  let newest: ChildBroker | undefined;
  const start: World['start'] = async (under = []) => {
    const began = performance.now();
    const broker = await startChildBroker({ ...options, under });
    known(broker.child);
    newest = broker;
    await eventually(
      'the broker is ready',
      () => broker.fetch('/readyz'),
      ({ status }) => status === 200,
    );
    return { broker, readyMs: performance.now() - began };
  };
  const end: World['end'] = async (keep) => {
    await newest?.kill().catch(() => undefined);
    for (const [child, kill] of running) {
      kill(child);
      await child.ended;
    }
    await Promise.all([upstream.stop(), target.close()]);
    rmSync(scratchDir, { recursive: true, force: true });
    if (!keep) rmSync(options.dataDir, { recursive: true, force: true });
  };
  try {
    const { broker } = await start();
    await settleIn(broker, upstream, target, memory);
    await broker.kill();
  } catch (error) {
    await end(false);
    throw error;
  }
  const view = new AuditView(new Map(memory.agents.map(({ id, owner }) => [id, owner])));
  const spawn = (under: readonly string[] = []): Child =>
    known(spawnBroker({ ...options, under: ['setsid', ...under] }), killGroup);
  const { dataDir, port } = options;
  const issuer = `http://127.0.0.1:${port}`;
  return { dataDir, issuer, scratchDir, upstream, target, memory, view, checkpoints: [], start, spawn, end };
};
