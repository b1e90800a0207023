/**
 * kill -9 of a broker at work: nothing acknowledged is lost, nothing delivered is unrecorded, nothing revoked is
 * accepted, nothing is left behind upstream, and the audit log proves itself. WARDER_TEST_KILLS makes it longer.
 */
import { createServer, type Server } from 'node:http';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { verifyAuditExport } from '../../src/services/audit/verify-audit.ts';
import { type BrokerClient, freePort, removeTemporaryDirs, temporaryDir } from '../support/broker.ts';
import { type ChildBroker, newAdminToken, startChildBroker } from '../support/child-broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { grantOf, startUpstream, type Upstream } from '../support/upstream-provider.ts';
import { settleIn, type Witness } from './broker-witness.ts';
import { canTrace, needing, syncs } from './strace.ts';

const kills = Number(process.env['WARDER_TEST_KILLS'] ?? 30);
/** Of so many at most what they hold is tried after each restart; a long run holds thousands. */
const tried = 60;

let target: Server;
let targetUrl: string;
beforeAll(async () => {
  target = createServer((_req, res) => res.end('{}'));
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  const address = target.address();
  targetUrl = `http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}`;
});
afterAll(() => {
  target.closeAllConnections();
  target.close();
  removeTemporaryDirs();
});

/** What a test that fails would leave running. */
const leftRunning: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await Promise.all(leftRunning.splice(0).map((end) => end()));
});

/** One data directory and one upstream, through many lives of a broker. */
interface World {
  upstream: Upstream;
  witness: Witness;
  checkpoints: { source: string; note: string }[];
  start(under?: readonly string[]): Promise<ChildBroker>;
}

const makeWorld = async (): Promise<World> => {
  const upstream = await startUpstream();
  leftRunning.push(() => upstream.stop());
  const options = { dataDir: temporaryDir(), port: await freePort(), adminToken: newAdminToken() };
  let newest: ChildBroker | undefined;
  leftRunning.push(async () => newest?.kill());
  const start = async (under: readonly string[] = []): Promise<ChildBroker> => {
    newest = await startChildBroker({ ...options, under });
    return newest;
  };
  const first = await start();
  const witness = await settleIn(first, upstream, targetUrl);
  await first.kill();
  return { upstream, witness, start, checkpoints: [] };
};

const listAll = async (broker: BrokerClient, status: string): Promise<Set<string>> => {
  const ids = new Set<string>();
  for (let cursor: unknown; cursor !== null; ) {
    const more = cursor === undefined ? '' : `&cursor=${cursor}`;
    const { body } = await broker.admin('GET', `/grants?status=${status}&limit=500${more}`);
    for (const { id } of body['items'] as { id: string }[]) ids.add(id);
    cursor = body['next_cursor'];
  }
  return ids;
};

