/** `local` through the conformance suite. A file can be away, unreadable or another one; it cannot be disabled. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { makeRootKey, openLocalKms } from '../../../adapters/kms/local.ts';
import { KmsRefused, KmsUnavailable } from '../../../src/ports/kms.ts';
import { kmsConformance } from '../../conformance/kms.ts';

const folder = (): string => mkdtempSync(join(tmpdir(), 'warder-kms-'));

kmsConformance(
  'local',
  async () => {
    const dir = folder();
    const [path, otherPath] = [join(dir, 'root.key'), join(dir, 'other.key')];
    makeRootKey(path);
    makeRootKey(otherPath);
    return {
      kms: openLocalKms(path),
      other: openLocalKms(otherPath),
      canaries: [readFileSync(path, 'utf8').trim(), dir],
      close: async () => rmSync(dir, { recursive: true, force: true }),
    };
  },
  { canDisable: false, canDestroy: false, hasTrouble: false },
);

test('a root key that is away is an outage, one that is another is a refusal', async () => {
  const dir = folder();
  try {
    const path = join(dir, 'root.key');
    makeRootKey(path);
    const kms = openLocalKms(path);
    const wrapped = await kms.wrap(randomBytes(32), { a: 'b' });
    renameSync(path, `${path}.away`);
    await expect(kms.unwrap(wrapped, { a: 'b' })).rejects.toBeInstanceOf(KmsUnavailable);
    makeRootKey(path);
    await expect(kms.unwrap(wrapped, { a: 'b' })).rejects.toBeInstanceOf(KmsRefused);
    renameSync(`${path}.away`, path);
    await expect(kms.unwrap(wrapped, { a: 'b' })).resolves.toHaveLength(32);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
