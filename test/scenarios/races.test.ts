/** One hundred at once: what is single-use is used once, what is counted is counted right, and order is one order. */
import { createServer, type Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Answer, type Broker, startBroker } from '../support/broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { grantOf, startUpstream, type Upstream, upstreamProviders } from '../support/upstream-provider.ts';

let broker: Broker;
let upstream: Upstream;
let target: Server;
let targetUrl: string;
/** The keys the gateway's upstream was shown, newest last. */
const keysSeen: string[] = [];

beforeAll(async () => {
  target = createServer((req, res) => {
    keysSeen.push(String(req.headers.authorization));
    res.end('{}');
  });
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  const address = target.address();
  targetUrl = `http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}`;
  upstream = await startUpstream();
  broker = await startBroker({ extraProviders: upstreamProviders });
});
afterAll(async () => {
  await broker.close();
  await upstream.stop();
  target.closeAllConnections();
  target.close();
});

const hundred = <T>(what: (i: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: 100 }, (_, i) => what(i)));
/** How many answers had each status. */
const tally = (answers: readonly { status: number }[]): Record<number, number> => {
  const counts: Record<number, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
};
const ok = (answer: Answer): Answer => {
  if (answer.status >= 300) throw new Error(`${answer.status} ${answer.text}`);
  return answer;
};
const made = () => ({ url: upstream.url, scopes: ['use', 'more'] });
const jwt = { audience: 'https://orders.example', scopes: ['use', 'more'] };
const entries = async (filter: string): Promise<Record<string, unknown>[]> =>
  (await broker.admin('GET', `/audit?limit=1000&${filter}`)).body['items'] as Record<string, unknown>[];
const grantIn = (answer: Answer) => answer.body['grant'] as { id: string; expires_at: string };

describe('a name', () => {
  test.each([
    ['agents', { owner: 'o@example.com' }],
    ['connections', { provider: 'internal-jwt', settings: jwt }],
    ['operators', { roles: ['auditor'] }],
  ])('of %s is taken once', async (what, more) => {
    const answers = await hundred(() => broker.admin('POST', `/${what}`, { name: 'contested', ...more }));
    expect(tally(answers)).toEqual({ 201: 1, 409: 99 });
    const won = answers.find(({ status }) => status === 201);
    expect((await broker.admin('GET', `/${what}/contested`)).body['id']).toBe(won?.body['id']);
  });
});

describe('a budget', () => {
  test.each([
    ['internal-jwt', () => jwt],
    ['test-account', made],
  ])('of an entitlement is spent exactly (%s)', async (provider, settings) => {
    const name = `budget-${provider}`;
    const agent = await broker.agent(name);
    ok(await broker.admin('POST', '/connections', { name, provider, settings: settings() }));
    ok(await broker.entitle(name, name, ['use'], { budget: { grants: 37, per_seconds: 86_400 } }));
    const token = await broker.agentToken(agent);
    const answers = await hundred(() => broker.grant(token, { connection: name, scopes: ['use'] }));
    expect(tally(answers)).toEqual({ 201: 37, 429: 63 });
    const refused = answers.filter(({ status }) => status === 429);
    expect(new Set(refused.map(({ body }) => body['code']))).toEqual(new Set(['budget_exhausted']));
    expect(await entries(`agent=${name}&type=grant.issued`)).toHaveLength(37);
  });
});

