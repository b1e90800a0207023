/**
 * A backup that somebody changed: every byte of it counts. Whoever can write to where backups are kept can also write the
 * digest at the end, so each change is tried with a digest that fits.
 */
import { hash } from 'node:crypto';
import { copyFileSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { makeRootKey } from '../../adapters/kms/local.ts';
import { type BackupHeader, headerLine, trailerBytes, trailerOf } from '../../src/domain/backup.ts';
import { backupTo, check, headerOf, restore } from '../support/backups.ts';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';

let broker: Broker;
let dataDir: string;
let folder: string;
let whole: Buffer;
/** Another backup of the same broker, and one of another broker. */
let later: Buffer;
let strangers: Buffer;

beforeAll(async () => {
  [dataDir, folder] = [temporaryDir(), temporaryDir()];
  broker = await startBroker({ dataDir });
  // Sealed boxes do not compress: with these the body has several of age's pieces of 64 KiB.
  const secret = { value: `sk_${'x'.repeat(4000)}` };
  const settings = { base_url: 'https://api.example.com', scopes: { all: [{ methods: ['GET'], path: '/**' }] } };
  const connections = Array.from({ length: 60 }, (_, i) => ({ name: `c-${i}`, provider: 'api-key', settings, secret }));
  expect((await broker.admin('POST', '/apply', { connections })).status).toBe(200);
  whole = await backupTo(broker, join(folder, 'whole'));
  await broker.agent('newcomer');
  later = await backupTo(broker, join(folder, 'later'));
  const other = await startBroker();
  strangers = await backupTo(other, join(folder, 'strangers'));
  await other.close();
}, 60_000);
afterAll(async () => {
  await broker.close();
  removeTemporaryDirs();
});

const withDigest = (bytes: Buffer): Buffer =>
  Buffer.concat([bytes, Buffer.from(trailerOf(hash('sha256', bytes, 'hex')))]);
const headEnd = (file: Buffer): number => file.indexOf(0x0a) + 1;
const bodyOf = (file: Buffer): Buffer => file.subarray(headEnd(file), -trailerBytes);
const withoutTrailer = (file: Buffer): Buffer => file.subarray(0, -trailerBytes);

let count = 0;
/** What is said of these bytes; '' when they are taken for a good backup. */
const refusalOf = async (bytes: Buffer, more: Partial<Parameters<typeof check>[0]> = {}): Promise<string> => {
  count += 1;
  const file = join(folder, `try-${count}`);
  writeFileSync(file, bytes);
  try {
    await check({ file, dataDir, url: broker.url, ...more });
    return '';
  } catch (error) {
    return error instanceof Error && error.name === 'BadBackup'
      ? error.message
      : `not refused as such: ${String(error)}`;
  }
};

const flipped = (file: Buffer, at: number): Buffer => {
  const copy = Buffer.from(file);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
};

describe('a backup', () => {
  test('is taken as it is', async () => {
    const checked = await check({ file: join(folder, 'whole'), dataDir, url: broker.url });
    expect(checked).toMatchObject({ content: { boxes: { opened: 64, broken: 0 }, missing: null } });
    expect(checked.file).toEqual({ bytes: whole.length, sha256: hash('sha256', whole, 'hex') });
  });

  test('is refused for any byte that differs, without its key', async () => {
    const wrong: number[] = [];
    for (let at = 0; at < whole.length; at += 1999) {
      if ((await refusalOf(flipped(whole, at), { offline: true })) === '') wrong.push(at);
    }
    expect(wrong).toEqual([]);
  });

  test('is refused for any byte that differs, also when the digest at its end was made to fit', async () => {
    const bare = withoutTrailer(whole);
    const wrong: [number, string][] = [];
    const places = [
      ...Array.from({ length: 40 }, (_, i) => Math.floor((i * headEnd(whole)) / 40)),
      ...Array.from({ length: 40 }, (_, i) => headEnd(whole) + Math.floor((i * bodyOf(whole).length) / 40)),
      bare.length - 1,
    ];
    for (const at of places) {
      const said = await refusalOf(withDigest(flipped(bare, at)));
      if (said === '' || said.startsWith('not refused')) wrong.push([at, said]);
    }
    expect(wrong).toEqual([]);
  }, 30_000);

  test('is refused cut off anywhere, and with something added', async () => {
    const bare = withoutTrailer(whole);
    for (const length of [0, 1, 20, headEnd(whole), headEnd(whole) + 100, whole.length - 65_552, whole.length - 1]) {
      expect([length, await refusalOf(whole.subarray(0, length), { offline: true })]).toEqual([
        length,
        expect.stringMatching(/no backup|cut off|damaged/),
      ]);
    }
    const body = bodyOf(whole);
    const pieces = 65_536 + 16;
    for (const length of [body.length - 1, body.length - (body.length % pieces), Math.floor(body.length / 2)]) {
      expect(await refusalOf(withDigest(bare.subarray(0, headEnd(whole) + length)))).toMatch(/changed|not what/);
    }
    expect(await refusalOf(withDigest(Buffer.concat([bare, Buffer.from('x')])))).toMatch(/changed|not what/);
  });

  test('is refused with its pieces in another order', async () => {
    const body = Buffer.from(bodyOf(whole));
    const piece = 65_536 + 16;
    // The last pieces of the body, whose header has some hundred bytes.
    const second = body.length - (body.length % piece || piece) - piece;
    const swapped = Buffer.concat([
      body.subarray(0, second - piece),
      body.subarray(second, second + piece),
      body.subarray(second - piece, second),
      body.subarray(second + piece),
    ]);
    expect(swapped.length).toBe(body.length);
    expect(await refusalOf(withDigest(Buffer.concat([whole.subarray(0, headEnd(whole)), swapped])))).toMatch(/changed/);
  });

  test('is refused with the header of another one, of the same broker or not', async () => {
    for (const [head, body] of [
      [whole, later],
      [later, whole],
      [whole, strangers],
      [strangers, whole],
    ] as const) {
      const mixed = withDigest(Buffer.concat([head.subarray(0, headEnd(head)), bodyOf(body)]));
      expect(await refusalOf(mixed)).toMatch(/changed, or belongs|refuses this backup/);
    }
  });

  test('is refused with any field of its header changed: the key service itself gives no key for it', async () => {
    const header = JSON.parse(whole.subarray(0, headEnd(whole)).toString()) as BackupHeader;
    const changes: Partial<BackupHeader>[] = [
      { id: `bkp_${'0'.repeat(26)}` },
      { created_at: '2026-01-01T00:00:00.000Z' },
      { issuer: 'https://elsewhere.example' },
      { schema: 1 },
      { database_bytes: header.database_bytes + 1 },
      { database_sha256: '0'.repeat(64) },
      { entries: header.entries + 1 },
      { root: Buffer.alloc(32).toString('base64') },
      { checkpoint: `${header.checkpoint}x` },
    ];
    for (const change of changes) {
      const changed = Buffer.from(headerLine({ ...header, ...change }));
      const said = await refusalOf(withDigest(Buffer.concat([changed, bodyOf(whole)])));
      expect([Object.keys(change), said]).toEqual([
        Object.keys(change),
        expect.stringContaining('refuses this backup'),
      ]);
    }
  });

  test('cannot be replaced by something encrypted to a key of one’s own', async () => {
    const encrypter = new Encrypter();
    encrypter.addRecipient(await identityToRecipient(await generateX25519Identity()));
    const forged = Buffer.from(await encrypter.encrypt(Buffer.from('a database')));
    expect(await refusalOf(withDigest(Buffer.concat([whole.subarray(0, headEnd(whole)), forged])))).toMatch(/changed/);
  });

  test('is refused where it belongs to another broker, another key or a newer Warder', async () => {
    expect(await refusalOf(strangers)).toContain('refuses this backup');
    const elsewhere = temporaryDir();
    expect(await refusalOf(whole, { dataDir: elsewhere })).toMatch(/does not answer.*root key is not in a backup/);
    makeRootKey(join(elsewhere, 'root.key'));
    expect(await refusalOf(whole, { dataDir: elsewhere })).toContain('refuses this backup');
    const env = { WARDER_KMS: 'aws-kms:alias/warder' };
    expect(await refusalOf(whole, { env })).toContain('encrypted to the key service local');
    const header = JSON.parse(whole.subarray(0, headEnd(whole)).toString()) as BackupHeader;
    const newer = Buffer.from(headerLine({ ...header, schema: header.schema + 1 }));
    expect(await refusalOf(withDigest(Buffer.concat([newer, bodyOf(whole)])))).toContain('made by a newer Warder');
    const form = Buffer.from(headerLine(header).replace('"warder_backup":1', '"warder_backup":2'));
    expect(await refusalOf(withDigest(Buffer.concat([form, bodyOf(whole)])))).toContain('another form');
    expect(await refusalOf(Buffer.from('SQLite format 3\0'))).toContain('no backup');
  });
});

describe('a restore', () => {
  const into = (): string => {
    const target = temporaryDir();
    copyFileSync(join(dataDir, 'root.key'), join(target, 'root.key'));
    return target;
  };
  const file = () => join(folder, 'whole');

  test('that is refused leaves nothing behind', async () => {
    const target = into();
    const broken = join(folder, 'broken');
    writeFileSync(broken, withDigest(flipped(withoutTrailer(whole), whole.length - 5000)));
    await expect(restore({ file: broken, dataDir: target, url: broker.url })).rejects.toMatchObject({
      name: 'BadBackup',
    });
    expect(readdirSync(target).filter((name) => name.startsWith('warder.db'))).toEqual([]);
  });

  test('of another broker’s backup, or under another address, is refused', async () => {
    const target = into();
    await expect(restore({ file: file(), dataDir: target, url: 'http://127.0.0.1:1' })).rejects.toThrow(
      /WARDER_PUBLIC_URL/,
    );
    const stranger = join(folder, 'strangers');
    const url = String((await headerOf(stranger))['issuer']);
    await expect(restore({ file: stranger, dataDir: target, url })).rejects.toThrow(/refuses this backup/);
  });

  test('does not touch a ledger that is there, nor one that is in use', async () => {
    const target = into();
    const { url } = broker;
    await restore({ file: file(), dataDir: target, url });
    await expect(restore({ file: file(), dataDir: target, url })).rejects.toThrow(/there is a ledger already/);
    await expect(restore({ file: file(), dataDir, url, replace: true })).rejects.toMatchObject({
      name: 'DataDirectoryInUse',
    });
    expect(existsSync(join(dataDir, 'warder.db.restoring'))).toBe(false);
  });
});
