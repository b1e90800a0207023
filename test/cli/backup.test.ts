/** Backing up, checking and restoring as an operator does it: the real command line, against a real broker. */
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { temporaryDir } from '../support/broker.ts';
import { problem, runOn } from './harness.ts';
import { type Served, serve, warder } from './real-warder.ts';

let cwd: string;
let served: Served;
let env: Record<string, string>;
const url = { WARDER_PUBLIC_URL: 'http://127.0.0.1:7300' };
const cli = (...args: string[]) => warder(args, { cwd, env: { ...url, ...env } });

beforeAll(async () => {
  cwd = temporaryDir();
  served = await serve(cwd);
  env = { WARDER_URL: served.url, WARDER_TOKEN: served.token ?? '' };
});
afterAll(async () => {
  await served.stop();
  rmSync(cwd, { recursive: true, force: true });
});

describe('warder backup', () => {
  test('is written, checked, and restored on another machine that has the root key', async () => {
    const made = await cli('backup', '-o', 'first.backup');
    expect(made).toMatchObject({ code: 0, err: '' });
    expect(made.out).toContain('The root key is NOT in it');
    expect(statSync(join(cwd, 'first.backup')).mode & 0o777).toBe(0o600);
    expect((await cli('audit', 'witness', 'log.checkpoint')).out).toContain('Kept the first checkpoint');
    await cli('agent', 'add', 'since', '--owner', 'a@example.com');
    const proven = await cli('audit', 'witness', 'log.checkpoint');
    expect(proven).toMatchObject({ code: 0, out: expect.stringContaining('The log continues') });

    const verified = await cli('backup', 'verify', 'first.backup', '--checkpoint', 'log.checkpoint');
    expect(verified).toMatchObject({ code: 0, out: expect.stringMatching(/^Verified\./) });
    expect(verified.out).toMatch(/missing +\d+ entries of the log are newer than it/);
    expect(await cli('restore', 'first.backup', '--force')).toMatchObject({
      code: 1,
      err: expect.stringContaining('another Warder'),
    });

    // Another machine: nothing there but the backup and the root key.
    const other = join(cwd, 'other');
    mkdirSync(join(other, '.warder'), { recursive: true, mode: 0o700 });
    const at = (...args: string[]) => warder(args, { cwd: other, env: url });
    expect(await at('restore', '../first.backup')).toMatchObject({
      code: 1,
      err: expect.stringContaining('The root key is not in a backup'),
    });
    copyFileSync(join(cwd, '.warder/root.key'), join(other, '.warder/root.key'));
    const restored = await at('restore', '../first.backup', '--checkpoint', '../log.checkpoint');
    expect(restored.out).toMatch(/^Restored\. Backup bkp_/);
    expect(restored.out).toMatch(/\d entries of the log are missing/);
    expect(restored.out).toContain('issuing is frozen');

    const again = await serve(other);
    try {
      const by = (token: string) => ({ cwd: other, env: { WARDER_URL: again.url, WARDER_TOKEN: token } });
      const token = /WARDER_TOKEN=(wdr_op_\S+)/.exec(restored.out)?.[1] ?? '';
      expect(await warder(['agent', 'list'], by(served.token ?? ''))).toMatchObject({ code: 1 });
      expect(await warder(['agent', 'list'], by(token))).toMatchObject({ code: 0 });
      expect(await warder(['audit', 'verify'], by(token))).toMatchObject({ code: 0 });
      const witnessed = await warder(['audit', 'witness', '../log.checkpoint'], by(token));
      expect(witnessed.code).toBe(1);
      expect(witnessed.err).toMatch(/NOT continued: the audit log (went back|has other entries)/);
      const listed = await warder(['audit', 'list', '--type', 'audit.contradicted', '--json'], by(token));
      expect(JSON.parse(listed.out).items).toHaveLength(1);
      const lift = /warder (freeze lift frz_\S+)/.exec(restored.out)?.[1]?.split(' ') ?? [];
      expect(await warder([...lift, '--reason', 'looked through'], by(token))).toMatchObject({ code: 0 });
    } finally {
      await again.stop();
    }
  }, 120_000);

  test('goes to standard output where it is redirected, and never to a terminal', async () => {
    const made = await runOn({ 'POST backups': { body: 'x' } }, ['backup'], { terminal: true });
    expect(made).toMatchObject({ code: 2, sent: [] });
    const piped = await cli('backup');
    expect(piped.code).toBe(0);
    expect(piped.out).toMatch(/^\{"warder_backup":1,/);
    expect(piped.err).toContain('NOT in it');
  });

  test('keeps nothing of what did not arrive as it was sent', async () => {
    const file = join(cwd, 'torn');
    const digest = { 'content-digest': `sha-256=:${'A'.repeat(43)}=:`, 'content-type': 'application/octet-stream' };
    for (const reply of [
      { body: 'y'.repeat(500), headers: digest },
      { body: 'y'.repeat(500), headers: { 'content-type': 'application/octet-stream' } },
      { body: 'y'.repeat(500), headers: digest, breakOff: true },
    ]) {
      const ended = await runOn({ 'POST backups': reply }, ['backup', '-o', file]);
      expect([ended.code, existsSync(file)]).toEqual([3, false]);
    }
    const refused = problem(507, 'insufficient_storage', 'a backup needs 3 MB of room');
    expect(await runOn({ 'POST backups': refused }, ['backup', '-o', file])).toMatchObject({
      code: 1,
      err: expect.stringContaining('a backup needs 3 MB of room'),
    });
  });

  test('is made for admins only', async () => {
    const made = await cli('operator', 'add', 'ops', '--role', 'operator', '--json');
    const { token } = JSON.parse(made.out) as { token: string };
    const ended = await warder(['backup', '-o', 'ops.backup'], { cwd, env: { ...env, WARDER_TOKEN: token } });
    expect(ended).toMatchObject({ code: 1, err: expect.stringContaining('code: forbidden') });
    expect(existsSync(join(cwd, 'ops.backup'))).toBe(false);
  });
});

test('a broker in doubt does not fill the memory of who holds it against a checkpoint', async () => {
  const endless = { body: 'x'.repeat(129 * 1024 * 1024) };
  const ended = await runOn({ 'GET audit/checkpoint': endless }, ['audit', 'witness', join(cwd, 'never')]);
  expect(ended).toMatchObject({ code: 1, err: expect.stringContaining('has no end') });
  expect(existsSync(join(cwd, 'never'))).toBe(false);
});

describe('warder backup verify', () => {
  test('tells a whole file from a damaged one without any key', async () => {
    await cli('backup', '-o', 'whole.backup');
    const nowhere = { cwd: temporaryDir(), env: {} };
    const whole = await warder(['backup', 'verify', join(cwd, 'whole.backup'), '--offline', '--json'], nowhere);
    expect(JSON.parse(whole.out)).toMatchObject({
      header: { warder_backup: 1, key: { kms: 'local' } },
      file: { bytes: statSync(join(cwd, 'whole.backup')).size },
    });
    const bytes = readFileSync(join(cwd, 'whole.backup'));
    writeFileSync(join(cwd, 'cut.backup'), bytes.subarray(0, -10));
    expect(await cli('backup', 'verify', 'cut.backup', '--offline')).toMatchObject({
      code: 1,
      err: expect.stringContaining('cut off'),
    });
  });

  test('says what is used wrongly', async () => {
    expect((await cli('backup', 'verify', 'nothing-here')).code).toBe(2);
    expect((await cli('backup', 'verify', 'whole.backup', '--checkpoint', 'nothing-here')).code).toBe(2);
    expect((await cli('restore', 'whole.backup', '--keep-grants')).err).toContain('--reason');
    expect((await cli('restore', 'whole.backup', '--reason', 'x')).code).toBe(2);
  });
});
