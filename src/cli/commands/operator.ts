/** `warder operator`: the people and automations that administer. */
import type { Command } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import * as noun from '../noun.ts';
import type { Screen } from '../screen.ts';
import { collectNames, parseExpiry } from '../values.ts';

const expiresHint = 'when its token ends: a day (its beginning, UTC), a time, a duration from now, or never';
const roleHint = 'admin, operator, approver, reviewer, responder or auditor (repeatable)';

const operators: noun.Noun = {
  name: 'operator',
  path: 'operators',
  argument: '<name>',
  columns: [
    noun.plain('NAME', 'name'),
    noun.names('ROLES', 'roles'),
    noun.status('STATUS'),
    noun.end('EXPIRES', 'expires_at'),
    noun.time('CREATED', 'created_at'),
  ],
  sheet: [
    noun.plain('name', 'name'),
    noun.plain('id', 'id'),
    noun.names('roles', 'roles'),
    noun.status('status'),
    noun.end('expires', 'expires_at'),
    noun.time('created', 'created_at'),
    noun.time('updated', 'updated_at'),
  ],
};

/** A token that is shown once, as a line to paste into a shell. */
export const showOperatorToken = (screen: Screen, token: string): void => {
  screen.line('This token is shown once; keep it safe:');
  screen.line();
  screen.line(`export WARDER_TOKEN=${token}`);
};

const changeCommands = (group: Command, context: Context): void => {
  leaf(group, 'add <name>', 'register an operator')
    .alias('create')
    .requiredOption('--role <role>', roleHint, collectNames)
    .option('--expires <when>', expiresHint)
    .action(async (name: string, options: JsonOption & { role: string[]; expires?: string }) => {
      const body = { name, roles: options.role, expires_at: parseExpiry(options.expires, context.now()) };
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('POST', 'operators', { body }), (operator) => {
        screen.line(`Added operator ${operator.text('name')} (${operator.texts('roles').join(', ')}).`);
        showOperatorToken(screen, operator.text('token'));
      });
    });

  leaf(group, 'update <name>', 'change roles or end')
    .option('--role <role>', `instead of the roles it has: ${roleHint}`, collectNames)
    .option('--expires <when>', expiresHint)
    .action(async (name: string, options: JsonOption & { role?: string[]; expires?: string }) => {
      const body = { roles: options.role, expires_at: parseExpiry(options.expires, context.now()) };
      if (body.roles === undefined && body.expires_at === undefined) throw usage('nothing to change was given');
      const { api, screen } = toolsFor(context);
      const answer = await api.call('PATCH', `operators/${segment(name)}`, { body });
      present(screen, options, answer, (operator) => screen.line(`Changed operator ${operator.text('name')}.`));
    });

  leaf(group, 'rotate-token <name>', 'give it a new token; the old one stops working').action(
    async (name: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('POST', `operators/${segment(name)}/token`);
      present(screen, options, answer, (fields) => showOperatorToken(screen, fields.text('token')));
    },
  );
};

/** Adds `operator` and everything below it. */
export const operatorCommands = (program: Command, context: Context): void => {
  const group = program.command('operator').description('people and automations that administer');
  noun.listCommand(group, context, operators);
  noun.showCommand(group, context, operators);
  changeCommands(group, context);
  noun.stateCommands(group, context, operators, {
    suspend: 'refuse its token until it is resumed',
    resume: 'take its token again',
  });
  noun.removeCommand(group, context, operators, 'delete it; its token stops working');
};
