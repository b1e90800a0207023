/** `warder audit`: what happened, as a list for people; the export and its verification have files of their own. */
import type { Command } from 'commander';
import { type AuditFilters, auditQuery, withAuditFilters } from '../audit-filters.ts';
import { type JsonOption, leaf, listLeaf, type PageOptions, present, presentList, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import * as noun from '../noun.ts';
import { printable } from '../sanitise.ts';
import { shownTime } from '../screen.ts';
import type { Timezone } from '../values.ts';
import { exportCommand } from './audit-export.ts';
import { verifyCommand } from './audit-verify.ts';
import { witnessCommand } from './audit-witness.ts';

/** A time in the zone of this machine, with its offset; what is no time is shown as it is. */
const localTime = (iso: string): string => {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const offset = -date.getTimezoneOffset();
  const two = (n: number): string => String(Math.floor(Math.abs(n))).padStart(2, '0');
  const shifted = new Date(date.getTime() + offset * 60_000).toISOString();
  return `${shownTime(shifted).slice(0, -1)}${offset < 0 ? '-' : '+'}${two(offset / 60)}:${two(offset % 60)}`;
};

const columns = (zone: Timezone): noun.Cell[] => [
  noun.plain('SEQ', 'seq'),
  ['TIME', (entry) => (zone === 'local' ? localTime(entry.text('time')) : shownTime(entry.text('time')))],
  noun.plain('TYPE', 'type'),
  ['OUTCOME', (entry, screen) => screen.status(entry.text('outcome'))],
  [
    'ACTOR',
    (entry) => {
      const actor = entry.within('actor');
      return [actor.text('kind'), actor.maybe('name') ?? actor.text('address')].join(' ').trim();
    },
  ],
  ['AGENT', (entry) => entry.within('agent').text('name')],
  ['CONNECTION', (entry) => entry.within('connection').text('name')],
  noun.plain('GRANT', 'grant'),
  ['DATA', (entry) => (entry.has('data') ? entry.json('data') : '')],
];

/** Adds `audit` and everything below it. */
export const auditCommands = (program: Command, context: Context): void => {
  const group = program.command('audit').description('the record of everything that happened');

  withAuditFilters(listLeaf(group, 'entries')).action(async (options: PageOptions & AuditFilters) => {
    const query = auditQuery(options, context.now());
    const tools = toolsFor(context);
    await presentList(tools, 'audit', query, options, (items) =>
      noun.showTable(tools.screen, columns(options.timezone ?? 'utc'), items),
    );
  });

  exportCommand(group, context);
  verifyCommand(group, context);
  witnessCommand(group, context);

  leaf(group, 'checkpoint', 'the signed head of the log; keep it elsewhere to compare with later').action(
    async (options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('GET', 'audit/checkpoint');
      present(screen, options, answer, (checkpoint) => {
        // Line by line: its line ends belong to the note, which stays one that verifies.
        context.stdout.write(checkpoint.raw('checkpoint').split('\n').map(printable).join('\n'));
        screen.note(`key: ${checkpoint.text('key')}`);
      });
    },
  );
};
