/** A key behind the gateway, replaced by a recipe through the whole broker, and by nobody who does not know it. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { recipe, settingsOf } from '../adapters/rotation/rig.ts';
import { type Broker, removeTemporaryDirs, startBroker } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { startTroubledServer, type TroubledServer } from '../support/troubled-http.ts';
import { KeyService } from '../vendors/keys/service.ts';

const service = new KeyService();
let server: TroubledServer;
let broker: Broker;

beforeAll(async () => {
  server = await startTroubledServer(service.handler);
  broker = await startBroker();
});
afterAll(async () => {
  await broker.close();
  await server.close();
  removeTemporaryDirs();
});

const connect = async (name: string) => {
  const { account, key } = service.addAccount();
  const { status } = await broker.admin('POST', '/connections', {
    name,
    provider: 'api-key',
    settings: { ...settingsOf(server.url), scopes: { me: [{ methods: ['GET'], path: '/v1/me' }] } },
    secret: { value: key.secret, id: key.id },
  });
  expect(status).toBe(201);
  return { account, key };
};

const rotate = async (name: string): Promise<string> => {
  const { status, body, text } = await broker.admin('POST', '/rotations', {
    connection: name,
    reason: 'a test',
    now: true,
  });
  expect([status, text]).toEqual([201, text]);
  return String(body['id']);
};

const ended = (id: string) =>
  eventually(
    'the rotation has ended',
    async () => (await broker.admin('GET', `/rotations/${id}`)).body,
    ({ status }) => status === 'done' || status === 'failed',
  );

test('an agent at the gateway does not notice, and the old key is gone at the service', async () => {
  const { account, key } = await connect('noticed-by-nobody');
  const method = { recipe };
  const set = await broker.admin('PUT', '/connections/noticed-by-nobody/rotation', { grace_seconds: 0, method });
  expect([set.status, set.text]).toEqual([200, set.text]);
  const agent = await broker.agent('reader');
  await broker.entitle('reader', 'noticed-by-nobody', ['me']);
  const granted = await broker.grant(await broker.agentToken(agent), {
    connection: 'noticed-by-nobody',
    scopes: ['me'],
  });
  const { token, base_url } = granted.body['credential'] as { token: string; base_url: string };
  const whoAmI = async (): Promise<unknown> =>
    (await fetch(`${base_url}/v1/me`, { headers: { authorization: `Bearer ${token}` } })).json();

  expect(await whoAmI()).toEqual({ key: { id: key.id } });
  const id = await rotate('noticed-by-nobody');
  expect(await ended(id)).toMatchObject({ status: 'done' });
  const [only, ...others] = [...account.keys.values()];
  expect([only?.name, others]).toEqual([`warder noticed-by-nobody ${id}`, []]);
  expect(await whoAmI()).toEqual({ key: { id: only?.id } });

  const audit = await broker.admin('GET', '/audit?limit=200');
  for (const told of [broker.log(), audit.text]) {
    for (const secret of [key.secret, String(only?.secret)]) expect(told).not.toContain(secret);
  }
});

test('a new key that the service does not accept is taken away again; the old one works on', async () => {
  const { account, key } = await connect('refused-there');
  await broker.admin('PUT', '/connections/refused-there/rotation', { method: { recipe } });
  service.confused = true;
  const failed = await ended(await rotate('refused-there'));
  service.confused = false;
  expect(failed).toMatchObject({ status: 'failed', failure: expect.stringContaining('answered 401 to test') });
  expect([...account.keys.keys()]).toEqual([key.id]);
});

test('a test that refuses every secret is found out before anything is made', async () => {
  const { account } = await connect('tested-wrongly');
  const wrongly = { recipe: { ...recipe, test: { path: '/v1/no-such-path', refused: [404] } } };
  await broker.admin('PUT', '/connections/tested-wrongly/rotation', { method: wrongly });
  const failed = await ended(await rotate('tested-wrongly'));
  expect(failed).toMatchObject({ status: 'failed', failure: expect.stringContaining('nothing was made') });
  expect(account.keys.size).toBe(1);
});

test('who may write connections but does not know the secret cannot have it sent anywhere', async () => {
  await connect('wanted');
  const olga = await broker.admin('POST', '/operators', { name: 'olga', roles: ['operator'] });
  const asOlga = (method: object) =>
    broker.admin('PUT', '/connections/wanted/rotation', { method }, String(olga.body['token']));
  const written = { path: '/v1/notes', method: 'PUT', json: { text: '{{secret}}' } };
  for (const method of [
    { webhook: { url: 'https://hooks.example.com/olga' } },
    { recipe: { ...recipe, base_url: 'https://keys.example.com' } },
    { recipe: { ...recipe, revoke: written } },
    { recipe: { set: written, test: recipe.test } },
  ]) {
    expect(await asOlga(method)).toMatchObject({ status: 409, body: { code: 'conflict' } });
  }
  // Scripts are off unless this machine's configuration names a folder.
  expect(await asOlga({ script: 'steal' })).toMatchObject({ status: 400 });
  expect(await asOlga({ recipe })).toMatchObject({ status: 200 });
});
