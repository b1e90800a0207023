import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, test } from '@jest/globals';
import { type Options, runOn } from './harness.ts';

const folder = mkdtempSync(join(tmpdir(), 'warder-cli-'));
const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const routes = { 'PUT connections/stripe/secret': { body: { version: 2 } } };
const secretFrom = (source: string, options: Options = {}) =>
  runOn(routes, ['connection', 'set-secret', 'stripe', '--secret', source], options);

describe('a secret', () => {
  test.each<[string, string, Options]>([
    ['from the environment', 'env:KEY', { env: { KEY: 'sk_1' } }],
    ['from a file', `file:${file('key', 'sk_1')}`, {}],
    ['from a file with a line end', `file:${file('key-lf', 'sk_1\n')}`, {}],
    ['from a file with a Windows line end', `file:${file('key-crlf', 'sk_1\r\n')}`, {}],
    ['from standard input', '-', { stdin: 'sk_1\n' }],
  ])('%s is sent, and shown nowhere', async (_where, source, options) => {
    const { code, out, err, sent } = await secretFrom(source, options);
    expect(code).toBe(0);
    expect(sent.map(({ body }) => body)).toEqual([{ value: 'sk_1' }]);
    expect(out).toBe('The secret of stripe is version 2 now.\n');
    expect(err).toBe('');
  });

  const fieldsFrom = (sources: string[], options: Options = {}) => {
    const args = sources.flatMap((source) => ['--secret', source]);
    return runOn(routes, ['connection', 'set-secret', 'stripe', ...args], options);
  };

  test('of several fields is given field by field', async () => {
    const { code, sent } = await fieldsFrom([`username=file:${file('user=name', 'warder')}`, 'password=-'], {
      stdin: 'pass=word\n',
    });
    expect([code, sent[0]?.body]).toEqual([0, { username: 'warder', password: 'pass=word' }]);
  });

  test.each([
    ['the same field twice', ['password=env:KEY', 'password=env:KEY'], /the field password is given twice/],
    ['two fields from standard input', ['username=-', 'password=-'], /only one field can come from standard input/],
    ['a field with the secret itself', ['password=sk_live_1'], /never the secret itself/],
  ])('%s is refused before anything is sent', async (_what, sources, message) => {
    const { code, err, sent } = await fieldsFrom(sources, { env: { KEY: 'sk_1' } });
    expect({ code, sent }).toEqual({ code: 2, sent: [] });
    expect(err).toMatch(message);
    expect(err).not.toContain('sk_live_1');
  });

  test('that Warder shall make is asked for, and there is nothing to read', async () => {
    const { code, sent } = await secretFrom('generate');
    expect([code, sent[0]?.body]).toEqual([0, { generate: true }]);
    const access = file('access.yaml', 'connections: [{ name: hosts, provider: ssh, secret: { generate: true } }]');
    const applied = await runOn({ 'POST apply': { body: {} } }, ['apply', '-f', access, '--plan']);
    expect(applied.sent[0]?.body).toMatchObject({ connections: [{ name: 'hosts', secret: { generate: true } }] });
  });

  test('keeps white space and line ends of its own', async () => {
    const { sent } = await secretFrom(`file:${file('pem', ' line 1\nline 2\n\n')}`);
    expect(sent[0]?.body).toEqual({ value: ' line 1\nline 2\n' });
  });

  test.each<[string, string, Options]>([
    ['given as it is', 'sk_live_1', {}],
    ['with an unknown prefix', 'vault:sk_live_1', {}],
    ['from a variable that is not set', 'env:NOT_SET', {}],
    ['from a variable that is empty', 'env:EMPTY', { env: { EMPTY: '' } }],
    ['from a file that is not there', `file:${join(folder, 'missing')}`, {}],
    ['from an empty file', `file:${file('empty', '\n')}`, {}],
    ['from an empty standard input', '-', { stdin: '' }],
  ])('%s is refused before anything is sent', async (_what, source, options) => {
    const { code, err, sent } = await secretFrom(source, options);
    expect({ code, sent }).toEqual({ code: 2, sent: [] });
    expect(err).toContain('--secret');
    expect(err).not.toContain('sk_live_1');
  });

  test('typed at a terminal does not show, and can be corrected', async () => {
    const modes: boolean[] = [];
    const stdin = Object.assign(new PassThrough(), { isTTY: true, setRawMode: (mode: boolean) => modes.push(mode) });
    stdin.write('sk_x\u007f1\r');
    const { code, out, err, sent } = await secretFrom('-', { terminal: true, context: { stdin } });
    expect(code).toBe(0);
    expect(sent[0]?.body).toEqual({ value: 'sk_1' });
    expect(out + err).not.toContain('sk_');
    expect(modes).toEqual([true, false]);
  });

  test('is not sent when Ctrl-C ends the typing', async () => {
    const stdin = Object.assign(new PassThrough(), { isTTY: true });
    stdin.write('sk_x\u0003');
    const { code, sent } = await secretFrom('-', { terminal: true, context: { stdin } });
    expect({ code, sent }).toEqual({ code: 2, sent: [] });
  });
});
