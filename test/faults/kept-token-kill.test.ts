/**
 * kill -9 while GitHub tokens are issued: what an agent was given can be taken back after the restart, and every token
 * that lives on at GitHub was given to nobody and is told of.
 */
import { afterAll, expect, test } from '@jest/globals';
import { freePort, removeTemporaryDirs, temporaryDir } from '../support/broker.ts';
import { type ChildBroker, newAdminToken, startChildBroker } from '../support/child-broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { shortOrLong } from '../support/length.ts';
import { readsFile, startTestGitHub } from '../vendors/github/rig.ts';

const rounds = shortOrLong(2, 10);

let newest: ChildBroker | undefined;
let github: Awaited<ReturnType<typeof startTestGitHub>> | undefined;
afterAll(async () => {
  await newest?.kill();
  await github?.close();
  removeTemporaryDirs();
});

test('killed at random moments, it can take back every token an agent holds', async () => {
  github = await startTestGitHub();
  const hub = github;
  const options = { dataDir: temporaryDir(), port: await freePort(), adminToken: newAdminToken() };
  const start = async (): Promise<ChildBroker> => {
    newest = await startChildBroker(options);
    return newest;
  };
  let broker = await start();
  const agent = await broker.agent('builder');
  await broker.admin('POST', '/connections', {
    name: 'github',
    provider: 'github-app',
    settings: {
      app_id: hub.appId,
      installation_id: hub.installationId,
      base_url: hub.url,
      allow_private_network: true,
      scopes: { read: { permissions: { contents: 'read' }, repositories: [hub.repository] } },
    },
    secret: { private_key: hub.privateKey },
  });
  await broker.entitle('builder', 'github', ['read']);

  const delivered: string[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const token = await broker.agentToken(agent);
    const one = async (): Promise<void> => {
      const answer = await broker.grant(token, { connection: 'github', scopes: ['read'] }).catch(() => undefined);
      if (answer?.status === 201) delivered.push(String((answer.body['credential'] as { token: string }).token));
    };
    await one();
    const storm = Promise.all(Array.from({ length: 30 }, one));
    await pause(20 + Math.random() * 120);
    await broker.kill();
    await storm;
    broker = await start();
  }
  await eventually(
    'every intent is done with',
    () => broker.admin('GET', '/grants?status=intended&limit=1'),
    ({ body }) => (body['items'] as unknown[]).length === 0,
  );
  await broker.admin('POST', '/revocations', { selector: { everything: true }, reason: 'test' });
  await eventually(
    'all revocations are complete',
    () => broker.admin('GET', '/revocations?limit=10'),
    ({ body }) => (body['items'] as { completed_at: unknown }[]).every((one) => one.completed_at !== null),
    20_000,
  );
  const stillWork = await Promise.all(delivered.map((token) => readsFile(hub, token)));
  expect(stillWork.length).toBeGreaterThanOrEqual(rounds);
  expect(stillWork.filter(Boolean)).toEqual([]);

  const items = (await broker.admin('GET', '/grants?status=aborted&limit=200')).body['items'] as object[];
  const toldOf = items.filter((grant) => 'upstream_ends_by' in grant && grant.upstream_ends_by !== null);
  expect((await hub.upstream.artefacts()).length).toBeLessThanOrEqual(toldOf.length);
}, 120_000);
