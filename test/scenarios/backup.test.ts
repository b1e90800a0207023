/**
 * The restore drill: a broker at work is backed up, goes on, loses its data, and comes back from the backup. What was
 * alive in the backup is dead, and nothing that was taken away since is back.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { GivenCheckpoint, RestoreReport } from '../../src/domain/backup.ts';
import { parseCheckpoint, parseNote } from '../../src/domain/signed-note.ts';
import { verifyAuditExport } from '../../src/services/audit/verify-audit.ts';
import { backupTo, check, restore } from '../support/backups.ts';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { grantOf } from '../support/upstream-provider.ts';
import { exercises, grantIn, items, type Living, openScene, type Scene, type Side, sceneProviders } from './scene.ts';

let scene: Scene;
let side: Side;
let dataDir: string;
let file: string;
let broker: Broker;
beforeAll(async () => {
  dataDir = temporaryDir();
  file = join(temporaryDir(), 'before.backup');
  scene = await openScene({ dataDir });
  broker = scene.broker;
  side = await scene.makeSide('reporter');
});
afterAll(async () => {
  await broker.close();
  await scene.close();
  removeTemporaryDirs();
});

/** Stops the broker, puts the backup in its place, and starts it again at its address. */
const comeBack = async (more: Partial<Parameters<typeof restore>[0]> = {}): Promise<RestoreReport> => {
  const { url } = broker;
  await broker.close();
  const report = await restore({ file, dataDir, url, replace: true, ...more });
  const started = await startBroker({ dataDir, port: Number(new URL(url).port), extraProviders: sceneProviders });
  broker = { ...started, adminToken: report.fenced?.admin_token ?? scene.broker.adminToken };
  return report;
};

const admin = (method: string, path: string, body?: unknown) => broker.admin(method, path, body, broker.adminToken);
/** A way to use something that throws is no way to use it. */
const isAlive = (living: Living): Promise<boolean> => living.alive().catch(() => false);

const givenCheckpoint = async (): Promise<GivenCheckpoint> => {
  const note = String((await admin('GET', '/audit/checkpoint')).body['checkpoint']);
  const parsed = parseNote(note);
  const head = parsed.ok ? parseCheckpoint(parsed.value.body) : undefined;
  if (!head?.ok) throw new Error('no checkpoint');
  return { source: 'elsewhere', note, head: head.value };
};

/** Whatever can be tried more than once, at every check point: alive now. */
const allThatLives = async (): Promise<[string, Living][]> => {
  const living: [string, Living][] = [];
  for (const [point, ways] of Object.entries(exercises)) {
    if (point === 'gateway-stream' || point === 'token-endpoint' || point === 'settle') continue;
    for (const [way, prepare] of Object.entries(ways)) living.push([`${point}: ${way}`, await prepare(scene, side)]);
  }
  return living;
};
const stillAlive = async (living: [string, Living][]): Promise<string[]> => {
  const answers = await Promise.all(living.map(async ([what, one]) => ((await isAlive(one)) ? what : '')));
  return answers.filter((what) => what !== '');
};

