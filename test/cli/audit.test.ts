import { existsSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { bodies, exportLines, makeKey, noteFor } from '../services/audit/audit-log-fixture.ts';
import { type Options, problem, type Routes, run, runOn } from './harness.ts';

const key = makeKey();
const ten = bodies(10);
const whole = exportLines(ten, key).join('');
const checkpoint = (count: number) => ({
  checkpoint: noteFor(bodies(count), key),
  key: key.text,
  size: count,
  root: '',
});
const folder = (): string => mkdtempSync(join(tmpdir(), 'warder-cli-'));
const put = (text: string, name = 'export.jsonl'): string => {
  const path = join(folder(), name);
  writeFileSync(path, text);
  return path;
};
const exporting: Routes = { 'GET audit/export': { body: whole, headers: { 'content-type': 'application/jsonl' } } };

describe('audit list', () => {
  const entry = {
    seq: 7,
    type: 'grant.issued',
    time: '2026-11-21T23:30:00.000Z',
    actor: { kind: 'agent', id: 'agt_1', name: 'reporter' },
    outcome: 'done',
    agent: { id: 'agt_1', name: 'reporter' },
    connection: { id: 'con_1', name: 'stripe' },
    grant: 'grt_1',
    data: { scopes: ['read'] },
  };
  const listing = { 'GET audit': { body: { items: [entry], next_cursor: null } } };

  test('shows who did what, when, and whether it was done', async () => {
    const { out } = await runOn(listing, ['audit', 'list']);
    expect(out.split('\n')[1]).toBe(
      '7    2026-11-21 23:30:00Z  grant.issued  done     agent reporter  reporter  stripe      grt_1  {"scopes":["read"]}',
    );
  });

  test('shows local times with their offset on request', async () => {
    const { out } = await runOn(listing, ['audit', 'list', '--timezone', 'local']);
    expect(out).toMatch(/2026-11-2\d \d\d:\d\d:00[+-]\d\d:\d\d/);
  });

  test('names an anonymous actor by its address', async () => {
    const body = { items: [{ ...entry, actor: { kind: 'anonymous', address: '192.0.2.1' } }], next_cursor: null };
    expect((await runOn({ 'GET audit': { body } }, ['audit', 'list'])).out).toContain('anonymous 192.0.2.1');
  });
});

describe('audit export', () => {
  test('writes the bytes to a file that only its owner can read', async () => {
    const dir = folder();
    const path = join(dir, 'log.jsonl');
    const { code, out, sent } = await runOn(exporting, ['audit', 'export', '-o', path]);
    expect(code).toBe(0);
    expect(sent[0]?.query).toEqual({ format: 'jsonl' });
    expect(readFileSync(path, 'utf8')).toBe(whole);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(dir)).toEqual(['log.jsonl']);
    expect(out).toContain('11 lines');
  });

  test('passes filters and the format on', async () => {
    const path = join(folder(), 'log.csv');
    const args = ['--format', 'csv', '--agent', 'a', '--connection', 'c', '--from', '2026-11-01', '--to', '2026-11-30'];
    const { sent } = await runOn(exporting, ['audit', 'export', ...args, '-o', path]);
    expect(sent[0]?.query).toEqual({
      format: 'csv',
      agent: 'a',
      connection: 'c',
      from: '2026-11-01T00:00:00.000Z',
      to: '2026-12-01T00:00:00.000Z',
    });
  });

  test('goes to standard output in a pipe, and not to a terminal', async () => {
    expect((await runOn(exporting, ['audit', 'export'])).out).toBe(whole);
    const { code, sent } = await runOn(exporting, ['audit', 'export'], { terminal: true });
    expect({ code, sent }).toEqual({ code: 2, sent: [] });
  });

  test('leaves what was there before, and no rest, when the connection breaks off', async () => {
    const dir = folder();
    const path = join(dir, 'log.jsonl');
    writeFileSync(path, 'before');
    const routes = { 'GET audit/export': { body: whole, breakOff: true } };
    const { code } = await runOn(routes, ['audit', 'export', '-o', path]);
    expect(code).toBe(3);
    expect(readFileSync(path, 'utf8')).toBe('before');
    expect(readdirSync(dir)).toEqual(['log.jsonl']);
  });

  test('leaves nothing when it is interrupted', async () => {
    const dir = folder();
    const context: Options['context'] = {
      onSignal: (listener) => {
        listener();
        return () => undefined;
      },
    };
    const { code } = await runOn(exporting, ['audit', 'export', '-o', join(dir, 'x')], { context });
    expect({ code, left: readdirSync(dir) }).toEqual({ code: 1, left: [] });
  });

  test('makes no file when the broker refuses or the folder is not there', async () => {
    const dir = folder();
    const refusing = { 'GET audit/export': problem(403, 'forbidden', 'not for you') };
    expect((await runOn(refusing, ['audit', 'export', '-o', join(dir, 'x')])).code).toBe(1);
    expect((await runOn(exporting, ['audit', 'export', '-o', join(dir, 'no', 'x')])).code).toBe(1);
    expect(existsSync(join(dir, 'x'))).toBe(false);
  });
});

