/** `/ssh/<connection>`: public, and silent about everything that is not an ssh connection. */
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';

let broker: Broker;
let dataDir: string;
const scopes = { shell: { principals: ['deploy'] } };

beforeAll(async () => {
  dataDir = temporaryDir();
  broker = await startBroker({ dataDir });
  const made = await broker.admin('POST', '/connections', {
    name: 'servers',
    provider: 'ssh',
    settings: { scopes },
    secret: { generate: true },
  });
  expect(made.status).toBe(201);
  await broker.admin('POST', '/connections', { name: 'keyless', provider: 'ssh', settings: { scopes } });
  await broker.connection('plain', 'http://127.0.0.1:9');
});
afterAll(async () => {
  await broker.close();
  removeTemporaryDirs();
});

const withoutId = (body: Record<string, unknown>) => ({ ...body, request_id: '' });

describe('the routes for servers', () => {
  test('answer a stranger, with a list that need not be fetched again while it says the same', async () => {
    const first = await broker.fetch('/ssh/servers/krl');
    expect([first.status, first.headers.get('content-type'), first.headers.get('cache-control')]).toEqual([
      200,
      'application/octet-stream',
      'no-cache',
    ]);
    expect(
      Buffer.from(await first.arrayBuffer())
        .subarray(0, 7)
        .toString(),
    ).toBe('SSHKRL\n');
    const tag = String(first.headers.get('etag'));
    const again = await broker.fetch('/ssh/servers/krl', { headers: { 'if-none-match': `"other", ${tag}` } });
    expect([again.status, await again.text()]).toEqual([304, '']);
    const other = await broker.fetch('/ssh/servers/krl', { headers: { 'if-none-match': '"other"' } });
    expect(other.status).toBe(200);
    const head = await broker.fetch('/ssh/servers/krl', { method: 'HEAD' });
    expect([head.status, head.headers.get('etag'), await head.text()]).toEqual([200, tag, '']);
  });

  test('say the same of a connection of another kind, of none, and of what is no name', async () => {
    const answers = await Promise.all(
      ['plain', 'nothing', 'SERVERS', 'servers%00', 'ser\u200bvers', '..%2fservers', '__proto__'].flatMap((name) =>
        ['krl', 'ca.pub'].map(async (file) => {
          const response = await broker.fetch(`/ssh/${name}/${file}`);
          return { status: response.status, body: withoutId(JSON.parse(await response.text())) };
        }),
      ),
    );
    const bare = await broker.fetch('/ssh/servers/other');
    const expected = { status: bare.status, body: withoutId(JSON.parse(await bare.text())) };
    expect(expected.status).toBe(404);
    for (const answer of answers) expect(answer).toEqual(expected);
  });

  test('take GET only', async () => {
    const response = await broker.fetch('/ssh/servers/krl', { method: 'POST', body: '{}' });
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
  });

  test('have no public key of a connection without a secret', async () => {
    expect((await broker.fetch('/ssh/keyless/ca.pub')).status).toBe(404);
    expect((await broker.fetch('/ssh/keyless/krl')).status).toBe(200);
  });

  test('give the list while Warder is sealed, when the authority cannot be read', async () => {
    await broker.close();
    const key = join(dataDir, 'root.key');
    renameSync(key, `${key}.away`);
    broker = await startBroker({ dataDir });
    const authority = await broker.fetch('/ssh/servers/ca.pub');
    expect([authority.status, JSON.parse(await authority.text()).code]).toEqual([503, 'sealed']);
    expect((await broker.fetch('/ssh/servers/krl')).status).toBe(200);
  });
});
