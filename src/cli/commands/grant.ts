/** `warder grant`: what was issued, and taking one of them back. */
import { type Command, Option } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, type PageOptions, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import * as noun from '../noun.ts';
import { parseMoment } from '../values.ts';
import { revokeAndFollow } from './revoke-all.ts';

interface Filters extends PageOptions {
  agent?: string;
  connection?: string;
  status?: string;
  from?: string;
  to?: string;
}

const statuses = ['intended', 'active', 'expired', 'revoked', 'returned', 'aborted', 'unrevocable'];

const grants: noun.Noun = {
  name: 'grant',
  path: 'grants',
  argument: '<id>',
  columns: [
    noun.plain('ID', 'id'),
    noun.plain('AGENT', 'agent'),
    noun.plain('CONNECTION', 'connection'),
    noun.names('SCOPES', 'scopes'),
    noun.status('STATUS'),
    noun.time('ISSUED', 'issued_at'),
    noun.time('EXPIRES', 'expires_at'),
    noun.plain('REASON', 'reason'),
  ],
  sheet: [
    noun.plain('id', 'id'),
    noun.plain('agent', 'agent'),
    noun.plain('owner', 'owner'),
    noun.plain('connection', 'connection'),
    noun.plain('provider', 'provider'),
    noun.plain('entitlement', 'entitlement'),
    noun.names('scopes', 'scopes'),
    noun.status('status'),
    noun.plain('enforcement', 'enforcement'),
    noun.plain('credential', 'credential_type'),
    noun.plain('subject', 'subject'),
    noun.names('issuers', 'issuers'),
    noun.plain('bound to a key', 'dpop'),
    noun.plain('reason', 'reason'),
    noun.time('issued', 'issued_at'),
    noun.time('expires', 'expires_at'),
    noun.time('longest life', 'max_expires_at'),
    noun.time('works upstream until', 'upstream_ends_by'),
    noun.plain('upstream', 'upstream'),
    noun.time('ended upstream', 'upstream_ended_at'),
    noun.plain('failure', 'failure'),
    noun.plain('by hand', 'by_hand'),
  ],
};

/** Adds `grant` and everything below it. */
export const grantCommands = (program: Command, context: Context): void => {
  const group = program.command('grant').description('what was issued');
  noun
    .listCommand(group, context, grants, ({ agent, connection, status, from, to }: Filters) => {
      const rules = { now: context.now(), zone: 'utc', duration: 'ago' } as const;
      return {
        agent,
        connection,
        status,
        from: from && parseMoment(from, { ...rules, day: 'start' }),
        to: to && parseMoment(to, { ...rules, day: 'end' }),
      };
    })
    .option('--agent <name>', 'of this agent only')
    .option('--connection <name>', 'on this connection only')
    .addOption(new Option('--status <status>', 'with this status only').choices(statuses))
    .option('--from <when>', 'issued since: a day (UTC), a time, or a duration ago')
    .option('--to <when>', 'issued before: a day (to its end, UTC), a time, or a duration ago');
  noun.showCommand(group, context, grants);
  leaf(group, 'revoke <id>', 'take one grant back')
    .requiredOption('--reason <text>', 'why; it is recorded')
    .option('--wait', 'wait until the clean-up upstream has ended')
    .action(async (id: string, options: JsonOption & { reason: string; wait?: true }) => {
      await revokeAndFollow(context, { selector: { grant: id }, reason: options.reason }, options);
    });
  leaf(group, 'retry <id>', 'try again to take back upstream what could not be').action(
    async (id: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('POST', `grants/${segment(id)}/retry`, { body: {} });
      present(screen, options, answer, (fields) => screen.line(`Trying again: ${fields.text('id')}.`));
    },
  );
};
