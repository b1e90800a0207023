/** Rotations after a revocation: asked for behind the fence, once, whatever becomes of the process in between. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Connection, Grant } from '../../../src/domain/model.ts';
import type { Write } from '../../../src/ports/ledger.ts';
import type { Provider } from '../../../src/ports/provider.ts';
import type { SecretRotation } from '../../../src/ports/rotation.ts';
import { createConnection } from '../../../src/services/access/manage-connections.ts';
import { type Caller, commit, record } from '../../../src/services/core.ts';
import type { CoreWithSecrets } from '../../../src/services/issuing/provider-context.ts';
import { blastRadius } from '../../../src/services/revocation/blast-radius.ts';
import { revoke } from '../../../src/services/revocation/revoke.ts';
import { RotationsAfter } from '../../../src/services/revocation/rotate-after.ts';
import * as make from '../../conformance/ledger-rows.ts';
import { removeTemporaryDirs } from '../../support/broker.ts';
import { eventually } from '../../support/eventually.ts';
import { openServices } from '../../support/services.ts';

const caller: Caller = { actor: { kind: 'system', name: 'test' }, requestId: 'req_test' };
const nothing = async (): Promise<void> => undefined;
const rotation: SecretRotation = {
  methodSchema: {},
  checkMethod: () => ({ ok: true, value: {} }),
  destinations: () => [],
  overlaps: () => true,
  create: async () => ({ value: 'new' }),
  set: nothing,
  test: nothing,
  undo: nothing,
  retire: nothing,
};
const provider = (type: string, more: Partial<Provider> = {}): Provider => ({
  type,
  enforcement: () => 'gateway',
  settingsSchema: {},
  checkSettings: (settings) => ({ ok: true, value: { ...(settings as object) } }),
  checkSecret: (secret) => ({ ok: true, value: secret as Record<string, string> | undefined }),
  scopes: () => ['all'],
  plan: () => ({ credentialType: 'gateway', handle: null }),
  mint: async () => ({ credential: { type: 'gateway' } }),
  revoke: nothing,
  ...more,
});

let core: CoreWithSecrets;
let close: () => Promise<void>;
let after: RotationsAfter | undefined;

beforeEach(async () => {
  ({ core, close } = await openServices([provider('test-rotates', { rotation }), provider('test-fixed')]));
});
afterEach(async () => {
  await after?.stop();
  after = undefined;
  await close();
  removeTemporaryDirs();
});

const start = (): void => {
  after = new RotationsAfter(core);
  after.start();
};
const connect = (name: string, type: string, secret: object | null = { value: 'old' }): Promise<Connection> =>
  createConnection(core, { name, provider: type, settings: {}, secret: secret ?? undefined }, caller);
const issued = async (connection: Connection, more: Partial<Grant> = {}): Promise<Grant> => {
  const now = core.clock.now();
  const lives = { issued_at: now, expires_at: now + 600_000, max_expires_at: now + 600_000 };
  const row = make.grant({ connection_id: connection.id, provider: connection.provider, ...lives, ...more });
  const writes: Write[] = [{ write: 'insert', table: 'grants', row }];
  await commit(core, { writes, audit: [record(core, caller, { type: 'test.issued' })] });
  return row;
};
const revoked = (selector: object, rotate = true) =>
  revoke(core, { selector, reason: 'leak', suspend: false, rotate }, caller);
const worked = async (id: string) =>
  (
    await eventually(
      'the rotations are worked out',
      () => core.reader.revocation(id),
      (row) => row?.rotations !== null,
    )
  )?.rotations;

test('asks for those of connections whose grants it killed, and names those that only a person can rotate', async () => {
  const [rotates, fixed, untouched] = [
    await connect('rotates', 'test-rotates'),
    await connect('fixed', 'test-fixed'),
    await connect('untouched', 'test-rotates'),
  ];
  const bare = await connect('bare', 'test-fixed', null);
  for (const connection of [rotates, fixed, bare]) await issued(connection, { agent_id: 'agt_1' });
  await issued(untouched, { agent_id: 'agt_2' });
  start();
  const { id } = await revoked({ agent: 'agt_1' });
  const rotations = await worked(id);
  expect(rotations).toHaveLength(2);
  expect(rotations).toContainEqual({
    connection: { id: rotates.id, name: 'rotates' },
    rotation: expect.stringMatching(/^rot_/),
  });
  expect(rotations).toContainEqual({ connection: { id: fixed.id, name: 'fixed' }, by_hand: expect.any(String) });
  const [row] = await core.reader.rotations({ policy_id: rotates.id }, { limit: 10 });
  expect(row).toMatchObject({ cause: 'revocation', revocation_id: id, at_once: true });
});

test('asks for that of the connection it names, and with everything for all', async () => {
  await connect('one', 'test-rotates');
  await connect('two', 'test-rotates');
  const one = core.state.connectionCalled('one')?.id;
  start();
  expect(await worked((await revoked({ connection: one })).id)).toMatchObject([{ connection: { name: 'one' } }]);
  expect(await worked((await revoked({ everything: true })).id)).toHaveLength(2);
  expect(await worked((await revoked({ provider: 'test-rotates' })).id)).toHaveLength(2);
  expect((await revoked({ connection: one }, false)).rotations).toBeNull();
});

test('goes on after a restart, also when the drain was quicker, and asks once', async () => {
  const rotates = await connect('rotates', 'test-rotates');
  const { id: killed } = await issued(rotates, { agent_id: 'agt_1' });
  const { id } = await revoked({ agent: 'agt_1' });
  await commit(core, {
    writes: [{ write: 'update', table: 'grants', id: killed, set: { status: 'revoked', revocation_id: id } }],
    audit: [record(core, caller, { type: 'test.drained' })],
  });
  start();
  await worked(id);
  await after?.stop();
  start();
  await revoked({ grant: 'grt_none' });
  expect(await core.reader.rotations({ policy_id: rotates.id }, { limit: 10 })).toHaveLength(1);
});

test('that fails keeps no fence from being put up, and no other connection from being rotated', async () => {
  const [broken, fine] = [await connect('broken', 'test-rotates'), await connect('fine', 'test-rotates')];
  const good = rotation.checkMethod;
  rotation.checkMethod = (method, settings) => {
    if (core.state.connections.get(broken.id)?.settings === settings) throw new Error('no such thing');
    return good(method, settings);
  };
  try {
    start();
    const { id, seq } = await revoked({ everything: true });
    expect(core.state.fences.newest).toBe(seq);
    expect(await worked(id)).toEqual(
      expect.arrayContaining([
        { connection: { id: broken.id, name: 'broken' }, by_hand: expect.stringContaining('could not be prepared') },
        { connection: { id: fine.id, name: 'fine' }, rotation: expect.any(String) },
      ]),
    );
  } finally {
    rotation.checkMethod = good;
  }
});

test('a dry run shows what is touched, and whether its secret would be replaced', async () => {
  const [rotates, fixed] = [await connect('rotates', 'test-rotates'), await connect('fixed', 'test-fixed')];
  await issued(rotates, { agent_id: 'agt_1', subject: 'corp:alice', upstream: 'live', handle: {} });
  await issued(rotates, { agent_id: 'agt_1' });
  await issued(fixed, { agent_id: 'agt_1' });
  await issued(fixed, { agent_id: 'agt_2' });
  const before = core.state.newestSeq;
  const radius = await blastRadius(core, { selector: { agent: 'agt_1' }, reason: 'leak', suspend: true });
  expect(radius).toEqual({
    dry_run: true,
    selector: { agent: 'agt_1' },
    grants: 3,
    upstream: { pending: 1 },
    providers: [
      { provider: 'test-rotates', grants: 2, upstream: 1 },
      { provider: 'test-fixed', grants: 1, upstream: 0 },
    ],
    connections: [
      {
        ...{ id: rotates.id, name: 'rotates', provider: 'test-rotates', grants: 2, upstream: 1 },
        rotation: { possible: true },
      },
      {
        ...{ id: fixed.id, name: 'fixed', provider: 'test-fixed', grants: 1, upstream: 0 },
        rotation: { possible: false, why: expect.any(String) },
      },
    ],
    agents: [{ id: 'agt_1', name: 'agt_1', grants: 3, would_suspend: false }],
    subjects: { items: [{ subject: 'corp:alice', grants: 1 }], more: false },
    accounts: [],
  });
  expect(core.state.newestSeq).toBe(before);
});

test('a dry run names what rotates because of grants that an older fence has killed', async () => {
  const connection = await connect('rotates', 'test-rotates');
  await issued(connection, { agent_id: 'agt_1' });
  await revoked({ agent: 'agt_1' }, false);
  const radius = await blastRadius(core, { selector: { agent: 'agt_1' }, reason: 'leak', suspend: false });
  expect(radius).toMatchObject({ grants: 0, connections: [{ name: 'rotates', rotation: { possible: true } }] });
  start();
  const asked = await worked((await revoked({ agent: 'agt_1' })).id);
  expect(asked).toEqual([{ connection: { id: connection.id, name: 'rotates' }, rotation: expect.any(String) }]);
});
