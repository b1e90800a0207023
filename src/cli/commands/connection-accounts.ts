/** `warder connection connect`, `accounts` and `disconnect`: the accounts of OAuth connections. */
import type { Command } from 'commander';
import { type Api, segment } from '../api.ts';
import { type JsonOption, leaf, type PageOptions, present, presentList, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { exitCodes, Failure, usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import { parseCount } from '../values.ts';

/** Often enough for somebody who waits, seldom enough for a broker with many of them. */
const pollMs = 1_000;

const whose = (account: Fields): string => account.text('subject') || '(the organisation)';

const columns: readonly noun.Cell[] = [
  noun.plain('ID', 'id'),
  ['SUBJECT', whose],
  noun.plain('ACCOUNT', 'account'),
  noun.status('STATUS'),
  noun.plain('FAILURE', 'failure'),
  noun.time('REFRESHED', 'last_refreshed_at'),
  noun.plain('CONNECTED BY', 'connected_by'),
];

/** What `connection show` says of accounts. @returns nothing where the provider knows none */
export const shownAccounts = (connection: Fields): string | undefined => {
  if (!connection.has('authorization')) return undefined;
  const own = connection.within('authorization');
  const users = own.within('subjects');
  const name = own.has('account') ? ` (${own.text('account')})` : '';
  const failure = own.has('failure') ? `, ${own.text('failure')}` : '';
  const count = (status: string): number => users.number(status) ?? 0;
  const subjects = `${count('connected')} users connected, ${count('needs_reconnect')} to be connected anew`;
  return `${own.text('status')}${name}${failure}; ${subjects}`;
};

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks until somebody finished it, or its time is over. */
const followFlow = async (api: Api, path: string) => {
  for (;;) {
    const answer = await api.call('GET', path);
    if (answer.fields.text('status') !== 'pending') return answer;
    await pause(pollMs);
  }
};

interface ConnectOptions extends JsonOption {
  subject?: string;
  expiresIn?: number;
  wait: boolean;
}

const connectCommand = (group: Command, context: Context): void => {
  leaf(group, 'connect <name>', 'connect an account at an OAuth service: prints a link to open in a browser, and waits')
    .option('--subject <person>', 'the account of this user (default: the organisation’s own)')
    .option('--expires-in <seconds>', 'how long the link can be opened (default: 600, at most 86400)', parseCount)
    .option('--no-wait', 'only print the link, for somebody else to open')
    .action(async (name: string, options: ConnectOptions) => {
      const { api, screen } = toolsFor(context);
      const body = { subject: options.subject, expires_in_seconds: options.expiresIn };
      const begun = await api.call('POST', `connections/${segment(name)}/connect`, { body });
      const { fields } = begun;
      if (!options.wait) {
        present(screen, options, begun, () => screen.line(fields.raw('authorize_url')));
        return;
      }
      // The one thing to be passed on; with --json it must not stand among what the API returned.
      const say = (text: string): void => (options.json ? screen.note(text) : screen.line(text));
      say(`Open this link in a browser and consent:\n\n  ${fields.text('authorize_url')}\n`);
      screen.note('waiting for that …');
      const path = `connections/${segment(name)}/connect/${segment(fields.text('id'))}`;
      const ended = await followFlow(api, path);
      const account = ended.fields.within('authorization');
      present(screen, options, ended, () => {
        if (ended.fields.text('status') !== 'connected') return;
        const label = account.text('account') || 'an account (the server does not say which)';
        screen.line(`Connected ${label} to ${name}${account.has('subject') ? ` for ${account.text('subject')}` : ''}.`);
        screen.line(`Consented to: ${account.texts('scopes').join(' ')}`);
      });
      if (ended.fields.text('status') === 'connected') return;
      const why = ended.fields.text('failure') || 'its time is over';
      throw new Failure(exitCodes.failed, [`nothing was connected: ${why}`]);
    });
};

const accountsCommand = (group: Command, context: Context): void => {
  leaf(group, 'accounts <name>', 'list the accounts that are connected')
    .option('--limit <count>', 'at most so many', parseCount)
    .option('--cursor <cursor>', 'go on where another page ended')
    .action(async (name: string, options: PageOptions) => {
      const tools = toolsFor(context);
      const path = `connections/${segment(name)}/authorizations`;
      await presentList(tools, path, {}, options, (items) => noun.showTable(tools.screen, columns, items));
    });
};

interface DisconnectOptions extends JsonOption {
  all?: true;
  subject?: string;
  forget?: true;
}

/** The accounts these options mean. */
const meant = async (api: Api, name: string, options: DisconnectOptions): Promise<Fields[]> => {
  const found: Fields[] = [];
  for (let cursor: string | undefined; ; ) {
    const { fields } = await api.call('GET', `connections/${segment(name)}/authorizations`, { query: { cursor } });
    found.push(...fields.items('items'));
    cursor = fields.maybe('next_cursor');
    if (cursor === undefined) break;
  }
  if (options.all) return found;
  return found.filter((account) => account.raw('subject') === (options.subject ?? ''));
};

const disconnectCommand = (group: Command, context: Context): void => {
  leaf(group, 'disconnect <name>', 'disconnect an account: its grants end, its tokens are revoked at the service')
    .option('--subject <person>', 'the account of this user (default: the organisation’s own)')
    .option('--all', 'every account of the connection')
    .option('--forget', 'delete it also when the service cannot be told')
    .action(async (name: string, options: DisconnectOptions) => {
      if (options.all && options.subject !== undefined) throw usage('--all and --subject exclude each other');
      const { api, screen } = toolsFor(context);
      const accounts = await meant(api, name, options);
      if (accounts.length === 0) throw new Failure(exitCodes.failed, ['no such account is connected']);
      for (const account of accounts) {
        const path = `connections/${segment(name)}/authorizations/${segment(account.raw('id'))}`;
        const answer = await api.call('DELETE', path, { query: { forget: options.forget ? 'true' : undefined } });
        present(screen, options, answer, (outcome) => {
          const end = outcome.flag('revoked')
            ? 'its tokens are revoked'
            : 'its tokens could not be revoked at the service, and live on there until they end';
          screen.line(`Disconnected ${whose(account)} ${account.text('account')}: ${end}.`);
        });
      }
    });
};

/** Adds them below `connection`. */
export const accountCommands = (group: Command, context: Context): void => {
  connectCommand(group, context);
  accountsCommand(group, context);
  disconnectCommand(group, context);
};
