/** `warder connection`: accounts at providers, and their secrets (which only ever go in). */
import type { Command } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import { collectSecret, readSecretFields } from '../secret-input.ts';
import { collectScopeRule, type GatewayScopes } from '../values.ts';
import { type Mapping, readMapping } from '../yaml-input.ts';

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
  owner?: string;
  secret?: readonly string[];
}

const secretHint = 'env:NAME, file:PATH or - for standard input';
const secretOption = [
  '--secret <source>',
  `${secretHint}; FIELD=SOURCE for each field where there are several`,
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

const secretVersion =
  (none: string) =>
  (connection: Fields): string =>
    connection.has('secret') ? `version ${connection.within('secret').text('version')}` : none;

const connections: noun.Noun = {
  name: 'connection',
  path: 'connections',
  argument: '<name>',
  columns: [
    noun.plain('NAME', 'name'),
    noun.plain('PROVIDER', 'provider'),
    noun.plain('OWNER', 'owner'),
    noun.plain('ENFORCEMENT', 'enforcement'),
    noun.status('STATUS'),
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
    noun.time('created', 'created_at'),
    noun.time('updated', 'updated_at'),
  ],
};

const addCommand = (group: Command, context: Context): void => {
  withSettingsOptions(leaf(group, 'add <name>', 'register an account at a provider').alias('create'))
    .option('--provider <type>', 'api-key, internal-jwt, … (default: api-key where --base-url is given)')
    .option('--owner <owner>', 'who answers for it')
    .option(...secretOption, collectSecret)
    .action(async (name: string, options: AddOptions) => {
      const provider = options.provider ?? (options.baseUrl === undefined ? undefined : 'api-key');
      if (provider === undefined) throw usage('--provider is missing');
      if (options.settings === '-' && options.secret?.some((source) => /(?:^|=)-$/.test(source))) {
        throw usage('--settings and --secret cannot both come from standard input');
      }
      const { api, screen } = toolsFor(context);
      const settings = (await settingsOf(options, context)) ?? {};
      const secret = options.secret && (await readSecretFields(options.secret, context));
      const body = { name, provider, owner: options.owner, settings, secret };
      present(screen, options, await api.call('POST', 'connections', { body }), (connection) => {
        screen.line(`Added connection ${connection.text('name')} (${connection.text('id')}).`);
        screen.line(`Scopes: ${connection.texts('scopes').join(', ')}`);
        if (!connection.has('secret') && provider === 'api-key') {
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
    .requiredOption(...secretOption, collectSecret)
    .action(async (name: string, options: JsonOption & { secret: readonly string[] }) => {
      const { api, screen } = toolsFor(context);
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
  noun.stateCommands(group, context, connections, {
    suspend: 'let nobody use it until it is resumed',
    resume: 'let it be used again',
  });
  noun.removeCommand(group, context, connections, 'delete it, its secret and its entitlements; its grants die');
};
