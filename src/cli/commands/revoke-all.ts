/** `warder revoke-all`: takes back, with one call, everything that matches. Made for somebody in a hurry. */
import type { Command } from 'commander';
import type { Api } from '../api.ts';
import { confirm, isInteractive } from '../ask.ts';
import { type JsonOption, leaf, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { exitCodes, Failure } from '../failure.ts';
import type { Fields } from '../fields.ts';
import { type Screen, shownCount, shownTime } from '../screen.ts';
import { type SelectorOptions, selectorFrom, withSelectorOptions } from '../selector-options.ts';
import { followRevocation, requireClean, shownSelector, showOutcome } from './revocation.ts';

interface RevokeOptions extends JsonOption, SelectorOptions {
  reason: string;
  suspend?: true;
  rotate?: true;
  dryRun?: true;
  wait?: true;
  yes?: true;
}

/** What is posted to `/admin/v1/revocations`. */
export interface RevocationBody {
  selector: Record<string, string | true>;
  reason: string;
  suspend?: boolean;
  rotate?: boolean;
  dry_run?: boolean;
}

const dryRun = async (api: Api, screen: Screen, options: JsonOption, body: RevocationBody): Promise<void> => {
  const answer = await api.call('POST', 'revocations', { body });
  if (options.json) {
    screen.json(answer.body);
    return;
  }
  showRadius(screen, answer.fields, body.rotate === true);
};

/** So many lines of each; `--json` has them all. */
const shownOfEach = 20;

const showRadius = (screen: Screen, radius: Fields, rotate: boolean): void => {
  screen.line('Dry run; nothing was changed. This would revoke:');
  screen.line();
  const agents = radius.items('agents');
  const suspended = agents.filter((agent) => agent.flag('would_suspend'));
  screen.pairs([
    ['selector', shownSelector(radius.within('selector'))],
    ['live grants', shownCount(radius.number('grants') ?? 0)],
    ['upstream', shownCount(radius.within('upstream').number('pending') ?? 0)],
    ['suspends', suspended.map((agent) => agent.text('name')).join(' ')],
  ]);
  const count = (item: Fields): string => shownCount(item.number('grants') ?? 0);
  const table = (head: string[], items: Fields[], cells: (item: Fields) => string[]): void => {
    if (items.length === 0) return;
    screen.line();
    screen.table(head, items.slice(0, shownOfEach).map(cells));
    const more = items.length - shownOfEach;
    if (more > 0) screen.line(`and ${shownCount(more)} more`);
  };
  table(['PROVIDER', 'GRANTS', 'UPSTREAM'], radius.items('providers'), (item) => [
    item.text('provider'),
    count(item),
    shownCount(item.number('upstream') ?? 0),
  ]);
  table(['CONNECTION', 'GRANTS', rotate ? 'SECRET' : 'SECRET WITH --rotate'], radius.items('connections'), (item) => [
    item.text('name'),
    count(item),
    shownRotation(item),
  ]);
  table(['AGENT', 'GRANTS'], agents, (item) => [item.text('name'), count(item)]);
  table(['ACTED FOR', 'GRANTS'], radius.within('subjects').items('items'), (item) => [
    item.text('subject'),
    count(item),
  ]);
  table(['ACCOUNT', 'OF', 'CONNECTION', 'STATUS'], radius.items('accounts'), (item) => [
    item.text('account'),
    item.text('subject') || 'the organisation',
    item.text('connection'),
    item.text('status'),
  ]);
};

const shownRotation = (connection: Fields): string => {
  if (!connection.has('rotation')) return 'none';
  const rotation = connection.within('rotation');
  return rotation.flag('possible') ? 'is replaced' : `by hand: ${rotation.text('why')}`;
};

/**
 * Posts a revocation, says at once that the fence stands, then follows it.
 * @throws Failure 1 when it was waited for and something upstream is unrevocable or lives on
 */
export const revokeAndFollow = async (
  context: Context,
  body: RevocationBody,
  { json, wait }: JsonOption & { wait?: true | undefined },
): Promise<void> => {
  const { api, screen } = toolsFor(context);
  const first = await api.call('POST', 'revocations', { body });
  if (!json) {
    const { fields } = first;
    screen.line(
      `${screen.paint('bold', 'Revoked.')} Fence ${fields.text('fence')} stands since ` +
        `${shownTime(fields.text('fenced_at'))} (${fields.text('id')}): no use of what matches succeeds any more.`,
    );
  }
  const last = await followRevocation(api, context, first, wait === true);
  if (json) screen.json(last.body);
  else showOutcome(screen, last.fields);
  if (wait) requireClean(last.fields);
};

/** Adds `revoke-all`. */
export const revokeAllCommand = (program: Command, context: Context): void => {
  withSelectorOptions(leaf(program, 'revoke-all', 'take everything back that matches, with one call'))
    .requiredOption('--reason <text>', 'why; it is recorded')
    .option('--suspend', 'suspend the agents it reaches, too')
    .option('--rotate', 'replace the secrets of the connections it reaches, too')
    .option('--dry-run', 'only say what it would revoke')
    .option('--wait', 'wait until the clean-up upstream has ended')
    .option('--yes', 'do not ask')
    .action(async (options: RevokeOptions) => {
      const body: RevocationBody = {
        selector: selectorFrom(options, 'nothing was revoked'),
        reason: options.reason,
        suspend: options.suspend === true,
        rotate: options.rotate === true,
        dry_run: options.dryRun === true,
      };
      if (options.dryRun) {
        const { api, screen } = toolsFor(context);
        await dryRun(api, screen, options, body);
        return;
      }
      if (options.everything && !options.yes && isInteractive(context)) {
        const sure = await confirm(context, 'This revokes every live grant of every agent, at once. Go on?');
        if (!sure) throw new Failure(exitCodes.failed, ['not confirmed; nothing was revoked']);
      }
      await revokeAndFollow(context, body, options);
    });
};