describe('a grant', () => {
  let token: string;
  beforeAll(async () => {
    const agent = await broker.agent('holder');
    ok(await broker.admin('POST', '/connections', { name: 'held', provider: 'test-account', settings: made() }));
    ok(await broker.entitle('holder', 'held', ['use'], { max_ttl_seconds: 600 }));
    token = await broker.agentToken(agent);
  });
  const issue = async () =>
    grantIn(ok(await broker.grant(token, { connection: 'held', scopes: ['use'], ttl_seconds: 60 })));

  test('that is renewed by a hundred at once ends when the last of those that succeeded was told', async () => {
    const { id } = await issue();
    const before = (await broker.admin('GET', `/grants/${id}`)).body;
    const answers = await hundred((i) =>
      broker.json('POST', `/v1/grants/${id}/renew`, token, { ttl_seconds: 200 + (i % 50) }),
    );
    const counts = tally(answers);
    expect(Object.keys(counts).every((status) => status === '200' || status === '409')).toBe(true);
    const renewed = answers.filter(({ status }) => status === 200).map((answer) => grantIn(answer).expires_at);
    expect(renewed.length).toBeGreaterThan(0);
    const { expires_at } = (await broker.admin('GET', `/grants/${id}`)).body;
    expect(expires_at).toBe(renewed.sort().at(-1));
    expect(Date.parse(String(expires_at))).toBeLessThanOrEqual(Date.parse(String(before['max_expires_at'])));
    expect(await entries(`grant=${id}&type=grant.renewed`)).toHaveLength(renewed.length);
    // Upstream it lives as long as the longest that was promised.
    const account = (await upstream.accounts()).find((one) => grantOf(one) === id);
    expect(account?.expires_at).toBeGreaterThanOrEqual(Date.parse(String(expires_at)));
  });

  test('that is returned by a hundred at once is returned once, and every one of them is told it is gone', async () => {
    const { id } = await issue();
    const answers = await hundred(() => broker.json('DELETE', `/v1/grants/${id}`, token));
    expect(tally(answers)).toEqual({ 204: 100 });
    expect(await entries(`grant=${id}&type=grant.returned`)).toHaveLength(1);
    expect(await entries(`grant=${id}&type=grant.return_ignored`)).toHaveLength(99);
    await eventually(
      'it is gone upstream',
      () => upstream.accounts(),
      (accounts) => !accounts.some((one) => grantOf(one) === id),
    );
    // It is gone upstream a moment before that is recorded.
    const cleaned = await eventually(
      'its clean-up is recorded',
      () => entries(`grant=${id}&type=grant.cleaned_up`),
      (found) => found.length > 0,
    );
    expect(cleaned).toHaveLength(1);
  });

  test('that is renewed, returned and revoked at once is dead afterwards, whoever came first', async () => {
    for (let round = 0; round < 10; round += 1) {
      const { id } = await issue();
      await Promise.all([
        ...Array.from({ length: 8 }, () => broker.json('POST', `/v1/grants/${id}/renew`, token, {})),
        broker.json('DELETE', `/v1/grants/${id}`, token),
        broker.admin('POST', '/revocations', { selector: { grant: id }, reason: 'a race' }),
      ]);
      const { status } = (await broker.admin('GET', `/grants/${id}`)).body;
      expect(['returned', 'revoked']).toContain(status);
      expect((await broker.json('POST', `/v1/grants/${id}/renew`, token, {})).body['code']).toBe('revoked');
    }
  });
});

describe('a secret', () => {
  test('that a hundred set at once is in the end the one of the highest version', async () => {
    const agent = await broker.agent('caller');
    ok(await broker.connection('keyed', targetUrl));
    ok(await broker.entitle('caller', 'keyed', ['all']));
    const answers = await hundred((i) => broker.admin('PUT', '/connections/keyed/secret', { value: `sk_race_${i}` }));
    const set = answers.flatMap(({ status, body }, i) =>
      status === 200 ? [{ i, version: Number(body['version']) }] : [],
    );
    expect(tally(answers)).toEqual({ 200: set.length, ...(set.length < 100 ? { 409: 100 - set.length } : {}) });
    expect(set.map(({ version }) => version).sort((a, b) => a - b)).toEqual(set.map((_, i) => i + 2));
    const newest = set.reduce((a, b) => (a.version > b.version ? a : b));
    const answer = ok(await broker.grant(await broker.agentToken(agent), { connection: 'keyed', scopes: ['all'] }));
    const { token } = answer.body['credential'] as { token: string };
    await (await broker.fetch('/gateway/keyed/x', { headers: { authorization: `Bearer ${token}` } })).arrayBuffer();
    expect(keysSeen.at(-1)).toBe(`Bearer sk_race_${newest.i}`);
  });

  test('of a client that a hundred renew at once: one of those handed out works, and the old one does not', async () => {
    const agent = await broker.agent('rotated');
    const answers = await hundred(() => broker.admin('POST', '/agents/rotated/secret'));
    const handed = answers.filter(({ status }) => status === 201).map(({ body }) => String(body['client_secret']));
    expect(tally(answers)).toEqual({
      201: handed.length,
      ...(handed.length < 100 ? { 409: 100 - handed.length } : {}),
    });
    const form = { grant_type: 'client_credentials' };
    const works = [];
    for (const clientSecret of [agent.clientSecret, ...handed]) {
      works.push((await broker.form('/token', form, { clientId: 'rotated', clientSecret })).status);
      // Failures are limited a second.
      if (works.length % 15 === 0) await pause(1_050);
    }
    expect([works[0], works.filter((status) => status === 200)]).toEqual([401, [200]]);
  }, 30_000);
});

