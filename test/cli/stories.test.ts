/**
 * Stories of the command line, told with the real binary against a real broker on data of its own. The tests of a story
 * follow one another: each goes on where the one before ended.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Ended, type Served, serve, warder } from './real-warder.ts';

const secret = 'sk_live_story_0123456789';
let cwd = '';
let broker: Served;
let upstream: Server;
let upstreamUrl = '';
let upstreamSaw: string | undefined;
/** Everything any command printed, to look for secrets at the end. */
let printed = '';

const run = async (
  args: readonly string[],
  more: { stdin?: string; env?: Record<string, string> } = {},
): Promise<Ended> => {
  const env = { WARDER_URL: broker.url, WARDER_TOKEN: broker.token ?? '', ...more.env };
  const ended = await warder(args, { cwd, env, ...(more.stdin === undefined ? {} : { stdin: more.stdin }) });
  printed += ended.out + ended.err;
  return ended;
};
const done = async (...args: Parameters<typeof run>): Promise<string> => {
  const { code, out, err } = await run(...args);
  if (code !== 0) throw new Error(`warder ${args[0].join(' ')} ended with ${code}: ${err}`);
  return out;
};

/** What an agent does with the credentials `agent add` printed. */
const obtainGrant = async (client: { id: string; secret: string }, connection: string, scope: string) => {
  const basic = Buffer.from(`${client.id}:${client.secret}`).toString('base64');
  const issued = await fetch(`${broker.url}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${basic}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  });
  if (issued.status !== 200) return { status: issued.status, id: '', token: '' };
  const { access_token: accessToken } = JSON.parse(await issued.text());
  const granted = await fetch(`${broker.url}/v1/grants`, {
    method: 'POST',
    headers: { authorization: `Bearer ${accessToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ connection, scopes: [scope] }),
  });
  const body = JSON.parse(await granted.text());
  return { status: granted.status, id: String(body.grant?.id), token: String(body.credential?.token) };
};
const callUpstream = async (token: string): Promise<number> => {
  const response = await fetch(`${broker.url}/gateway/stripe/v1/charges`, {
    headers: { authorization: `Bearer ${token}` },
  });
  await response.text();
  return response.status;
};

beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'warder-story-'));
  upstream = createServer((req, res) => {
    upstreamSaw = req.headers.authorization;
    res.end('{}');
  });
  await new Promise<void>((listening) => upstream.listen(0, '127.0.0.1', listening));
  const address = upstream.address();
  upstreamUrl = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  broker = await serve(cwd);
});

afterAll(async () => {
  await broker.stop();
  upstream.closeAllConnections();
  upstream.close();
  rmSync(cwd, { recursive: true, force: true });
});

describe('the first two minutes, and the last ones', () => {
  let client = { id: '', secret: '' };
  let grant = { status: 0, id: '', token: '' };

  test('the first start makes its data private and prints a token', () => {
    expect(broker.token).toMatch(/^wdr_op_/);
    expect(statSync(join(cwd, '.warder')).mode & 0o777).toBe(0o700);
    for (const name of readdirSync(join(cwd, '.warder'))) {
      expect(`${name} ${(statSync(join(cwd, '.warder', name)).mode & 0o777).toString(8)}`).toBe(`${name} 600`);
    }
  });

  test('an agent is added, and its secret can be copied', async () => {
    const out = await done(['agent', 'add', 'reporter', '--owner', 'fin@example.com', '--purpose', 'monthly report']);
    const [, id = '', clientSecret = ''] = /WARDER_CLIENT_ID=(\S+)\nWARDER_CLIENT_SECRET=(\S+)\n/.exec(out) ?? [];
    client = { id, secret: clientSecret };
    expect(client.id).toBe('reporter');
    expect(await done(['agent', 'list'])).toContain('fin@example.com');
  });

  test('a connection is added with its secret from standard input', async () => {
    const settings = ['--base-url', upstreamUrl, '--value-template', 'Bearer {secret}', '--allow-private-network'];
    const scope = ['--scope', 'charges:read=GET,HEAD /v1/charges/**'];
    await done(['connection', 'add', 'stripe', ...settings, ...scope, '--secret', '-'], { stdin: `${secret}\n` });
    expect(await done(['connection', 'show', 'stripe'])).toMatch(/secret +version 1/);
  });

  test('an entitlement lets the agent obtain a grant, which works through the gateway', async () => {
    expect((await obtainGrant(client, 'stripe', 'charges:read')).status).toBe(403);
    const rule = ['--agent', 'reporter', '--connection', 'stripe', '--scope', 'charges:read', '--max-ttl', '15m'];
    await done(['entitlement', 'add', ...rule, '--budget', '100/1h', '--reason', 'monthly report']);
    grant = await obtainGrant(client, 'stripe', 'charges:read');
    expect(grant.status).toBe(201);
    expect(await callUpstream(grant.token)).toBe(200);
    expect(upstreamSaw).toBe(`Bearer ${secret}`);
  });

  test('the grant is listed and shown', async () => {
    expect(await done(['grant', 'list', '--agent', 'reporter', '--status', 'active'])).toContain(grant.id);
    expect(await done(['grant', 'show', grant.id])).toMatch(/connection +stripe/);
  });

  test('revoke-all first says what it would do, then does it, and the agent is out', async () => {
    const which = ['--agent', 'reporter', '--reason', 'leaked in a log', '--suspend'];
    expect(await done(['revoke-all', ...which, '--dry-run'])).toMatch(/live grants +1/);
    expect(await callUpstream(grant.token)).toBe(200);
    const out = await done(['revoke-all', ...which, '--wait']);
    expect(out).toContain('Grants revoked: 1');
    expect(await callUpstream(grant.token)).toBe(401);
    expect((await obtainGrant(client, 'stripe', 'charges:read')).status).not.toBe(201);
    expect(await done(['grant', 'list', '--agent', 'reporter', '--status', 'revoked'])).toContain(grant.id);
    expect(await done(['revocation', 'list'])).toContain('leaked in a log');
  });

  test('resumed, the agent works again, and one grant can be taken back', async () => {
    await done(['agent', 'resume', 'reporter']);
    const again = await obtainGrant(client, 'stripe', 'charges:read');
    expect(await callUpstream(again.token)).toBe(200);
    await done(['grant', 'revoke', again.id, '--reason', 'no longer needed']);
    expect(await callUpstream(again.token)).toBe(401);
  });

  test('an unknown name is refused with exit 1, and revokes nothing', async () => {
    const { code, err } = await run(['revoke-all', '--agent', 'nobody', '--reason', 'typo']);
    expect(code).toBe(1);
    expect(err).toMatch(/code: not_found\nrequest_id: req_/);
  });
});

