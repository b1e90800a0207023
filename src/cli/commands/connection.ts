/** `warder connection`: accounts at providers, and their secrets (which only ever go in). */
import type { Command } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import { collectSecret, readSecretFields } from '../secret-input.ts';
import { readSecretReference, secretFromRule } from '../secret-reference.ts';
import { collectNames, collectScopeRule, collectVariable, type GatewayScopes } from '../values.ts';
import { type Mapping, readMapping } from '../yaml-input.ts';
import { accountCommands, shownAccounts } from './connection-accounts.ts';

interface SettingsOptions {
  settings?: string;
  baseUrl?: string;
  header?: string;
  valueTemplate?: string;
  scope?: GatewayScopes;
  allowPrivateNetwork?: true;
}

interface AddOptions extends JsonOption, SettingsOptions {
  provider?: string;
  preset?: string;
  var?: Record<string, string>;
  scopes?: string[];
  owner?: string;
  secret?: readonly string[];
  secretFrom?: string;
}

const secretHint = 'env:NAME, file:PATH or - for standard input';
const secretOption = [
  '--secret <source>',
  `${secretHint}; FIELD=SOURCE for each field where there are several; generate where Warder can make it`,
] as const;

const secretFromOption = [
  '--secret-from <reference>',
  `read it whenever it is needed: ${secretFromRule}, CONNECTION being one of provider vault`,
] as const;

const withSettingsOptions = (command: Command): Command =>
  command
    .option('--settings <file>', 'settings of the provider, YAML or JSON')
    .option('--base-url <url>', 'api-key: where the service is')
    .option('--header <name>', 'api-key: the header that carries the secret (default: Authorization)')
    .option('--value-template <text>', "api-key: what the header says, e.g. 'Bearer {secret}'")
    .option('--scope <rule>', "api-key: a scope, e.g. 'read=GET,HEAD /v1/**' (repeatable)", collectScopeRule)
    .option('--allow-private-network', 'api-key: the service is on a private or loopback address');

/** What the quick options say, as settings of `api-key`; undefined when there are none. */
const quickSettings = (options: SettingsOptions): Mapping | undefined => {
  const { baseUrl, header, valueTemplate, scope, allowPrivateNetwork } = options;
  const inject = {
    header: header ?? 'Authorization',
    ...(valueTemplate === undefined ? {} : { value: valueTemplate }),
  };
  const settings = {
    ...(baseUrl === undefined ? {} : { base_url: baseUrl }),
    ...(header === undefined && valueTemplate === undefined ? {} : { inject }),
    ...(scope === undefined ? {} : { scopes: scope }),
    ...(allowPrivateNetwork ? { allow_private_network: true } : {}),
  };
  return Object.keys(settings).length > 0 ? settings : undefined;
};

const settingsOf = async (options: SettingsOptions, context: Context): Promise<Mapping | undefined> => {
  const quick = quickSettings(options);
  if (options.settings === undefined) return quick;
  if (quick) throw usage('--settings and the options of api-key (--base-url, --header, --scope, …) exclude each other');
  return readMapping(options.settings, context.stdin);
};

const shownSecret = (secret: Fields): string => {
  if (!secret.has('from')) return `version ${secret.text('version')}`;
  const from = secret.within('from');
  return `in ${from.text('connection')}: ${from.text('path')}`;
};

const secretVersion =
  (none: string) =>
  (connection: Fields): string =>
    connection.has('secret') ? shownSecret(connection.within('secret')) : none;

/** A connection that is active and whose account is dead is not well. */
const shownStatus: noun.Cell[1] = (connection, screen) => {
  const status = screen.status(connection.text('status'));
  const accounts = connection.within('authorization');
  const own = accounts.text('status');
  const users = (accounts.within('subjects').number('connected') ?? 0) > 0;
  // Some are for accounts of users only.
  const well = own === '' || own === 'connected' || (own === 'not_connected' && users);
  return well ? status : `${status}, ${screen.status(own)}`;
};

const connections: noun.Noun = {
  name: 'connection',
  path: 'connections',
  argument: '<name>',
  columns: [
    noun.plain('NAME', 'name'),
    noun.plain('PROVIDER', 'provider'),
    noun.plain('OWNER', 'owner'),
    noun.plain('ENFORCEMENT', 'enforcement'),
    ['STATUS', shownStatus],
    ['SECRET', secretVersion('')],
    noun.names('SCOPES', 'scopes'),
  ],
  sheet: [
    noun.plain('name', 'name'),
    noun.plain('id', 'id'),
    noun.plain('provider', 'provider'),
    noun.plain('owner', 'owner'),
    noun.names('scopes', 'scopes'),
    noun.plain('enforcement', 'enforcement'),
    noun.status('status'),
    ['secret', secretVersion('none')],
    ['accounts', (connection) => shownAccounts(connection)],
    noun.time('created', 'created_at'),
    noun.time('updated', 'updated_at'),
  ],
};

