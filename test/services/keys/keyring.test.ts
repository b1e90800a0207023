import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { makeRootKey, openLocalKms, requirePrivateRootKey } from '../../../adapters/kms/local.ts';
import type { KeyEncryptionKey, SealedBox } from '../../../src/domain/model.ts';
import { Refused } from '../../../src/domain/refusals.ts';
import { type KeyService, KmsRefused, KmsUnavailable } from '../../../src/ports/kms.ts';
import { type BoxContext, Keyring, makeKek } from '../../../src/services/keys/keyring.ts';

/** A key service that wraps by remembering, and does what the test wants of it. */
class FakeKms implements KeyService {
  readonly name = 'fake:/a/secret/place';
  readonly #wrapped = new Map<string, { key: Uint8Array; context: string }>();
  /** Thrown instead of an answer. */
  failure: Error | undefined;
  /** Waited for before the answer. */
  delay: Promise<void> | undefined;
  asked = 0;

  async wrap(key: Uint8Array, context: Record<string, string>): Promise<string> {
    const id = randomBytes(8).toString('hex');
    this.#wrapped.set(id, { key: Uint8Array.from(key), context: JSON.stringify(context) });
    return id;
  }

  async unwrap(wrapped: string, context: Record<string, string>): Promise<Uint8Array> {
    this.asked += 1;
    await this.delay;
    if (this.failure) throw this.failure;
    const held = this.#wrapped.get(wrapped);
    if (held?.context !== JSON.stringify(context)) throw new KmsRefused('another key or context');
    return Uint8Array.from(held.key);
  }
}

const keyRow = (number: number, state: KeyEncryptionKey['state']) => ({
  id: `kek_${number}`,
  number,
  state,
  version: 1,
  created_at: 0,
});
const maxAgeMs = 60_000;
const context: BoxContext = { purpose: 'connection-secret', connection: 'con_1', version: '1' };
const plain = Buffer.from('{"value":"sk_live_42"}');

let kms: FakeKms;
let now: number;
let keyring: Keyring;
let rows: KeyEncryptionKey[];

beforeEach(async () => {
  kms = new FakeKms();
  now = 1_000_000;
  keyring = new Keyring(kms, { now: () => now }, maxAgeMs);
  rows = [await makeKek(kms, keyRow(1, 'previous')), await makeKek(kms, keyRow(2, 'current'))];
  await keyring.unseal(rows);
});

describe('a sealed box', () => {
  test('opens to what was put in, for what it was sealed for', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
        expect(Uint8Array.from(keyring.decrypt(context, keyring.encrypt(context, bytes)))).toEqual(bytes);
      }),
      { numRuns: 50 },
    );
  });

  test('shows nothing of what is in it, and no two are alike', () => {
    const boxes = Array.from({ length: 50 }, () => keyring.encrypt(context, plain));
    for (const field of ['key_nonce', 'key', 'nonce', 'text'] as const) {
      expect(new Set(boxes.map((box) => box[field])).size).toBe(boxes.length);
    }
    expect(JSON.stringify(boxes)).not.toContain('sk_live');
    expect(boxes.every((box) => box.kek === 2)).toBe(true);
  });

  test.each<[string, BoxContext]>([
    ['another connection', { ...context, connection: 'con_2' }],
    ['another version', { ...context, version: '2' }],
    ['another purpose', { ...context, purpose: 'signing-key' }],
    ['one field less', { purpose: 'connection-secret', connection: 'con_1' }],
    ['one field more', { ...context, extra: '' }],
    ['fields that read alike when joined', { ...context, connection: 'con_1","version":"1' }],
  ])('does not open for %s', (_what, other) => {
    const box = keyring.encrypt(context, plain);
    expect(() => keyring.decrypt(other, box)).toThrow();
    expect(keyring.decrypt(context, box)).toEqual(plain);
  });

  test('does not open under another key-encryption key, a missing one, or one of another name', () => {
    const box = keyring.encrypt(context, plain);
    for (const kek of [1, 3, 0, -1]) expect(() => keyring.decrypt(context, { ...box, kek })).toThrow();
  });

  test('does not open when its parts come from two boxes', () => {
    const [one, two] = [keyring.encrypt(context, plain), keyring.encrypt(context, plain)];
    const mixed: SealedBox[] = [
      { ...one, text: two.text },
      { ...one, key: two.key },
      { ...one, nonce: two.nonce },
      { ...one, key_nonce: two.key_nonce },
      { ...one, key: two.key, key_nonce: two.key_nonce },
      { ...one, nonce: two.nonce, text: two.text },
    ];
    for (const box of mixed) expect(() => keyring.decrypt(context, box)).toThrow();
  });

  test('does not open with any one bit changed, or any part cut short or made longer', () => {
    const box = keyring.encrypt(context, plain);
    for (const field of ['key_nonce', 'key', 'nonce', 'text'] as const) {
      const bytes = Buffer.from(box[field], 'base64');
      for (let bit = 0; bit < bytes.length * 8; bit += 1) {
        const changed = Buffer.from(bytes);
        changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(() => keyring.decrypt(context, { ...box, [field]: changed.toString('base64') })).toThrow();
      }
      for (const other of [
        bytes.subarray(1),
        bytes.subarray(0, -1),
        Buffer.concat([bytes, Buffer.alloc(1)]),
        Buffer.alloc(0),
      ]) {
        expect(() => keyring.decrypt(context, { ...box, [field]: other.toString('base64') })).toThrow();
      }
    }
  });

  test('says nothing about what is in it when it does not open', () => {
    const box = keyring.encrypt(context, plain);
    let message = '';
    try {
      keyring.decrypt({ ...context, connection: 'con_2' }, box);
    } catch (error) {
      message = `${error} ${JSON.stringify(error)}`;
    }
    expect(message).not.toBe('');
    expect(message).not.toMatch(/sk_live|con_1|value/);
  });
});

