/** A broker that is killed while it moves thousands of boxes to a new key: it goes on where it was, and every secret opens. */
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { makeRootKey, openLocalKms } from '../../adapters/kms/local.ts';
import { makeReader } from '../../adapters/stores/sqlite/reader.ts';
import { Keyring } from '../../src/services/keys/keyring.ts';
import { contextOf } from '../../src/services/secrets/secrets.ts';
import { freePort, removeTemporaryDirs, temporaryDir } from '../support/broker.ts';
import { type ChildBroker, newAdminToken, startChildBroker } from '../support/child-broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { shortOrLong } from '../support/length.ts';

let newest: ChildBroker | undefined;
afterAll(async () => {
  await newest?.kill();
  removeTemporaryDirs();
});

/** Whether a broker of this directory opens its keys with this key service. */
const opensWith = async (dataDir: string, port: number, kms: string): Promise<boolean> => {
  newest = await startChildBroker({ dataDir, port, env: { WARDER_KMS: kms } });
  const { status } = await newest.fetch('/readyz');
  await newest.kill();
  return status === 200;
};

test('a migration that is killed leaves the keys with one of the two services, whole', async () => {
  const [dataDir, port, adminToken] = [temporaryDir(), await freePort(), newAdminToken()];
  const services = ['root.key', 'second.key'].map((name) => join(dataDir, name));
  const [first = '', second = ''] = services.map((path) => `local:${path}`);
  makeRootKey(services[1] ?? '');
  let [at, to] = [first, second];
  const rounds = shortOrLong(2, 6);
  let moved = 0;
  for (let round = 0; round < rounds; round += 1) {
    newest = await startChildBroker({ dataDir, port, adminToken, env: { WARDER_KMS: at } });
    if (round > 0) await newest.admin('POST', '/keys/rotate').catch(() => undefined);
    const answered = newest.admin('POST', '/keys/migrate', { to }).then(
      ({ status }) => status === 200,
      () => false,
    );
    // Almost at once, in the middle of it as likely as not, and just after it was acknowledged.
    await (round < rounds - 1 ? pause(2 + round * 15) : answered);
    await newest.kill();
    const acknowledged = await answered;
    const [old, next] = [await opensWith(dataDir, port, at), await opensWith(dataDir, port, to)];
    expect([round, old !== next]).toEqual([round, true]);
    if (acknowledged) expect([round, next]).toEqual([round, true]);
    if (next) {
      [at, to] = [to, at];
      moved += 1;
    }
  }
  expect(moved).toBeGreaterThan(0);
}, 120_000);

const secrets = 2000;
const kills = shortOrLong(4, 12);
const secretFor = (name: string): string => `sk_${name}_0123456789`;

/** The database as it is on disk, while no broker has it. */
const onDisk = async <T>(dataDir: string, look: (db: Database.Database) => T): Promise<Awaited<T>> => {
  const db = new Database(join(dataDir, 'warder.db'));
  try {
    return await look(db);
  } finally {
    db.close();
  }
};
const boxesByKey = (db: Database.Database): number => makeReader(db).sealedBoxes().length;

const fill = async (broker: ChildBroker): Promise<void> => {
  const settings = { base_url: 'https://api.example.com', scopes: { all: [{ methods: ['GET'], path: '/**' }] } };
  const connections = Array.from({ length: secrets }, (_, i) => ({
    name: `c-${i}`,
    provider: 'api-key',
    settings,
    secret: { value: secretFor(`c-${i}`) },
  }));
  const { status, text } = await broker.admin('POST', '/apply', { connections });
  expect([status, text.slice(0, 200)]).toEqual([200, expect.any(String)]);
};

test('a rotation survives kill -9 at any moment, and every secret still opens', async () => {
  const [dataDir, port, adminToken] = [temporaryDir(), await freePort(), newAdminToken()];
  const start = async (): Promise<ChildBroker> => {
    newest = await startChildBroker({ dataDir, port, adminToken });
    return newest;
  };
  let broker = await start();
  await fill(broker);
  let inTheMiddle = 0;
  for (let round = 0; round < kills; round += 1) {
    // Answered or not: what counts is what the next start finds.
    const rotated = broker.admin('POST', '/keys/rotate').catch(() => undefined);
    if (round % 3 !== 2) await rotated;
    await pause(round * 12);
    await broker.kill();
    if ((await onDisk(dataDir, boxesByKey)) > 1) inTheMiddle += 1;
    broker = await start();
  }
  expect(inTheMiddle).toBeGreaterThan(0);
  // What was set while boxes were moved is in force, also after the kill.
  expect((await broker.admin('PUT', '/connections/c-7/secret', { value: 'sk_newer_0123456789' })).status).toBe(200);
  await eventually(
    'all is under one key',
    async () => (await broker.admin('GET', '/keys')).body['key_encryption_keys'] as { state: string; boxes: number }[],
    (keys) => keys.every(({ state, boxes }) => state === 'current' || boxes === 0),
    20_000,
  );
  await broker.stop();

  await onDisk(dataDir, async (db) => {
    const reader = makeReader(db);
    const { key_encryption_keys: keys, connections } = reader.snapshot();
    const keyring = new Keyring(openLocalKms(join(dataDir, 'root.key')), { now: Date.now }, Number.POSITIVE_INFINITY);
    expect((await keyring.unseal(keys)).sealed).toBe(false);
    expect(connections).toHaveLength(secrets);
    for (const { id, name, secret_version: number } of connections) {
      const row = reader.secret(id, number ?? 0);
      if (!row) throw new Error(`${name} has lost its secret`);
      const opened = JSON.parse(keyring.decrypt(contextOf(id, row.number), row.sealed).toString());
      expect([name, opened]).toEqual([name, { value: name === 'c-7' ? 'sk_newer_0123456789' : secretFor(name) }]);
    }
  });
}, 120_000);
