import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import type { ConfiguredWarder, Context } from '../../src/cli/context.ts';
import { type Options, run, runOn, startWire } from './harness.ts';

const folder = mkdtempSync(join(tmpdir(), 'warder-cli-'));
const settings = { dataDir: folder, storePath: join(folder, 'warder.db'), rootKeyPath: join(folder, 'root.key') };
const url = 'http://127.0.0.1:7300';

const configured =
  (more: Partial<ConfiguredWarder> = {}): Context['configure'] =>
  () => ({
    ok: true,
    settings,
    start: async () => ({ url, bootstrapToken: undefined, close: async () => undefined }),
    init: async () => ({ created: true, bootstrapToken: 'wdr_op_first' }),
    restore: () => Promise.reject(new Error('not in this test')),
    checkBackup: () => Promise.reject(new Error('not in this test')),
    ...more,
  });

/** Serves, and stops at a signal that comes at once. */
const serve = (more: Partial<ConfiguredWarder>, args: string[] = []): ReturnType<typeof run> =>
  run(['serve', ...args], {
    context: {
      configure: configured(more),
      onSignal: (listener) => {
        setTimeout(listener, 20);
        return () => undefined;
      },
    },
  });

const named = (name: string, message: string, more: object = {}): Error =>
  Object.assign(new Error(message), { name }, more);

describe('serve', () => {
  test('prints the first admin token and what to do next, once, on standard output', async () => {
    const start = async () => ({ url, bootstrapToken: 'wdr_op_first', close: async () => undefined });
    const { code, out, err } = await serve({ start });
    expect(code).toBe(0);
    expect(out).toContain(`Warder is listening on ${url}`);
    expect(out.match(/wdr_op_first/g)).toHaveLength(1);
    expect(out).toContain('  export WARDER_TOKEN=wdr_op_first\n  npx warder agent add ');
    expect(err).not.toContain('wdr_op');
  });

  test('says where the broker is when it is not where commands look for it', async () => {
    const elsewhere = 'http://127.0.0.1:9999';
    const start = async () => ({ url: elsewhere, bootstrapToken: 'wdr_op_first', close: async () => undefined });
    expect((await serve({ start })).out).toContain(`export WARDER_URL=${elsewhere}\n`);
  });

  test('prints no token at a later start', async () => {
    expect((await serve({})).out).toBe(`Warder is listening on ${url}\n`);
  });

  test('closes the broker at a signal, and ends well', async () => {
    let closed = 0;
    const start = async () => ({
      url,
      bootstrapToken: undefined,
      close: async () => {
        closed += 1;
      },
    });
    expect(await serve({ start })).toMatchObject({ code: 0 });
    expect(closed).toBe(1);
  });

  test('ends at once at the second signal', async () => {
    const exits: number[] = [];
    const start = async () => ({
      url,
      bootstrapToken: undefined,
      close: () => new Promise<void>((done) => setTimeout(done, 100)),
    });
    await run(['serve'], {
      context: {
        configure: configured({ start }),
        onSignal: (listener) => {
          for (const ms of [20, 40]) setTimeout(listener, ms);
          return () => undefined;
        },
        exit: (code) => exits.push(code),
      },
    });
    expect(exits).toEqual([1]);
  });

  test('exits 1 with the reason when the broker cannot go on', async () => {
    const exits: number[] = [];
    const start: ConfiguredWarder['start'] = async (onFatal) => {
      onFatal(new Error('the disk is gone'));
      return { url, bootstrapToken: undefined, close: async () => undefined };
    };
    const { err } = await run(['serve'], {
      context: {
        configure: configured({ start }),
        onSignal: (listener) => {
          setTimeout(listener, 20);
          return () => undefined;
        },
        exit: (code) => exits.push(code),
      },
    });
    expect(exits).toEqual([1]);
    expect(err).toContain('Warder cannot go on: the disk is gone');
  });

  test.each([
    [
      'DataDirectoryInUse',
      named('DataDirectoryInUse', 'another Warder is running'),
      /^error: another Warder is running$/m,
    ],
    ['IncompatibleDatabase', named('IncompatibleDatabase', 'made by a newer one'), /^error: made by a newer one$/m],
    ['RootKeyExposed', named('RootKeyExposed', 'run: chmod 600'), /^error: run: chmod 600$/m],
    ['a port in use', named('Error', 'listen', { code: 'EADDRINUSE' }), /the address is in use.*EADDRINUSE/],
    ['a full disk', named('Error', 'write', { code: 'ENOSPC' }), /the disk is full/],
    ['anything else', named('TypeError', 'odd'), /Warder does not start: TypeError: odd/],
  ])('exits 1 for %s, in words', async (_what, error, message) => {
    const start = async () => {
      throw error;
    };
    const { code, err } = await serve({ start });
    expect(code).toBe(1);
    expect(err).toMatch(message);
  });

  test('exits 2 with every problem of the configuration', async () => {
    const configure: Context['configure'] = () => ({ ok: false, problems: ['WARDER_LISTEN: no', 'WARDER_KMS: no'] });
    const { code, err } = await run(['serve'], { context: { configure } });
    expect(code).toBe(2);
    expect(err).toBe('error: the configuration is wrong:\n  - WARDER_LISTEN: no\n  - WARDER_KMS: no\n');
  });

  test('passes --config on', async () => {
    const asked: (string | undefined)[] = [];
    const configure: Context['configure'] = (path) => {
      asked.push(path);
      return { ok: false, problems: [] };
    };
    await run(['serve', '--config', 'x.yaml'], { context: { configure } });
    await run(['serve'], { context: { configure } });
    expect(asked).toEqual(['x.yaml', undefined]);
  });
});