describe('the last admin', () => {
  const names = ['left', 'right'] as const;
  test.each([
    ['delete', (name: string, token: string) => broker.admin('DELETE', `/operators/${name}`, undefined, token)],
    [
      'demote',
      (name: string, token: string) => broker.admin('PATCH', `/operators/${name}`, { roles: ['auditor'] }, token),
    ],
    [
      'suspend',
      (name: string, token: string) => broker.admin('PATCH', `/operators/${name}`, { status: 'suspended' }, token),
    ],
  ])('stays when two admins %s each other at once', async (_how, remove) => {
    const own = await startBroker();
    const outer = broker;
    broker = own;
    try {
      // The first admin makes the two and goes; from then on there are only these.
      const tokens: Record<string, string> = {};
      for (const name of names) {
        const answer = ok(await own.admin('POST', '/operators', { name, roles: ['admin'] }));
        tokens[name] = String(answer.body['token']);
      }
      ok(await own.admin('DELETE', '/operators/admin', undefined, tokens['left']));
      const answers = await Promise.all([remove('right', tokens['left'] ?? ''), remove('left', tokens['right'] ?? '')]);
      expect(answers.filter(({ status }) => status < 300)).toHaveLength(1);
      const still = await Promise.all(names.map((name) => own.admin('GET', '/operators', undefined, tokens[name])));
      const admin = still.findIndex(({ status }) => status === 200);
      expect(admin).toBeGreaterThanOrEqual(0);
      // And cannot remove itself.
      const alone = names[admin] as string;
      expect((await remove(alone, tokens[alone] ?? '')).status).toBe(409);
    } finally {
      broker = outer;
      await own.close();
    }
  });
});

