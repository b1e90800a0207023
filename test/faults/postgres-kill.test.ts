/** kill -9 of a broker that makes roles in a real PostgreSQL: whenever it dies, no role is left that no grant owns. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { admin, type PostgresRig, startPostgresRig } from '../adapters/providers/postgres-rig.ts';
import { freePort, removeTemporaryDirs, temporaryDir } from '../support/broker.ts';
import { type ChildBroker, newAdminToken, startChildBroker } from '../support/child-broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { shortOrLong } from '../support/length.ts';
import { startTroubledProxy, type TroubledProxy } from '../support/troubled-tcp.ts';

let rig: PostgresRig;
let proxy: TroubledProxy;
let broker: ChildBroker | undefined;
beforeAll(async () => {
  rig = await startPostgresRig();
  proxy = await startTroubledProxy(rig.server, (message) =>
    /CREATE ROLE "wdr_[0-9a-z]{26}"/.test(message.toString('latin1')),
  );
});
afterAll(async () => {
  await broker?.kill();
  await proxy.close();
  await rig.stop();
  removeTemporaryDirs();
});

const settle = async () => {
  const options = { dataDir: temporaryDir(), port: await freePort(), adminToken: newAdminToken() };
  const start = async (): Promise<ChildBroker> => {
    broker = await startChildBroker(options);
    return broker;
  };
  const first = await start();
  const agent = await first.agent('conformer');
  const made = await first.admin('POST', '/connections', {
    name: 'database',
    provider: 'postgres',
    settings: {
      host: proxy.host,
      port: proxy.port,
      database: 'postgres',
      tls: { mode: 'disable' },
      allow_private_network: true,
    },
    secret: admin,
  });
  expect([made.status, made.text]).toEqual([201, expect.any(String)]);
  await first.entitle('conformer', 'database', ['read', 'read-write'], { max_ttl_seconds: 600 });
  return { start, first, token: await first.agentToken(agent) };
};
const ask = (on: ChildBroker, token: string) => on.grant(token, { connection: 'database', scopes: ['read'] });

const listed = async (on: ChildBroker, status: string): Promise<string[]> => {
  const { body } = await on.admin('GET', `/grants?status=${status}&limit=500`);
  return (body['items'] as { id: string }[]).map(({ id }) => id);
};

test('killed between mint and settle, it leaves no role behind after the next start', async () => {
  const { start, first, token } = await settle();
  expect((await ask(first, token)).status).toBe(201);
  proxy.unanswered();
  const asking = ask(first, token).catch(() => undefined);
  await eventually(
    'the role is made',
    () => rig.roles(),
    (roles) => roles.length === 2,
  );
  const intended = await listed(first, 'intended');
  expect(intended).toHaveLength(1);
  await first.kill();
  await asking;
  await proxy.trouble.well();

  const next = await start();
  await eventually(
    'only the role that was delivered is left',
    () => rig.roles(),
    (roles) => roles.length === 1,
  );
  await eventually(
    'the intent is closed',
    () => listed(next, 'aborted'),
    (ids) => ids.includes(intended[0] ?? ''),
  );
  await next.admin('POST', '/revocations', { selector: { everything: true }, reason: 'over' });
  await eventually(
    'nothing is left',
    () => rig.roles(),
    (roles) => roles.length === 0,
  );
  await next.kill();
}, 60_000);

test('killed at any moment of issuing and returning, it leaves no role that no grant owns', async () => {
  const { start, first, token } = await settle();
  let running = first;
  for (let life = 0; life < shortOrLong(2, 8); life += 1) {
    const victim = running;
    let over = false;
    const working = Array.from({ length: 8 }, async () => {
      while (!over) {
        const answer = await ask(victim, token).catch(() => undefined);
        const grant = answer?.body['grant'] as { id: string } | undefined;
        if (grant && Math.random() < 0.5)
          await victim.json('DELETE', `/v1/grants/${grant.id}`, token).catch(() => undefined);
      }
    });
    await pause(150 + Math.random() * 300);
    await victim.kill();
    over = true;
    await Promise.all(working);
    running = await start();
    const on = running;
    const orphans = async (): Promise<string[]> => {
      const roles = await rig.roles();
      const alive = new Set((await listed(on, 'active')).map((id) => id.replace('grt_', 'wdr_')));
      return [...roles.filter((role) => !alive.has(role)), ...(await listed(on, 'intended'))];
    };
    await eventually('every role belongs to a grant', orphans, (left) => left.length === 0, 15_000);
  }
  await running.admin('POST', '/revocations', { selector: { everything: true }, reason: 'over' });
  await eventually(
    'nothing is left',
    () => rig.roles(),
    (roles) => roles.length === 0,
    15_000,
  );
}, 120_000);
