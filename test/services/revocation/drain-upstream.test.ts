/** The drain: everything half-made has its turn, whatever the rest of it waits for. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Connection, Grant, Selector } from '../../../src/domain/model.ts';
import { LedgerUnavailable, type Write } from '../../../src/ports/ledger.ts';
import { type Handle, type Provider, ProviderFailure } from '../../../src/ports/provider.ts';
import { createConnection, updateConnection } from '../../../src/services/access/manage-connections.ts';
import { type Caller, commit, record } from '../../../src/services/core.ts';
import { issueGrant } from '../../../src/services/issuing/issue-grant.ts';
import type { CoreWithSecrets } from '../../../src/services/issuing/provider-context.ts';
import { returnGrant } from '../../../src/services/issuing/use-grant.ts';
import { UpstreamDrain } from '../../../src/services/revocation/drain-upstream.ts';
import { revoke } from '../../../src/services/revocation/revoke.ts';
import * as make from '../../conformance/ledger-rows.ts';
import { hurriedDrain, removeTemporaryDirs } from '../../support/broker.ts';
import { eventually, pause } from '../../support/eventually.ts';
import { openServices } from '../../support/services.ts';

const caller: Caller = { actor: { kind: 'system', name: 'test' }, requestId: 'req_test' };

/** What the provider of these tests does, and was asked to revoke. */
const upstream = {
  mint: async (_connection: Connection, _journal: (handle: Handle) => Promise<void>, _secret: () => Promise<unknown>) =>
    undefined as unknown,
  revoke: async (_connection: Connection, _handle: Handle | null) => undefined as unknown,
};
const upright = { ...upstream };

const provider: Provider = {
  type: 'test-drained',
  enforcement: () => 'upstream',
  settingsSchema: {},
  checkSettings: (settings) => ({ ok: true, value: { ...(settings as object) } }),
  checkSecret: (secret) => ({ ok: true, value: secret as Record<string, string> | undefined }),
  secretDestination: (settings) => String(settings['host']),
  scopes: () => ['all'],
  plan: () => ({ credentialType: 'token', handle: { planned: true } }),
  mint: async ({ connection }, _plan, context) => {
    await upstream.mint(connection, context.journal, context.secret);
    return { credential: { type: 'token' } };
  },
  revoke: async ({ handle }, connection) => void (await upstream.revoke(connection, handle)),
};

let core: CoreWithSecrets;
let close: () => Promise<void>;
let drain: UpstreamDrain | undefined;

beforeEach(async () => {
  Object.assign(upstream, upright);
  ({ core, close } = await openServices([provider]));
});
afterEach(async () => {
  await drain?.stop();
  drain = undefined;
  await close();
  removeTemporaryDirs();
});

const startDrain = (): void => {
  drain = new UpstreamDrain(core, hurriedDrain);
  drain.start();
};
const write = (...writes: Write[]) => commit(core, { writes, audit: [record(core, caller, { type: 'test.written' })] });
const connect = (name: string, settings: object = {}): Promise<Connection> =>
  createConnection(core, { name, provider: provider.type, settings, secret: { value: 'old' } }, caller);
const issueAt = async (connection: Connection) => {
  const agent = make.agent();
  const entitlement = make.entitlement(agent, connection);
  await write(
    { write: 'insert', table: 'agents', row: agent },
    { write: 'insert', table: 'entitlements', row: { ...entitlement, scopes: ['all'], expires_at: null } },
  );
  return issueGrant(core, { agent, connection: connection.name, scopes: ['all'] }, caller);
};
const allGrants = (): Promise<Grant[]> => core.reader.grants({}, { limit: 10 });

test('half-made grants of an upstream that hangs do not keep those of another waiting, however many they are', async () => {
  const [hanging, healthy] = [await connect('hanging'), await connect('healthy')];
  upstream.revoke = async (connection) => (connection.id === hanging.id ? new Promise(() => undefined) : undefined);
  const intents = Array.from({ length: 1_200 }, (_, i) =>
    make.grant({
      status: 'intended',
      upstream: 'live',
      handle: {},
      provider: provider.type,
      issued_at: make.now + i,
      connection_id: i < 1_199 ? hanging.id : healthy.id,
    }),
  );
  await write(...intents.map((row): Write => ({ write: 'insert', table: 'grants', row })));
  startDrain();
  const last = intents.at(-1)?.id ?? '';
  await eventually(
    'the last of them is undone',
    () => core.reader.grant(last),
    (grant) => grant?.status === 'aborted',
  );
});

