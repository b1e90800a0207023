/** The drain: everything half-made has its turn, whatever the rest of it waits for. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Connection, Grant } from '../../../src/domain/model.ts';
import type { Write } from '../../../src/ports/ledger.ts';
import { type Handle, type Provider, ProviderFailure } from '../../../src/ports/provider.ts';
import { createConnection, updateConnection } from '../../../src/services/access/manage-connections.ts';
import { type Caller, commit, record } from '../../../src/services/core.ts';
import { issueGrant } from '../../../src/services/issuing/issue-grant.ts';
import type { CoreWithSecrets } from '../../../src/services/issuing/provider-context.ts';
import { UpstreamDrain } from '../../../src/services/revocation/drain-upstream.ts';
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
  expect(rounds).toBeLessThanOrEqual(10);
});