describe('a backup that is restored', () => {
  let living: [string, Living][];
  let accounts: string[];
  let report: RestoreReport;
  let lastToken: string;
  let checkpoint: GivenCheckpoint;
  const operators: Record<string, string> = {};
  const tokenOf = async (name: string): Promise<string> =>
    String((await admin('POST', '/operators', { name, roles: ['admin'] })).body['token']);

  beforeAll(async () => {
    for (const name of ['stays', 'goes', 'renewed']) operators[name] = await tokenOf(name);
    living = await allThatLives();
    expect(await stillAlive(living)).toEqual(living.map(([what]) => what));
    await scene.issue(side, side.made);

    // While it is made, others go on.
    const work = Array.from({ length: 50 }, () => scene.issue(side, side.gateway));
    await backupTo(broker, file);
    await Promise.all(work);
    accounts = (await scene.upstream.accounts()).map(grantOf);
    expect(accounts.length).toBeGreaterThan(0);

    // What the backup does not know.
    await admin('POST', '/revocations', { selector: { agent: 'reporter' }, reason: 'after the backup', suspend: true });
    await admin('DELETE', '/operators/goes');
    operators['new of renewed'] = String((await admin('POST', '/operators/renewed/token')).body['token']);
    await admin('PUT', '/connections/reporter-gateway/secret', { value: 'sk_rotated_0123456789' });
    await admin('DELETE', `/entitlements/${side.jwt.entitlement}`);
    operators['first'] = broker.adminToken;
    lastToken = await tokenOf('after');

    checkpoint = await givenCheckpoint();
    report = await comeBack({ checkpoints: [checkpoint] });
    expect(report).toMatchObject({ kept_grants: false, broken_boxes: 0, fenced: { admin: /^restored-admin-/ } });
    expect(report.missing_entries).toBe(checkpoint.head.size - report.entries);
    expect(report.missing_entries).toBeGreaterThan(5);
  }, 60_000);

  test('says what has to be looked at', () => {
    expect(report.secrets.map(({ connection }) => connection)).toEqual(['reporter-gateway']);
    expect(report.fenced?.operators).toEqual(expect.arrayContaining(['admin', 'goes', 'renewed', 'stays']));
    expect(report.replaced).toMatch(/warder\.db\.replaced-\d{8}T\d{6}Z$/);
  });

  test('has nothing alive in it: no grant, no agent token at any door', async () => {
    expect(await stillAlive(living)).toEqual([]);
  });

  test('knows no operator of before, removed or not, and the new admin only', async () => {
    const status = async (token: string) => (await broker.admin('GET', '/agents', undefined, token)).status;
    const old = await Promise.all([...Object.values(operators), lastToken].map(status));
    expect(new Set(old)).toEqual(new Set([401]));
    expect(await status(broker.adminToken)).toBe(200);
    const listed = items(await admin('GET', '/operators'));
    expect(listed.filter((row) => row['status'] === 'active').map((row) => row['name'])).toEqual([
      report.fenced?.admin,
    ]);
  });

  test('issues nothing until the freeze is lifted', async () => {
    const { status, body } = await broker.form('/token', { grant_type: 'client_credentials' }, side.agent);
    expect([status, body['error']]).toEqual([400, 'access_denied']);
    const direct = {
      grant_type: 'client_credentials',
      resource: `${broker.url}/connections/reporter-jwt`,
      scope: 'use',
    };
    expect((await broker.form('/token', direct, side.agent)).status).toBe(400);
  });

  test('cleans up upstream what the backup knew of', async () => {
    const known = new Set((await listGrants()).map((grant) => String(grant['id'])));
    expect(accounts.some((id) => known.has(id))).toBe(true);
    await eventually(
      'the accounts are gone',
      async () => (await scene.upstream.accounts()).map(grantOf).filter((id) => known.has(id)),
      (left) => left.length === 0,
    );
    await eventually(
      'the revocation is complete',
      async () => (await admin('GET', `/revocations/${report.fenced?.revocation}`)).body,
      (revocation) => revocation['completed_at'] !== null,
    );
    expect((await admin('GET', `/revocations/${report.fenced?.revocation}/receipt`)).status).toBe(200);
  });

  test('publishes other keys for JWTs, and signs with a new one', async () => {
    const keys = (await admin('GET', '/keys')).body as {
      signing_keys: { id: string; purpose: string; state: string }[];
      key_encryption_keys: { number: number; state: string }[];
    };
    const { keys: published } = JSON.parse(await (await broker.fetch('/jwks')).text()) as { keys: { kid: string }[] };
    const retired = keys.signing_keys.filter(({ purpose, state }) => purpose === 'jwt' && state === 'previous');
    expect(retired.length).toBe(2);
    for (const { id } of retired) expect(published.map(({ kid }) => kid)).not.toContain(id);
    expect(keys.key_encryption_keys.filter(({ state }) => state === 'current')).toMatchObject([{ number: 2 }]);
  });

  test('proves its log, which says that it was restored and how much is missing', async () => {
    const headers = { authorization: `Bearer ${broker.adminToken}` };
    const exported = Buffer.from(await (await broker.fetch('/admin/v1/audit/export', { headers })).arrayBuffer());
    const source = (async function* () {
      yield exported;
    })();
    expect(await verifyAuditExport(source)).toMatchObject({ ok: true });
    const [entry] = items(await admin('GET', '/audit?type=backup.restored'));
    expect(entry).toMatchObject({
      seq: report.seq,
      actor: { kind: 'system', name: 'restore' },
      data: {
        backup: report.backup,
        entries: report.entries,
        missing_entries: report.missing_entries,
        kept_grants: false,
        revocation: report.fenced?.revocation,
      },
    });
  });

  test('goes on once the freeze is lifted, and brings nothing of before back with it', async () => {
    const lifted = await admin('POST', `/freezes/${report.fenced?.freeze}/lift`, { reason: 'looked through' });
    expect([lifted.status, lifted.text]).toEqual([200, lifted.text]);
    const token = await broker.agentToken(side.agent);
    const fresh = grantIn(await broker.grant(token, { connection: 'reporter-gateway', scopes: ['use'] }));
    expect(fresh.status).toBe('active');
    expect(await stillAlive(living)).toEqual([]);
    const again = (await admin('POST', '/operators/stays/token')).body['token'];
    expect((await admin('PATCH', '/operators/stays', { status: 'active' })).status).toBe(200);
    expect((await broker.admin('GET', '/agents', undefined, String(again))).status).toBe(200);
    expect((await broker.admin('GET', '/agents', undefined, operators['stays'])).status).toBe(401);
  });

  test('has another log than the one it lost, and a backup of it says so to whoever kept a checkpoint of that', async () => {
    const shown = () => admin('POST', '/audit/witness', { checkpoint: checkpoint.note });
    // Each showing is an entry: in the end there are as many as were lost.
    const last = await eventually('the log is as long as it was', shown, ({ body }) => body['result'] !== 'went_back');
    expect(last.body).toMatchObject({
      result: 'other_entries',
      shown_size: checkpoint.head.size,
      missing: 0,
      proof: [],
    });
    const recorded = items(await admin('GET', '/audit?type=audit.contradicted&limit=1'));
    expect(recorded).toMatchObject([{ data: { result: 'other_entries' } }]);
    const second = join(temporaryDir(), 'second.backup');
    await backupTo(broker, second);
    const asked = { file: second, dataDir, url: broker.url };
    // The entry that says that it was made is not in it.
    const { content } = await check({ ...asked, checkpoints: [await givenCheckpoint()] });
    expect(content?.missing).toBeGreaterThan(0);
    await expect(check({ ...asked, checkpoints: [checkpoint] })).rejects.toThrow(/are not those that elsewhere/);
  });

  const listGrants = async (): Promise<Record<string, unknown>[]> => {
    const found: Record<string, unknown>[] = [];
    for (let cursor = ''; ; ) {
      const page = await admin('GET', `/grants?limit=100${cursor}`);
      found.push(...items(page));
      if (page.body['next_cursor'] === null) return found;
      cursor = `&cursor=${String(page.body['next_cursor'])}`;
    }
  };
});

