import { describe, expect, test } from '@jest/globals';
import { printable, printableJson } from '../../src/cli/sanitise.ts';
import { runOn } from './harness.ts';

const hostile = {
  colour: '\u001b[31mred\u001b[0m',
  title: '\u001b]0;owned\u0007name',
  link: '\u001b]8;;https://evil.example\u001b\\text\u001b]8;;\u001b\\',
  c1: 'a\u009b2Jb',
  backspace: 'good\b\b\b\bevil',
  carriageReturn: 'good\revil',
  bidirectional: 'a\u202eb\u2066c',
  zeroWidth: 'a\u200bb\ufeffc',
  nul: 'a\u0000b',
  lines: 'one\ntwo\ttab',
  cutOff: 'a\u001b',
  surrogate: 'a\ud800b',
};

describe('what goes to a terminal', () => {
  test.each(Object.entries(hostile))('carries no character that steers it: %s', (_name, text) => {
    expect(printable(text)).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}]/u);
  });

  test('keeps what people write', () => {
    for (const text of ['Zoë & søn', '日本語', '☃ 🙂', 'a b', '', 'quarterly report – “draft”']) {
      expect(printable(text)).toBe(text);
    }
  });

  test('keeps words apart that stood on two lines', () => {
    expect(printable('one\r\ntwo\tthree')).toBe('one two three');
  });

  test('JSON stays the same value', () => {
    const json = `${JSON.stringify(hostile)}\n`;
    expect(JSON.parse(printableJson(json))).toEqual(hostile);
    expect(printableJson(json).replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });
});

describe('a broker that answers with control sequences', () => {
  const agent = Object.fromEntries(
    ['id', 'name', 'owner', 'purpose', 'status'].map((f) => [f, Object.values(hostile).join('')]),
  );
  const item = { ...agent, auth: { method: hostile.title }, created_at: hostile.c1 };
  const steering = /(?!\n)[\p{Cc}\p{Cf}]/u;

  test.each([
    ['agent', 'list'],
    ['agent', 'show', 'x'],
    ['agent', 'add', 'x', '--owner', 'o'],
  ])('reaches nobody through %s %s', async (...args) => {
    const routes = {
      'GET agents': { body: { items: [item], next_cursor: hostile.c1 } },
      'GET agents/x': { body: item },
      'POST agents': { status: 201, body: { ...item, client_id: hostile.colour, client_secret: hostile.link } },
    };
    const { out, err, code } = await runOn(routes, args, { terminal: true, env: { NO_COLOR: '1' } });
    expect(code).toBe(0);
    expect(out + err).not.toMatch(steering);
  });

  test('reaches nobody through an error', async () => {
    const body = { code: hostile.colour, detail: hostile.title, request_id: hostile.c1, problems: [hostile.backspace] };
    const routes = { 'GET agents': { status: 400, body } };
    for (const json of [[], ['--json']]) {
      const { err } = await runOn(routes, ['agent', 'list', ...json], { terminal: true });
      expect(err).not.toMatch(steering);
      expect(err).toContain('name');
    }
  });

  test('reaches nobody through --json on a terminal, and is the same value', async () => {
    const routes = { 'GET agents/x': { body: item } };
    const { out } = await runOn(routes, ['agent', 'show', 'x', '--json'], { terminal: true });
    expect(out).not.toMatch(steering);
    expect(JSON.parse(out)).toEqual(JSON.parse(JSON.stringify(item)));
  });
});
