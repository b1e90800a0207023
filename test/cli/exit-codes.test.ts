import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { problem, run, runOn } from './harness.ts';

const token = { WARDER_TOKEN: 'wdr_op_test' };
const folder = mkdtempSync(join(tmpdir(), 'warder-cli-'));

describe('exit 0', () => {
  test('when it is done', async () => {
    expect((await runOn({ 'GET agents': { body: { items: [], next_cursor: null } } }, ['agent', 'list'])).code).toBe(0);
  });

  test.each([['--help'], ['help'], ['agent', '--help'], ['agent', 'add', '--help'], ['help', 'agent']])(
    'for %s %s',
    async (...args) => {
      const { code, out } = await run(args);
      expect(code).toBe(0);
      expect(out).toContain('Usage: warder');
    },
  );

  test('for --version, which is printed', async () => {
    expect(await run(['--version'])).toEqual({ code: 0, out: '1.2.3\n', err: '' });
  });
});

describe('exit 1', () => {
  test('when the broker refuses: detail, problems, code and request id on standard error', async () => {
    const routes = {
      'POST agents': problem(400, 'invalid_request', 'two fields are wrong', { problems: ['name: no', 'owner: no'] }),
    };
    expect(await runOn(routes, ['agent', 'add', 'X', '--owner', 'o'])).toMatchObject({
      code: 1,
      out: '',
      err: 'error: two fields are wrong\n  - name: no\n  - owner: no\ncode: invalid_request\nrequest_id: req_1\n',
    });
  });

  test('with --json the problem is printed as it came, still on standard error', async () => {
    const reply = problem(404, 'not_found', 'there is no such agent');
    const { code, out, err } = await runOn({ 'GET agents/x': reply }, ['agent', 'show', 'x', '--json']);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toBe(`${JSON.stringify(reply.body)}\n`);
  });

  test('when what answers is no Warder', async () => {
    for (const reply of [{ body: '<html>hello</html>' }, { status: 502, body: 'Bad Gateway' }]) {
      const { code, err } = await runOn({ 'GET agents': reply }, ['agent', 'list']);
      expect(code).toBe(1);
      expect(err).toContain('no answer of a Warder broker');
    }
  });

  test('when it is sent elsewhere: the token does not follow', async () => {
    const reply = { status: 302, headers: { location: 'http://127.0.0.1:1/' } };
    const { code, err, sent } = await runOn({ 'GET agents': reply }, ['agent', 'list']);
    expect(code).toBe(1);
    expect(err).toContain('redirect');
    expect(sent).toHaveLength(1);
  });
});

describe('exit 2', () => {
  test.each([
    [['frobnicate']],
    [['rotates', 'stripe']],
    [['review']],
    [['backup', 'verify']],
    [['restore']],
    [['agent', 'frobnicate']],
    [['agent', 'list', '--frobnicate']],
    [['agent', 'show']],
    [['agent', 'show', 'a', 'b']],
    [['agent', 'add', 'x']],
    [['agent', 'add', 'x', '--owner']],
    [['agent', 'add', 'x', '--owner', 'o', '--auth', 'magic']],
    [['entitlement', 'add', '--agent', 'a', '--connection', 'c', '--scope', 's', '--max-ttl', 'soon']],
    [['grant', 'list', '--status', 'odd']],
    [['grant', 'list', '--from', 'yesterday']],
    [['audit', 'list', '--on', '2026-02-30']],
    [['audit', 'list', '--on', '2026-11-21', '--from', '2026-11-20']],
    [['audit', 'export', '--format', 'xml']],
    [['agent', 'update', 'x']],
    [['entitlement', 'update', 'ent_1']],
    [['agent', 'add', 'x', '--owner', 'o', '--workload', 'github']],
    [['agent', 'add', 'x', '--owner', 'o', '--claim', 'sub=x']],
    [['agent', 'add', 'x', '--owner', 'o', '--workload', 'github', '--claim', 'sub']],
    [['agent', 'add', 'x', '--owner', 'o', '--workload', 'github', '--claim', 'sub=x', '--jwks-uri', 'https://x/jwks']],
    [['agent', 'add', 'x', '--owner', 'o', '--dpop', 'sometimes']],
    [['issuer', 'add', 'x', '--issuer', 'https://x']],
    [['issuer', 'add', 'x', '--use', 'subject']],
    [['issuer', 'update', 'x']],
    [['issuer', 'update', 'x', '--discovery', '--jwks-uri', 'https://x/jwks']],
    [['issuer', 'update', 'x', '--reusable', '--single-use']],
    [['operator', 'update', 'x']],
    [['connection', 'update', 'x']],
    [['connection', 'add', 'x']],
    [['key', 'rotate', '--signing', '--wait']],
    [['key', 'migrate']],
    [['apply']],
    [['revoke-all', '--agent', 'a']],
    [['agent']],
    [[]],
    [['agent', 'show', '..']],
    [['agent', 'show', '']],
  ])('for %j', async (args) => {
    const { code, out, err } = await run(args, { env: token });
    expect(code).toBe(2);
    expect(out).toBe('');
    expect(err).not.toBe('');
  });

  test('without a token, which is said', async () => {
    const { code, err } = await run(['agent', 'list']);
    expect(code).toBe(2);
    expect(err).toContain('WARDER_TOKEN is not set');
  });

  test.each([
    ['no URL', 'nonsense'],
    ['another scheme', 'ftp://127.0.0.1'],
    ['a user', 'http://user:pass@127.0.0.1'],
    ['a query', 'http://127.0.0.1/?x=1'],
  ])('for a WARDER_URL that is or has %s, which is not repeated', async (_what, url) => {
    const { code, err } = await run(['agent', 'list'], { env: { ...token, WARDER_URL: url } });
    expect(code).toBe(2);
    expect(err).toContain('WARDER_URL');
    expect(err).not.toContain('pass');
  });

  test('for a token that cannot be one, which is not repeated', async () => {
    const { code, err } = await run(['agent', 'list'], { env: { WARDER_TOKEN: 'two words' } });
    expect(code).toBe(2);
    expect(err).not.toContain('two words');
  });

  test('for a token given twice', async () => {
    expect((await run(['agent', 'list'], { env: { ...token, WARDER_TOKEN_FILE: '/x' } })).code).toBe(2);
  });

  test('a value in the wrong place is not repeated', async () => {
    for (const args of [
      ['connection', 'set-secret', 'stripe', 'sk_live_1', '--secret', 'env:X'],
      ['connection', 'set-secret', 'stripe', '--secert=sk_live_1'],
      ['connection', 'add', 'stripe', '--scope', 'sk_live_1'],
    ]) {
      const { code, err } = await run(args, { env: token });
      expect(code).toBe(2);
      expect(err).not.toContain('sk_live_1');
    }
  });
});

