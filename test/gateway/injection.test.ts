/** Where the secret is put in, and that nothing the agent sends can stand in its place. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { httpUpstream, type Rig, raw, SECRET, startRig, type Upstream, valuesOf } from './rig.ts';

let rig: Rig;
let upstream: Upstream;
let seen: { url: string; rawHeaders: string[] }[] = [];

beforeAll(async () => {
  upstream = await httpUpstream((req, res) => {
    seen.push({ url: req.url ?? '', rawHeaders: req.rawHeaders });
    res.end('ok');
  });
  rig = await startRig();
});
beforeEach(() => {
  seen = [];
});
afterAll(async () => {
  await rig.close();
  await upstream.close();
});

describe('a secret in a header', () => {
  test('stands in the header and form the connection says', async () => {
    const access = await rig.access(upstream.url, {
      settings: { inject: { header: 'X-Api-Key', value: 'token {secret}!' } },
    });
    await access.use('/x');
    expect(valuesOf(seen[0]?.rawHeaders ?? [], 'x-api-key')).toEqual([`token ${SECRET}!`]);
    expect(valuesOf(seen[0]?.rawHeaders ?? [], 'authorization')).toEqual([]);
  });

  test('cannot be shadowed in any spelling', async () => {
    const access = await rig.access(upstream.url, { settings: { inject: { header: 'X-Api-Key' } } });
    const spellings = ['X-Api-Key', 'x-api-key', 'X-API-KEY', 'X_Api_Key', 'x_api-key', 'X-API_KEY'];
    await raw(
      rig.port,
      `GET /gateway/${access.connection}/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access.token}\r\n` +
        `Connection: close, X-Api-Key\r\n${spellings.map((name) => `${name}: mine\r\n`).join('')}\r\n`,
    );
    const { rawHeaders } = seen[0] ?? { rawHeaders: [] };
    expect(rawHeaders).not.toContain('mine');
    expect(valuesOf(rawHeaders, 'x-api-key')).toEqual([SECRET]);
  });

  test('as a cookie replaces the agent’s cookies', async () => {
    const access = await rig.access(upstream.url, {
      settings: { inject: { header: 'Cookie', value: 'session={secret}' } },
    });
    await access.use('/x', { headers: { cookie: ['session=mine', 'a=1'] } });
    expect(valuesOf(seen[0]?.rawHeaders ?? [], 'cookie')).toEqual([`session=${SECRET}`]);
  });

  test('by basic authentication is the pair of user name and secret', async () => {
    const access = await rig.access(upstream.url, { settings: { inject: { basic: { username: 'usér' } } } });
    await access.use('/x');
    const pair = Buffer.from(`usér:${SECRET}`).toString('base64');
    expect(valuesOf(seen[0]?.rawHeaders ?? [], 'authorization')).toEqual([`Basic ${pair}`]);
  });

  test.each([
    ...[
      'Host',
      'Content-Length',
      'Transfer-Encoding',
      'Connection',
      'Keep-Alive',
      'Upgrade',
      'TE',
      'Trailer',
      'Expect',
    ],
    ...['Accept-Encoding', 'content_length', 'X Key', 'X:Key', 'X-Key\r\nHost', ''],
  ])('cannot be put into the header %j', async (header) => {
    const made = await rig.broker.connection('never', upstream.url, { settings: { inject: { header } } });
    expect([made.status, made.body['code']]).toEqual([400, 'invalid_request']);
  });

  test.each(['no secret', '{secret} {secret}', ' {secret}', '{secret} ', '{secret}\r\nX: y', '{secret}é'])(
    'cannot have the form %j',
    async (value) => {
      const made = await rig.broker.connection('never', upstream.url, {
        settings: { inject: { header: 'X-Key', value } },
      });
      expect(made.status).toBe(400);
    },
  );
});

describe('a secret in the query', () => {
  test.each([
    ['/x', '/x?api_key=a%20%26b%3D'],
    ['/x?', '/x?api_key=a%20%26b%3D'],
    ['/x?b=2&c', '/x?b=2&c&api_key=a%20%26b%3D'],
  ])('%s goes up as %s', async (path, expected) => {
    const access = await rig.access(upstream.url, { secret: 'a &b=x', settings: { inject: { query: 'api_key' } } });
    expect((await access.use(path)).status).toBe(200);
    expect(seen[0]?.url).toBe(`${expected}x`);
    expect(valuesOf(seen[0]?.rawHeaders ?? [], 'authorization')).toEqual([]);
  });

  test('cannot be shadowed in any spelling, and the attempt is recorded without it', async () => {
    const access = await rig.access(upstream.url, { settings: { inject: { query: 'api_key' } } });
    const spellings = [
      ...['api_key=x', 'api_key', 'a=1&api_key=x', 'API_KEY=x', 'Api_Key=x', 'api%5Fkey=x', '%61pi_key=x'],
      ...['api%255Fkey=x', '%2561pi_key=x', 'a=1;api_key=x', 'a=1%26api_key=x', 'a=1%3Bapi_key=x', 'api_key%3Dx'],
      ...['api.key=x', 'api+key=x', 'api%20key=x', 'api[key=x', 'api_key[]=x', 'api_key[0]=x', 'api_key%5B%5D=x'],
      ...['+api_key=x', '%20api_key=x', 'api_key+=x', '&&api_key=x', 'api_key=', 'a=1&a=2&api_key=x#'.slice(0, -1)],
    ];
    for (const query of spellings) {
      const reply = await access.use(`/x?${query}`);
      expect([query, reply.status, reply.headers['warder-error']]).toEqual([query, 400, 'invalid_request']);
    }
    expect(seen).toEqual([]);
    const entries = (await rig.audit(access.connection)).filter((entry) => entry.type === 'gateway.refused');
    expect(entries).toHaveLength(spellings.length);
    expect(JSON.stringify(entries)).not.toMatch(/=x|\?/);
  });

  test('other parameters that merely look alike pass', async () => {
    const access = await rig.access(upstream.url, { settings: { inject: { query: 'api_key' } } });
    for (const query of ['api_keys=x', 'my_api_key=x', 'a=api_key', 'a[api_key]=x', 'apikey=1', 'a=b=api_key']) {
      expect((await access.use(`/x?${query}`)).status).toBe(200);
      expect(seen.at(-1)?.url).toBe(`/x?${query}&api_key=${SECRET}`);
    }
  });
});

describe('a secret that cannot be kept', () => {
  test.each([
    ['short', 'at least 6 characters'],
    [' sk_live_1', 'no blanks before or behind it'],
    ['sk_live_1 ', 'no blanks before or behind it'],
    ['sk_live_1\n', 'printable ASCII only'],
    ['schlüssel', 'printable ASCII only'],
  ])('%j is refused with its reason, and not repeated', async (value, why) => {
    const made = await rig.broker.connection('never', upstream.url, { secret: value });
    expect(made.status).toBe(400);
    expect(made.text).toContain(why);
    expect(made.text).not.toContain(value.trim());
  });
});
