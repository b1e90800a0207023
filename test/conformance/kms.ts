/**
 * What every key service keeps (src/ports/kms.ts), as tests against the real thing or a server that speaks its protocol.
 * A key service's own test calls it:
 *
 *     kmsConformance('aws-kms', setUpAwsKms, { canDisable: true, canDestroy: true, hasTrouble: true });
 */
import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type KeyService, KmsRefused, KmsUnavailable } from '../../src/ports/kms.ts';

export interface KeyServiceUnderTest {
  kms: KeyService;
  /** The same kind of service with another key. */
  other: KeyService;
  /** What the operator of the service can do to the key of `kms`. */
  key?: {
    disable(): Promise<void>;
    enable(): Promise<void>;
    /** For good, or as near to it as the service goes; the last thing the suite does. */
    destroy(): Promise<void>;
  };
  trouble?: KmsTrouble;
  /** What no message and no cause may show: credentials, tokens, the place of the key. */
  canaries: string[];
  close(): Promise<void>;
}

/** Puts the service into trouble and out of it. */
export interface KmsTrouble {
  /** Refuses connections, or answers that it is not there. */
  down(): Promise<void>;
  slow(ms: number): Promise<void>;
  /** Says so often "too many requests", then works. */
  throttled(times: number): Promise<void>;
  /** Takes the request and never answers. */
  hangs(): Promise<void>;
  /** Answers 200 with what is no answer. */
  nonsense(): Promise<void>;
  /** Works as ever, with a key that is not the one it was asked for. */
  wrongKey(): Promise<void>;
  well(): Promise<void>;
}

export interface KmsAbilities {
  /** Whether its operator can disable the key and enable it again. */
  canDisable: boolean;
  canDestroy: boolean;
  /** Whether `trouble` is there: a real service has no such switch. */
  hasTrouble: boolean;
  /** Within this time a call to a service that hangs has ended. */
  patienceMs?: number;
  /** Why what is not possible here is to be shown as skipped: `a real service`. Otherwise it does not apply at all. */
  skipped?: string;
}

const context = { 'warder:purpose': 'key-encryption-key', 'warder:number': '1' };

const failureOf = async (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => undefined,
    (error: unknown) => error,
  );