test('a handle that is journalled while its grant is undone is what is undone next', async () => {
  const ended: (Handle | null)[] = [];
  let journalled: Promise<unknown> = Promise.resolve();
  upstream.mint = async (_connection, journal) => {
    // As when the time is over while the ledger is at it.
    journalled = journal({ lease: 1 });
    throw new ProviderFailure('timeout', 'too late');
  };
  upstream.revoke = async (_connection, handle) => {
    ended.push(handle);
    await journalled;
  };
  const connection = await connect('one');
  await expect(issueAt(connection)).rejects.toMatchObject({ refusal: { code: 'upstream_timeout' } });
  startDrain();
  await eventually('it is undone', allGrants, ([grant]) => grant?.status === 'aborted');
  expect(ended.at(-1)).toEqual({ lease: 1 });
});

test('a new secret is not sent to where the old settings lead', async () => {
  const sent: unknown[] = [];
  upstream.mint = async (connection, _journal, secret) => {
    const operator = make.operator();
    const patch = { settings: { host: 'new' }, secret: { value: 'new' } };
    await updateConnection(core, core.state.connections.get(connection.id) ?? connection, patch, operator, caller);
    sent.push([connection.settings['host'], await secret()]);
  };
  const connection = await connect('one', { host: 'old' });
  await expect(issueAt(connection)).rejects.toMatchObject({ refusal: { code: 'conflict' } });
  expect(sent).toEqual([]);
});

test('clean-ups that follow each other do not have the drain walk all there is without a pause', async () => {
  const { upstreamGrants } = core.reader;
  let rounds = 0;
  core.reader.upstreamGrants = async (...args) => {
    rounds += 1;
    await pause(20);
    return upstreamGrants.apply(core.reader, args);
  };
  startDrain();
  for (const began = performance.now(); performance.now() - began < 1_000; await pause(5)) drain?.wake();
  expect(rounds).toBeGreaterThan(1);
  expect(rounds).toBeLessThanOrEqual(20);
});

test('a grant whose clean-up ended while a page with it was read is not tried once more', async () => {
  let tries = 0;
  upstream.revoke = async () => {
    tries += 1;
    throw new ProviderFailure('unavailable', 'no');
  };
  const grant = make.grant({ status: 'returned', upstream: 'live', handle: {}, provider: provider.type });
  const row = { ...grant, connection_id: (await connect('one')).id };
  await write({ write: 'insert', table: 'grants', row });
  let found: Grant[] = [];
  let late = 0;
  const reader = Object.assign(Object.create(core.reader), {
    upstreamGrants: async (...asked: Parameters<typeof core.reader.upstreamGrants>): Promise<Grant[]> => {
      const page = await core.reader.upstreamGrants(...asked);
      if (page.length > 0) found = page;
      else if (found.length > 0) late += 1;
      // What this page was read from is older than what became of the grant.
      return found;
    },
  });
  drain = new UpstreamDrain({ ...core, reader }, hurriedDrain);
  drain.start();
  await eventually(
    'old pages were gone through',
    () => late,
    (rounds) => rounds > 2,
  );
  expect(tries).toBe(hurriedDrain.tries);
});

const killedOn = async (connection: Connection, count: number, more: Partial<Grant> = {}): Promise<Grant[]> => {
  const now = core.clock.now();
  const lives = { issued_at: now, expires_at: now + 600_000, max_expires_at: now + 600_000 };
  const rows = Array.from({ length: count }, () =>
    make.grant({
      upstream: 'live',
      handle: {},
      provider: provider.type,
      connection_id: connection.id,
      ...lives,
      ...more,
    }),
  );
  await write(...rows.map((row): Write => ({ write: 'insert', table: 'grants', row })));
  return rows;
};
const revoked = (selector: Selector) => revoke(core, { selector, reason: 'test', suspend: false }, caller);
const completed = (id: string) =>
  eventually(
    'the revocation is complete',
    () => core.reader.revocation(id),
    (row) => row?.completed_at !== null,
    20_000,
  );
