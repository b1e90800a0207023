/** `warder apply`: makes the broker be as a file says, and shows the difference first. */
import type { Command } from 'commander';
import { readAccess } from '../access-file.ts';
import type { Answer, Api } from '../api.ts';
import { confirm, isInteractive } from '../ask.ts';
import { type JsonOption, leaf, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { failed } from '../failure.ts';
import type { Fields } from '../fields.ts';
import type { Screen, Style } from '../screen.ts';
import { parseYaml, readText } from '../yaml-input.ts';
import { showClientSecret } from './agent.ts';

interface ApplyOptions extends JsonOption {
  file: string;
  plan?: true;
  prune?: true;
  yes?: true;
}

const signs: Record<string, { sign: string; style: Style }> = {
  create: { sign: '+', style: 'green' },
  update: { sign: '~', style: 'yellow' },
  delete: { sign: '-', style: 'red' },
};

const showChanges = (screen: Screen, changes: readonly Fields[]): void => {
  for (const change of changes) {
    const { sign, style } = signs[change.text('action')] ?? { sign: '?', style: 'reset' };
    const fields = change.texts('fields');
    const detail = fields.length > 0 ? ` (${fields.join(', ')})` : '';
    screen.line(screen.paint(style, `${sign} ${change.text('kind')} ${change.text('name')}${detail}`));
  }
};

const summary = (changes: readonly Fields[]): string => {
  const count = (action: string): number => changes.filter((change) => change.text('action') === action).length;
  return `${count('create')} to create, ${count('update')} to change, ${count('delete')} to delete`;
};

const deletes = (changes: readonly Fields[]): boolean => changes.some((change) => change.text('action') === 'delete');

/** Asks where something is deleted and somebody is there to be asked. @throws Failure 1 for a no */
const requireConsent = async (context: Context, changes: readonly Fields[], yes: true | undefined): Promise<void> => {
  if (yes || !deletes(changes) || !isInteractive(context)) return;
  const sure = await confirm(context, 'Something is deleted, and what was issued on it dies. Apply?');
  if (!sure) throw failed('not confirmed; nothing was changed');
};

const showApplied = (screen: Screen, { fields }: Answer): void => {
  screen.line();
  screen.line(screen.paint('bold', 'Applied.'));
  for (const secret of fields.items('client_secrets')) {
    screen.line();
    screen.line(`Agent ${secret.text('agent')}:`);
    showClientSecret(screen, secret);
  }
};

/** For programs: one document, of the plan or of what was done. */
const applyAsJson = async (
  context: Context,
  api: Api,
  screen: Screen,
  body: Record<string, unknown>,
  options: ApplyOptions,
): Promise<void> => {
  if (!options.plan && options.prune && !options.yes && isInteractive(context)) {
    const planned = await api.call('POST', 'apply', { body: { ...body, plan: true } });
    await requireConsent(context, planned.fields.items('changes'), options.yes);
  }
  screen.json((await api.call('POST', 'apply', { body: { ...body, plan: options.plan === true } })).body);
};

/** Adds `apply`. */
export const applyCommand = (program: Command, context: Context): void => {
  leaf(program, 'apply', 'make agents, connections and entitlements be as a file says')
    .requiredOption('-f, --file <file>', 'access.yaml, or - for standard input')
    .option('--plan', 'only show the difference')
    .option('--prune', 'delete what the file does not name')
    .option('--yes', 'do not ask')
    .action(async (options: ApplyOptions) => {
      const name = options.file === '-' ? 'standard input' : options.file;
      const access = readAccess(parseYaml(await readText(options.file, context.stdin), name), name, context.env);
      const body = { ...access, prune: options.prune === true };
      const { api, screen } = toolsFor(context);
      if (options.json) {
        await applyAsJson(context, api, screen, body, options);
        return;
      }
      const planned = await api.call('POST', 'apply', { body: { ...body, plan: true } });
      const changes = planned.fields.items('changes');
      if (changes.length === 0) {
        screen.line('Nothing to do: everything is as the file says.');
        return;
      }
      showChanges(screen, changes);
      screen.line();
      screen.line(`${summary(changes)}.`);
      if (options.plan) return;
      await requireConsent(context, changes, options.yes);
      showApplied(screen, await api.call('POST', 'apply', { body: { ...body, plan: false } }));
    });
};