describe('audit verify of a file', () => {
  const verify = (args: string[], options: Options = {}) => run(['audit', 'verify', ...args], options);

  test('needs no broker and no token', async () => {
    const { code, out, err } = await verify([put(whole), '--key', key.text]);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toContain('Verified. 10 entries');
  });

  test('says plainly when nobody vouched for the key', async () => {
    const { code, err } = await verify([put(whole)]);
    expect(code).toBe(0);
    expect(err).toContain('was not checked against a known one');
  });

  test('fails with what is wrong', async () => {
    const lines = exportLines(ten, key);
    lines.splice(3, 1);
    const { code, out, err } = await verify([put(lines.join(''))]);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toContain('NOT verified: entry 3 is missing');
  });

  test('fails with another key than the known one', async () => {
    const { code, err } = await verify([put(whole), '--key', makeKey().text]);
    expect(code).toBe(1);
    expect(err).toContain('is not signed with the key');
  });

  test('holds it against checkpoints kept from earlier, as notes or as JSON', async () => {
    const note = put(checkpoint(4).checkpoint, 'note');
    const json = put(JSON.stringify(checkpoint(7)), 'cp.json');
    const { code, out } = await verify([put(whole), '--checkpoint', note, '--checkpoint', json]);
    expect(code).toBe(0);
    expect(out).toContain('4 entries');
    expect(out).toContain('7 entries');
    const newer = put(checkpoint(12).checkpoint, 'newer');
    expect(await verify([put(whole), '--checkpoint', newer])).toMatchObject({ code: 1 });
  });

  test('answers programs as well', async () => {
    const good = await verify([put(whole), '--json', '--key', key.text]);
    expect(JSON.parse(good.out)).toMatchObject({ ok: true, entries: 10, keyKnown: true, key: key.text });
    const bad = await verify([put(whole.slice(0, 500)), '--json']);
    expect(bad.code).toBe(1);
    expect(JSON.parse(bad.out)).toMatchObject({ ok: false, fault: { fault: 'cut_off' } });
  });

  test.each([
    ['a file that is not there', ['/nowhere/export.jsonl']],
    ['a directory', ['/tmp']],
    ['a key that is none', [put(whole), '--key', 'x']],
    ['a checkpoint that is not there', [put(whole), '--checkpoint', '/nowhere']],
    ['a checkpoint that is none', [put(whole), '--checkpoint', put('{}', 'c')]],
  ])('is wrong usage with %s', async (_what, args) => {
    expect(await verify(args)).toMatchObject({ code: 2, out: '' });
  });
});

describe('audit verify of the broker', () => {
  const online = (routes: Routes, args: string[] = []) => runOn(routes, ['audit', 'verify', ...args]);

  test('recomputes what it exports, and holds it against the checkpoint it gave before', async () => {
    const { code, out, sent } = await online({ ...exporting, 'GET audit/checkpoint': { body: checkpoint(9) } });
    expect(code).toBe(0);
    expect(sent.map(({ path }) => path)).toEqual(['audit/checkpoint', 'audit/export']);
    expect(out).toContain('the broker, 9 entries');
  });

  test('fails when the broker exports another log than it signed before', async () => {
    const other = { checkpoint: noteFor(bodies(9, '-other'), key), key: key.text };
    const { code, err } = await online({ ...exporting, 'GET audit/checkpoint': { body: other } });
    expect(code).toBe(1);
    expect(err).toContain('the first 9 entries are not those the checkpoint of the broker was signed for');
  });

  test('fails when the export breaks off', async () => {
    const routes = {
      'GET audit/checkpoint': { body: checkpoint(9) },
      'GET audit/export': { body: whole, breakOff: true },
    };
    expect((await online(routes)).code).toBe(3);
  });
});

describe('audit checkpoint', () => {
  test('prints a note that verifies, and the key apart from it', async () => {
    const { out, err } = await runOn({ 'GET audit/checkpoint': { body: checkpoint(10) } }, ['audit', 'checkpoint']);
    expect(out).toBe(checkpoint(10).checkpoint);
    expect(err).toBe(`key: ${key.text}\n`);
  });
});
