/** `warder entitlement`: the standing rules, who may obtain what. */
import type { Command } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, type PageOptions, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import { shownDuration } from '../screen.ts';
import { collectNames, collectPatterns, parseBudget, parseDuration, parseExpiry, parseHours } from '../values.ts';

interface RuleOptions {
  scope?: string[];
  maxTtl?: number;
  expires?: string;
  reason?: string;
  hours?: ReturnType<typeof parseHours> | false;
  budget?: ReturnType<typeof parseBudget> | false;
  onBehalfOf?: string[];
}

/** A parser that also takes a word for "no such limit", as false: Commander makes '' of a null. */
const orNone =
  <T>(word: string, parse: (text: string) => T) =>
  (text: string): T | false =>
    text === word ? false : parse(text);

const withRuleOptions = (command: Command): Command =>
  command
    .option('--max-ttl <duration>', 'longest life of a grant, e.g. 15m', parseDuration)
    .option('--expires <when>', 'its own end: a day (its beginning, UTC), a time, a duration from now, or never')
    .option('--reason <text>', 'why this agent needs this')
    .option('--hours <from-to>', 'times of day in UTC, e.g. 08:00-18:00, or always', orNone('always', parseHours))
    .option(
      '--budget <grants/duration>',
      'how many grants in a while, e.g. 100/1h, or none',
      orNone('none', parseBudget),
    )
    .option(
      '--on-behalf-of <pattern>',
      'whom it may act for, e.g. corp:*@example.com (repeatable), or nobody',
      collectPatterns,
    );

/** The part of the body that creating and changing share; undefined fields are left out of JSON. */
const ruleOf = (options: RuleOptions, now: number): Record<string, unknown> => ({
  scopes: options.scope,
  max_ttl_seconds: options.maxTtl,
  expires_at: parseExpiry(options.expires, now),
  reason: options.reason,
  hours: options.hours === false ? null : options.hours,
  budget: options.budget === false ? null : options.budget,
  on_behalf_of: options.onBehalfOf?.join() === 'nobody' ? null : options.onBehalfOf,
});

const shownHours = (entitlement: Fields): string => {
  const hours = entitlement.within('hours');
  return entitlement.has('hours') ? `${hours.text('from')}-${hours.text('to')} UTC` : 'always';
};

const shownBudget = (entitlement: Fields): string => {
  const budget = entitlement.within('budget');
  return entitlement.has('budget')
    ? `${budget.text('grants')} each ${shownDuration(budget.number('per_seconds'))}`
    : 'unlimited';
};

const longestLife = (entitlement: Fields): string => shownDuration(entitlement.number('max_ttl_seconds'));

const entitlements: noun.Noun = {
  name: 'entitlement',
  path: 'entitlements',
  argument: '<id>',
  columns: [
    noun.plain('ID', 'id'),
    noun.plain('AGENT', 'agent'),
    noun.plain('CONNECTION', 'connection'),
    noun.names('SCOPES', 'scopes'),
    ['LONGEST LIFE', longestLife],
    ['HOURS', shownHours],
    ['BUDGET', shownBudget],
    noun.end('EXPIRES', 'expires_at'),
  ],
  sheet: [
    noun.plain('id', 'id'),
    noun.plain('agent', 'agent'),
    noun.plain('connection', 'connection'),
    noun.names('scopes', 'scopes'),
    ['longest life', longestLife],
    noun.plain('approval', 'approval'),
    ['hours', shownHours],
    ['budget', shownBudget],
    ['on behalf of', (entitlement) => entitlement.texts('on_behalf_of').join('  ') || 'itself only'],
    noun.plain('reason', 'reason'),
    noun.plain('granted by', 'granted_by'),
    noun.end('expires', 'expires_at'),
    noun.time('created', 'created_at'),
    noun.time('updated', 'updated_at'),
  ],
};

const changeCommands = (group: Command, context: Context): void => {
  withRuleOptions(leaf(group, 'add', 'let an agent obtain scopes on a connection').alias('create'))
    .requiredOption('--agent <name>', 'who')
    .requiredOption('--connection <name>', 'where')
    .requiredOption('--scope <scope>', 'what (repeatable)', collectNames)
    .action(async (options: JsonOption & RuleOptions & { agent: string; connection: string }) => {
      const { agent, connection } = options;
      const body = { agent, connection, ...ruleOf(options, context.now()) };
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('POST', 'entitlements', { body }), (entitlement) => {
        screen.line(`Added entitlement ${entitlement.text('id')}.`);
        screen.line();
        noun.showSheet(screen, entitlements.sheet, entitlement);
      });
    });

  withRuleOptions(leaf(group, 'update <id>', 'change a rule'))
    .option('--scope <scope>', 'what, instead of the scopes it has (repeatable)', collectNames)
    .action(async (id: string, options: JsonOption & RuleOptions) => {
      const body = ruleOf(options, context.now());
      if (Object.values(body).every((value) => value === undefined)) throw usage('nothing to change was given');
      const { api, screen } = toolsFor(context);
      const answer = await api.call('PATCH', `entitlements/${segment(id)}`, { body });
      present(screen, options, answer, (entitlement) => screen.line(`Changed entitlement ${entitlement.text('id')}.`));
    });
};

interface Filters extends PageOptions {
  agent?: string;
  connection?: string;
}

/** Adds `entitlement` and everything below it. */
export const entitlementCommands = (program: Command, context: Context): void => {
  const group = program.command('entitlement').description('standing rules: who may obtain what');
  noun
    .listCommand(group, context, entitlements, ({ agent, connection }: Filters) => ({ agent, connection }))
    .option('--agent <name>', 'of this agent only')
    .option('--connection <name>', 'on this connection only');
  noun.showCommand(group, context, entitlements);
  changeCommands(group, context);
  noun.removeCommand(group, context, entitlements, 'take the rule back; grants made under it die');
};
