/** What a restored ledger gets beside the fence, in one commit: nothing goes on that somebody may have ended since. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { BackupHeader } from '../../../src/domain/backup.ts';
import type { RotationStatus } from '../../../src/domain/rotation.ts';
import { makeOperator } from '../../../src/services/access/manage-operators.ts';
import { type Fencing, fencing } from '../../../src/services/backup/fence-restored.ts';
import { record } from '../../../src/services/core.ts';
import { systemCaller } from '../../../src/services/revocation/revoke.ts';
import { connection, revocation, signalStream, webhook } from '../../conformance/ledger-rows.ts';
import { rotation } from '../../conformance/rotation-rows.ts';
import { openServices } from '../../support/services.ts';

let services: Awaited<ReturnType<typeof openServices>>;
let fenced: Fencing;
const caller = systemCaller('restore');
const open: RotationStatus[] = ['asked', 'running', 'grace', 'stuck'];
const rotations = open.map((status) => rotation({ status, finished_at: status === 'grace' ? 1 : null }));
const over = rotation({ status: 'done', ended_at: 1 });
const hooks = [webhook({ name: 'on' }), webhook({ name: 'off', status: 'disabled', disabled_because: 'operator' })];
const exposed = connection({ name: 'exposed', secret_version: 1 });
const toRotate = revocation({ selector: { connection: exposed.id }, rotate: true, rotations: null });
const streams = [
  signalStream({ name: 'pushed', status: 'enabled' }),
  signalStream({ name: 'never-made', status: 'absent' }),
];

beforeAll(async () => {
  services = await openServices();
  const { core } = services;
  const taken = makeOperator(core, { name: 'restored-admin-7', roles: ['auditor'] }).operator;
  const result = await core.ledger.commit({
    writes: [
      ...[...rotations, over].map((row) => ({ write: 'insert', table: 'rotations', row }) as const),
      ...hooks.map((row) => ({ write: 'insert', table: 'webhooks', row }) as const),
      ...streams.map((row) => ({ write: 'insert', table: 'signal_streams', row }) as const),
      { write: 'insert', table: 'operators', row: taken },
      { write: 'insert', table: 'connections', row: exposed },
      { write: 'insert', table: 'revocations', row: toRotate },
    ],
    audit: [record(core, caller, { type: 'test.made' })],
  });
  expect(result.ok).toBe(true);
  const header = { created_at: '2026-11-23T00:00:00.000Z', entries: 7 } as BackupHeader;
  fenced = await fencing(core, header, caller);
  const [first, ...rest] = fenced.audit;
  if (!first) throw new Error('nothing is recorded');
  expect(await core.ledger.commit({ writes: fenced.writes, audit: [first, ...rest] })).toMatchObject({ ok: true });
});
afterAll(() => services.close());

test('rotations that were under way are ended, and say why; those that were over are as they were', async () => {
  const rows = await Promise.all(rotations.map(({ id }) => services.core.reader.rotation(id)));
  expect(rows.map((row) => row?.status)).toEqual(['cancelled', 'failed', 'done', 'failed']);
  for (const row of rows) expect(row?.failure).toContain('backup');
  expect(await services.core.reader.rotation(over.id)).toEqual(over);
  expect(fenced.report.rotations).toEqual(rotations.map(({ id }) => id).sort());
  expect(services.core.state.rotations.all()).toEqual([]);
});

test('rotations that a revocation was yet to ask for are left to people', async () => {
  expect(await services.core.reader.revocationsToRotate()).toEqual([]);
  const after = await services.core.reader.revocation(toRotate.id);
  expect(after?.rotations).toEqual([
    { connection: { id: exposed.id, name: 'exposed' }, by_hand: expect.stringContaining('backup') },
  ]);
});

test('nobody is told anything until somebody says so, and no receiver’s token is good', () => {
  const { webhooks, signalStreams } = services.core.state;
  const states = webhooks.all().map(({ name, status, disabled_because }) => [name, status, disabled_because]);
  expect(states.sort()).toEqual([
    ['off', 'disabled', 'operator'],
    ['on', 'disabled', 'restored'],
  ]);
  expect(signalStreams.named('pushed')?.status).toBe('paused');
  expect(signalStreams.named('never-made')?.status).toBe('absent');
  for (const { name, token_digest } of streams) {
    expect(signalStreams.named(name)?.token_digest).not.toBe(token_digest);
  }
  expect(fenced.report.receivers).toEqual(['never-made', 'on', 'pushed']);
});

test('every operator is suspended, also one who took the new admin’s name', () => {
  const active = services.core.state.operators.all().filter(({ status }) => status === 'active');
  expect(active.map(({ name }) => name)).toEqual([fenced.report.admin]);
  expect(fenced.report.admin).toMatch(/^restored-admin-7-\d+$/);
});

test('other keys seal and sign', async () => {
  const { state, keyring, signingKeys } = services.core;
  const kinds = state.keyEncryptionKeys.all().map(({ number, state: now }) => [number, now]);
  expect(kinds.sort()).toEqual([
    [1, 'previous'],
    [2, 'current'],
  ]);
  const box = keyring.encrypt({ purpose: 'connection-secret', connection: 'c', version: '1' }, Buffer.from('x'));
  expect(box.kek).toBe(2);
  const keys = state.signingKeys.all();
  const current = keys.filter((key) => key.state === 'current').map(({ purpose }) => purpose);
  expect(current.sort()).toEqual(['checkpoint', 'jwt', 'receipt']);
  // Receipts of before stay evidence: their key stays published. What signed tokens does not.
  const published = signingKeys.jwks().keys.map((key) => key['kid']);
  const gone = keys.filter(({ purpose, retire_at }) => purpose === 'jwt' && retire_at !== null);
  expect(gone).toHaveLength(2);
  for (const { id } of gone) expect(published).not.toContain(id);
  const receipts = keys.filter(({ purpose }) => purpose === 'receipt').map(({ id }) => id);
  expect(receipts).toHaveLength(2);
  expect(published).toEqual(expect.arrayContaining(receipts));
});