export const kmsConformance = (
  name: string,
  setup: () => Promise<KeyServiceUnderTest>,
  { canDisable, canDestroy, hasTrouble, patienceMs = 10_000, skipped }: KmsAbilities,
): void => {
  describe(name, () => {
    let under: KeyServiceUnderTest;
    const testIf =
      (able: boolean) =>
      (what: string, body: () => Promise<void>, timeoutMs?: number): void => {
        if (able) test(what, body, timeoutMs);
        else if (skipped !== undefined) test.skip(`${what} (${skipped})`, body);
      };
    const ifTrouble = testIf(hasTrouble);
    const ifDisable = testIf(canDisable);
    const ifDestroy = testIf(canDestroy);

    const trouble = (): KmsTrouble => {
      if (!under.trouble) throw new Error('hasTrouble without a trouble switch');
      return under.trouble;
    };
    const keyOfService = (): NonNullable<KeyServiceUnderTest['key']> => {
      if (!under.key) throw new Error('a key that can be disabled or destroyed says how');
      return under.key;
    };
    /** A failure tells what is wrong and nothing else: it is logged, and its message is shown to anybody. */
    const expectClean = (error: unknown, ...secrets: Uint8Array[]): void => {
      const { message } = error as Error;
      expect(message).toMatch(/^[\x20-\x7e]{5,200}$/);
      expect(message).not.toMatch(/https?:|arn:|\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}|\n/);
      // What a logger prints of it, and more: hidden properties too.
      const whole = `${inspect(error, { depth: 12, showHidden: true })} ${JSON.stringify(error)}`;
      const bytes = secrets.map((one) => Buffer.from(one));
      for (const text of [
        ...under.canaries,
        ...bytes.flatMap((one) => [one.toString('base64'), one.toString('base64url'), one.toString('hex')]),
      ]) {
        expect(whole).not.toContain(text);
      }
    };
    const expectRefused = async (call: Promise<unknown>, ...secrets: Uint8Array[]): Promise<void> => {
      const error = await failureOf(call);
      expect(error).toBeInstanceOf(KmsRefused);
      expectClean(error, ...secrets);
    };
    const expectUnavailable = async (call: Promise<unknown>, ...secrets: Uint8Array[]): Promise<void> => {
      const error = await failureOf(call);
      expect(error).toBeInstanceOf(KmsUnavailable);
      expectClean(error, ...secrets);
    };

    beforeAll(async () => {
      under = await setup();
    });
    afterEach(async () => {
      await under.trouble?.well();
    });
    afterAll(async () => {
      await under.close();
    });

    test('is named after its kind and its key', () => {
      expect(under.kms.name).toMatch(/^[a-z][a-z-]*:.+/);
      expect(under.kms.name).not.toBe(under.other.name);
    });

    test('gives back what it wrapped, for the context it was wrapped for', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.uint8Array({ minLength: 1, maxLength: 64 }),
          fc.dictionary(fc.stringMatching(/^[a-z]{1,10}:[a-z]{1,10}$/), fc.stringMatching(/^[ -~]{1,40}$/), {
            minKeys: 1,
            maxKeys: 4,
          }),
          async (key, given) => {
            const wrapped = await under.kms.wrap(key, given);
            expect(wrapped).toMatch(/^[\x21-\x7e]{1,8000}$/);
            const reversed = Object.fromEntries(Object.entries(given).reverse());
            expect(Uint8Array.from(await under.kms.unwrap(wrapped, reversed))).toEqual(Uint8Array.from(key));
          },
        ),
        { numRuns: 20 },
      );
    });

    test('never wraps a key the same way twice, and shows nothing of it', async () => {
      const key = randomBytes(32);
      const wrapped = await Promise.all(Array.from({ length: 5 }, () => under.kms.wrap(key, context)));
      expect(new Set(wrapped).size).toBe(5);
      for (const one of wrapped) {
        expect(one).not.toContain(key.toString('base64'));
        expect(Buffer.from(one, 'base64').includes(key)).toBe(false);
      }
    });

    test('refuses another context: changed, more, less, none', async () => {
      const key = randomBytes(32);
      const wrapped = await under.kms.wrap(key, context);
      for (const other of [
        { ...context, 'warder:number': '2' },
        { ...context, 'warder:extra': 'x' },
        { 'warder:purpose': 'key-encryption-key' },
        { 'warder:purpose': '1', 'warder:number': 'key-encryption-key' },
        {},
      ]) {
        await expectRefused(under.kms.unwrap(wrapped, other), key);
      }
    });

    test('refuses what another key wrapped', async () => {
      const key = randomBytes(32);
      await expectRefused(under.kms.unwrap(await under.other.wrap(key, context), context), key);
      await expectRefused(under.other.unwrap(await under.kms.wrap(key, context), context), key);
    });

    test('refuses what it never wrapped: empty, garbage, too long', async () => {
      const garbage = ['', 'x', '!', randomBytes(12).toString('base64'), randomBytes(200).toString('base64')];
      for (const text of [...garbage, randomBytes(5_000).toString('base64'), 'vault:v1:', 'vault:v999:AAAA', '../x']) {
        await expectRefused(under.kms.unwrap(text, context));
      }
    });

    test('refuses what was cut short, made longer, or changed in one bit', async () => {
      const key = randomBytes(32);
      const wrapped = await under.kms.wrap(key, context);
      // A part before the last colon (`vault:v1:`) is the service's own writing; the ciphertext follows.
      const from = wrapped.lastIndexOf(':') + 1;
      const [head, bytes] = [wrapped.slice(0, from), Buffer.from(wrapped.slice(from), 'base64')];
      const flipped = (at: number): Buffer => {
        const copy = Buffer.from(bytes);
        copy[at] = (copy[at] ?? 0) ^ 1;
        return copy;
      };
      for (const other of [
        bytes.subarray(0, -1),
        bytes.subarray(1),
        Buffer.concat([bytes, Buffer.alloc(1)]),
        flipped(0),
        flipped(bytes.length >> 1),
        flipped(bytes.length - 1),
      ]) {
        await expectRefused(under.kms.unwrap(head + other.toString('base64'), context), key);
      }
      expect(Buffer.from(await under.kms.unwrap(wrapped, context)).equals(key)).toBe(true);
    });

    test('answers one hundred at once, each with its own key', async () => {
      const keys = Array.from({ length: 100 }, () => randomBytes(32));
      const numbered = (number: number) => ({ ...context, 'warder:number': String(number) });
      const wrapped = await Promise.all(keys.map((key, i) => under.kms.wrap(key, numbered(i))));
      const back = await Promise.all(wrapped.map((one, i) => under.kms.unwrap(one, numbered(i))));
      expect(back.every((one, i) => Buffer.from(one).equals(keys[i] ?? Buffer.alloc(0)))).toBe(true);
    }, 30_000);

    ifTrouble(
      'says that the service is unavailable while it is down, and works when it is back',
      async () => {
        const key = randomBytes(32);
        const wrapped = await under.kms.wrap(key, context);
        await trouble().down();
        await Promise.all([
          expectUnavailable(under.kms.wrap(key, context), key),
          expectUnavailable(under.kms.unwrap(wrapped, context), key),
        ]);
        await trouble().well();
        expect(Buffer.from(await under.kms.unwrap(wrapped, context)).equals(key)).toBe(true);
      },
      30_000,
    );

    ifTrouble('waits for a slow service', async () => {
      await trouble().slow(400);
      const key = randomBytes(32);
      expect(Buffer.from(await under.kms.unwrap(await under.kms.wrap(key, context), context)).equals(key)).toBe(true);
    });

    ifTrouble(
      'tries again when it is told that it asks too often',
      async () => {
        const key = randomBytes(32);
        await trouble().throttled(1);
        const wrapped = await under.kms.wrap(key, context);
        await trouble().throttled(2);
        expect(Buffer.from(await under.kms.unwrap(wrapped, context)).equals(key)).toBe(true);
      },
      30_000,
    );

    ifTrouble(
      'gives up, as unavailable, on a service that throttles for ever',
      async () => {
        const key = randomBytes(32);
        await trouble().throttled(Number.POSITIVE_INFINITY);
        await expectUnavailable(under.kms.wrap(key, context), key);
      },
      patienceMs + 5_000,
    );

    ifTrouble(
      'does not wait for ever for a service that hangs',
      async () => {
        const key = randomBytes(32);
        const wrapped = await under.kms.wrap(key, context);
        await trouble().hangs();
        const began = performance.now();
        await Promise.all([
          expectUnavailable(under.kms.wrap(key, context), key),
          expectUnavailable(under.kms.unwrap(wrapped, context), key),
        ]);
        expect(performance.now() - began).toBeLessThan(patienceMs);
      },
      patienceMs + 5_000,
    );

    ifTrouble(
      'takes nonsense for an outage: it proves nothing about the key',
      async () => {
        const key = randomBytes(32);
        const wrapped = await under.kms.wrap(key, context);
        await trouble().nonsense();
        await expectUnavailable(under.kms.wrap(key, context), key);
        await expectUnavailable(under.kms.unwrap(wrapped, context), key);
      },
      patienceMs * 2 + 5_000,
    );

    ifTrouble('refuses an answer that was made with another key', async () => {
      const key = randomBytes(32);
      const wrapped = await under.kms.wrap(key, context);
      await trouble().wrongKey();
      await expectRefused(under.kms.unwrap(wrapped, context), key);
      await trouble().well();
      expect(Buffer.from(await under.kms.unwrap(wrapped, context)).equals(key)).toBe(true);
    });

    ifDisable(
      'refuses while its key is disabled, and works again when it is enabled',
      async () => {
        const key = randomBytes(32);
        const wrapped = await under.kms.wrap(key, context);
        await keyOfService().disable();
        await expectRefused(under.kms.unwrap(wrapped, context), key);
        await expectRefused(under.kms.wrap(key, context), key);
        await keyOfService().enable();
        expect(Buffer.from(await under.kms.unwrap(wrapped, context)).equals(key)).toBe(true);
      },
      60_000,
    );

    ifDestroy(
      'refuses when its key is gone, and leaves other keys alone',
      async () => {
        const key = randomBytes(32);
        const wrapped = await under.kms.wrap(key, context);
        const elsewhere = await under.other.wrap(key, context);
        await keyOfService().destroy();
        await expectRefused(under.kms.unwrap(wrapped, context), key);
        await expectRefused(under.kms.wrap(key, context), key);
        expect(Buffer.from(await under.other.unwrap(elsewhere, context)).equals(key)).toBe(true);
      },
      60_000,
    );
  });
};
