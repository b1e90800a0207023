/**
 * Refresh tokens that rotate, and two processes that need them: each is redeemed once, nobody loses, and what a crash
 * leaves behind is either gone on with or said. The server takes a second redemption for theft and revokes everything.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Changeset } from '../../src/ports/ledger.ts';
import { createAgent } from '../../src/services/access/manage-agents.ts';
import { createConnection } from '../../src/services/access/manage-connections.ts';
import { createEntitlement } from '../../src/services/access/manage-entitlements.ts';
import { openLink, startFlow } from '../../src/services/accounts/connect-flow.ts';
import { finishFlow } from '../../src/services/accounts/finish-flow.ts';
import { caller } from '../services/access/manage.ts';
import { removeTemporaryDirs } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { openServices } from '../support/services.ts';
import { type OidcServer, openBrowser, startOidcServer } from '../vendors/oidc/rig.ts';
import { type Replica, type ReplicaOptions, startReplica } from './replicas.ts';
import { oauthSettings } from './rig.ts';

let server: OidcServer;
let owner: Awaited<ReturnType<typeof openServices>>;
const replicas: Replica[] = [];

const admin = () => {
  const [found] = owner.core.state.operators.all();
  if (!found) throw new Error('an initialised ledger has an admin');
  return found;
};
const account = (name: string) => {
  const { connections, authorizations } = owner.core.state;
  const row = authorizations.of(connections.named(name)?.id ?? '', null);
  if (!row) throw new Error(`${name} was not connected`);
  return row;
};
const connect = async (name: string): Promise<void> => {
  const { core } = owner;
  const connection = core.state.connections.named(name);
  if (!connection) throw new Error(`there is no ${name}`);
  const { link } = await startFlow(core, connection, { subject: null, expiresInSeconds: 600 }, admin(), caller);
  const { url, cookie } = await openLink(core, link.split('/').at(-1) ?? '', caller);
  const answer = await openBrowser().follow(url, (at) => new URL(at).pathname === '/oauth/callback');
  await finishFlow(core, new URL(answer.url).searchParams, () => cookie, caller);
};
const replica = async (options: Partial<ReplicaOptions> = {}): Promise<Replica> => {
  const started = await startReplica(owner.store, { keyPath: owner.keyPath, ...options });
  replicas.push(started);
  return started;
};
/** So many jobs, at most ten at once: an agent waits ten seconds at most, and this may be a slow machine. */
const many = async (count: number, work: () => Promise<string>): Promise<string[]> => {
  const outcomes: string[] = [];
  let left = count;
  const lane = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      outcomes.push(await work());
    }
  };
  await Promise.all(Array.from({ length: 10 }, lane));
  return outcomes;
};
const typeOf = (changeset: Changeset): string => changeset.audit[0].type;

beforeAll(async () => {
  server = await startOidcServer();
  await server.set({ redirect_uris: ['http://127.0.0.1:7300/oauth/callback'] });
}, 60_000);
beforeEach(async () => {
  owner = await openServices();
  const { core } = owner;
  for (const narrowing of ['upstream', 'gateway']) {
    const settings = oauthSettings(server, { narrowing });
    const secret = { client_secret: server.client.secret };
    await createConnection(core, { name: narrowing, provider: 'oauth2', settings, secret }, caller);
  }
  await createAgent(
    core,
    { name: 'worker', owner: 'team@example.com', auth: { method: 'client_secret_basic' } },
    caller,
  );
  await createEntitlement(core, { agent: 'worker', connection: 'upstream', scopes: ['read'] }, admin(), caller);
  await server.set({ rotates: true, access_token_seconds: 3600 });
});
afterEach(async () => {
  await server.trouble.well();
  await Promise.all(replicas.splice(0).map((one) => one.kill()));
  await owner.close();
});
afterAll(async () => {
  await server.stop();
  removeTemporaryDirs();
});

test('two processes and one hundred refreshes: one redemption of each token, and nobody loses', async () => {
  await connect('upstream');
  const before = await server.stats();
  const [one, two] = [await replica(), await replica()];
  const outcomes = (await Promise.all([one, two].map((each) => many(50, () => each.work('issue'))))).flat();
  expect(outcomes.filter((outcome) => !outcome.startsWith('token '))).toEqual([]);
  expect(new Set(outcomes).size).toBe(100);
  const after = await server.stats();
  expect(after.redemptions - before.redemptions).toBe(100);
  expect(Object.values(after.redeemed).filter((times) => times !== 1)).toEqual([]);
  expect(after.families_revoked).toBe(before.families_revoked);
  expect(account('upstream')).toMatchObject({
    status: 'connected',
    tokens_version: 101,
    redeeming: null,
    failure: null,
  });
  // Every one of them works, and so does the next.
  const answers = await Promise.all(
    outcomes.map((outcome) =>
      fetch(`${server.url}/api/things`, { headers: { authorization: `Bearer ${outcome.slice('token '.length)}` } }),
    ),
  );
  expect(answers.map(({ status }) => status)).toEqual(Array(100).fill(200));
  expect(await one.work('issue')).toMatch(/^token /);
}, 60_000);