/** Rows of grants that were read from now on, and how many there is room for in one lane. */
const countReads = () => {
  const reads = { rows: 0 };
  const { reader } = core;
  core.reader = Object.assign(Object.create(reader), {
    upstreamGrants: async (...args: Parameters<typeof reader.upstreamGrants>) => {
      const found = await reader.upstreamGrants(...args);
      reads.rows += found.length;
      return found;
    },
    upstreamGrantsOf: async (...args: Parameters<typeof reader.upstreamGrantsOf>) => {
      const found = await reader.upstreamGrantsOf(...args);
      reads.rows += found.length;
      return found;
    },
  });
  return reads;
};

test('what a round reads does not grow with what lives, nor with the revocations that wait', async () => {
  const connection = await connect('hanging');
  upstream.revoke = async () => new Promise(() => undefined);
  const rows = await killedOn(connection, 1_000);
  const reads = countReads();
  startDrain();
  for (const { id } of rows.slice(0, 50)) await revoked({ grant: id });
  await eventually(
    'all fifty are taken up',
    () => reads.rows,
    (count) => count >= 50,
  );
  const before = reads.rows;
  for (let i = 0; i < 20; i += 1) {
    drain?.wake();
    await pause(25);
  }
  expect(before).toBeLessThanOrEqual(100);
  expect(reads.rows - before).toBeLessThanOrEqual(50);
});

test('a connection with more than there is room for keeps no other one waiting, and all of it has its turn', async () => {
  const [crowded, other] = [await connect('crowded'), await connect('other')];
  const waiting: (() => void)[] = [];
  let held = true;
  let [atOnce, most] = [0, 0];
  upstream.revoke = async ({ id }) => {
    if (id !== crowded.id) return;
    atOnce += 1;
    most = Math.max(most, atOnce);
    if (held) await new Promise<void>((resolve) => waiting.push(resolve));
    atOnce -= 1;
  };
  await killedOn(crowded, 2_500);
  await killedOn(other, 3);
  startDrain();
  const first = await revoked({ connection: crowded.id });
  await eventually(
    'its lane is full',
    () => waiting.length,
    (count) => count === 8,
  );
  await completed((await revoked({ connection: other.id })).id);
  held = false;
  for (const go of waiting) go();
  const done = await completed(first.id);
  expect([done?.grants, done?.upstream_revoked, most]).toEqual([2_500, 2_500, 8]);
});

test('a grant that two revocations reach counts for the first, and both wait for it', async () => {
  const connection = await connect('one');
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  upstream.revoke = () => ended;
  const [grant] = await killedOn(connection, 1);
  startDrain();
  const [first, second] = [await revoked({ connection: connection.id }), await revoked({ everything: true })];
  end();
  const [one, two] = [await completed(first.id), await completed(second.id)];
  expect([one?.grants, one?.upstream_revoked, two?.grants, two?.upstream_revoked]).toEqual([1, 1, 0, 0]);
  expect(await core.reader.grant(grant?.id ?? '')).toMatchObject({ status: 'revoked', revocation_id: first.id });
});

test('a revocation waits for what had been returned and is still there, without counting it as its own', async () => {
  const connection = await connect('one');
  const [returned] = await killedOn(connection, 1, { status: 'returned' });
  let tries = 0;
  upstream.revoke = async () => {
    tries += 1;
    if (tries < 4) throw new ProviderFailure('unavailable', 'not yet');
  };
  startDrain();
  const done = await completed((await revoked({ connection: connection.id })).id);
  expect([done?.grants, done?.upstream_revoked, tries]).toEqual([0, 0, 4]);
  expect(await core.reader.grant(returned?.id ?? '')).toMatchObject({
    status: 'returned',
    upstream: 'gone',
    revocation_id: null,
  });
});

test('what could not be written down is done again after a pause, not at once and for ever', async () => {
  const connection = await connect('one');
  let tries = 0;
  upstream.revoke = async () => {
    tries += 1;
  };
  await killedOn(connection, 1, { status: 'returned' });
  const { ledger } = core;
  let broken = true;
  core.ledger = {
    ...ledger,
    onCommitted: (listener) => ledger.onCommitted(listener),
    trouble: () => undefined,
    commit: (changeset) => (broken ? Promise.reject(new LedgerUnavailable('full')) : ledger.commit(changeset)),
  };
  startDrain();
  await pause(500);
  expect(tries).toBeGreaterThan(0);
  expect(tries).toBeLessThanOrEqual(20);
  broken = false;
  await eventually('it is written down', allGrants, ([grant]) => grant?.upstream === 'gone');
});