describe('a backup that is restored with its grants', () => {
  test('has everything alive in it that was, and says why', async () => {
    const living = await allThatLives();
    await backupTo(broker, file);
    const token = broker.adminToken;
    await admin('POST', '/revocations', { selector: { everything: true }, reason: 'after the backup' });
    expect(await stillAlive(living)).toEqual([]);
    const report = await comeBack({ keepGrants: { reason: 'the disk broke a minute after the backup' } });
    broker = { ...broker, adminToken: token };
    expect(report).toMatchObject({ kept_grants: true, fenced: null, missing_entries: null });
    expect(await stillAlive(living)).toEqual(living.map(([what]) => what));
    const [entry] = items(await admin('GET', '/audit?type=backup.restored'));
    expect(entry).toMatchObject({
      data: { kept_grants: true, reason: 'the disk broke a minute after the backup' },
    });
  }, 30_000);
});

test('whoever is suspended while a backup is made does not get it', async () => {
  const made = await admin('POST', '/operators', { name: 'leaving', roles: ['admin'] });
  const asked = broker.admin('POST', '/backups', undefined, String(made.body['token']));
  await eventually(
    'it is being made',
    async () => items(await admin('GET', '/audit?type=backup.started&limit=1')),
    ([newest]) => (newest?.['actor'] as { name?: string } | undefined)?.name === 'leaving',
  );
  await admin('PATCH', '/operators/leaving', { status: 'suspended' });
  expect((await asked).body).toMatchObject({ status: 401, code: 'unauthenticated' });
});
