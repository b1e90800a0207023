/** The table of routes in docs/operators.md is made from the routes themselves. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { roles } from '../../src/domain/model.ts';
import { adminTable } from '../../src/http/admin/router.ts';

const page = join(import.meta.dirname, '../../docs/operators.md');
const mark = '<!-- generated from src/http/admin/router.ts -->\n\n';

const table = (): string =>
  [
    `| route | does | ${roles.join(' | ')} |`,
    `|---|---|${roles.map(() => ':-:|').join('')}`,
    ...adminTable.map((entry) => {
      const may = roles.map((role) => (entry.roles.includes(role) ? '✓' : ' '));
      return `| \`${entry.method} ${entry.path}\` | ${entry.summary} | ${may.join(' | ')} |`;
    }),
  ].join('\n');

test('docs/operators.md has every route with its roles (WARDER_UPDATE_GOLDEN=1 rewrites it)', () => {
  const text = readFileSync(page, 'utf8');
  const from = text.indexOf(mark) + mark.length;
  const to = text.indexOf('\n\n', from);
  if (process.env['WARDER_UPDATE_GOLDEN'] === '1') writeFileSync(page, text.slice(0, from) + table() + text.slice(to));
  else expect(text.slice(from, to)).toBe(table());
});
