import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { problem, type Routes, runOn } from './harness.ts';

const folder = mkdtempSync(join(tmpdir(), 'warder-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const rotation = (over: object = {}) => ({
  id: 'rot_1',
  connection: 'stripe',
  key: null,
  status: 'asked',
  step: 'create',
  attempt: 1,
  why: 'asked',
  reason: null,
  requested_by: 'olga',
  from_version: 1,
  to_version: null,
  failure: null,
  asked_at: '2026-11-23T10:00:00.000Z',
  next_at: '2026-11-23T22:00:00.000Z',
  retires_at: null,
  in_force_at: null,
  ...over,
});
const asks = (answer: object, ...later: object[]): Routes => {
  const left = [...later];
  return {
    'POST rotations': { status: 201, body: answer },
    'GET rotations/rot_1': () => ({ body: left.length > 1 ? left.shift() : left[0] }),
  };
};
const inForce = { to_version: 2, in_force_at: '2026-11-23T10:00:01.000Z', retires_at: '2026-11-23T11:00:01.000Z' };

describe('rotate CONNECTION', () => {
  test('asks for it, and says when it begins', async () => {
    const { code, out, sent } = await runOn(asks(rotation()), ['rotate', 'stripe', '--reason', 'a drill']);
    expect([code, sent[0]?.body]).toEqual([0, { connection: 'stripe', now: false, reason: 'a drill' }]);
    expect(out).toContain('it begins at 2026-11-23 22:00:00Z');
  });

  test('with --now and --wait says which version is in force, and until when the other works', async () => {
    const routes = asks(
      rotation(),
      rotation({ status: 'running', step: 'set' }),
      rotation({ status: 'grace', ...inForce }),
    );
    const { code, out, sent } = await runOn(routes, ['rotate', 'stripe', '--now', '--fence', '--wait']);
    expect([code, sent[0]?.body]).toEqual([0, { connection: 'stripe', now: true, fence: true }]);
    expect(out).toBe('Rotated stripe: version 2 is in force; version 1 works until 2026-11-23 11:00:01Z.\n');
  });

  test.each([
    ['failed', 'the secret before is in force'],
    ['stuck', 'warder rotate show rot_1'],
  ])('that ends as %s is exit 1, and says what is so', async (status, says) => {
    const routes = asks(rotation(), rotation({ status, step: 'undo', failure: 'no such key' }));
    const { code, err } = await runOn(routes, ['rotate', 'stripe', '--now', '--wait']);
    expect([code, err]).toEqual([1, expect.stringContaining('no such key')]);
    expect(err).toContain(says);
  });

  test('with --wait does not wait for one that is stuck, and says which', async () => {
    const routes = asks(rotation(), rotation({ waits_for: 'rot_0' }));
    const { code, err } = await runOn(routes, ['rotate', 'stripe', '--now', '--wait']);
    expect([code, err]).toEqual([1, expect.stringContaining('waits for one that is stuck')]);
    expect(err).toContain('warder rotate show rot_0');
  });

  test('--dry-run shows what it would do, and fails where the secret in force is refused', async () => {
    const preview = {
      dry_run: true,
      connection: 'stripe',
      provider: 'api-key',
      can_rotate: true,
      problem: null,
      overlaps: true,
      grace_seconds: 3600,
      fence: true,
      grants: 12,
      begins_at: '2026-11-23T10:00:00.000Z',
      sends_to: ['https://api.stripe.com'],
      test: { ok: true },
    };
    const routes = (body: object): Routes => ({ 'POST rotations': { body } });
    const good = await runOn(routes(preview), ['rotate', 'stripe', '--dry-run']);
    expect([good.code, good.sent[0]?.body]).toEqual([0, { connection: 'stripe', now: false, dry_run: true }]);
    for (const text of ['works for 1h more', '12 would die', 'https://api.stripe.com', 'accepted upstream']) {
      expect(good.out).toContain(text);
    }
    const bad = await runOn(routes({ ...preview, test: { ok: false, why: '401' } }), ['rotate', 'stripe', '--dry-run']);
    expect([bad.code, bad.err]).toEqual([1, expect.stringContaining('rotating would fail')]);
    const cannot = { ...preview, can_rotate: false, problem: 'is replaced by hand: …', test: null };
    const none = await runOn(routes(cannot), ['rotate', 'stripe', '--dry-run']);
    expect([none.code, none.out, none.err]).toEqual([1, '', expect.stringContaining('replaced by hand')]);
  });

  test('with --json is what the API said last', async () => {
    const last = rotation({ status: 'done', ...inForce });
    const { out } = await runOn(asks(rotation(), last), ['rotate', 'stripe', '--now', '--wait', '--json']);
    expect(JSON.parse(out)).toEqual(last);
  });

  test('is refused as the broker refuses it', async () => {
    const routes = { 'POST rotations': problem(409, 'conflict', 'its secret is kept in a vault') };
    expect((await runOn(routes, ['rotate', 'stripe'])).err).toContain('its secret is kept in a vault');
  });

  test.each([
    [['rotate']],
    [['rotate', 'stripe', '--all']],
    [['rotate', '--due']],
    [['rotate', '--all', '--dry-run']],
    [['rotate', 'set']],
    [['rotate', 'set', 'stripe', '--key', 'signing']],
    [['rotate', 'set', '--key', 'signing', '--grace', '1h']],
    [['rotate', 'set', 'stripe', '--days', 'mon']],
    [['rotate', 'set', 'stripe', '--every', 'often']],
    [['rotate', 'unset']],
  ])('%j is wrong usage, and nothing is sent', async (args) => {
    const { code, sent } = await runOn({}, args);
    expect([code, sent]).toEqual([2, []]);
  });
});