describe('exit 3', () => {
  test('when nobody listens', async () => {
    const { code, err } = await run(['agent', 'list'], { env: { ...token, WARDER_URL: 'http://127.0.0.1:9' } });
    expect(code).toBe(3);
    expect(err).toMatch(/cannot reach the broker at http:\/\/127\.0\.0\.1:9/);
  });

  test('when the connection breaks off', async () => {
    const routes = { 'GET agents': { body: '{"items":[', breakOff: true } };
    expect((await runOn(routes, ['agent', 'list'])).code).toBe(3);
  });
});

describe('the token', () => {
  const empty = { 'GET agents': { body: { items: [], next_cursor: null } } };

  test('goes into the Authorization header', async () => {
    const { sent } = await runOn(empty, ['agent', 'list']);
    expect(sent[0]?.authorization).toBe('Bearer wdr_op_test');
  });

  test('may be in a file, with a line end', async () => {
    const path = join(folder, 'token');
    writeFileSync(path, 'wdr_op_from_file\n');
    const env = { WARDER_TOKEN: undefined, WARDER_TOKEN_FILE: path };
    const { sent } = await runOn(empty, ['agent', 'list'], { env });
    expect(sent[0]?.authorization).toBe('Bearer wdr_op_from_file');
  });

  test('is a reason to warn where the way is open to eavesdroppers', async () => {
    const env = { ...token, WARDER_URL: 'http://warder.invalid' };
    expect((await run(['agent', 'list'], { env })).err).toContain('not encrypted');
  });
});

describe('--json', () => {
  test('prints the body byte for byte', async () => {
    const body = '{ "items" : [ ] ,\n "next_cursor":null, "unknown": "ü\\u001b" }';
    const { out, code } = await runOn({ 'GET agents': { body } }, ['agent', 'list', '--json']);
    expect({ out, code }).toEqual({ out: body, code: 0 });
  });

  test('prints nothing where the broker answers nothing', async () => {
    const { out, code } = await runOn({ 'DELETE agents/x': { status: 204 } }, ['agent', 'remove', 'x', '--json']);
    expect({ out, code }).toEqual({ out: '', code: 0 });
  });

  test('passes limit and cursor on, and asks for one page', async () => {
    const routes = { 'GET agents': { body: { items: [], next_cursor: 'agt_2' } } };
    const { sent } = await runOn(routes, ['agent', 'list', '--json', '--limit', '7', '--cursor', 'agt_1']);
    expect(sent.map(({ query }) => query)).toEqual([{ limit: '7', cursor: 'agt_1' }]);
  });
});

describe('a list', () => {
  const page = (from: number, count: number, next: string | null) => ({
    body: { items: Array.from({ length: count }, (_, i) => ({ name: `agent-${from + i}` })), next_cursor: next },
  });

  test('is followed through its pages, empty ones too', async () => {
    const routes = {
      'GET agents': ({ query }: { query: Record<string, string> }) =>
        ({ undefined: page(0, 2, 'a'), a: page(0, 0, 'b'), b: page(2, 1, null) })[String(query['cursor'])] ?? {},
    };
    const { out, err } = await runOn(routes, ['agent', 'list']);
    expect(out.split('\n').filter((line) => line.startsWith('agent-'))).toHaveLength(3);
    expect(err).toBe('');
  });

  test('ends at the limit, with a hint where to go on', async () => {
    const routes = { 'GET agents': page(0, 2, 'agt_next') };
    const { err, sent } = await runOn(routes, ['agent', 'list', '--limit', '2']);
    expect(sent).toHaveLength(1);
    expect(err).toContain('--cursor agt_next');
  });
});
