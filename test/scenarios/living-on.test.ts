/** Credentials that nobody can take back: told of until they end, over restarts, and never counted as gone before. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Provider } from '../../src/ports/provider.ts';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually, pause } from '../support/eventually.ts';

/** How long what it makes lives, in milliseconds, whatever the grant says; and how often it was asked to revoke. */
const lives = { ms: 1_000, revoked: 0, kept: [] as unknown[] };

const stubborn: Provider = {
  type: 'test-stubborn',
  enforcement: () => 'upstream',
  settingsSchema: {},
  checkSettings: () => ({ ok: true, value: {} }),
  checkSecret: () => ({ ok: true, value: undefined }),
  scopes: () => ['all'],
  plan: ({ expiresAt }) => ({ credentialType: 'token', handle: { planned: expiresAt } }),
  mint: async (request, _plan, context) => {
    await context.journal({ step: 1 }, { first: 'canary-first' });
    const endsBy = context.now() + lives.ms;
    return {
      credential: { type: 'token', id: request.grantId },
      handle: { endsBy },
      keep: { second: 'canary-second' },
    };
  },
  revoke: async (grant, _connection, context) => {
    lives.revoked += 1;
    const kept = await context.kept();
    lives.kept.push([grant.handle, kept && Object.fromEntries(Object.entries(kept).map(([k, v]) => [k, v.reveal()]))]);
    return { endsBy: Number(grant.handle?.['endsBy'] ?? 0) };
  },
};

let broker: Broker;
const dataDir = temporaryDir();
let token: string;
const start = () => startBroker({ dataDir, extraProviders: [stubborn] });
const issue = async (more: object = {}) => {
  const answer = await broker.grant(token, { connection: 'wall', scopes: ['all'], ...more });
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)]);
  return (answer.body['grant'] as { id: string }).id;
};
const revoke = async (selector: object) =>
  String((await broker.admin('POST', '/revocations', { selector, reason: 'test' })).body['id']);
const revocation = async (id: string) => (await broker.admin('GET', `/revocations/${id}`)).body;
const upstreamOf = async (id: string) => (await revocation(id))['upstream'] as Record<string, unknown>;
const grantOf = async (id: string) => (await broker.admin('GET', `/grants/${id}`)).body;
const auditTypes = async (id: string) =>
  ((await broker.admin('GET', `/audit?grant=${id}`)).body['items'] as { type: string }[]).map(({ type }) => type);
const knownToLiveOn = (id: string, count = 1) =>
  eventually(
    'it is known to live on',
    () => upstreamOf(id),
    (upstream) => upstream['lives_on'] === count && upstream['pending'] === count,
  );

beforeAll(async () => {
  broker = await start();
  const agent = await broker.agent('climber');
  await broker.admin('POST', '/connections', { name: 'wall', provider: 'test-stubborn', settings: {} });
  await broker.entitle('climber', 'wall', ['all'], { max_ttl_seconds: 600 });
  token = await broker.agentToken(agent);
});
afterAll(async () => {
  await broker.close();
  removeTemporaryDirs();
});

test('it is asked of the provider once, told of once, and over when its time is over', async () => {
  lives.ms = 1_500;
  lives.revoked = 0;
  lives.kept = [];
  const id = await issue();
  const revocationId = await revoke({ grant: id });
  const upstream = await knownToLiveOn(revocationId);
  expect((await grantOf(id))['upstream_ends_by']).toBe(upstream['ends_by']);
  expect((await broker.admin('GET', '/revocations?limit=1')).body['items']).toMatchObject([
    { id: revocationId, completed_at: null, upstream: { pending: 1, lives_on: 1, ends_by: upstream['ends_by'] } },
  ]);
  await pause(700);
  expect([lives.revoked, (await grantOf(id))['upstream']]).toEqual([1, 'live']);
  await eventually(
    'it is over',
    () => revocation(revocationId),
    (one) => one['completed_at'] !== null,
  );
  expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(String(upstream['ends_by'])));
  expect(await grantOf(id)).toMatchObject({ status: 'revoked', upstream: 'gone' });
  expect(lives.revoked).toBe(1);
  expect((await auditTypes(id)).reverse().slice(-3)).toEqual([
    'revocation.created',
    'grant.lives_on',
    'grant.cleaned_up',
  ]);
  // The newest of handle and kept, and nothing that Warder added to the handle.
  expect(lives.kept).toEqual([[{ endsBy: expect.any(Number) }, { second: 'canary-second' }]]);
});

test('it is told of after a restart as before, and its connection stays until it is over', async () => {
  lives.ms = 4_000;
  const ids = [await issue(), await issue()];
  const revocationId = await revoke({ connection: 'wall' });
  await knownToLiveOn(revocationId, 2);
  await broker.close();
  lives.revoked = 0;
  broker = await start();
  await knownToLiveOn(revocationId, 2);
  const deleted = await broker.admin('DELETE', '/connections/wall');
  expect([deleted.status, deleted.text]).toEqual([409, expect.stringContaining('cannot be taken back')]);
  // A revocation of something else is not kept waiting by it, nor does it end it.
  const other = await revoke({ provider: 'api-key' });
  await eventually(
    'the other is complete',
    () => revocation(other),
    (one) => one['completed_at'] !== null,
  );
  expect((await revocation(revocationId))['completed_at']).toBeNull();
  const done = await eventually(
    'it is over',
    () => revocation(revocationId),
    (one) => one['completed_at'] !== null,
  );
  expect(done).toMatchObject({ grants: 2, upstream: { pending: 0, revoked: 2, unrevocable: 0, lives_on: 0 } });
  expect(lives.revoked).toBe(0);
  for (const id of ids) expect((await auditTypes(id)).filter((type) => type === 'grant.lives_on')).toHaveLength(1);
}, 20_000);

test('it outlives its own grant where the upstream gives it longer, and that is told, too', async () => {
  lives.ms = 4_500;
  const id = await issue({ ttl_seconds: 1 });
  const shown = await eventually(
    'it is known to live on',
    () => grantOf(id),
    (grant) => grant['upstream_ends_by'] !== null,
  );
  expect(shown).toMatchObject({ status: 'expired', upstream: 'live' });
  const over = await eventually(
    'it is over',
    () => grantOf(id),
    (grant) => grant['upstream'] === 'gone',
  );
  expect(over['status']).toBe('expired');
}, 20_000);