test('one hundred gateway calls in two processes that find a token ended wait for one redemption', async () => {
  await server.set({ access_token_seconds: 2 });
  await connect('gateway');
  await server.set({ access_token_seconds: 3600 });
  const [one, two] = [await replica(), await replica()];
  const ended = Date.now() + 2_100;
  await eventually('the token has ended', Date.now, (now) => now > ended);
  const before = await server.stats();
  const outcomes = (
    await Promise.all([one, two].map((each) => Promise.all(Array.from({ length: 50 }, () => each.work('gateway')))))
  ).flat();
  expect([...new Set(outcomes)]).toEqual([expect.stringMatching(/^token /)]);
  expect((await server.stats()).redemptions - before.redemptions).toBe(1);
}, 30_000);

describe('a process that is killed', () => {
  /** Long enough to be seen waiting for, short enough to wait for. */
  const markerMs = 1_500;

  test('before the server heard of it is taken over from, after the time of its marker', async () => {
    await connect('upstream');
    const [one, two] = [await replica({ markerMs }), await replica({ markerMs })];
    await server.trouble.hangs();
    const lost = one.work('issue');
    await eventually(
      'it redeems',
      () => account('upstream').redeeming,
      (marker) => marker !== null,
    );
    const until = account('upstream').redeeming?.until ?? 0;
    await one.kill();
    expect(await lost).toBe('failed killed');
    await server.trouble.well();
    expect(await two.work('issue')).toMatch(/^token /);
    expect(Date.now()).toBeGreaterThanOrEqual(until);
    expect(account('upstream')).toMatchObject({ status: 'connected', tokens_version: 2 });
  }, 30_000);

  const killedBeforeKeeping = async (): Promise<Replica> => {
    await connect('upstream');
    let reached = (): void => undefined;
    const keeping = new Promise<void>((resolve) => {
      reached = resolve;
    });
    const one = await replica({
      markerMs,
      admit: (changeset) => {
        if (typeOf(changeset) !== 'authorization.refreshed') return true;
        reached();
        return false;
      },
    });
    const two = await replica({ markerMs });
    const lost = one.work('issue');
    await keeping;
    await one.kill();
    expect(await lost).toBe('failed killed');
    return two;
  };

  test('between redeeming and keeping is gone on from where the server does not rotate', async () => {
    await server.set({ rotates: false });
    const two = await killedBeforeKeeping();
    expect(await two.work('issue')).toMatch(/^token /);
    expect(account('upstream').status).toBe('connected');
  }, 30_000);

  test('between redeeming and keeping costs the account where it does: which says so, and stays so', async () => {
    const two = await killedBeforeKeeping();
    expect(await two.work('issue')).toBe('failed needs_connection');
    expect(account('upstream')).toMatchObject({ status: 'needs_reconnect', failure: 'invalid_grant', redeeming: null });
    const entries = (await owner.core.reader.audit({ type: 'authorization.needs_reconnect' }, { limit: 10 })).map(
      ({ body }) => JSON.parse(body),
    );
    expect(entries).toMatchObject([{ connection: { name: 'upstream' }, data: { why: 'invalid_grant' } }]);
    expect(two.log.filter((line) => line.startsWith('error an account must be connected anew'))).toHaveLength(1);
    expect(await two.work('issue')).toBe('failed needs_connection');
    // Connected anew, it is well again.
    await connect('upstream');
    expect(await two.work('issue')).toMatch(/^token /);
  }, 30_000);
});

test('a server that is down, breaks off, talks nonsense or hangs never costs an account', async () => {
  await connect('upstream');
  const one = await replica({ markerMs: 1_500 });
  for (const trouble of ['down', 'nonsense', 'hangs'] as const) {
    await server.trouble[trouble]();
    const outcomes = await Promise.all(Array.from({ length: 3 }, () => one.work('issue')));
    expect([trouble, outcomes.filter((outcome) => !/^failed upstream_(unavailable|timeout)$/.test(outcome))]).toEqual([
      trouble,
      [],
    ]);
    expect(account('upstream').status).toBe('connected');
    await server.trouble.well();
    expect([trouble, await one.work('issue')]).toEqual([trouble, expect.stringMatching(/^token /)]);
    expect(account('upstream')).toMatchObject({ status: 'connected', failure: null });
  }
}, 40_000);

test('whoever must redeem while the ledger cannot write keeps what it got, and writes it when it can', async () => {
  await connect('upstream');
  let refusals = 0;
  const one = await replica({
    admit: (changeset) => {
      if (typeOf(changeset) !== 'authorization.refreshed' || refusals >= 2) return true;
      refusals += 1;
      throw new Error('the disk is full');
    },
  });
  expect(await one.work('issue')).toMatch(/^token /);
  expect(refusals).toBe(2);
  expect(account('upstream')).toMatchObject({ status: 'connected', tokens_version: 2 });
  expect(await one.work('issue')).toMatch(/^token /);
}, 30_000);
