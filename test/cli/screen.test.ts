import { describe, expect, test } from '@jest/globals';
import { shownCount, shownDuration, shownTime, tableLines } from '../../src/cli/screen.ts';
import { runOn } from './harness.ts';

const agents = {
  'GET agents': {
    body: {
      items: [
        { name: 'reporter', owner: 'fin@example.com', auth: { method: 'client_secret_basic' }, status: 'active' },
        { name: '日本', owner: 'x', auth: { method: 'private_key_jwt' }, status: 'suspended', purpose: 'wide' },
      ],
      next_cursor: null,
    },
  },
};
const colourStart = '\u001b[';

describe('tables', () => {
  test('columns are aligned without borders, also where characters are wide', () => {
    expect(
      tableLines(
        ['A', 'B'],
        [
          ['日本', 'x'],
          ['long name', ''],
        ],
      ),
    ).toEqual(['A          B', '日本       x', 'long name  -']);
  });

  test('the list of agents is one', async () => {
    const { out } = await runOn(agents, ['agent', 'list']);
    expect(out).toBe(
      [
        'NAME      OWNER            AUTH                 STATUS     CREATED  PURPOSE',
        'reporter  fin@example.com  client_secret_basic  active     -        -',
        '日本      x                private_key_jwt      suspended  -        wide',
        '',
      ].join('\n'),
    );
  });
});

describe('colours', () => {
  test('appear on a terminal', async () => {
    expect((await runOn(agents, ['agent', 'list'], { terminal: true })).out).toContain(colourStart);
  });

  test.each([
    ['in a pipe', {}],
    ['with NO_COLOR', { terminal: true, env: { NO_COLOR: '1' } }],
    ['on a dumb terminal', { terminal: true, env: { TERM: 'dumb' } }],
  ])('do not appear %s', async (_where, options) => {
    expect((await runOn(agents, ['agent', 'list'], options)).out).not.toContain(colourStart);
  });

  test('appear with an empty NO_COLOR, as no-color.org says', async () => {
    const { out } = await runOn(agents, ['agent', 'list'], { terminal: true, env: { NO_COLOR: '' } });
    expect(out).toContain(colourStart);
  });
});

describe('what numbers look like', () => {
  test('times lose their milliseconds, and nothing else is touched', () => {
    expect(shownTime('2026-11-22T10:00:05.123Z')).toBe('2026-11-22 10:00:05Z');
    expect(shownTime('soon')).toBe('soon');
  });

  test('durations are written as people do', () => {
    expect([900, 5400, 86_400, 90_061, 0].map(shownDuration)).toEqual(['15m', '1h30m', '1d', '1d1h1m1s', '0s']);
    expect(shownDuration(undefined)).toBe('');
  });

  test('large numbers have separators', () => {
    expect([0, 999, 1000, 1_234_567].map(shownCount)).toEqual(['0', '999', '1,000', '1,234,567']);
  });
});
