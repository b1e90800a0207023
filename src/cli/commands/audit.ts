/** `warder audit`: what happened, as a list for people; the export and its verification have files of their own. */
import { type Command, Option } from 'commander';
import { type JsonOption, leaf, listLeaf, type PageOptions, present, presentList, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import * as noun from '../noun.ts';
import { printable } from '../sanitise.ts';
import { shownTime } from '../screen.ts';
import { parseMoment, type Timezone } from '../values.ts';
import { exportCommand } from './audit-export.ts';
import { verifyCommand } from './audit-verify.ts';

export interface AuditFilters {
  agent?: string;
  connection?: string;
  grant?: string;
  type?: string;
  on?: string;
  from?: string;
  to?: string;
  timezone?: Timezone;
}

/** The filters `list` and `export` share. */
export const withAuditFilters = (command: Command): Command =>
  command
    .option('--agent <name>', 'of this agent only')
    .option('--connection <name>', 'on this connection only')
    .option('--grant <id>', 'of this grant only')
    .option('--type <type>', 'of this type only, e.g. grant.issued')
    .option('--on <day>', 'on this day, e.g. 2026-11-21')
    .option('--from <when>', 'since: a day, a time, or a duration ago')
    .option('--to <when>', 'before: a day (to its end), a time, or a duration ago')
    .addOption(new Option('--timezone <zone>', 'whose days (default: utc)').choices(['utc', 'local']));

/** @throws Failure 2, InvalidArgumentError */
export const auditQuery = (filters: AuditFilters, now: number) => {
  const { agent, connection, grant, type, on, from, to } = filters;
  if (on !== undefined && (from !== undefined || to !== undefined)) {
    throw usage('--on is a whole day: it excludes --from and --to');
  }
  if (on !== undefined && !/^\d{4}-\d{2}-\d{2}$/.test(on)) throw usage('--on takes a day such as 2026-11-21');
  const rules = { now, zone: filters.timezone ?? 'utc', duration: 'ago' } as const;
  const first = on ?? from;
  const last = on ?? to;
  return {
    agent,
    connection,
    grant,
    type,
    from: first && parseMoment(first, { ...rules, day: 'start' }),
    to: last && parseMoment(last, { ...rules, day: 'end' }),
  };
};

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

  leaf(group, 'checkpoint', 'the signed head of the log; keep it elsewhere to compare with later').action(
    async (options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('GET', 'audit/checkpoint');
      present(screen, options, answer, () => {
        const note: unknown = JSON.parse(Buffer.from(answer.body).toString('utf8'));
        // Line ends belong to the note; `fields` would have made one line of it.
        const text = typeof note === 'object' && note !== null && 'checkpoint' in note ? String(note.checkpoint) : '';
        context.stdout.write(text.split('\n').map(printable).join('\n'));
        screen.note(`key: ${answer.fields.text('key')}`);
      });
    },
  );
};