describe('the keyring', () => {
  const sealed = (): string | undefined => {
    const state = keyring.state();
    return state.sealed ? state.why : undefined;
  };
  const refusal = (work: () => unknown): unknown => {
    try {
      work();
    } catch (error) {
      return error instanceof Refused ? error.refusal : error;
    }
    return undefined;
  };

  test('is sealed until its keys were unwrapped', async () => {
    const fresh = new Keyring(kms, { now: () => now }, maxAgeMs);
    expect(fresh.state()).toEqual({ sealed: true, why: 'the keys have not been unwrapped yet' });
    expect(refusal(() => fresh.encrypt(context, plain))).toEqual({
      code: 'sealed',
      detail: 'Warder is sealed: its key service has not opened the keys',
      retryAfterSeconds: 5,
    });
    expect(await fresh.unseal([])).toEqual({
      sealed: true,
      why: 'the fake key service: there is no key-encryption key',
    });
    expect(await fresh.unseal(rows)).toEqual({ sealed: false });
  });

  test('opens old boxes after a new key-encryption key took over', async () => {
    const old = new Keyring(kms, { now: () => now }, maxAgeMs);
    await old.unseal([{ ...(rows[0] as KeyEncryptionKey), state: 'current' }]);
    expect(keyring.decrypt(context, old.encrypt(context, plain))).toEqual(plain);
  });

  test('believes its keys for exactly their age after the key service was last asked, then seals', async () => {
    const box = keyring.encrypt(context, plain);
    now += maxAgeMs;
    expect(sealed()).toBeUndefined();
    expect(keyring.decrypt(context, box)).toEqual(plain);
    now += 1;
    expect(sealed()).toBe('the fake key service has not confirmed the keys for 60 seconds');
    expect(refusal(() => keyring.decrypt(context, box))).toMatchObject({ code: 'sealed' });
    // Time going back, or on, brings nothing back: the keys are forgotten.
    now -= maxAgeMs;
    expect(sealed()).toBe('the fake key service has not confirmed the keys for 60 seconds');
    expect(await keyring.unseal(rows)).toEqual({ sealed: false });
    expect(keyring.decrypt(context, box)).toEqual(plain);
  });

  test('counts the age from when it asked, not from when a slow answer came', async () => {
    let answer: () => void = () => undefined;
    kms.delay = new Promise((resolve) => {
      answer = resolve;
    });
    const confirming = keyring.unseal(rows);
    now += 50_000;
    answer();
    await confirming;
    now += 10_001;
    expect(sealed()).toMatch(/has not confirmed/);
  });

  test('outlives an outage of the key service until the age is over, and is confirmed again afterwards', async () => {
    kms.failure = new KmsUnavailable('connection refused');
    for (let minute = 0; minute < 5; minute += 1) {
      now += 12_000;
      await keyring.unseal(rows);
    }
    expect(sealed()).toBeUndefined();
    now += 1;
    expect(sealed()).toMatch(/has not confirmed the keys for 60 seconds/);
    expect(await keyring.unseal(rows)).toEqual({ sealed: true, why: 'the fake key service: connection refused' });
    kms.failure = undefined;
    expect(await keyring.unseal(rows)).toEqual({ sealed: false });
    now += maxAgeMs;
    expect(sealed()).toBeUndefined();
  });

  test('seals at once when the key service refuses: the key was taken away', async () => {
    kms.failure = new KmsRefused('the key is disabled');
    expect(await keyring.unseal(rows)).toEqual({ sealed: true, why: 'the fake key service: the key is disabled' });
    expect(refusal(() => keyring.encrypt(context, plain))).toMatchObject({ code: 'sealed' });
  });

  test('seals when one of its keys is refused, though another is not', async () => {
    const [one, two] = rows as [KeyEncryptionKey, KeyEncryptionKey];
    expect(await keyring.unseal([{ ...one, number: 7 }, two])).toMatchObject({ sealed: true });
  });

  test('tells nobody the place of the key service, nor what an unknown error said', async () => {
    for (const failure of [
      new KmsRefused('refused'),
      new KmsUnavailable('away'),
      new TypeError('at /a/secret/place: key=abc'),
    ]) {
      keyring.seal('for the test');
      kms.failure = failure;
      const state = await keyring.unseal(rows);
      expect(state).toMatchObject({ sealed: true });
      expect(JSON.stringify(state)).not.toMatch(/secret\/place|abc/);
    }
    expect(keyring.state()).toEqual({ sealed: true, why: 'the fake key service: it failed' });
    kms.failure = undefined;
    await keyring.unseal(rows);
    now += maxAgeMs + 1;
    expect(JSON.stringify(keyring.state())).not.toContain('place');
    expect(keyring.kmsName).toBe('fake:/a/secret/place');
  });

  test('tells whoever keeps something opened, each time it seals', () => {
    const heard: string[] = [];
    keyring.onSealed(() => heard.push('one'));
    keyring.onSealed(() => heard.push('two'));
    keyring.seal('a test');
    expect(heard).toEqual(['one', 'two']);
    expect(keyring.state()).toEqual({ sealed: true, why: 'a test' });
  });
});