const addCommand = (group: Command, context: Context): void => {
  withSettingsOptions(leaf(group, 'add <name>', 'register an account at a provider').alias('create'))
    .option('--provider <type>', 'api-key, internal-jwt, … (default: api-key where --base-url is given)')
    .option('--preset <name>', 'what is known of the service: warder catalog list')
    .option('--var <name=value>', 'a variable of the preset, e.g. subdomain=acme (repeatable)', collectVariable)
    .option('--scopes <names>', 'only these scopes of the preset (repeatable, or a,b)', collectNames)
    .option('--owner <owner>', 'who answers for it')
    .option(...secretOption, collectSecret)
    .option(...secretFromOption)
    .action(async (name: string, options: AddOptions) => {
      const { preset, var: variables, scopes } = options;
      const byAddress = preset === undefined && options.baseUrl !== undefined;
      const provider = options.provider ?? (byAddress ? 'api-key' : undefined);
      if (provider === undefined && preset === undefined) throw usage('--provider or --preset is missing');
      if (preset === undefined && (variables ?? scopes) !== undefined) {
        throw usage('--var and --scopes belong to --preset');
      }
      if (options.settings === '-' && options.secret?.some((source) => /(?:^|=)-$/.test(source))) {
        throw usage('--settings and --secret cannot both come from standard input');
      }
      const { api, screen } = toolsFor(context);
      const settings = (await settingsOf(options, context)) ?? {};
      if (options.secret && options.secretFrom) throw usage('--secret and --secret-from exclude each other');
      const secret = options.secret && (await readSecretFields(options.secret, context));
      const secret_from = options.secretFrom && readSecretReference(options.secretFrom, '--secret-from');
      const body = { name, provider, preset, variables, scopes, owner: options.owner, settings, secret, secret_from };
      present(screen, options, await api.call('POST', 'connections', { body }), (connection) => {
        screen.line(`Added connection ${connection.text('name')} (${connection.text('id')}).`);
        screen.line(`Scopes: ${connection.texts('scopes').join(', ')}`);
        if (connection.has('authorization')) {
          screen.note(`No account is connected yet: warder connection connect ${name}`);
        }
        if (!connection.has('secret') && connection.text('provider') === 'api-key') {
          screen.note(`It has no secret yet: warder connection set-secret ${name} --secret ${secretHint}`);
        }
      });
    });
};

const updateCommand = (group: Command, context: Context): void => {
  withSettingsOptions(leaf(group, 'update <name>', 'change owner or settings (settings are replaced as a whole)'))
    .option('--owner <owner>', 'who answers for it')
    .action(async (name: string, options: JsonOption & SettingsOptions & { owner?: string }) => {
      const body = { owner: options.owner, settings: await settingsOf(options, context) };
      if (body.owner === undefined && body.settings === undefined) throw usage('nothing to change was given');
      const { api, screen } = toolsFor(context);
      const answer = await api.call('PATCH', `connections/${segment(name)}`, { body });
      present(screen, options, answer, (connection) => screen.line(`Changed connection ${connection.text('name')}.`));
    });
};

const setSecretCommand = (group: Command, context: Context): void => {
  leaf(group, 'set-secret <name>', 'put a new secret in force')
    .option(...secretOption, collectSecret)
    .option(...secretFromOption)
    .action(async (name: string, options: JsonOption & Pick<AddOptions, 'secret' | 'secretFrom'>) => {
      if ((options.secret === undefined) === (options.secretFrom === undefined)) {
        throw usage('one of --secret and --secret-from');
      }
      const { api, screen } = toolsFor(context);
      if (options.secret === undefined) {
        const body = { secret_from: readSecretReference(options.secretFrom ?? '', '--secret-from') };
        const answer = await api.call('PATCH', `connections/${segment(name)}`, { body });
        present(screen, options, answer, (connection) =>
          screen.line(`The secret of ${name} is ${shownSecret(connection.within('secret'))}.`),
        );
        return;
      }
      const body = await readSecretFields(options.secret, context);
      const answer = await api.call('PUT', `connections/${segment(name)}/secret`, { body });
      present(screen, options, answer, ({ text }) =>
        screen.line(`The secret of ${name} is version ${text('version')} now.`),
      );
    });
};

/** Adds `connection` and everything below it. */
export const connectionCommands = (program: Command, context: Context): void => {
  const group = program.command('connection').description('accounts at providers, and their secrets');
  noun.listCommand(group, context, connections);
  noun.showCommand(group, context, connections, (connection, screen) => {
    const settings = connection.within('settings');
    screen.line();
    screen.pairs(settings.names().map((name) => [name, settings.json(name)]));
  });
  addCommand(group, context);
  updateCommand(group, context);
  setSecretCommand(group, context);
  accountCommands(group, context);
  noun.stateCommands(group, context, connections, {
    suspend: 'let nobody use it until it is resumed',
    resume: 'let it be used again',
  });
  noun.removeCommand(group, context, connections, 'delete it, its secret and its entitlements; its grants die');
};
