/** Making a backup, with a disk and a key service that do not play along. */
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { openLocalKms } from '../../../adapters/kms/local.ts';
import { type Backups, DamagedLedger, NoRoom, type Snapshot } from '../../../src/ports/backup.ts';
import { KmsRefused, KmsUnavailable } from '../../../src/ports/kms.ts';
import { BackupMaker } from '../../../src/services/backup/make-backup.ts';
import type { Core } from '../../../src/services/core.ts';
import { Keyring } from '../../../src/services/keys/keyring.ts';
import { systemCaller } from '../../../src/services/revocation/revoke.ts';
import { openServices } from '../../support/services.ts';

let services: Awaited<ReturnType<typeof openServices>>;
let core: Core;
beforeAll(async () => {
  services = await openServices();
  core = services.core;
});
afterAll(() => services.close());

const caller = systemCaller('test');
/** What is left of what was made. */
let left: Set<string>;
beforeEach(() => {
  left = new Set();
});

const file = {
  bytes: 5,
  sha256: '0'.repeat(64),
  read: async function* () {
    yield Buffer.from('bytes');
  },
  discard: async () => void left.delete('file'),
};
const copies = (more: { take?: () => Promise<void>; seal?: () => Promise<void> } = {}): Backups => ({
  take: async (): Promise<Snapshot> => {
    await more.take?.();
    left.add('copy');
    const { size, root } = await core.reader.treeHead();
    return {
      facts: { schema: 1, databaseBytes: 1, databaseSha256: '0'.repeat(64), size, root },
      seal: async () => {
        left.add('file');
        await more.seal?.();
        return file;
      },
      discard: async () => void left.delete('copy'),
    };
  },
  close: async () => undefined,
});

const entries = async (type: string): Promise<unknown[]> =>
  (await core.reader.audit({ type }, { limit: 100 })).map(({ body }) => (JSON.parse(body) as { data: unknown }).data);
const refusal = (code: string) => ({ refusal: { code } });

test('it is recorded before its file is handed out, and the next one has to wait until that is given back', async () => {
  const maker = new BackupMaker(core, copies());
  const made = await maker.make(caller);
  expect(await entries('backup.started')).toContainEqual({ backup: made.header.id });
  expect(await entries('backup.created')).toContainEqual(
    expect.objectContaining({ backup: made.header.id, bytes: 5, entries: made.header.entries }),
  );
  expect([...left]).toEqual(['file']);
  await expect(maker.make(caller)).rejects.toMatchObject(refusal('conflict'));
  await made.discard();
  expect([...left]).toEqual([]);
  await (await maker.make(caller)).discard();
});

test('that nobody got it is recorded', async () => {
  const made = await new BackupMaker(core, copies()).make(caller);
  await made.lost();
  await made.discard();
  expect((await entries('backup.failed'))[0]).toEqual({ backup: made.header.id, why: 'not_delivered' });
});

test.each([
  ['no room to copy', { take: () => Promise.reject(new NoRoom('2 MB are needed')) }, 'insufficient_storage'],
  ['a ledger that is damaged', { take: () => Promise.reject(new DamagedLedger('entry 7 was changed')) }, 'internal'],
  ['no room to encrypt', { seal: () => Promise.reject(new NoRoom('the disk is full')) }, 'insufficient_storage'],
])('%s is a refusal that is recorded, and leaves nothing', async (_what, trouble, code) => {
  const maker = new BackupMaker(core, {
    ...copies(trouble),
  });
  const before = (await entries('backup.failed')).length;
  await expect(maker.make(caller)).rejects.toMatchObject(refusal(code));
  const failed = await entries('backup.failed');
  expect([failed.length, failed[0]]).toEqual([before + 1, expect.objectContaining({ why: code })]);
  // The adapter removes a file it did not finish (backup.ts); the copy is the service's to remove.
  expect(left.has('copy')).toBe(false);
  // And the next one is not kept waiting.
  await (await new BackupMaker(core, copies()).make(caller)).discard();
});

test.each([
  ['refuses', () => Promise.reject(new KmsRefused('it does not let Warder use the key')), 'upstream_refused'],
  ['is away', () => Promise.reject(new KmsUnavailable('it did not answer in time')), 'upstream_unavailable'],
  ['gives back another key', async () => new Uint8Array(74), 'upstream_refused'],
])('a key service that %s leaves no backup that nobody could open', async (_what, unwrap, code) => {
  const kms = openLocalKms(services.keyPath);
  const keyring = new Keyring(
    {
      ...kms,
      unwrap: (wrapped, context) => (context['warder:purpose'] === 'backup' ? unwrap() : kms.unwrap(wrapped, context)),
    },
    core.clock,
    Number.POSITIVE_INFINITY,
  );
  await keyring.unseal(core.state.keyEncryptionKeys.all());
  await expect(new BackupMaker({ ...core, keyring }, copies()).make(caller)).rejects.toMatchObject(refusal(code));
  expect([...left]).toEqual([]);
});

test('a record that cannot be written keeps the file back', async () => {
  let commits = 0;
  const ledger: Core['ledger'] = {
    ...core.ledger,
    commit: (changeset) => {
      commits += 1;
      return commits === 1 ? core.ledger.commit(changeset) : Promise.reject(new Error('the disk is gone'));
    },
  };
  await expect(new BackupMaker({ ...core, ledger }, copies()).make(caller)).rejects.toThrow('the disk is gone');
  expect([...left]).toEqual([]);
});

test('while Warder is sealed none is begun', async () => {
  const started = (await entries('backup.started')).length;
  const keyring = new Keyring(openLocalKms(services.keyPath), core.clock, Number.POSITIVE_INFINITY);
  await expect(new BackupMaker({ ...core, keyring }, copies()).make(caller)).rejects.toMatchObject(refusal('sealed'));
  expect((await entries('backup.started')).length).toBe(started);
});