describe('what agent X did on day Y', () => {
  test('is one question', async () => {
    const today = new Date().toISOString().slice(0, 10);
    const out = await done(['audit', 'list', '--agent', 'reporter', '--on', today]);
    expect(out).toContain('grant.issued');
    expect(out).toContain('agent.suspended');
    const before = await run(['audit', 'list', '--agent', 'reporter', '--on', '2020-01-01']);
    expect(before).toMatchObject({ code: 0, out: '', err: 'none\n' });
  });

  test('has evidence that can be checked without the broker', async () => {
    const { key } = JSON.parse(await done(['audit', 'checkpoint', '--json']));
    writeFileSync(join(cwd, 'earlier.note'), await done(['audit', 'checkpoint']));
    await done(['agent', 'update', 'reporter', '--purpose', 'weekly report']);
    await done(['audit', 'export', '-o', 'log.jsonl']);
    const offline = { env: { WARDER_URL: 'http://127.0.0.1:9', WARDER_TOKEN: '' } };
    const verify = ['audit', 'verify', 'log.jsonl', '--key', String(key)];
    expect(await done([...verify, '--checkpoint', 'earlier.note'], offline)).toContain('Verified.');

    const whole = readFileSync(join(cwd, 'log.jsonl'), 'utf8');
    writeFileSync(join(cwd, 'log.jsonl'), whole.replace('fin@example.com', 'fin@example.org'));
    const { code, err } = await run(verify, offline);
    expect(code).toBe(1);
    expect(err).toContain('NOT verified');
  });

  test('is verified online as well, and exported for spreadsheets', async () => {
    expect(await done(['audit', 'verify'])).toContain('the broker,');
    expect(await done(['audit', 'export', '--format', 'csv', '--agent', 'reporter'])).toMatch(/^"?seq"?,"?time"?,/);
  });
});

describe('access as a file', () => {
  const file = `
agents:
  - { name: reporter, owner: fin@example.com, purpose: weekly report }
  - { name: billing, owner: fin@example.com }
connections:
  - name: api
    provider: internal-jwt
    settings: { audience: "https://api.example.com", scopes: [read] }
  - name: mail
    provider: api-key
    settings: { base_url: "https://mail.example.com", scopes: { send: [ { methods: [POST], path: /send } ] } }
    secret: { value: env:MAIL_KEY }
entitlements:
  - { agent: billing, connection: api, scopes: [read], max_ttl_seconds: 300 }
`;
  const env = { MAIL_KEY: secret };

  test('is planned, applied, and then there is nothing to do', async () => {
    writeFileSync(join(cwd, 'access.yaml'), file);
    expect(await done(['apply', '-f', 'access.yaml', '--plan'], { env })).toContain('+ agent billing');
    expect(await done(['agent', 'list'])).not.toContain('billing');
    expect(await done(['apply', '-f', 'access.yaml'], { env })).toContain('WARDER_CLIENT_ID=billing');
    expect(await done(['apply', '-f', 'access.yaml'], { env })).toContain('Nothing to do');
    expect(await done(['apply', '-f', '-'], { env, stdin: file })).toContain('Nothing to do');
  });

  test('deletes what it does not name, when told to', async () => {
    expect(await done(['apply', '-f', 'access.yaml', '--plan', '--prune'], { env })).toContain('- connection stripe');
    await done(['apply', '-f', 'access.yaml', '--prune', '--yes'], { env });
    expect(await done(['connection', 'list'])).not.toContain('stripe');
  });
});

