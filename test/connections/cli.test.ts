/** `warder connection connect`, `accounts` and `disconnect`, as somebody at a terminal meets them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Ended, warder } from '../cli/real-warder.ts';
import { removeTemporaryDirs, temporaryDir } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { consent } from '../vendors/oidc/rig.ts';
import { type OauthBroker, startOauthBroker } from './rig.ts';

let rig: OauthBroker;
let cwd: string;
beforeAll(async () => {
  rig = await startOauthBroker({ connect_scopes: ['openid'] });
  cwd = temporaryDir();
}, 60_000);
afterAll(async () => {
  await rig.close();
  removeTemporaryDirs();
});

const env = () => ({ WARDER_URL: rig.broker.url, WARDER_TOKEN: rig.broker.adminToken });
const run = (...args: string[]): Promise<Ended> => warder(['connection', ...args], { cwd, env: env() });

/** Runs one that waits, and does what the link asks for meanwhile. */
const connecting = async (...args: string[]) => {
  const bin = new URL('../../bin/warder.cjs', import.meta.url).pathname;
  const child = spawn(process.execPath, [bin, 'connection', 'connect', ...args], {
    cwd,
    env: { PATH: process.env['PATH'] ?? '', ...env() },
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => {
    out += String(chunk);
  });
  child.stderr.on('data', (chunk) => {
    err += String(chunk);
  });
  const closed = once(child, 'close');
  const [link] = (await eventually(
    'it prints the link',
    () => /http:\/\/\S+\/connect\/wdr_fl_\S+/.exec(out + err),
    (found) => found !== null,
    20_000,
  )) as RegExpExecArray;
  expect((await consent(link)).status).toBe(200);
  await closed;
  return { code: child.exitCode, out, err };
};

test('connecting prints a link, waits, and says who was connected; show, list, accounts and disconnect agree', async () => {
  const before = await run('show', 'svc');
  expect(before.out).toContain('not_connected; 0 users connected');
  expect((await run('list')).out).toContain('active, not_connected');

  const connected = await connecting('svc');
  expect([connected.code, connected.out]).toEqual([0, expect.stringContaining('Connected ann@example.com to svc.')]);
  expect(connected.out).toContain('Consented to: ');
  expect((await run('show', 'svc')).out).toContain('connected (ann@example.com); 0 users connected');

  await rig.server.set({ account: 'bob@example.com' });
  const json = await connecting('svc', '--subject', 'corp:bob', '--json');
  expect(JSON.parse(json.out)).toMatchObject({ status: 'connected', authorization: { account: 'bob@example.com' } });
  const accounts = await run('accounts', 'svc');
  expect(accounts.out).toMatch(/\(the organisation\).+ann@example\.com.+connected/);
  expect(accounts.out).toMatch(/corp:bob.+bob@example\.com.+connected/);

  expect((await run('remove', 'svc')).code).toBe(1);
  const one = await run('disconnect', 'svc', '--subject', 'corp:bob');
  expect([one.code, one.out]).toEqual([0, 'Disconnected corp:bob bob@example.com: its tokens are revoked.\n']);
  const rest = await run('disconnect', 'svc', '--all');
  expect([rest.code, rest.out]).toEqual([
    0,
    expect.stringContaining('Disconnected (the organisation) ann@example.com'),
  ]);
  const none = await run('disconnect', 'svc', '--all');
  expect([none.code, none.err]).toEqual([1, expect.stringContaining('no such account is connected')]);
}, 90_000);

test('what the page about the provider does, from a file of settings to a call, works', async () => {
  const settings = {
    issuer: rig.server.url,
    client_id: 'warder',
    narrowing: 'gateway',
    base_url: rig.server.url,
    scopes: { 'contacts:read': { oauth_scopes: ['read'], rules: [{ methods: ['GET'], path: '/api/**' }] } },
    connect_scopes: ['openid', 'offline_access'],
    allow_private_network: true,
  };
  writeFileSync(join(cwd, 'crm.yaml'), JSON.stringify(settings));
  const added = await warder(
    [
      'connection',
      'add',
      'crm',
      '--provider',
      'oauth2',
      '--settings',
      'crm.yaml',
      '--secret',
      'client_secret=env:CRM_CLIENT_SECRET',
    ],
    { cwd, env: { ...env(), CRM_CLIENT_SECRET: rig.server.client.secret } },
  );
  expect([added.code, added.err]).toEqual([0, expect.stringContaining('warder connection connect crm')]);
  expect((await connecting('crm')).code).toBe(0);
  const rule = ['entitlement', 'add', '--agent', 'worker', '--connection', 'crm', '--scope', 'contacts:read'];
  expect((await warder(rule, { cwd, env: env() })).code).toBe(0);
  const { body } = await rig.broker.grant(rig.token, {
    connection: 'crm',
    scopes: ['contacts:read'],
    ttl_seconds: 300,
  });
  expect(body['grant']).toMatchObject({ enforcement: 'gateway' });
  expect(await rig.call(body['credential'] as Record<string, unknown>)).toBe(200);
}, 60_000);

test('a person who says no, and options that cannot be, end with the code that says so', async () => {
  const only = await run('connect', 'svc', '--no-wait');
  expect([only.code, only.out]).toEqual([0, expect.stringMatching(/^http:\/\/\S+\/connect\/wdr_fl_\S+\n$/)]);
  expect((await run('disconnect', 'svc', '--all', '--subject', 'x')).code).toBe(2);
  expect((await run('connect', 'no-such-thing')).code).toBe(1);
}, 60_000);