/** Everything that must be so after a restart. @returns what is not */
const whatIsWrong = async (world: World, broker: BrokerClient): Promise<string[]> => {
  const { witness, upstream } = world;
  const wrong: string[] = [];

  // What was acknowledged: the newest, and some of the rest.
  const all = witness.held;
  const sample = [...all.slice(-tried / 2), ...all.filter(() => Math.random() < tried / 2 / all.length)];
  for (const grant of new Set(sample)) {
    const shown = await broker.admin('GET', `/grants/${grant.id}`);
    if (shown.status !== 200) wrong.push(`${grant.id} was delivered and is not there: ${shown.status}`);
    if (grant.fate === 'unknown') continue;
    if (Date.parse(String(shown.body['expires_at'])) < grant.expiresAt) wrong.push(`${grant.id} lost its renewal`);
    const atWarder = grant.connection === 'gate' || grant.connection === 'jwt';
    const works = await witness.works(grant, broker, upstream);
    if (grant.fate === 'alive' && !works) wrong.push(`${grant.id} (${grant.connection}) was issued and does not work`);
    if (grant.fate === 'dead' && works && atWarder)
      wrong.push(`${grant.id} (${grant.connection}) lives though revoked`);
    const status = shown.body['status'];
    if (grant.fate === 'dead' && status === 'active') wrong.push(`${grant.id} is shown as active though revoked`);
  }

  // No orphans: once recovery and the drain are through, every account upstream belongs to a grant that lives.
  const orphans = async (): Promise<string[]> => {
    const accounts = await upstream.accounts();
    const alive = await listAll(broker, 'active');
    const intended = await listAll(broker, 'intended');
    return [...accounts.map(grantOf).filter((id) => !alive.has(id)), ...intended];
  };
  await eventually('no orphans are left', orphans, (left) => left.length === 0, 15_000).catch((error: unknown) =>
    wrong.push(String(error)),
  );

  // The log: whole, the continuation of every checkpoint seen before, and with an entry for each thing delivered.
  const headers = { authorization: `Bearer ${broker.adminToken}` };
  const exported = await (await broker.fetch('/admin/v1/audit/export', { headers })).text();
  const bytes = Buffer.from(exported);
  const source = (async function* () {
    yield bytes;
  })();
  const verdict = await verifyAuditExport(source, { checkpoints: world.checkpoints });
  if (!verdict.ok) wrong.push(`the audit log does not verify: ${JSON.stringify(verdict.fault)}`);
  const lines = exported
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  const issued = new Set(lines.filter(({ entry }) => entry?.type === 'grant.issued').map(({ entry }) => entry.grant));
  for (const { id } of all) if (!issued.has(id)) wrong.push(`${id} was delivered without an entry`);
  const checkpoint = await broker.admin('GET', '/audit/checkpoint');
  world.checkpoints.push({ source: `life ${world.checkpoints.length}`, note: String(checkpoint.body['checkpoint']) });
  if (world.checkpoints.length > 5) world.checkpoints.shift();
  return wrong;
};

const expectNothingWrong = async (world: World, broker: BrokerClient, life: number): Promise<void> =>
  expect({ life, wrong: await whatIsWrong(world, broker) }).toEqual({ life, wrong: [] });

test(`killed at ${kills} random moments, a broker has lost nothing it acknowledged and left nothing behind`, async () => {
  const lives = async (count: number): Promise<number> => {
    const world = await makeWorld();
    let broker = await world.start();
    for (let life = 0; life < count; life += 1) {
      const work = world.witness.work(broker);
      await pause(20 + Math.random() * 300);
      await broker.kill();
      await work;
      broker = await world.start();
      await expectNothingWrong(world, broker, life);
    }
    await broker.kill();
    return world.witness.held.length;
  };
  const held = await Promise.all([lives(Math.ceil(kills / 2)), lives(Math.floor(kills / 2))]);
  // A slow machine issues little between two kills; none at all would show nothing.
  expect(Math.min(...held)).toBeGreaterThan(0);
}, 600_000);

(canTrace ? test : test.skip)(
  needing(canTrace, 'strace', 'killed as it syncs for the N-th time, a broker has lost nothing it acknowledged'),
  async () => {
    const lives = async (count: number): Promise<number> => {
      const world = await makeWorld();
      for (let life = 0; life < count; life += 1) {
        const inject = `inject=${syncs}:signal=SIGKILL:when=${2 + Math.floor(Math.random() * 25)}`;
        const under = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${syncs}`, '-e', inject];
        // Killed while it starts: that is for broker-start.test.ts.
        const dying = await world.start(under).catch(() => undefined);
        if (dying) {
          await world.witness.work(dying);
          await dying.child.ended;
        }
        const broker = await world.start();
        await expectNothingWrong(world, broker, life);
        await broker.kill();
      }
      return world.witness.answered;
    };
    const rounds = Math.max(3, Math.floor(kills / 10));
    const answered = await Promise.all([lives(rounds), lives(rounds)]);
    expect(Math.min(...answered)).toBeGreaterThan(0);
  },
  600_000,
);