describe('rotate --all', () => {
  test('shows what was asked for, and what cannot be', async () => {
    const body = { items: [rotation()], skipped: [{ connection: 'old', why: 'it has no secret yet' }] };
    const { code, out, err, sent } = await runOn({ 'POST rotations': { status: 201, body } }, [
      'rotate',
      '--all',
      '--due',
    ]);
    expect([code, sent[0]?.body]).toEqual([0, { all: true, due: true, now: false }]);
    expect(out).toContain('rot_1');
    expect(err).toContain('old was not rotated: it has no secret yet');
  });

  test('waits for each of them', async () => {
    const routes = {
      ...asks({ items: [rotation(), rotation()], skipped: [] }, rotation({ status: 'done', ...inForce })),
    };
    const { code, out } = await runOn(routes, ['rotate', '--all', '--now', '--wait']);
    expect([code, out.match(/1 → 2/g)?.length]).toEqual([0, 2]);
  });
});

describe('a policy', () => {
  test('is set with all that is said of it', async () => {
    const file = join(folder, 'method.yaml');
    writeFileSync(file, 'script: rotate-stripe\n');
    const routes = {
      'PUT connections/stripe/rotation': {
        body: { connection: 'stripe', cron: '0 3 1 * *', time_zone: 'UTC', due_at: '2026-12-01T03:00:00.000Z' },
      },
    };
    const args = [
      '--cron',
      '0 3 1 * *',
      '--window',
      '22:00-04:00',
      '--days',
      'mon,tue',
      '--grace',
      '30m',
      '--fence',
      '--method',
      file,
    ];
    const { code, out, sent } = await runOn(routes, ['rotate', 'set', 'stripe', ...args, '--secret', 'env:KEY'], {
      env: { KEY: 'sk_1' },
    });
    expect([code, out]).toEqual([0, 'stripe is rotated 0 3 1 * *, next at 2026-12-01 03:00:00Z.\n']);
    expect(sent[0]?.body).toEqual({
      cron: '0 3 1 * *',
      window: { from: '22:00', to: '04:00', days: ['mon', 'tue'] },
      grace_seconds: 1800,
      fence: true,
      method: { script: 'rotate-stripe' },
      secret: { value: 'sk_1' },
    });
  });

  test('of a key of Warder’s own is set and removed', async () => {
    const routes = {
      'PUT keys/rotation/signing': {
        body: { connection: null, key: 'signing', every_seconds: 7_776_000, due_at: '2027-02-21T00:00:00.000Z' },
      },
      'DELETE keys/rotation/signing': { status: 204 },
    };
    expect((await runOn(routes, ['rotate', 'set', '--key', 'signing', '--every', '90d'])).out).toContain(
      'key signing is rotated every 90d',
    );
    expect((await runOn(routes, ['rotate', 'unset', '--key', 'signing'])).out).toContain('only when somebody asks');
  });

  test('is listed with what is overdue and what is under way; --json belongs to the list', async () => {
    const policy = {
      every_seconds: 2_592_000,
      window: { days: ['mon'], from: '22:00', to: '04:00' },
      overdue: true,
      due_at: '2026-11-20T22:00:00.000Z',
      rotated_at: '2026-10-21T22:00:00.000Z',
    };
    const item = {
      connection: 'stripe',
      key: null,
      policy,
      current: rotation({ status: 'stuck', step: 'undo', failure: 'why' }),
      last: null,
    };
    const routes = { 'GET rotations': { body: { items: [item] } } };
    const { out } = await runOn(routes, ['rotate', 'list']);
    for (const text of ['every 30d', 'mon 22:00-04:00', 'overdue since 2026-11-20 22:00:00Z', 'stuck: undo (why)']) {
      expect(out).toContain(text);
    }
    expect(JSON.parse((await runOn(routes, ['rotate', 'list', '--json'])).out)).toEqual({ items: [item] });
  });
});

test('history says who asked, when, why, and how it ended', async () => {
  const rows = [
    rotation({
      status: 'done',
      reason: 'a drill',
      accounts: { accounts: 9, refreshed: 7, needs_reconnect: 2, failed: 0 },
      ...inForce,
    }),
    rotation({ status: 'failed', failure: '401' }),
  ];
  const routes = {
    'GET rotations/history': { body: { items: rows, next_cursor: null } },
    'GET rotations/rot_1': { body: rows[0] },
    'DELETE rotations/rot_1': { body: rows[0] },
  };
  const { out, sent } = await runOn(routes, ['rotate', 'history', 'stripe']);
  expect(sent[0]?.query).toMatchObject({ connection: 'stripe' });
  for (const text of ['olga', 'asked: a drill', '1 → 2', '401', '2026-11-23 10:00:00Z']) expect(out).toContain(text);
  const shown = (await runOn(routes, ['rotate', 'show', 'rot_1'])).out;
  expect(shown).toContain('a drill');
  expect(shown).toContain('7 of 9 refreshed, 2 to be connected anew, 0 not reached');
  expect((await runOn(routes, ['rotate', 'cancel', 'rot_1'])).out).toBe('Cancelled rot_1.\n');
});
