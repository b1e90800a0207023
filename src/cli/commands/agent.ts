/** `warder agent`: the clients of the broker. */
import { type Command, Option } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import { readJwks } from '../jwks-input.ts';
import * as noun from '../noun.ts';
import type { Screen } from '../screen.ts';
import { type ClaimRules, collectClaim, collectNames } from '../values.ts';
import type { Mapping } from '../yaml-input.ts';
import { shownClaims } from './issuer.ts';

interface AuthOptions {
  auth?: string;
  jwks?: string;
  jwksUri?: string;
  algorithm?: string[];
  allowPrivateNetwork?: true;
  workload?: string;
  claim?: ClaimRules;
  dpop?: string;
}

const authMethods = ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'workload'];

const withAuthOptions = (command: Command): Command =>
  command
    .addOption(new Option('--auth <method>', 'how the agent proves who it is').choices(authMethods))
    .option('--jwks <file>', 'its public keys (RFC 7517), for private_key_jwt')
    .option('--jwks-uri <url>', 'where its public keys are published, for private_key_jwt')
    .option('--algorithm <name>', 'signature algorithms it may use, for private_key_jwt (repeatable)', collectNames)
    .option('--allow-private-network', 'the address of --jwks-uri is a private one')
    .option('--workload <issuer>', 'a token of its platform proves it: of this trusted issuer (warder issuer)')
    .option('--claim <name=pattern>', 'what that token must say; sub is needed (repeatable)', collectClaim)
    .addOption(
      new Option('--dpop <rule>', 'whether its tokens must be bound to a key (RFC 9449)').choices([
        'optional',
        'required',
      ]),
    );

/** The `auth` object as the API takes it; undefined when no option says anything about it. */
const authOf = (options: AuthOptions): Mapping | undefined => {
  const { auth, jwks, jwksUri, algorithm, allowPrivateNetwork, workload, claim } = options;
  const hasKeys = jwks !== undefined || jwksUri !== undefined;
  const method = auth ?? (workload !== undefined ? 'workload' : hasKeys ? 'private_key_jwt' : undefined);
  if (method === 'workload') {
    if (hasKeys || algorithm || allowPrivateNetwork)
      throw usage('the keys of a workload are its issuer’s: warder issuer');
    if (workload === undefined || claim === undefined)
      throw usage('a workload needs --workload ISSUER and --claim sub=…');
    return { method, issuer: workload, claims: claim };
  }
  if (workload !== undefined || claim !== undefined) throw usage('--workload and --claim belong to --auth workload');
  if (method !== 'private_key_jwt') {
    if (hasKeys || algorithm || allowPrivateNetwork) {
      throw usage('--jwks, --jwks-uri, --algorithm and --allow-private-network belong to --auth private_key_jwt');
    }
    return method === undefined ? undefined : { method };
  }
  if (!hasKeys || (jwks !== undefined && jwksUri !== undefined)) {
    throw usage('private_key_jwt needs the public keys: --jwks FILE or --jwks-uri URL, one of the two');
  }
  return {
    method,
    ...(jwks === undefined ? {} : { jwks: readJwks(jwks) }),
    ...(jwksUri === undefined ? {} : { jwks_uri: jwksUri }),
    ...(algorithm === undefined ? {} : { algorithms: algorithm }),
    ...(allowPrivateNetwork ? { allow_private_network: true } : {}),
  };
};

const method: noun.Cell = ['AUTH', (agent) => agent.within('auth').text('method')];

const agents: noun.Noun = {
  name: 'agent',
  path: 'agents',
  argument: '<name>',
  columns: [
    noun.plain('NAME', 'name'),
    noun.plain('OWNER', 'owner'),
    method,
    noun.status('STATUS'),
    noun.time('CREATED', 'created_at'),
    noun.plain('PURPOSE', 'purpose'),
  ],
  sheet: [
    noun.plain('name', 'name'),
    noun.plain('id', 'id'),
    noun.plain('client id', 'client_id'),
    noun.plain('owner', 'owner'),
    noun.plain('purpose', 'purpose'),
    ['auth', method[1]],
    ['jwks uri', (agent) => agent.within('auth').text('jwks_uri')],
    ['algorithms', (agent) => agent.within('auth').texts('algorithms').join(' ')],
    ['issuer', (agent) => agent.within('auth').text('issuer')],
    ['claims', (agent) => shownClaims(agent.within('auth'))],
    noun.plain('dpop', 'dpop'),
    noun.status('status'),
    noun.time('created', 'created_at'),
    noun.time('updated', 'updated_at'),
  ],
};

/** Credentials that are shown once, as lines to paste into a shell or an environment file. */
export const showClientSecret = (screen: Screen, answer: Fields): void => {
  screen.line('This secret is shown once; keep it where the agent finds it:');
  screen.line();
  screen.line(`WARDER_CLIENT_ID=${answer.text('client_id')}`);
  screen.line(`WARDER_CLIENT_SECRET=${answer.text('client_secret')}`);
};

const addCommand = (group: Command, context: Context): void => {
  withAuthOptions(leaf(group, 'add <name>', 'register an agent').alias('create'))
    .requiredOption('--owner <owner>', 'who answers for it, e.g. finance@example.com')
    .option('--purpose <text>', 'what it is for')
    .action(async (name: string, options: JsonOption & AuthOptions & { owner: string; purpose?: string }) => {
      const { api, screen } = toolsFor(context);
      const auth = authOf(options) ?? { method: 'client_secret_basic' };
      const body = { name, owner: options.owner, purpose: options.purpose, auth, dpop: options.dpop };
      present(screen, options, await api.call('POST', 'agents', { body }), (agent) => {
        screen.line(`Added agent ${agent.text('name')} (${agent.text('id')}).`);
        if (agent.has('client_secret')) showClientSecret(screen, agent);
        else
          screen.line(
            `It authenticates as client id ${agent.text('client_id')} with ${agent.within('auth').text('method')}.`,
          );
      });
    });
};

const updateCommand = (group: Command, context: Context): void => {
  withAuthOptions(leaf(group, 'update <name>', 'change owner, purpose or authentication'))
    .option('--owner <owner>', 'who answers for it')
    .option('--purpose <text>', 'what it is for')
    .action(async (name: string, options: JsonOption & AuthOptions & { owner?: string; purpose?: string }) => {
      const body = { owner: options.owner, purpose: options.purpose, auth: authOf(options), dpop: options.dpop };
      if (Object.values(body).every((value) => value === undefined)) throw usage('nothing to change was given');
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('PATCH', `agents/${segment(name)}`, { body }), (agent) => {
        screen.line(`Changed agent ${agent.text('name')}.`);
        if (agent.has('client_secret')) showClientSecret(screen, agent);
      });
    });
};

/** Adds `agent` and everything below it. */
export const agentCommands = (program: Command, context: Context): void => {
  const group = program.command('agent').description('the clients of the broker');
  noun.listCommand(group, context, agents);
  noun.showCommand(group, context, agents);
  addCommand(group, context);
  updateCommand(group, context);
  noun.stateCommands(group, context, agents, {
    suspend: 'refuse it everything until it is resumed',
    resume: 'let it work again',
  });
  noun.removeCommand(group, context, agents, 'delete it, with its entitlements; its grants die');
  leaf(group, 'rotate-secret <name>', 'give it a new client secret; the old one stops working').action(
    async (name: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('POST', `agents/${segment(name)}/secret`);
      present(screen, options, answer, (secret) => showClientSecret(screen, secret));
    },
  );
};
