/** `warder freeze`: nothing new is issued for what it names, until it is lifted. What is out goes on working. */
import type { Command } from 'commander';
import { type Query, segment } from '../api.ts';
import { confirm, isInteractive } from '../ask.ts';
import { type JsonOption, leaf, type PageOptions, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { exitCodes, Failure } from '../failure.ts';
import * as noun from '../noun.ts';
import { type SelectorOptions, selectorFrom, withSelectorOptions } from '../selector-options.ts';
import { shownSelector } from './revocation.ts';

const standing: noun.Cell[1] = (freeze, screen) =>
  freeze.flag('standing') ? screen.paint('yellow', 'stands') : 'lifted';

const freezes: noun.Noun = {
  name: 'freeze',
  path: 'freezes',
  argument: '<id>',
  columns: [
    noun.plain('ID', 'id'),
    noun.time('SINCE', 'created_at'),
    ['SELECTOR', (freeze) => shownSelector(freeze.within('selector'))],
    ['STATE', standing],
    noun.plain('BY', 'created_by'),
    noun.plain('INCIDENT', 'incident'),
    noun.plain('REASON', 'reason'),
  ],
  sheet: [
    noun.plain('id', 'id'),
    ['selector', (freeze) => shownSelector(freeze.within('selector'))],
    ['state', standing],
    noun.plain('reason', 'reason'),
    noun.plain('incident', 'incident'),
    noun.time('since', 'created_at'),
    noun.plain('by', 'created_by'),
    noun.time('lifted', 'lifted_at'),
    noun.plain('lifted by', 'lifted_by'),
    noun.plain('lifted because', 'lift_reason'),
  ],
};

const freeze = async (context: Context, options: SelectorOptions & JsonOption & { reason: string; yes?: true }) => {
  const selector = selectorFrom(options);
  if (options.everything && !options.yes && isInteractive(context)) {
    const sure = await confirm(context, 'This stops issuing for every agent, until it is lifted. Go on?');
    if (!sure) throw new Failure(exitCodes.failed, ['not confirmed; nothing was frozen']);
  }
  const { api, screen } = toolsFor(context);
  const answer = await api.call('POST', 'freezes', { body: { selector, reason: options.reason } });
  present(screen, options, answer, (fields) => {
    screen.line(
      `${screen.paint('bold', 'Frozen.')} Nothing new is issued for ${shownSelector(fields.within('selector'))} ` +
        `(${fields.text('id')}). What is out goes on working: warder revoke-all takes it back.`,
    );
    screen.line(`Lift it with: warder freeze lift ${fields.text('id')} --reason …`);
  });
};

/** Adds `freeze` and everything below it. */
export const freezeCommands = (program: Command, context: Context): void => {
  const group = withSelectorOptions(
    leaf(program, 'freeze', 'issue nothing new for what the options name, until it is lifted'),
  )
    .enablePositionalOptions()
    // Asked for by hand: a required option would be asked of `list` and `lift`, too.
    .option('--reason <text>', 'why; it is recorded')
    .option('--yes', 'do not ask')
    .action(async (options: SelectorOptions & JsonOption & { reason?: string; yes?: true }, command: Command) => {
      const { reason } = options;
      if (reason === undefined) command.error("error: required option '--reason <text>' not specified");
      else await freeze(context, { ...options, reason });
    });
  noun
    .listCommand(
      group,
      context,
      freezes,
      ({ all }: PageOptions & { all?: true }): Query => (all ? {} : { standing: 'true' }),
    )
    .option('--all', 'lifted ones, too');
  noun.showCommand(group, context, freezes);
  leaf(group, 'lift <id>', 'lift a freeze: what it named may be issued again')
    .requiredOption('--reason <text>', 'why; it is recorded')
    .action(async (id: string, options: JsonOption & { reason: string }) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('POST', `freezes/${segment(id)}/lift`, { body: { reason: options.reason } });
      present(screen, options, answer, () => screen.line(`Lifted ${id}.`));
    });
};