describe('operators and keys', () => {
  test('an auditor may read, and no more', async () => {
    const out = await done(['operator', 'add', 'alice', '--role', 'auditor', '--expires', '90d']);
    const token = /export WARDER_TOKEN=(\S+)/.exec(out)?.[1] ?? '';
    const asAlice = { env: { WARDER_TOKEN: token } };
    expect(await done(['audit', 'list', '--limit', '1'], asAlice)).toContain('operator.created');
    expect(await run(['agent', 'suspend', 'billing'], asAlice)).toMatchObject({ code: 1 });
    const renewed = await done(['operator', 'rotate-token', 'alice']);
    expect(await run(['audit', 'list'], asAlice)).toMatchObject({ code: 1 });
    const again = { env: { WARDER_TOKEN: /export WARDER_TOKEN=(\S+)/.exec(renewed)?.[1] ?? '' } };
    await done(['audit', 'list'], again);
    await done(['operator', 'remove', 'alice']);
    expect(await run(['audit', 'list'], again)).toMatchObject({ code: 1 });
  });

  test('the signing key is rotated', async () => {
    expect(await done(['key', 'rotate', '--signing'])).toContain('Signing with');
    expect(await done(['key', 'list'])).toMatch(/ES256 +previous/);
  });

  test('the key-encryption key is rotated, and everything is under the new one', async () => {
    expect(await done(['key', 'rotate', '--wait'])).toContain('Sealing with key 2 now; nothing is under an older one.');
    const listed = await done(['key', 'list']);
    expect(listed).toMatch(/^1 .*(previous|retired) +0 /m);
    expect(listed).toMatch(/^2 .*current +[1-9]/m);
  });

  test('the keys are migrated to another root key, which the next start needs', async () => {
    writeFileSync(join(cwd, 'other.key'), `${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
    const to = `local:${join(cwd, 'other.key')}`;
    expect(await done(['key', 'migrate', '--to', to, '--dry-run'])).toContain('nothing was changed');
    expect(await done(['key', 'migrate', '--to', to])).toContain(`Set WARDER_KMS=${to}`);
    const { err } = await run(['key', 'list']);
    expect(err).toContain('The keys were migrated: set WARDER_KMS');
    expect(await run(['key', 'migrate', '--to', 'nowhere:x'])).toMatchObject({ code: 1 });
    expect(await done(['key', 'migrate', '--to', `local:${join(cwd, '.warder', 'root.key')}`])).toContain('Migrated');
  });
});

describe('running it', () => {
  test('doctor finds nothing wrong', async () => {
    const out = await done(['doctor']);
    expect(out).not.toMatch(/FAILED|warning/);
    expect(out).toMatch(/ok +ready/);
    if (process.platform === 'linux') expect(out).toMatch(/ok +core dumps/);
  });

  test('a second broker on the same data is refused in words', async () => {
    const env = { WARDER_LISTEN: '127.0.0.1:0', WARDER_PUBLIC_URL: 'http://127.0.0.1:7300' };
    const { code, err } = await warder(['serve'], { cwd, env });
    expect(code).toBe(1);
    expect(err).toMatch(/^error: another Warder/);
  });

  test('a wrong configuration is refused with all its problems', async () => {
    const { code, err } = await warder(['serve'], { cwd, env: { WARDER_LISTEN: 'x', WARDER_KMS: 'y' } });
    expect(code).toBe(2);
    expect(err).toMatch(/WARDER_LISTEN: [\s\S]*WARDER_KMS: /);
  });

  test('it stops at SIGTERM, is then unreachable, and starts again without a token', async () => {
    const { token } = broker;
    expect(await broker.stop()).toBe(0);
    expect(await run(['agent', 'list'])).toMatchObject({ code: 3 });
    broker = { ...(await serve(cwd)), token };
    expect(broker.out()).not.toContain('wdr_op_');
    expect(await done(['agent', 'list'])).toContain('reporter');
  });

  test('a reader that has seen enough is no failure', async () => {
    const env = { WARDER_URL: broker.url, WARDER_TOKEN: broker.token ?? '' };
    expect(await warder(['audit', 'export'], { cwd, env, deaf: true })).toMatchObject({ code: 0, err: '' });
  });

  test('nothing any command printed has the secret in it', () => {
    expect(printed.length).toBeGreaterThan(1000);
    expect(printed).not.toContain(secret);
  });
});
