/** What operators write wrongly into a recipe, and what a service that errs or lies can do to one. */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { openNetwork } from '../../../adapters/network.ts';
import { openApiKeyProvider } from '../../../adapters/providers/api-key.ts';
import { type Attempt, beginAttempt, type Fields, rotationOf } from '../../conformance/rotation-attempt.ts';
import { identify, recipe, settingsOf } from './rig.ts';

const network = openNetwork();
const provider = openApiKeyProvider({ network });
const rotation = rotationOf(provider);
const settings = settingsOf('http://127.0.0.1:1');
const problems = (method: unknown, of: Record<string, unknown> = settings): string[] => {
  const checked = rotation.checkMethod(method, of);
  return checked.ok ? [] : checked.problems;
};

const { list: _, ...withoutList } = recipe;

describe('a recipe', () => {
  test.each<[string, object, string]>([
    ['without calls', {}, 'one of create and set'],
    ['that creates and sets', { ...recipe, set: { path: '/x', json: { a: '{{secret}}' } } }, 'one of create and set'],
    ['that ends nothing', { create: recipe.create, test: recipe.test }, 'revoke: needed'],
    ['that tests nothing', { ...recipe, test: undefined }, 'test: needed'],
    ['that sets nothing', { set: { path: '/x', json: {} }, test: recipe.test }, 'must contain {{secret}}'],
    ['whose list finds nothing', { ...recipe, create: { ...recipe.create, json: {} } }, 'must contain {{rotation_id}}'],
    [
      'that revokes by an id nobody knows',
      { ...recipe, create: { ...recipe.create, id: undefined } },
      'create.id: needed',
    ],
    ['with an unknown placeholder', { ...recipe, revoke: { path: '/x/{{constructor}}' } }, 'unknown placeholder'],
    ['with half a placeholder', { ...recipe, revoke: { path: '/x/{{id}' } }, 'a placeholder is written'],
    ['with the secret in a path', { ...recipe, revoke: { path: '/x/{{secret}}' } }, 'paths are logged'],
    [
      'with the secret in a test',
      { ...recipe, test: { path: '/x', method: 'POST', json: { a: '{{secret}}' } } },
      'not known in this call',
    ],
    ['with a path that climbs', { ...recipe, test: { path: '/v1/../admin' } }, 'a path that stays as it is'],
    ['with an encoded climb', { ...recipe, test: { path: '/v1/%2e%2e/admin' } }, 'a path that stays as it is'],
    ['with another host in its path', { ...recipe, test: { path: '//evil.example/x' } }, 'a path that stays as it is'],
    ['with a backslash', { ...recipe, test: { path: '/\\evil.example' } }, 'characters of a URL only'],
    ['with a line break in a path', { ...recipe, test: { path: '/x\r\nX: y' } }, 'characters of a URL only'],
    ['with a fragment', { ...recipe, test: { path: '/x#y' } }, 'characters of a URL only'],
    ['with a user in its path', { ...recipe, test: { path: '@evil.example/' } }, 'must begin with a slash'],
    [
      'with a line break in a header',
      { ...recipe, test: { path: '/x', headers: { a: 'b\r\nc: d' } } },
      'printable ASCII',
    ],
    [
      'with a header that frames',
      { ...recipe, test: { path: '/x', headers: { 'Transfer-Encoding': 'chunked' } } },
      'not yours to set',
    ],
    ['with another host header', { ...recipe, test: { path: '/x', headers: { host: 'evil' } } }, 'not yours to set'],
    ['with a body for GET', { ...recipe, test: { path: '/x', json: {} } }, 'GET has no body'],
    ['with two bodies', { ...recipe, create: { ...recipe.create, form: {} } }, 'json or form'],
    ['with a pointer that is none', { ...recipe, create: { ...recipe.create, secret: 'data.key' } }, 'JSON pointer'],
    ['at a metadata address', { ...recipe, base_url: 'http://169.254.169.254' }, 'hands out credentials'],
    ['with credentials in its address', { ...recipe, base_url: 'https://u:p@x.example' }, 'no credentials in a URL'],
    ['with OAuth scopes', { ...recipe, oauth_scopes: ['x'] }, 'only for oauth2'],
    ['that waits longer than a step may take', { ...recipe, test: { path: '/x', patience_seconds: 21 } }, '<=20'],
    ['with fields nobody knows', { ...recipe, shell: 'rm' }, 'nrecognized'],
  ])('%s is refused', (_name, written, said) => {
    expect(problems({ recipe: written }).join('\n')).toContain(said);
  });

  test('at a private address is refused unless the connection allows that', () => {
    const open = { ...settings, base_url: 'https://api.example.com', allow_private_network: false };
    expect(problems({ recipe: { ...recipe, base_url: 'http://10.0.0.1' } }, open).join()).toContain(
      'not on the public internet',
    );
    expect(problems({ recipe: { ...recipe, base_url: 'http://keys.example' } }, open).join()).toContain('https only');
  });

  test('deep or large is refused, and costs nothing', () => {
    let deep: unknown = 'x';
    for (let i = 0; i < 5_000; i += 1) deep = { a: deep };
    const began = performance.now();
    for (const json of [{ a: deep }, { a: 'x'.repeat(20_000) }, { a: '{{'.repeat(8_000) }]) {
      expect(problems({ recipe: { ...recipe, create: { ...recipe.create, json } } })).not.toEqual([]);
    }
    expect(performance.now() - began).toBeLessThan(1_000);
  });

  test('says where else the secret goes, and no more', () => {
    const check = (method: object) => {
      const checked = rotation.checkMethod({ recipe: { ...recipe, ...method } }, settings);
      if (!checked.ok) throw new Error(checked.problems.join());
      return rotation.destinations(checked.value, settings);
    };
    expect(check({})).toEqual([]);
    expect(check({ base_url: 'http://127.0.0.1:1/keys' })).toEqual([]);
    expect(check({ base_url: 'https://admin.example.com/v2' })).toEqual(['https://admin.example.com']);
    // Whoever does not know the secret could have it written where he reads.
    const noted = { path: '/notes/1', method: 'PUT', json: { text: '{{secret}}' } };
    expect(check({ revoke: noted })).toEqual(['http://127.0.0.1:1/notes/1 (in the body)']);
  });
});

