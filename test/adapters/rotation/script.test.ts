/** Rotation by scripts: those shipped in scripts/rotate through the conformance suite, and what a script can do wrong. */

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  watch,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, describe, expect, test } from '@jest/globals';
import { openNetwork } from '../../../adapters/network.ts';
import { openApiKeyProvider } from '../../../adapters/providers/api-key.ts';
import { rotationConformance } from '../../conformance/rotation.ts';
import { type Attempt, beginAttempt, type Fields, rotationOf } from '../../conformance/rotation-attempt.ts';
import { eventually } from '../../support/eventually.ts';
import type { KeyService } from '../../vendors/keys/service.ts';
import { questionForm, takeStep } from './receiver.ts';
import { setUpKeys } from './rig.ts';

const shipped = join(import.meta.dirname, '../../../scripts/rotate');
const folders: string[] = [];
const someFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), 'warder-scripts-'));
  folders.push(folder);
  return folder;
};
const write = (folder: string, name: string, text: string, mode = 0o755): string => {
  const file = join(folder, name);
  writeFileSync(file, text);
  chmodSync(file, mode);
  return file;
};
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

const hasTool = (tool: string): boolean => existsSync(join('/usr/bin', tool));
const ifTools = (...tools: string[]) => (tools.every(hasTool) ? test : test.skip);

/** Asks the test for every step, through files: starting a Node for each of them would take half a minute. */
const asking = `#!/bin/sh
mkfifo "out.$$"
IFS= read -r question
printf '%s' "$question" > "in.$$"
: > "go.$$"
{ IFS= read -r status; IFS= read -r answer; } < "out.$$"
printf '%s' "$answer"
exit "$status"
`;

/** Answers such scripts. Pipes are held open from both ends, so that one whose script was killed makes nobody wait. */
const answerScripts = (folder: string, service: KeyService): (() => void) => {
  const pipes: number[] = [];
  const answered = new Set<string>();
  const watcher = watch(folder, (_event, name) => {
    const id = /^go\.(\d+)$/.exec(String(name))?.[1];
    if (id === undefined || answered.has(id)) return;
    answered.add(id);
    const asked: unknown = JSON.parse(readFileSync(join(folder, `in.${id}`), 'utf8'));
    const { status, answer } = takeStep(service, questionForm.parse(asked));
    const pipe = openSync(join(folder, `out.${id}`), constants.O_RDWR | constants.O_NONBLOCK);
    pipes.push(pipe);
    writeSync(pipe, `${status === 200 ? 0 : 10}\n${JSON.stringify(answer)}\n`);
  });
  return () => {
    watcher.close();
    for (const pipe of pipes) closeSync(pipe);
  };
};

rotationConformance(
  'a script',
  async () => {
    const folder = someFolder();
    write(folder, 'ask', asking);
    const under = await setUpKeys(() => ({ script: 'ask' }), undefined, folder);
    const stop = answerScripts(folder, under.rig.service);
    return {
      ...under,
      close: async () => {
        await under.close();
        stop();
      },
    };
  },
  // Each step is a process: what trouble does is seen with the others.
  { overlaps: true, publicFields: ['id'], trouble: false },
);