describe('init', () => {
  const init = (result: { created: boolean; bootstrapToken: string | undefined }, args: string[] = []) =>
    run(['init', ...args], { context: { configure: configured({ init: async () => result }) } });

  test('prints the token of what it made', async () => {
    const { code, out } = await init({ created: true, bootstrapToken: 'wdr_op_first' });
    expect(code).toBe(0);
    expect(out).toContain('  export WARDER_TOKEN=wdr_op_first');
  });

  test('says that there is something already', async () => {
    const { code, out } = await init({ created: false, bootstrapToken: undefined });
    expect(code).toBe(0);
    expect(out).toContain('is there already; nothing was changed');
  });

  test('answers programs as well', async () => {
    const { out } = await init({ created: true, bootstrapToken: 'wdr_op_first' }, ['--json']);
    expect(JSON.parse(out)).toEqual({ created: true, bootstrap_token: 'wdr_op_first' });
  });
});

describe('doctor', () => {
  const healthy = {
    'GET /healthz': { body: { status: 'alive' } },
    'GET /readyz': { body: { status: 'ready', checks: [] } },
    'GET agents': { body: { items: [], next_cursor: null } },
  };
  const doctor = (routes: Parameters<typeof runOn>[0], options: Options = {}, args: string[] = []) =>
    runOn(routes, ['doctor', ...args], { ...options, context: { configure: configured(), ...options.context } });
  const line = (out: string, check: string): string => out.split('\n').find((one) => one.includes(check)) ?? '';

  test('finds nothing where nothing is wrong', async () => {
    chmodSync(folder, 0o700);
    writeFileSync(settings.rootKeyPath, 'x', { mode: 0o600 });
    const { code, out } = await doctor(healthy);
    expect(code).toBe(0);
    expect(out).not.toContain('FAILED');
    expect(line(out, 'token')).toContain('accepted');
  });

  test('finds a root key that others can read, and says what to do', async () => {
    writeFileSync(settings.rootKeyPath, 'x', { mode: 0o600 });
    chmodSync(settings.rootKeyPath, 0o644);
    const { code, out } = await doctor(healthy);
    chmodSync(settings.rootKeyPath, 0o600);
    expect(code).toBe(1);
    expect(line(out, 'root key')).toContain(`chmod 600 ${settings.rootKeyPath}`);
  });

  test('finds a data directory that is open to others', async () => {
    chmodSync(folder, 0o755);
    const { code, out } = await doctor(healthy);
    chmodSync(folder, 0o700);
    expect(code).toBe(1);
    expect(line(out, 'data directory')).toContain('FAILED');
  });

  test('takes no backup for the newest that broke off on its way', async () => {
    const entry = (backup: string, time: string) => ({ time, data: { backup } });
    const of: Record<string, unknown[]> = {
      'backup.created': [entry('bkp_2', '2026-11-23T02:00:00.000Z'), entry('bkp_1', '2026-11-22T02:00:00.000Z')],
      'backup.failed': [entry('bkp_2', '2026-11-23T02:00:01.000Z')],
    };
    const audit = ({ query }: { query: Record<string, string> }) => ({ body: { items: of[query['type'] ?? ''] } });
    const now = { now: () => Date.parse('2026-11-23T03:00:00.000Z') };
    const { out } = await doctor({ ...healthy, 'GET audit': audit }, { context: now });
    expect(line(out, 'backup')).toMatch(/ok +backup +the newest backup is of 2026-11-22 02:00:00Z/);
  });

  test('finds a broker that is not ready, and why', async () => {
    const checks = [
      { name: 'keys', ok: false, why: 'sealed: no key' },
      { name: 'ledger', ok: true },
    ];
    const { code, out } = await doctor({ ...healthy, 'GET /readyz': { status: 503, body: { checks } } });
    expect(code).toBe(1);
    expect(line(out, 'ready')).toContain('keys: sealed: no key');
  });

  test('finds clocks that differ', async () => {
    for (const [ms, result] of [
      [10_000, 'warning'],
      [-120_000, 'FAILED'],
    ] as const) {
      const { out } = await doctor(healthy, { context: { now: () => Date.now() + ms } });
      expect(line(out, 'clock')).toContain(result);
    }
  });

  test('finds a token that is refused, and takes one that may do other things', async () => {
    const refused = { status: 401, body: { code: 'unauthenticated', detail: 'unknown token' } };
    expect((await doctor({ ...healthy, 'GET agents': refused })).out).toMatch(/FAILED +token +unknown token/);
    const forbidden = { status: 403, body: { code: 'forbidden', detail: 'not for you' } };
    expect((await doctor({ ...healthy, 'GET agents': forbidden })).code).toBe(0);
  });

  test('exits 3 when the broker does not answer, and checks the rest all the same', async () => {
    const wire = await startWire({});
    await wire.close();
    const { code, out } = await run(['doctor'], {
      env: { WARDER_URL: wire.url },
      context: { configure: configured() },
    });
    expect(code).toBe(3);
    expect(line(out, 'node')).toContain('ok');
  });

  test('names every problem of the configuration', async () => {
    const configure: Context['configure'] = () => ({ ok: false, problems: ['WARDER_LISTEN: no', 'WARDER_KMS: no'] });
    const { code, out } = await doctor(healthy, { context: { configure } });
    expect(code).toBe(1);
    expect(out.match(/FAILED +configuration/g)).toHaveLength(2);
  });

  test('skips what is not on this machine', async () => {
    const elsewhere = { ...settings, dataDir: join(folder, 'missing') };
    const configure: Context['configure'] = () => ({ ...base(), settings: elsewhere });
    const { code, out } = await doctor(healthy, { context: { configure } });
    expect(code).toBe(0);
    expect(out).not.toContain('root key');
  });

  test('answers programs as well', async () => {
    const { out } = await doctor(healthy, {}, ['--json']);
    expect(JSON.parse(out)).toMatchObject({
      checks: expect.arrayContaining([expect.objectContaining({ check: 'node', result: 'ok' })]),
    });
  });
});

const base = (): ConfiguredWarder => {
  const found = configured()(undefined);
  if (!found.ok) throw new Error('the fixture is configured');
  return found;
};
