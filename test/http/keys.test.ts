/** `/admin/v1/keys` of a real broker: a rotation that can be watched, and a migration over a restart. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { makeRootKey } from '../../adapters/kms/local.ts';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';

let broker: Broker;
let dataDir: string;
let otherKey: string;

interface Kek {
  number: number;
  kms: string;
  state: string;
  boxes: number;
}
const keys = async () => (await broker.admin('GET', '/keys')).body as { kms: string; configured_kms: string };
const keks = async (): Promise<Kek[]> => (await broker.admin('GET', '/keys')).body['key_encryption_keys'] as Kek[];
const restart = async (kms: string): Promise<void> => {
  await broker.close();
  broker = await startBroker({ dataDir, env: { WARDER_KMS: kms } });
};
const migrate = (to: unknown, more: object = {}) => broker.admin('POST', '/keys/migrate', { to, ...more });

beforeAll(async () => {
  dataDir = temporaryDir();
  otherKey = join(temporaryDir(), 'other-root.key');
  makeRootKey(otherKey);
  broker = await startBroker({ dataDir, rewrapPace: { everyMs: 50, boxes: 2, graceMs: 200 } });
  await broker.connection('stripe', 'https://api.stripe.com', { settings: { allow_private_network: false } });
});
afterAll(async () => {
  await broker.close();
  removeTemporaryDirs();
});

describe('the keys', () => {
  test('are rotated, moved and retired, with progress, and every step is recorded', async () => {
    const [before] = await keks();
    expect(before).toMatchObject({ number: 1, state: 'current' });
    const rotated = await broker.admin('POST', '/keys/rotate');
    expect([rotated.status, rotated.body]).toEqual([201, expect.objectContaining({ number: 2 })]);
    const after = await eventually('it is retired', keks, (found) => found[0]?.state === 'retired');
    expect(after.map(({ number, state, boxes }) => [number, state, boxes])).toEqual([
      [1, 'retired', 0],
      [2, 'current', before?.boxes],
    ]);
    const { text } = await broker.admin('GET', '/audit?limit=50');
    for (const type of ['key.rotated', 'key.rewrapped', 'key.retired']) expect(text).toContain(type);
    expect((await broker.fetch('/readyz')).status).toBe(200);
  });

  test('open after a restart', async () => {
    await restart(`local:${join(dataDir, 'root.key')}`);
    expect((await broker.admin('PUT', '/connections/stripe/secret', { value: 'sk_new_0123456789' })).status).toBe(200);
    expect((await broker.admin('GET', '/audit/checkpoint')).status).toBe(200);
  });

  test('go to another key service, and come back from it; a start with the old one is sealed and says so', async () => {
    const old = `local:${join(dataDir, 'root.key')}`;
    const tried = await migrate(`local:${otherKey}`, { dry_run: true });
    expect(tried.body).toEqual({ from: old, to: `local:${otherKey}`, keys: 1, dry_run: true });
    expect(await keys()).toMatchObject({ kms: old, configured_kms: old });
    expect((await migrate(`local:${otherKey}`)).status).toBe(200);
    expect(await keys()).toMatchObject({ kms: `local:${otherKey}`, configured_kms: old });
    expect((await broker.admin('GET', '/audit/checkpoint')).status).toBe(200);

    await restart(old);
    const ready = await broker.fetch('/readyz');
    const told = await ready.text();
    expect([ready.status, told]).toEqual([503, expect.stringContaining('see WARDER_KMS')]);
    expect(told).not.toContain(otherKey);

    await restart(`local:${otherKey}`);
    expect(await keys()).toMatchObject({ kms: `local:${otherKey}`, configured_kms: `local:${otherKey}` });
    expect((await broker.admin('GET', '/audit/checkpoint')).status).toBe(200);
    expect((await migrate(old)).status).toBe(200);
    await restart(old);
    expect((await broker.fetch('/readyz')).status).toBe(200);
  });

  test('go nowhere that is not a key service, and what is there is not told', async () => {
    const [private_, missing] = [join(dataDir, 'warder.db'), join(dataDir, 'not-there')];
    const refusals: [unknown, number, string][] = [
      ['nowhere:x', 400, 'invalid_request'],
      ['local:', 400, 'invalid_request'],
      ['vault-transit:transit/warder', 502, 'upstream_refused'],
      [`local:${private_}`, 502, 'upstream_refused'],
      ['local:/dev/zero', 502, 'upstream_refused'],
      [`local:${dataDir}`, 502, 'upstream_refused'],
      [`local:${missing}`, 502, 'upstream_unavailable'],
      [`local:${join(dataDir, 'root.key')}`, 409, 'conflict'],
      ['local:/tmp/\u001b[31m', 400, 'invalid_request'],
      [7, 400, 'invalid_request'],
      ['x'.repeat(501), 400, 'invalid_request'],
    ];
    for (const [to, status, code] of refusals) {
      const answer = await migrate(to);
      expect([to, answer.status, answer.body['code']]).toEqual([to, status, code]);
      expect(answer.text).not.toContain(dataDir);
    }
    expect(await keys()).toMatchObject({ kms: `local:${join(dataDir, 'root.key')}` });
  });
});