test('a revocation is not complete while a connection that had no room has some left, though it got room just now', async () => {
  const crowded = await connect('crowded');
  let go = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    go = resolve;
  });
  upstream.revoke = () => held;
  await killedOn(crowded, 1_200);
  const { reader } = core;
  let [firstSeq, full] = [Number.POSITIVE_INFINITY, false];
  core.reader = Object.assign(Object.create(reader), {
    upstreamGrantsOf: async (...asked: Parameters<typeof reader.upstreamGrantsOf>) => {
      const found = await reader.upstreamGrantsOf(...asked);
      if (asked[4].length > 0) full = true;
      // Most of it is through while the answer without it is on its way.
      if (asked[4].length > 0 && asked[0].seq > firstSeq) {
        go();
        await eventually(
          'it has room',
          () => reader.upstreamGrants('', 1_200, undefined),
          (left) => left.length <= 600,
        );
      }
      return found;
    },
  });
  startDrain();
  const first = await revoked({ connection: crowded.id });
  await eventually(
    'there is no room',
    () => full,
    (is) => is,
  );
  firstSeq = first.seq;
  await completed((await revoked({ connection: crowded.id })).id);
  expect(await reader.upstreamGrants('', 10, undefined)).toEqual([]);
  expect(await completed(first.id)).toMatchObject({ grants: 1_200, upstream_revoked: 1_200 });
});

test('what had expired before a fence is not marked as revoked by it', async () => {
  const connection = await connect('one');
  const over = core.clock.now() - 5_000;
  const [expired] = await killedOn(connection, 1, { issued_at: over - 1_000, expires_at: over, max_expires_at: over });
  const { id } = await revoked({ connection: connection.id });
  startDrain();
  const done = await completed(id);
  expect([done?.grants, done?.upstream_revoked]).toEqual([0, 0]);
  expect(await core.reader.grant(expired?.id ?? '')).toMatchObject({ status: 'expired', revocation_id: null });
});

test('what lived at the fence is counted, however late that is', async () => {
  const connection = await connect('one');
  const soon = core.clock.now() + 300;
  await killedOn(connection, 2, { upstream: null, handle: null, expires_at: soon, max_expires_at: soon });
  const { reader } = core;
  core.reader = Object.assign(Object.create(reader), {
    countKilled: async (...asked: Parameters<typeof reader.countKilled>) => {
      await eventually(
        'they are over',
        () => core.clock.now(),
        (now) => now > soon,
      );
      return reader.countKilled(...asked);
    },
  });
  const { id } = await revoked({ connection: connection.id });
  expect((await completed(id))?.grants).toBe(2);
});

test('a grant given back at the moment of a fence stays killed by it', async () => {
  const connection = await connect('one');
  const [grant] = await killedOn(connection, 1, { upstream: null, handle: null });
  if (!grant) throw new Error('no grant');
  const { ledger } = core;
  let returned: Promise<void> | undefined;
  core.ledger = {
    ...ledger,
    onCommitted: (listener) => ledger.onCommitted(listener),
    trouble: () => undefined,
    commit: (changeset) => {
      const fenced = ledger.commit(changeset);
      // The fence is on its way, and nobody has heard of it.
      returned ??= returnGrant(core, grant, caller);
      return fenced;
    },
  };
  await revoked({ connection: connection.id });
  await returned;
  expect((await core.reader.grant(grant.id))?.status).toBe('active');
});

test('what a revocation killed is counted while its clean-up goes on', async () => {
  const connection = await connect('one');
  upstream.revoke = () => pause(20);
  await killedOn(connection, 400);
  // Whatever is asked, some more is through by the time of the answer.
  const { reader } = core;
  const late =
    <A extends unknown[], R>(ask: (...asked: A) => Promise<R>) =>
    async (...asked: A): Promise<R> => {
      const answer = await ask.apply(reader, asked);
      await pause(300);
      return answer;
    };
  core.reader = Object.assign(Object.create(reader), {
    countLiveGrants: late(reader.countLiveGrants),
    countKilled: late(reader.countKilled),
  });
  startDrain();
  const { id } = await revoked({ connection: connection.id });
  const counted = await eventually(
    'it is counted',
    () => reader.revocation(id),
    (row) => row?.grants !== null,
  );
  expect([counted?.grants, counted?.completed_at]).toEqual([400, null]);
  expect(await completed(id)).toMatchObject({ grants: 400, upstream_revoked: 400 });
});