describe('a storm of changes', () => {
  test('to one row leaves as many versions as were acknowledged, and the last of them in force', async () => {
    await broker.agent('stormy');
    const answers = await hundred((i) =>
      i % 3 === 0
        ? broker.admin('PATCH', '/agents/stormy', { purpose: `purpose ${i}` })
        : broker.admin('PATCH', '/agents/stormy', { status: i % 3 === 1 ? 'suspended' : 'active' }),
    );
    expect(Object.keys(tally(answers)).every((status) => status === '200' || status === '409')).toBe(true);
    const now = (await broker.admin('GET', '/agents/stormy')).body;
    // A change that changed nothing is acknowledged with the version that was there.
    const log = (await entries('agent=stormy')).filter(({ outcome }) => outcome === 'done');
    const changes = log.filter(({ type }) => /^agent\.(updated|suspended|resumed)$/.test(String(type)));
    expect(now['version']).toBe(1 + changes.length);
    const versions = answers.filter(({ status }) => status === 200).map(({ body }) => Number(body['version']));
    expect(Math.max(...versions)).toBe(now['version']);
    const last = answers.filter(({ status, body }) => status === 200 && body['version'] === now['version']);
    for (const { body } of last) expect(body).toEqual(now);
  });

  test('never lets out a credential that what was in force at that place of the ledger did not allow', async () => {
    const agent = await broker.agent('runner');
    ok(await broker.admin('POST', '/connections', { name: 'shaky', provider: 'test-account', settings: made() }));
    const entitle = async (scopes: string[]): Promise<string> =>
      String(ok(await broker.entitle('runner', 'shaky', scopes)).body['id']);
    let entitlement = await entitle(['use', 'more']);
    let running = true;
    const delivered: string[] = [];
    let refused = 0;
    const token = await broker.agentToken(agent);
    const ask = async (): Promise<void> => {
      while (running) {
        const answer = await broker.grant(token, { connection: 'shaky', scopes: ['use'], ttl_seconds: 600 });
        if (answer.status === 201) delivered.push(grantIn(answer).id);
        else refused += 1;
        if (answer.status !== 201) expect([401, 403, 409, 429, 502]).toContain(answer.status);
      }
    };
    const clients = Array.from({ length: 12 }, ask);
    // Changes one after another, each a moment long, so that issues are caught at every step of their way.
    // On a slow machine it goes on until enough was delivered to say something.
    for (let round = 0; round < 12 || (round < 120 && delivered.length <= 20); round += 1) {
      await pause(15 + Math.random() * 15);
      const step = round % 4;
      if (step === 0) {
        ok(await broker.admin('PATCH', `/entitlements/${entitlement}`, { scopes: ['more'] }));
        ok(await broker.admin('PATCH', `/entitlements/${entitlement}`, { scopes: ['more', 'use'] }));
      } else if (step === 1) {
        ok(await broker.admin('DELETE', `/entitlements/${entitlement}`));
        entitlement = await entitle(['use']);
      } else if (step === 2) {
        ok(await broker.admin('PATCH', '/connections/shaky', { status: 'suspended' }));
        ok(await broker.admin('PATCH', '/connections/shaky', { status: 'active' }));
      } else {
        ok(await broker.admin('PATCH', '/agents/runner', { status: 'suspended' }));
        ok(await broker.admin('PATCH', '/agents/runner', { status: 'active' }));
      }
    }
    await pause(30);
    const deleted = await broker.admin('DELETE', '/agents/runner');
    expect(deleted.status).toBe(204);
    running = false;
    await Promise.all(clients);
    expect([delivered.length > 20, refused > 5]).toEqual([true, true]);

    // The ledger again, entry by entry, with what was in force at each.
    const headers = { authorization: `Bearer ${broker.adminToken}` };
    const text = await (await broker.fetch('/admin/v1/audit/export', { headers })).text();
    const log = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).entry);
    const scopesOf = new Map<string, string[]>();
    const status = { runner: 'active', shaky: 'active' };
    const issued = new Set<string>();
    const wrong: string[] = [];
    for (const entry of log) {
      if (!entry) continue;
      const { type, data = {} } = entry;
      if (type === 'agent.deleted' && entry.agent.name === 'runner') status.runner = 'deleted';
      if (entry.agent?.name === 'runner' && /^agent\.(suspended|resumed)$/.test(type)) status.runner = data.status;
      if (type === 'connection.updated' && entry.connection.name === 'shaky') status.shaky = data.status;
      if (type === 'entitlement.created') scopesOf.set(data.entitlement, data.scopes);
      if (type === 'entitlement.updated') scopesOf.set(data.after.entitlement, data.after.scopes);
      if (type === 'entitlement.deleted') scopesOf.delete(data.entitlement);
      if (type !== 'grant.issued' || entry.connection.name !== 'shaky') continue;
      issued.add(entry.grant);
      const allowed = scopesOf.get(data.entitlement)?.includes('use') === true;
      if (!allowed || status.runner !== 'active' || status.shaky !== 'active') {
        wrong.push(`${entry.grant}: ${JSON.stringify(status)} ${scopesOf.get(data.entitlement)}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(delivered.filter((id) => !issued.has(id))).toEqual([]);
    // The agent is gone: nothing it had is left upstream.
    await eventually(
      'nothing is left upstream',
      async () =>
        (await upstream.accounts()).filter((one) => delivered.includes(grantOf(one)) || issued.has(grantOf(one))),
      (left) => left.length === 0,
    );
  }, 30_000);

  test('a connection is not deleted from under what is made with it', async () => {
    for (let round = 0; round < 8; round += 1) {
      const agent = await broker.agent(`digger-${round}`);
      const name = `ground-${round}`;
      ok(await broker.admin('POST', '/connections', { name, provider: 'test-account', settings: made() }));
      ok(await broker.entitle(agent.name, name, ['use']));
      const token = await broker.agentToken(agent);
      const before = new Set((await upstream.accounts()).map((one) => one.name));
      const asked = Promise.all(
        Array.from({ length: 12 }, () => broker.grant(token, { connection: name, scopes: ['use'] })),
      );
      await pause(Math.random() * 12);
      const deleted = await broker.admin('DELETE', `/connections/${name}`);
      const delivered = (await asked).filter(({ status }) => status === 201).map((answer) => grantIn(answer).id);
      expect([204, 409]).toContain(deleted.status);
      if (deleted.status === 204) expect(delivered).toEqual([]);
      const expected = new Set(delivered);
      await eventually(
        'what is upstream is what was delivered',
        async () => (await upstream.accounts()).filter((one) => !before.has(one.name)).map(grantOf),
        (left) => left.length === expected.size && left.every((id) => expected.has(id)),
      );
    }
    expect(await entries('type=grant.unrevocable')).toEqual([]);
  }, 30_000);
});