describe('a script', () => {
  const folder = someFolder();
  const network = openNetwork();
  const provider = openApiKeyProvider({ network, scripts: folder });
  let spoken: string[] = [];

  afterAll(() => network.close());

  const secret: Fields = { value: 'sk_in_force_0123456789', admin_key: 'admin_0123456789' };
  const settings = { base_url: 'https://api.example.com', scopes: { read: [{ methods: ['GET'], path: '/**' }] } };
  const begin = (name: string, scripts: string | undefined = folder): Attempt => {
    spoken = [];
    return beginAttempt({
      provider: scripts === folder ? provider : openApiKeyProvider({ network, scripts }),
      account: { settings, method: { script: name }, secret, wrong: {}, accepts: async () => false },
      current: secret,
      spoken: (text) => spoken.push(text),
    });
  };
  const failure = async (work: Promise<unknown>): Promise<{ kind?: string; message: string; all: string }> =>
    work.then(
      () => ({ message: 'no failure', all: '' }),
      (error) => ({ kind: error.kind, message: error.message, all: inspect(error, { depth: 9, showHidden: true }) }),
    );

  const story = async (name: string, scripts: string): Promise<void> => {
    const under = await setUpKeys(() => ({ script: name }), undefined, scripts);
    const account = await under.account('plain');
    const attempt = beginAttempt({
      provider: under.provider,
      account,
      current: account.secret,
      spoken: () => undefined,
    });
    const lost = await attempt.create();
    const next = await attempt.create();
    expect([await account.accepts(lost), await account.accepts(next)]).toEqual([false, true]);
    await attempt.test();
    expect(await failure(attempt.test(account.wrong))).toMatchObject({ kind: 'refused' });
    attempt.finish();
    await attempt.retire(account.secret);
    await attempt.retire(account.secret);
    expect([await account.accepts(account.secret), await account.count?.()]).toEqual([false, 1]);
    const undone = beginAttempt({ provider: under.provider, account, current: next, spoken: () => undefined });
    await undone.create();
    await undone.undo(true);
    expect([await account.accepts(next), await account.count?.()]).toEqual([true, 1]);
    await under.close();
  };

  test('scripts/rotate/example.mjs rotates keys and cleans up after itself', async () => {
    const text = readFileSync(join(shipped, 'example.mjs'), 'utf8');
    // The Node of the tests, wherever it is; a script finds nothing but what is in the usual folders.
    write(folder, 'example.mjs', text.replace(/^#!.*/, `#!${process.execPath}`));
    await story('example.mjs', folder);
  });

  ifTools('curl', 'jq')('scripts/rotate/example.sh does the same', () => story('example.sh', shipped));

  test('finds secrets on its standard input only: not in its arguments, and of the environment next to nothing', async () => {
    write(
      folder,
      'look',
      `#!${process.execPath}
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
const asked = JSON.parse(await text(process.stdin));
const seen = JSON.stringify({ argv: process.argv.slice(2), env: process.env, parent: readFileSync('/proc/self/cmdline', 'utf8') });
const clean = !seen.includes(asked.current.value) && !seen.includes('WARDER');
process.stdout.write(JSON.stringify({ secret: { value: clean ? 'sk_clean_' + Object.keys(process.env).sort() : 'sk_not_clean' } }));
`,
    );
    expect(await begin('look').create()).toMatchObject({ value: 'sk_clean_LANG,PATH', admin_key: secret['admin_key'] });
  });

  test.each([
    [10, 'refused', 'refused create: no such account'],
    [1, 'unavailable', 'ended with 1 at create: no such account'],
    [3, 'unavailable', 'ended with 3 at create'],
  ])('that exits with %i is %s', async (code, kind, message) => {
    write(folder, 'exits', `#!/bin/sh\ncat >/dev/null\necho '{"reason": "no such account"}'\nexit ${code}\n`);
    const found = await failure(begin('exits').create());
    expect(found).toMatchObject({ kind, message: expect.stringContaining(message) });
  });

  test('that prints secrets has them masked, those Warder does not know yet too', async () => {
    const unknown = 'sk_made_and_not_told_4711';
    write(
      folder,
      'prints',
      `#!/bin/sh\ncat >&2\necho "made ${unknown}" >&2\ncat >&2 <<'E'\nAKIAIOSFODNN7EXAMPLE\nE\necho '{"reason": "${secret['value']} ${unknown}"}'\nexit 10\n`,
    );
    const found = await failure(begin('prints').create());
    expect(found.kind).toBe('refused');
    expect(found.all).toContain('made [redacted]');
    for (const told of [secret['value'], secret['admin_key'], unknown, 'AKIAIOSFODNN7EXAMPLE']) {
      expect(found.all).not.toContain(told);
    }
  });

  test('that forks and hangs ends with all it started when the time is over', async () => {
    const pids = join(folder, 'pids');
    write(
      folder,
      'hangs',
      `#!/bin/sh\nsleep 300 &\necho $! > ${pids}.new\n(trap '' TERM HUP; sleep 300) &\necho $! >> ${pids}.new\nmv ${pids}.new ${pids}\ncat >/dev/null\nwait\n`,
    );
    const began = performance.now();
    const late = new AbortController();
    const work = failure(begin('hangs').create(late.signal));
    await eventually('it has forked', () => existsSync(pids), Boolean);
    late.abort();
    expect(await work).toMatchObject({ kind: 'timeout' });
    expect(performance.now() - began).toBeLessThan(5_000);
    const alive = (pid: string): boolean => {
      const state = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : ') Z';
      return !/\) Z/.test(state);
    };
    const started = readFileSync(pids, 'utf8').trim().split('\n');
    await eventually(
      'nothing is left of it',
      () => started.filter(alive),
      (left) => left.length === 0,
    );
  });

  test('that leaves a child behind which holds its output is not waited for, and the child is ended', async () => {
    write(
      folder,
      'leaves',
      `#!/bin/sh\ncat >/dev/null\nsleep 300 &\necho '{"secret": {"value": "sk_next_0123456789"}}'\n`,
    );
    const began = performance.now();
    expect(await begin('leaves').create()).toMatchObject({ value: 'sk_next_0123456789' });
    expect(performance.now() - began).toBeLessThan(3_000);
  });

  test('that answers without end is stopped', async () => {
    write(folder, 'floods', '#!/bin/sh\nexec cat /dev/zero\n');
    expect(await failure(begin('floods').create())).toMatchObject({ kind: 'unavailable' });
    write(
      folder,
      'complains',
      `#!/bin/sh\nhead -c 3000000 /dev/zero >&2\necho '{"secret": {"value": "sk_next_0123456789"}}'\n`,
    );
    expect(await begin('complains').create()).toMatchObject({ value: 'sk_next_0123456789' });
  });

  test('that does not read what it is told is no harm', async () => {
    write(folder, 'deaf', `#!/bin/sh\nexec </dev/null\necho '{"secret": {"value": "sk_next_0123456789"}}'\n`);
    expect(await begin('deaf').create()).toMatchObject({ value: 'sk_next_0123456789' });
  });

  test('that cannot be started says so', async () => {
    write(folder, 'no-interpreter', '#!/no/such/interpreter\n');
    expect(await failure(begin('no-interpreter').create())).toMatchObject({ kind: 'unavailable' });
  });

  test('for which no file can be opened any more is no end of the process', () => {
    const runner = new URL('../../../adapters/rotation/script-process.ts', import.meta.url).href;
    const source = `
      const { openSync, closeSync } = await import('node:fs');
      const { runScript } = await import('${runner}');
      const held = [];
      try { for (;;) held.push(openSync('/dev/null', 'r')); } catch {}
      const how = await runScript('/bin/true', '{}', AbortSignal.timeout(5000)).then(({ how }) => how, () => 'rejected');
      await new Promise((resolve) => setTimeout(resolve, 50));
      held.forEach(closeSync);
      console.log('goes on:', how);`;
    const { stdout } = spawnSync(
      'sh',
      [
        '-c',
        'ulimit -n 64; exec "$0" --disable-warning=ExperimentalWarning --input-type=module -e "$1"',
        process.execPath,
        source,
      ],
      { encoding: 'utf8', timeout: 20_000 },
    );
    expect(stdout).toMatch(/goes on: (?:rejected|not started)/);
  });

  describe('is not run', () => {
    const fine = '#!/bin/sh\ncat >/dev/null\necho \'{"secret": {"value": "sk_next_0123456789"}}\'\n';
    const why = async (name: string, scripts = folder) => failure(begin(name, scripts).create());

    test.each(['../etc/passwd', '/bin/sh', '.hidden', '-c', 'a/b', 'a b', '', 'a\u0000b', 'x'.repeat(65)])(
      'by the name %j',
      (name) => {
        const checked = rotationOf(provider).checkMethod({ script: name }, settings);
        expect(checked).toMatchObject({ ok: false });
      },
    );

    test('when there is no folder of scripts, which is said when the method is set', () => {
      const without = openApiKeyProvider({ network });
      expect(rotationOf(without).checkMethod({ script: 'x' }, settings)).toMatchObject({
        ok: false,
        problems: [expect.stringContaining('WARDER_ROTATE_SCRIPTS')],
      });
    });

    test('when it is not there, or not a file; and then there is nothing to undo', async () => {
      mkdirSync(join(folder, 'directory'));
      for (const name of ['none', 'directory']) {
        const attempt = begin(name);
        expect(await failure(attempt.create())).toMatchObject({ kind: 'refused' });
        await attempt.undo(true);
      }
    });

    test.each([
      [0o775, 'written by its group'],
      [0o757, 'written by its group or by others'],
      [0o644, 'not executable'],
    ])('with the mode %o', async (mode, said) => {
      write(folder, 'mode', fine, mode);
      const found = await why('mode');
      expect(found).toMatchObject({ kind: 'refused', message: expect.stringContaining(said) });
    });

    test('when its folder can be written by others, or one above it', async () => {
      const above = someFolder();
      const open = join(above, 'scripts');
      mkdirSync(open);
      write(open, 'fine', fine);
      expect(await why('fine', open)).toMatchObject({ message: 'no failure' });
      for (const folderInQuestion of [open, above]) {
        chmodSync(folderInQuestion, 0o777);
        expect(await why('fine', open)).toMatchObject({
          kind: 'refused',
          message: expect.stringContaining('a folder on the way'),
        });
        chmodSync(folderInQuestion, 0o755);
      }
    });

    test('when it is a link out of the folder; one inside it is followed', async () => {
      const elsewhere = write(someFolder(), 'elsewhere', fine);
      symlinkSync(elsewhere, join(folder, 'out'));
      expect(await why('out')).toMatchObject({ kind: 'refused', message: expect.stringContaining('leads out') });
      mkdirSync(join(folder, '..data'));
      write(join(folder, '..data'), 'real', fine);
      symlinkSync('..data/real', join(folder, 'inside'));
      expect(await why('inside')).toMatchObject({ message: 'no failure' });
      // Swapped for the other one.
      symlinkSync(elsewhere, join(folder, 'swap'));
      renameSync(join(folder, 'swap'), join(folder, 'inside'));
      expect(await why('inside')).toMatchObject({ kind: 'refused' });
    });

    (process.getuid?.() === 0 ? test : test.skip)('when it belongs to somebody else', async () => {
      const file = write(folder, 'theirs', fine);
      spawnSync('chown', ['65534', file]);
      expect(await why('theirs')).toMatchObject({
        kind: 'refused',
        message: expect.stringContaining('belongs neither'),
      });
    });
  });

  test('names itself as where secrets go', () => {
    const checked = rotationOf(provider).checkMethod({ script: 'x' }, settings);
    expect(checked).toEqual({ ok: true, value: { script: { name: 'x', overlaps: true } } });
    if (checked.ok) expect(rotationOf(provider).destinations(checked.value, settings)).toEqual(['script:x']);
  });
});
