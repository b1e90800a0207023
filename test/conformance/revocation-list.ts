/**
 * What every format of a revocation list keeps (src/ports/provider.ts, `RevocationList`), as the software that reads it
 * says. A provider's own test calls it:
 *
 *     revocationListConformance('ssh', sshProvider.revocationList, setUp);
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { RevocationList } from '../../src/ports/provider.ts';

export interface ListUnderTest {
  /** @returns whether who checks by this list refuses the credential of this grant */
  refuses(list: Uint8Array, grantId: string): Promise<boolean>;
}

const facts = { number: 1, at: 1_800_000_000_000, comment: 'warder conformance' };
const aGrant = fc.stringMatching(/^grt_[0-9a-z]{26}$/);

export const revocationListConformance = (name: string, format: RevocationList, setUp: () => ListUnderTest): void => {
  const made = (ids: readonly string[]): Uint8Array => {
    const serials = ids.map((id) => format.serial(id)).sort((a, b) => (a < b ? -1 : 1));
    return format.make(new BigUint64Array(serials), facts);
  };

  describe(`the revocation list of ${name}`, () => {
    test('gives each grant a number of its own, always the same, that fits 64 bits and is not 0', () => {
      const ids = Array.from({ length: 50_000 }, (_, index) => `grt_${index}`);
      const serials = ids.map((id) => format.serial(id));
      expect(new Set(serials).size).toBe(ids.length);
      expect(serials.every((serial) => serial > 0n && serial < 2n ** 64n)).toBe(true);
      expect(ids.slice(0, 100).map((id) => format.serial(id))).toEqual(serials.slice(0, 100));
    });

    test('refuses exactly the credentials whose grants are in it, also when it is empty', async () => {
      const { refuses } = setUp();
      await fc.assert(
        fc.asyncProperty(fc.uniqueArray(aGrant, { maxLength: 20 }), aGrant, async (dead, living) => {
          fc.pre(!dead.includes(living));
          const list = made(dead);
          expect(await refuses(list, living)).toBe(false);
          for (const id of [dead.at(0), dead.at(-1)]) if (id !== undefined) expect(await refuses(list, id)).toBe(true);
        }),
        { numRuns: 15 },
      );
    }, 30_000);

    test('of a hundred thousand is made without holding anybody up, and is read', async () => {
      const { refuses } = setUp();
      const ids = Array.from({ length: 100_000 }, (_, index) => `grt_${index}`);
      const serials = new BigUint64Array(ids.map((id) => format.serial(id))).sort();
      const began = performance.now();
      const list = format.make(serials, facts);
      expect(performance.now() - began).toBeLessThan(500);
      expect(await refuses(list, 'grt_77777')).toBe(true);
      expect(await refuses(list, 'grt_100001')).toBe(false);
    }, 30_000);
  });
};
