/** The filters that listing and exporting the audit log share. */
import { type Command, Option } from 'commander';
import { usage } from './failure.ts';
import { parseMoment, type Timezone } from './values.ts';

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