describe('a service', () => {
  let server: Server;
  let url: string;
  let answers: Record<string, RequestListener> = {};
  let seen: {
    method: string | undefined;
    url: string | undefined;
    headers: IncomingMessage['headers'];
    body: string;
  }[] = [];
  const current: Fields = { value: 'sk_in_force_0123456789', id: 'key_0' };
  let journalled: string[] = [];

  beforeAll(async () => {
    server = createServer(async (req, res) => {
      let body = '';
      for await (const chunk of req) body += String(chunk);
      seen.push({ method: req.method, url: req.url, headers: req.headers, body });
      const path = (req.url ?? '').split('?', 1)[0];
      const answer = answers[`${req.method} ${path}`] ?? answers[String(req.method)];
      if (answer) answer(req, res);
      else res.writeHead(404).end();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  beforeEach(() => {
    // Every key but the one in force is dead unless a test says otherwise.
    answers = {
      'GET /v1/me': (req, res) =>
        reply(req.headers.authorization === `Bearer ${current['value']}` ? 200 : 401, { key: {} })(req, res),
    };
    seen = [];
    journalled = [];
  });
  afterAll(async () => {
    await network.close();
    server.closeAllConnections();
    server.close();
  });

  const begin = (method: object = recipe, secret = current, of = provider): Attempt =>
    beginAttempt({
      provider: of,
      account: { settings: settingsOf(url), method: { recipe: method }, secret, wrong: {}, accepts: async () => false },
      current: secret,
      spoken: (text) => journalled.push(text),
    });
  const reply =
    (status: number, body: unknown, headers: Record<string, string> = {}): RequestListener =>
    (_req, res) =>
      void res.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body));
  const failure = async (work: Promise<unknown>): Promise<{ kind?: string; message: string; all: string }> =>
    work.then(
      () => ({ message: 'no failure', all: '' }),
      (error) => ({ kind: error.kind, message: error.message, all: inspect(error, { depth: 9, showHidden: true }) }),
    );
  const made = (id: unknown, key: unknown = 'sk_next_0123456789'): RequestListener => reply(201, { data: { id, key } });

  test('that echoes the secret in its errors does not bring it into ours', async () => {
    answers['POST'] = (req, res) => void res.writeHead(403).end(`no: ${req.headers.authorization}`);
    const found = await failure(begin().create());
    expect(found).toMatchObject({ kind: 'refused', message: 'the service answered 403 to create' });
    expect(found.all + journalled.join()).not.toContain(current['value']);
  });

  test('that redirects is not followed', async () => {
    answers['POST'] = reply(307, '', { location: `${url}/elsewhere` });
    expect(await failure(begin().create())).toMatchObject({ kind: 'unavailable' });
    expect(seen.map((one) => one.url)).toEqual(['/v1/me', '/v1/keys']);
  });

  test.each([
    ['dots', '..'],
    ['a dot', '.'],
  ])('that names a key by %s cannot have a call climb', async (_name, id) => {
    answers['POST'] = made(id);
    answers['GET /v1/keys'] = reply(200, { data: [] });
    answers['DELETE'] = reply(204, '');
    const attempt = begin();
    await attempt.create();
    expect(await failure(attempt.undo())).toMatchObject({ kind: 'unavailable' });
    expect(seen.filter(({ method }) => method === 'DELETE')).toEqual([]);
  });

  test('that names a key by a path, a query, a template or JSON has it sent as one name', async () => {
    const id = 'a/../b?c=d#e%2f"},"x":{{secret}}\\&';
    answers['POST'] = made(id);
    answers['GET /v1/keys'] = reply(200, { data: [] });
    answers['DELETE'] = reply(204, '');
    const revoke = {
      path: '/v1/keys/{{id}}?id={{id}}',
      json: { id: '{{id}}', deep: [{ id: 'x{{id}}' }] },
      headers: { 'X-Key': '{{id}}' },
    };
    const attempt = begin({ ...recipe, revoke });
    await attempt.create();
    await attempt.undo();
    const sent = seen.find(({ method }) => method === 'DELETE');
    const [path = '', query = ''] = String(sent?.url).split('?');
    expect(path.split('/')).toHaveLength(4);
    expect(decodeURIComponent(path.slice('/v1/keys/'.length))).toBe(id);
    expect([...new URLSearchParams(query)]).toEqual([['id', id]]);
    expect(JSON.parse(String(sent?.body))).toEqual({ id, deep: [{ id: `x${id}` }] });
    expect(sent?.headers['x-key']).toBe(id);
  });

  test.each([
    ['a line break', 'a\r\nX-Evil: 1'],
    ['a blank', 'a b'],
    ['a control character', 'a\u0000'],
    ['too much', 'x'.repeat(501)],
    ['an object', { toString: 'x' }],
    ['the key in force', 'x-sk_in_force_0123456789'],
    ['the key itself', 'sk_next_0123456789'],
    ['nothing', ''],
  ])('that names a key by %s made nothing that is used', async (_name, id) => {
    answers['POST'] = made(id);
    expect(await failure(begin().create())).toMatchObject({ kind: 'unavailable' });
    expect(journalled.join()).not.toMatch(/sk_(?:in_force|next)/);
  });

  test.each([
    ['a line break', 'sk_next\r\nX-Evil: 1'],
    ['a blank at its end', 'sk_next_0123 '],
    ['too little to be masked', 'sk'],
    ['no text', 42],
    ['the key in force', 'sk_in_force_0123456789'],
  ])('that gives a key of %s has it ended, not used', async (_name, key) => {
    answers['POST'] = made('key_1', key);
    answers['GET /v1/keys'] = reply(200, { data: [] });
    answers['DELETE'] = reply(204, '');
    const attempt = begin();
    expect(await failure(attempt.create())).toMatchObject({ kind: 'unavailable' });
    await attempt.undo(true);
    expect(seen.filter(({ method }) => method === 'DELETE').map((one) => one.url)).toEqual(['/v1/keys/key_1']);
  });

  test('that answers with endless bytes, or pages, is left', async () => {
    answers['POST'] = (_req, res) => {
      const more = (): void => {
        if (res.destroyed) return;
        res.write('x'.repeat(256 * 1024));
        setImmediate(more);
      };
      more();
    };
    answers['GET'] = reply(200, { data: [], next_cursor: 'again' });
    const attempt = begin();
    expect(await failure(attempt.create())).toMatchObject({ kind: 'unavailable' });
    expect(await failure(attempt.undo(true))).toMatchObject({
      kind: 'unavailable',
      message: 'the service lists more than 50 pages of keys',
    });
  });

  test('that drips is waited for as long as there is time', async () => {
    answers['POST'] = (_req, res) => {
      const timer = setInterval(() => res.write(' '), 20);
      res.once('close', () => clearInterval(timer));
    };
    const began = performance.now();
    expect(await failure(begin().create(AbortSignal.timeout(250)))).toMatchObject({ kind: 'timeout' });
    expect(performance.now() - began).toBeLessThan(1_500);
  });

  test('whose name turns into an address of this network is not spoken to', async () => {
    const rebinding = openNetwork((_host, _options, done) => done(null, [{ address: '169.254.169.254', family: 4 }]));
    const of = openApiKeyProvider({ network: rebinding });
    const base_url = `http://keys.example:${new URL(url).port}`;
    const attempt = begin({ ...recipe, base_url }, current, of);
    expect(await failure(attempt.create())).toMatchObject({ kind: 'refused' });
    // Nothing was asked of anybody: there is nothing to undo.
    await attempt.undo(true);
    expect(seen.map((one) => one.url)).toEqual(['/v1/me']);
    await rebinding.close();
  });

  test('without a list, a key whose answer was lost is said to be there, not passed over', async () => {
    answers['POST'] = reply(500, '');
    const attempt = begin(withoutList);
    await failure(attempt.create());
    expect(await failure(attempt.undo(true))).toMatchObject({
      kind: 'refused',
      message: expect.stringMatching(/its answer was lost.*rot_/),
    });
    answers['POST'] = reply(403, '');
    const refused = begin(withoutList);
    await failure(refused.create());
    await refused.undo(true);
  });

  test('is asked for no key while the one in force could not be ended later', async () => {
    const { id: _id, ...unnamed } = current;
    expect(await failure(begin(recipe, unnamed).create())).toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('the id of the key in force is not known'),
    });
    answers['GET /v1/me'] = reply(500, '');
    expect(await failure(begin({ ...recipe, identify }, unnamed).create())).toMatchObject({ kind: 'unavailable' });
    expect(seen.filter(({ method }) => method === 'POST')).toEqual([]);
  });

  test('that echoes the key where its id should be is asked for nothing under that name', async () => {
    const old = { value: 'sk_in_force_0123456789' };
    answers['GET /v1/me'] = (req, res) => reply(200, { id: req.headers.authorization?.slice(7) })(req, res);
    const attempt = begin({ ...recipe, identify: { path: '/v1/me', id: '/id' } }, old);
    expect(await failure(attempt.create())).toMatchObject({ kind: 'unavailable' });
    expect(seen.every(({ url: asked }) => !asked?.includes('sk_in_force'))).toBe(true);
    expect(seen.some(({ method }) => method === 'POST')).toBe(false);
  });

  test('that gives the new key the id of the old one has nothing revoked', async () => {
    answers['POST'] = made('key_0');
    answers['GET /v1/keys'] = reply(200, { data: [{ id: 'key_0', name: 'rot_' }] });
    answers['DELETE'] = reply(204, '');
    const attempt = begin();
    await attempt.create();
    await attempt.undo();
    attempt.finish();
    expect(await failure(attempt.retire(current))).toMatchObject({ kind: 'refused' });
    expect(seen.filter(({ method }) => method === 'DELETE')).toEqual([]);
  });

  test('that calls a key gone which it still accepts is not believed', async () => {
    answers['POST'] = made('key_1');
    answers['GET /v1/keys'] = reply(200, { data: [] });
    answers['GET /v1/me'] = reply(200, {});
    const attempt = begin();
    await attempt.create();
    const stillThere = { kind: 'unavailable', message: 'the secret was said to be ended, and is still accepted' };
    expect(await failure(attempt.undo())).toMatchObject(stillThere);
    attempt.finish();
    expect(await failure(attempt.retire(current))).toMatchObject(stillThere);
    answers['GET /v1/me'] = reply(401, {});
    await attempt.retire(current);
  });

  test('that lists the key in force under the name of this rotation keeps it', async () => {
    let name = '';
    answers['POST'] = (_req, res) => {
      name = String(JSON.parse(seen.at(-1)?.body ?? '{}').name);
      res.writeHead(201).end(JSON.stringify({ data: { id: 'key_1', key: 'sk_next_0123456789' } }));
    };
    answers['GET /v1/keys'] = (req, res) =>
      reply(200, {
        data: [
          { id: 'key_0', name },
          { id: 'key_1', name },
          { id: 'key_2', name: 'other' },
        ],
      })(req, res);
    answers['DELETE'] = reply(204, '');
    const attempt = begin();
    await attempt.create();
    await attempt.undo();
    expect(seen.filter(({ method }) => method === 'DELETE').map((one) => one.url)).toEqual(['/v1/keys/key_1']);
  });

  test('that knows a new key only some moments later is waited for', async () => {
    let tries = 0;
    answers['GET /v1/me'] = (req, res) => {
      tries += 1;
      reply(tries < 4 ? 401 : 200, {})(req, res);
    };
    await begin({ ...recipe, test: { path: '/v1/me', patience_seconds: 5 } }).test(current);
    expect(tries).toBe(4);
  });

  test('that says 200 to everybody is understood by what stands in its answer', async () => {
    const attempt = begin({ ...recipe, test: { path: '/v1/me', holds: { '/ok': true } } });
    answers['GET /v1/me'] = reply(200, { ok: true });
    await attempt.test(current);
    for (const body of [{ ok: false, error: 'invalid_auth' }, { ok: 'true' }, []]) {
      answers['GET /v1/me'] = reply(200, body);
      expect(await failure(attempt.test(current))).toMatchObject({ kind: 'refused' });
    }
    answers['GET /v1/me'] = reply(200, '<html>');
    expect(await failure(attempt.test(current))).toMatchObject({ kind: 'unavailable' });
    // Headers of the recipe take the place of Warder's own, and never of the key.
    const headers = { Accept: 'application/vnd.keys+json', AUTHORIZATION: 'Bearer other' };
    answers['GET /v1/me'] = reply(200, {});
    await begin({ ...recipe, test: { path: '/v1/me', headers } }).test(current);
    expect(seen.at(-1)?.headers).toMatchObject({
      accept: 'application/vnd.keys+json',
      authorization: `Bearer ${current['value']}`,
    });
  });

  test('that passes everybody at the test is given no secret: nobody would know which one it has', async () => {
    answers['GET /v1/me'] = reply(200, {});
    const attempt = begin({ set: { path: '/v1/secret', json: { secret: '{{secret}}' } }, test: recipe.test });
    expect(await failure(attempt.create())).toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('the test accepts a secret that nobody has set'),
    });
    expect(seen.map(({ method }) => method)).toEqual(['GET', 'GET']);
  });

  test('that refuses the secret in force at the test is given no other one', async () => {
    answers['GET /v1/me'] = reply(403, {});
    const attempt = begin({ set: { path: '/v1/secret', json: { secret: '{{secret}}' } }, test: recipe.test });
    expect(await failure(attempt.create())).toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('the test refuses the secret in force'),
    });
  });

  test('that does not say that a key is not valid is in doubt', async () => {
    for (const status of [400, 404, 429, 500, 302]) {
      answers['GET /v1/me'] = reply(status, {});
      expect(await failure(begin().test(current))).toMatchObject({ kind: 'unavailable' });
    }
  });
});
