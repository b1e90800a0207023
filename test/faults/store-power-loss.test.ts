/**
 * Loss of power. Two halves: an acknowledgement comes after the sync of what it acknowledges (watched from outside, by
 * strace); and whatever the disk kept beyond the last sync, torn or garbled, the file opens to what was acknowledged.
 */
import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { openForWriting } from '../../adapters/stores/sqlite/connection.ts';
import { makeReader } from '../../adapters/stores/sqlite/reader.ts';
import { leafHash } from '../../src/domain/merkle.ts';
import { openTemporary, repository, temporaryFolder } from '../adapters/stores/sqlite/temporary-store.ts';
import { accept, simpleRoot } from '../conformance/ledger-rows.ts';
import { run } from './child-process.ts';
import { changesetNamed } from './ledger-check.ts';
import { canTrace, needing } from './strace.ts';

let folder: ReturnType<typeof temporaryFolder>;
beforeAll(() => {
  folder = temporaryFolder();
});
afterAll(() => folder.remove());

(canTrace ? test : test.skip)(
  needing(canTrace, 'strace', 'no acknowledgement is written before the log is synced past all that was written to it'),
  async () => {
    const trace = join(folder.path, 'trace');
    const calls = 'trace=write,pwrite64,fsync,fdatasync';
    const committer = join(repository, 'test/faults/committer.ts');
    const path = join(folder.path, 'traced', 'warder.db');
    const child = run('strace', [
      ...['-f', '-y', '-qq', '--seccomp-bpf', '-s', '16', '-o', trace, '-e', calls],
      ...[process.execPath, committer, path, 'run', '1', '60', '300', 'exit'],
    ]);
    await child.ended;
    let unsynced = 0;
    let syncs = 0;
    let acknowledged = 0;
    const early: string[] = [];
    let syncing = false;
    for (const line of readFileSync(trace, 'utf8').split('\n')) {
      const onLog = line.includes('warder.db-wal>');
      if (/pwrite64\(/.test(line) && onLog) unsynced += 1;
      if (/f(data)?sync\(/.test(line) && onLog) syncing = true;
      // One thread syncs at a time, so the next end of a sync is the end of this one.
      if (syncing && /(sync\(.*\)|sync resumed>.*) += 0$/.test(line)) {
        syncing = false;
        syncs += 1;
        unsynced = 0;
      }
      if (/ write\(1<.*"ack /.test(line)) {
        acknowledged += 1;
        if (unsynced > 0) early.push(line);
      }
    }
    expect(early).toEqual([]);
    expect(acknowledged).toBe(60);
    expect(syncs).toBeGreaterThanOrEqual(60);
  },
  60_000,
);

test('a log cut or garbled anywhere past the last sync opens to everything acknowledged by then, whole', async () => {
  const opened = await openTemporary();
  const { store, databasePath } = opened;
  const log = `${databasePath}-wal`;
  /** How long the log was when each changeset was acknowledged: so much of it the disk had promised to keep. */
  const promised: number[] = [];
  for (let i = 0; i < 60; i += 1) {
    await accept(store.ledger, changesetNamed(`n${i}`, (i % 7) * 900));
    promised.push(statSync(log).size);
  }
  const bytes = readFileSync(log);
  let copies = 0;
  fc.assert(
    fc.property(
      fc.integer({ min: promised[0] ?? 0, max: bytes.length }),
      fc.constantFrom('cut', 'zeros', 'noise'),
      fc.nat(),
      (kept, how, seed) => {
        copies += 1;
        const copy = join(folder.path, `copy-${copies}`);
        mkdirSync(copy);
        copyFileSync(databasePath, join(copy, 'warder.db'));
        const torn = Buffer.from(bytes.subarray(0, how === 'cut' ? kept : bytes.length));
        if (how !== 'cut') torn.fill(how === 'zeros' ? 0 : (seed % 255) + 1, kept, Math.min(kept + 6000, torn.length));
        writeFileSync(join(copy, 'warder.db-wal'), torn);

        const db = openForWriting(join(copy, 'warder.db'));
        const reader = makeReader(db);
        const head = reader.treeHead();
        const entries = reader.auditRange({}, 0, head.size, 1000);
        const grants = reader.grants({}, { limit: 1000 });
        db.close();
        const acknowledged = promised.filter((length) => length <= kept).length;
        expect(grants.length).toBeGreaterThanOrEqual(acknowledged);
        expect(grants.map((grant) => grant.reason).sort()).toEqual(grants.map((_, i) => `n${i}`).sort());
        expect(entries.map((entry) => JSON.parse(entry.body).data.name)).toEqual(
          grants.flatMap((_, i) => [`n${i}`, `n${i}`]),
        );
        const root = simpleRoot(entries.map((entry) => leafHash(entry.body)));
        expect(Buffer.from(head.root).toString('hex')).toBe(Buffer.from(root).toString('hex'));
      },
    ),
    { numRuns: 100 },
  );
  await opened.close();
});
