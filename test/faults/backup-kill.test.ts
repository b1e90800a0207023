/** A backup or a restore that is killed, or finds the disk full: nothing is left of it, and no ledger is served unfenced. */
import { cpSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { settleRestored } from '../../adapters/stores/sqlite/backup-place.ts';
import { seedGrants } from '../../bench/seed.ts';
import { downloadBackup } from '../support/backups.ts';
import { freePort, removeTemporaryDirs, temporaryDir } from '../support/broker.ts';
import { type ChildBroker, newAdminToken, startChildBroker } from '../support/child-broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { run, runScript } from './child-process.ts';
import { canMount, needing } from './strace.ts';

const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const database = (dataDir: string): string => join(dataDir, 'warder.db');
const parts = (dataDir: string): string[] => readdirSync(dataDir).filter((name) => name.startsWith('warder.db.'));

/** A ledger with little in it, its backup, and how far it went on since. */
let dataDir: string;
let file: string;
let broker: ChildBroker;

beforeAll(async () => {
  dataDir = temporaryDir();
  file = join(temporaryDir(), 'backup');
  broker = await startChildBroker({ dataDir, port: await freePort(), adminToken: newAdminToken() });
  await broker.agent('reporter');
  await broker.connection('stripe', 'https://api.example.com');
  await broker.entitle('reporter', 'stripe', ['all']);
  writeFileSync(file, await downloadBackup(broker));
  await broker.agent('since');
}, 60_000);
afterAll(async () => {
  await broker.kill();
  removeTemporaryDirs();
});

describe('a broker that is killed while it makes a backup', () => {
  let large: string;
  let busy: ChildBroker;
  let start: () => Promise<ChildBroker>;
  beforeAll(async () => {
    large = temporaryDir();
    const [port, adminToken] = [await freePort(), newAdminToken()];
    start = () => startChildBroker({ dataDir: large, port, adminToken });
    busy = await start();
    await busy.agent('reporter');
    await busy.connection('stripe', 'https://api.example.com');
    await busy.entitle('reporter', 'stripe', ['all']);
    await busy.stop();
    // Enough that copying and encrypting it takes a moment.
    seedGrants(database(large), 15_000);
    busy = await start();
  }, 60_000);
  afterAll(() => busy.kill());

  test.each(['copy', 'sealed'])(
    '(its %s is there) goes on as before, and nothing is left',
    async (part) => {
      const answer = downloadBackup(busy).catch(() => undefined);
      await eventually(
        'it is being made',
        () => parts(large),
        (names) => names.some((name) => name.endsWith(`.${part}`)),
      );
      await busy.kill();
      await answer;
      expect(parts(large)).not.toEqual([]);
      busy = await start();
      expect(parts(large)).toEqual([]);
      expect((await busy.admin('GET', '/agents')).status).toBe(200);
    },
    30_000,
  );

  test('is not killed by whoever asked for it and went away', async () => {
    const gone = new AbortController();
    const headers = { authorization: `Bearer ${busy.adminToken}` };
    const asked = busy.fetch('/admin/v1/backups', { method: 'POST', headers, signal: gone.signal });
    await eventually(
      'it is being made',
      () => parts(large),
      (names) => names.some((name) => name.endsWith('.copy')),
    );
    gone.abort();
    await expect(asked).rejects.toThrow(/aborted/);
    await eventually(
      'its parts are gone',
      () => parts(large),
      (names) => names.length === 0,
    );
    await pause(100);
    const failed = await busy.admin('GET', '/audit?type=backup.failed&limit=1');
    expect(failed.body['items']).toMatchObject([{ data: { why: 'not_delivered' } }]);
  }, 30_000);

  test('can make one when it is started again, and nothing is left of that either', async () => {
    expect((await downloadBackup(busy)).length).toBeGreaterThan(100_000);
    await eventually(
      'its parts are gone',
      () => parts(large),
      (names) => names.length === 0,
    );
  }, 30_000);
});

/** What a start would find: the ledger of before, nothing, the restored one with its fence, or something else. */
const found = (target: string): string => {
  settleRestored(database(target));
  if (!existsSync(database(target))) return 'nothing';
  const db = new Database(database(target));
  try {
    const count = (sql: string): number => Number(db.prepare(sql).pluck().get());
    const restored = count("SELECT count(*) FROM audit WHERE type = 'backup.restored'");
    const fences = count('SELECT count(*) FROM fences WHERE selector = \'{"everything":true}\'');
    const freezes = count('SELECT count(*) FROM freezes WHERE lifted_at IS NULL');
    const active = count("SELECT count(*) FROM operators WHERE status = 'active' AND name NOT LIKE 'restored-admin-%'");
    const since = count("SELECT count(*) FROM agents WHERE name = 'since'");
    const seen = JSON.stringify({ restored, fences, freezes, active, since });
    if (seen === '{"restored":0,"fences":0,"freezes":0,"active":1,"since":1}') return 'before';
    return seen === '{"restored":1,"fences":1,"freezes":1,"active":0,"since":0}' ? 'restored' : seen;
  } finally {
    db.close();
  }
};

describe('a restore that is killed', () => {
  beforeAll(async () => {
    // Killed, so that what was committed last is in the write-ahead log alone.
    await broker.kill();
    expect(existsSync(`${database(dataDir)}-wal`)).toBe(true);
  });

  /** A data directory to restore into: the one of before, or one with nothing but the root key. */
  const target = (empty: boolean): string => {
    const folder = temporaryDir();
    for (const name of readdirSync(dataDir)) {
      if (!empty || name === 'root.key') cpSync(join(dataDir, name), join(folder, name));
    }
    return folder;
  };
  /**
   * Before which of its own renamings and syncs it dies: before it has taken place; when it has; when the log of the old
   * database is moved aside; when the old one has no name any more; at its end. Where nothing was before, two are left out.
   */
  const deaths = [
    [2, false],
    [4, false],
    [5, false],
    [7, false],
    [8, false],
    [2, true],
    [4, true],
  ] as const;

  test('between any two of its renamings leaves the ledger of before, or the restored one with its fence', async () => {
    const outcomes: string[] = [];
    const one = async (call: number, empty: boolean): Promise<void> => {
      const folder = target(empty);
      await runScript(script('./restore-process.ts'), file, folder, broker.url, String(call)).ended;
      const outcome = found(folder);
      outcomes.push(outcome);
      const good = empty ? /^(nothing|restored)$/ : /^(before|restored)$/;
      expect([call, outcome]).toEqual([call, expect.stringMatching(good)]);
    };
    await Promise.all(deaths.slice(0, 4).map(([call, empty]) => one(call, empty)));
    await Promise.all(deaths.slice(4).map(([call, empty]) => one(call, empty)));
    expect(new Set(outcomes)).toEqual(new Set(['before', 'nothing', 'restored']));
  }, 120_000);

  test('at a random moment does, too, and can be repeated', async () => {
    const folder = target(false);
    const dying = runScript(script('./restore-process.ts'), file, folder, broker.url);
    await pause(300 + Math.random() * 500);
    dying.process.kill('SIGKILL');
    await dying.ended;
    expect(['before', 'restored']).toContain(found(folder));
    const child = runScript(script('./restore-process.ts'), file, folder, broker.url);
    const { errors } = await child.ended;
    expect([errors, found(folder)]).toEqual(['', 'restored']);
    expect(parts(folder).filter((name) => !name.includes('.replaced-'))).toEqual([]);
  }, 60_000);
});

(canMount ? test : test.skip)(
  needing(
    canMount,
    'unshare -rm with a tmpfs',
    'a disk that is full refuses a backup and a restore, and keeps nothing',
  ),
  async () => {
    const mounted = 'mount -t tmpfs -o size=96m none "$1" && exec "$2" "$3" "$1" "$4" "$5"';
    const child = run('unshare', [
      ...['-rm', 'sh', '-c', mounted, 'sh', temporaryDir(), process.execPath],
      ...[script('./backup-full-disk.ts'), file, join(dataDir, 'root.key')],
    ]);
    const { errors } = await child.ended;
    expect(errors).toBe('');
    expect(JSON.parse(child.lines.at(-1) ?? '{}')).toEqual({
      refused: [507, 'insufficient_storage', 'NoRoom', 'NoRoom', 'NoRoom'],
      left: [],
      wentOn: [201, 200],
    });
  },
  60_000,
);