describe('the local key service', () => {
  let folder: string;
  let path: string;
  let local: KeyService;
  const key = randomBytes(32);
  const bound = { 'warder:purpose': 'key-encryption-key', 'warder:number': '1' };

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'warder-kms-'));
    path = join(folder, 'sub', 'root.key');
    expect(makeRootKey(path)).toBe(true);
    local = openLocalKms(path);
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  test('makes its root key once, for nobody else to read, and never over another', () => {
    const made = readFileSync(path, 'utf8');
    expect(Buffer.from(made.trim(), 'base64')).toHaveLength(32);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(folder, 'sub')).mode & 0o777).toBe(0o700);
    expect(makeRootKey(path)).toBe(false);
    expect(readFileSync(path, 'utf8')).toBe(made);
  });

  test('unwraps what it wrapped, in the same context only', async () => {
    const wrapped = await local.wrap(key, bound);
    expect(Buffer.from(await local.unwrap(wrapped, bound))).toEqual(key);
    // The order of the context's fields says nothing.
    expect(
      Buffer.from(await local.unwrap(wrapped, { 'warder:number': '1', 'warder:purpose': 'key-encryption-key' })),
    ).toEqual(key);
    for (const other of [{}, { ...bound, 'warder:number': '2' }, { ...bound, x: '' }, { 'warder:number': '1' }]) {
      await expect(local.unwrap(wrapped, other)).rejects.toBeInstanceOf(KmsRefused);
    }
  });

  test('refuses what was changed, cut off or never wrapped', async () => {
    const wrapped = Buffer.from(await local.wrap(key, bound), 'base64');
    for (let at = 0; at < wrapped.length; at += 1) {
      const changed = Buffer.from(wrapped);
      changed[at] = (changed[at] ?? 0) ^ 1;
      await expect(local.unwrap(changed.toString('base64'), bound)).rejects.toBeInstanceOf(KmsRefused);
    }
    for (const other of [
      '',
      'AAAA',
      wrapped.subarray(1).toString('base64'),
      wrapped.subarray(0, -1).toString('base64'),
    ]) {
      await expect(local.unwrap(other, bound)).rejects.toBeInstanceOf(KmsRefused);
    }
  });

  test('says what is wrong with its root key, and not where it is', async () => {
    const wrapped = await local.wrap(key, bound);
    const good = readFileSync(path);
    const why = async (): Promise<string> => {
      const error = await local.unwrap(wrapped, bound).then(
        () => new Error('unwrapped'),
        (thrown: Error) => thrown,
      );
      expect(error.message).not.toContain(folder);
      return `${error.name}: ${error.message}`;
    };
    writeFileSync(path, Buffer.alloc(32, 1).toString('base64'));
    expect(await why()).toBe('KmsRefused: the root key is not the one this data was sealed with');
    for (const text of ['', 'short', good.toString().repeat(2)]) {
      writeFileSync(path, text);
      expect(await why()).toBe('KmsRefused: the root key is not 32 bytes in base64');
    }
    writeFileSync(path, good);
    for (const mode of [0o644, 0o640, 0o601, 0o620]) {
      chmodSync(path, mode);
      expect(await why()).toBe(`KmsRefused: the root key can be read or changed by others (mode ${mode.toString(8)})`);
      expect(() => requirePrivateRootKey(path)).toThrow(`run: chmod 600 ${path}`);
    }
    chmodSync(path, 0o600);
    rmSync(path);
    expect(await why()).toBe('KmsUnavailable: the root key cannot be read (ENOENT)');
    expect(() => requirePrivateRootKey(path)).not.toThrow();
    writeFileSync(path, good, { mode: 0o600 });
    expect(await why()).toBe('Error: unwrapped');
  });
});
