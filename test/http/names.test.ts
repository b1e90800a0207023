/** One identity a name: every other spelling of it is refused wherever a name is taken. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Broker } from '../support/broker.ts';
import { unacceptableVariants } from './name-variants.ts';
import {
  closeConnections,
  eachOf,
  type Furniture,
  formType,
  furnish,
  jsonType,
  noneOf,
  send,
  startEdgeBroker,
  stateOf,
} from './support.ts';

let broker: Broker;
let furniture: Furniture;
const variants = [...unacceptableVariants('reporter'), ...unacceptableVariants('stripe')];
/** Every route takes some of each kind; the routes that make and find names take them all. */
const some = variants.filter((_, i) => i % 4 === 0);

beforeAll(async () => {
  broker = await startEdgeBroker();
  furniture = await furnish(broker);
});
afterAll(async () => {
  closeConnections();
  await broker.close();
});

/** Sends each variant; says which of them got another status than these. */
const others = async (
  statuses: number[],
  request: (variant: string) => Parameters<typeof send>[1],
  given = some,
): Promise<string[]> => {
  const before = await stateOf(broker);
  const faults = await eachOf(given, async (variant) => {
    const { status, text } = await send(broker.url, request(variant));
    return statuses.includes(status) ? undefined : `${JSON.stringify(variant)}: ${status} ${text.slice(0, 150)}`;
  });
  expect(await stateOf(broker)).toEqual(before);
  return noneOf(faults);
};

const posted = (path: string, body: (variant: string) => object) => (variant: string) => ({
  method: 'POST',
  path: `/admin/v1${path}`,
  token: broker.adminToken,
  headers: jsonType,
  body: JSON.stringify(body(variant)),
});

describe(`a thousand spellings of a name`, () => {
  test('are more than a thousand', () => {
    expect(variants.length).toBeGreaterThan(1000);
  });

  test.each<[string, (variant: string) => object]>([
    ['/agents', (name) => ({ name, owner: 'x@example.com' })],
    ['/operators', (name) => ({ name, roles: ['admin'] })],
    ['/connections', (name) => ({ name, provider: 'internal-jwt', settings: { audience: 'a', scopes: ['a'] } })],
    ['/entitlements', (agent) => ({ agent, connection: 'stripe', scopes: ['read'] })],
    ['/entitlements', (connection) => ({ agent: 'reporter', connection, scopes: ['read'] })],
    ['/revocations', (agent) => ({ selector: { agent }, reason: 'x' })],
    ['/revocations', (connection) => ({ selector: { connection }, reason: 'x', dry_run: true })],
    ['/revocations', (provider) => ({ selector: { provider }, reason: 'x' })],
    ['/apply', (name) => ({ agents: [{ name, owner: 'x@example.com' }] })],
    ['/apply', (agent) => ({ entitlements: [{ agent, connection: 'stripe', scopes: ['read'] }] })],
  ])('are refused in the body of %s', async (path, body) => {
    const statuses = path === '/entitlements' || path === '/revocations' ? [400, 404] : [400];
    expect(await others(statuses, posted(path, body), path === '/agents' ? variants : some)).toEqual([]);
  });

  test.each([
    ['GET', '/agents/'],
    ['DELETE', '/agents/'],
    ['GET', '/connections/'],
    ['DELETE', '/connections/'],
    ['GET', '/operators/'],
  ])('find nothing at %s %s', async (method, path) => {
    const request = (variant: string) => ({
      method,
      path: `/admin/v1${path}${encodeURIComponent(variant)}`,
      token: broker.adminToken,
    });
    expect(await others([404], request, path === '/agents/' && method === 'GET' ? variants : some)).toEqual([]);
  });

  test('are no connection an agent may ask for', async () => {
    const request = (variant: string) => ({
      method: 'POST',
      path: '/v1/grants',
      token: furniture.agentToken,
      headers: jsonType,
      body: JSON.stringify({ connection: variant, scopes: ['read'] }),
    });
    expect(await others([400], request, variants)).toEqual([]);
  });

  test('are no client at the token endpoint, and no connection in a resource', async () => {
    const form = (fields: Record<string, string>) => ({
      method: 'POST',
      path: '/token',
      headers: formType,
      body: new URLSearchParams({ grant_type: 'client_credentials', ...fields }).toString(),
    });
    const { clientSecret } = furniture.agent;
    expect(await others([401], (variant) => form({ client_id: variant, client_secret: clientSecret }))).toEqual([]);
    const authorization = `Basic ${Buffer.from(`reporter:${clientSecret}`).toString('base64')}`;
    const request = (variant: string) => {
      const sent = form({ scope: 'read', resource: `${broker.url}/connections/${variant}` });
      return { ...sent, headers: { ...sent.headers, authorization } };
    };
    expect(await others([400], request)).toEqual([]);
  });

  test('reach nothing through the gateway', async () => {
    const request = (variant: string) => ({
      method: 'GET',
      path: `/gateway/${encodeURIComponent(variant)}/v1/charges`,
      token: furniture.gatewayToken,
    });
    expect(await others([400, 403], request)).toEqual([]);
  });
});

test('a name in percent-encoding is the same name, and taken only once', async () => {
  const show = async (path: string) =>
    (await send(broker.url, { method: 'GET', path: `/admin/v1/agents/${path}`, token: broker.adminToken })).json;
  const plain = await show('reporter');
  expect(plain).toMatchObject({ name: 'reporter' });
  expect(await show('%72eporter')).toEqual(plain);
  expect(await show('%72%65%70%6f%72%74%65%72')).toEqual(plain);
  expect(await show('%72%65%70%6F%72%74%65%72')).toEqual(plain);
  const again = await send(broker.url, posted('/agents', (name) => ({ name, owner: 'x@example.com' }))('reporter'));
  expect(again).toMatchObject({ status: 409, json: { code: 'conflict' } });
  const escaped = await send(broker.url, {
    method: 'POST',
    path: '/admin/v1/agents',
    token: broker.adminToken,
    headers: jsonType,
    body: '{"name":"\\u0072eporter","owner":"x@example.com"}',
  });
  expect(escaped.status).toBe(409);
});

test('of a hundred who register one name at once, one has it', async () => {
  const answers = await eachOf(
    Array.from({ length: 100 }, (_, i) => i),
    (i) => send(broker.url, posted('/agents', (name) => ({ name, owner: `owner-${i}` }))('raced')),
  );
  expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
  expect(answers.filter(({ status }) => status === 409)).toHaveLength(99);
  const winner = answers.find(({ status }) => status === 201)?.json;
  const shown = await broker.admin('GET', '/agents/raced');
  expect(shown.body).toMatchObject({ id: winner?.['id'], owner: winner?.['owner'] });
});
