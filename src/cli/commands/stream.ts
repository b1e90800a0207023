/** `warder stream`: receivers of Shared Signals. */
import type { Command } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import * as noun from '../noun.ts';
import type { Screen } from '../screen.ts';
import { resolveSecret, secretReferenceRule } from '../secret-input.ts';
import { collectNames, parsePlace } from '../values.ts';
import { deliverySheet, showTries } from './webhook.ts';

/** `https://schemas.openid.net/secevent/caep/event-type/session-revoked` → `session-revoked` */
const shortName = (uri: string): string => uri.slice(uri.lastIndexOf('/') + 1);

const streams: noun.Noun = {
  name: 'stream',
  path: 'streams',
  argument: '<name>',
  columns: [
    noun.plain('NAME', 'name'),
    noun.names('AUDIENCE', 'aud'),
    noun.plain('METHOD', 'method'),
    noun.status('STATUS'),
    noun.time('LAST DELIVERED', 'last_delivered_at'),
    noun.plain('LAST FAILURE', 'last_failure'),
  ],
  sheet: [
    noun.plain('name', 'name'),
    noun.plain('id', 'id'),
    noun.names('audience', 'aud'),
    noun.status('status'),
    noun.plain('status reason', 'status_reason'),
    noun.plain('method', 'method'),
    noun.plain('endpoint', 'endpoint_url'),
    ['events', (item) => item.texts('events_delivered').map(shortName).join(' ')],
    noun.plain('shares reasons', 'share_reasons'),
    noun.plain('description', 'description'),
    ...deliverySheet,
    noun.time('created', 'created_at'),
    noun.time('updated', 'updated_at'),
  ],
};

const showToken = (screen: Screen, token: string): void => {
  screen.line('This token is shown once; the receiver authenticates with it:');
  screen.line();
  screen.line(`WARDER_RECEIVER_TOKEN=${token}`);
};

interface AddOptions extends JsonOption {
  aud: string[];
  push?: string;
  pushAuthorization?: string;
  poll?: true;
  events?: string[];
  allowPrivateNetwork?: true;
  shareReasons?: true;
}

/** @throws Failure 2 */
const deliveryOf = ({ push, poll, pushAuthorization }: AddOptions, context: Context): object | undefined => {
  if (push !== undefined && poll) throw usage('--push and --poll exclude each other');
  if (push === undefined && pushAuthorization !== undefined) throw usage('--push-authorization goes with --push');
  if (push === undefined) return poll ? { method: 'poll' } : undefined;
  const header =
    pushAuthorization === undefined ? undefined : resolveSecret(pushAuthorization, context.env, '--push-authorization');
  return { method: 'push', endpoint_url: push, authorization_header: header };
};

/** Adds `stream` and everything below it. */
export const streamCommands = (program: Command, context: Context): void => {
  const group = program.command('stream').description('receivers of Shared Signals (OpenID SSF, CAEP)');
  noun.listCommand(group, context, streams);
  noun.showCommand(group, context, streams);

  leaf(group, 'add <name>', 'let a service receive signals; without --push or --poll it makes its stream itself')
    .requiredOption('--aud <audience>', 'who the events are for (repeatable)', collectNames)
    .option('--push <url>', 'push events to this address')
    .option('--push-authorization <where>', `the Authorization header to push with: ${secretReferenceRule}`)
    .option('--poll', 'the receiver fetches them')
    .option('--events <event>', 'session-revoked, credential-change (repeatable); both unless said', collectNames)
    .option('--allow-private-network', 'the receiver is at a private address')
    .option('--share-reasons', "send operators' own words along as reasons")
    .action(async (name: string, options: AddOptions) => {
      const body = {
        name,
        aud: options.aud,
        events: options.events,
        delivery: deliveryOf(options, context),
        allow_private_network: options.allowPrivateNetwork,
        share_reasons: options.shareReasons,
      };
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('POST', 'streams', { body }), (stream) => {
        screen.line(`Added receiver ${stream.text('name')} for ${stream.texts('aud').join(' ')}.`);
        showToken(screen, stream.text('token'));
      });
    });

  leaf(group, 'rotate-token <name>', 'give the receiver a new token; the old one stops working').action(
    async (name: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('POST', `streams/${segment(name)}/token`);
      present(screen, options, answer, (fields) => showToken(screen, fields.text('token')));
    },
  );

  leaf(group, 'verify <name>', 'send a verification event over the stream').action(
    async (name: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('POST', `streams/${segment(name)}/verify`);
      present(screen, options, answer, () => screen.line(`A verification event is on its way to ${name}.`));
    },
  );

  leaf(group, 'resume <name>', 'have a stream that is paused or disabled go on').action(
    async (name: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('POST', `streams/${segment(name)}/resume`);
      present(screen, options, answer, (stream) => screen.line(`Stream ${stream.text('name')} goes on.`));
    },
  );

  leaf(group, 'deliveries <name>', 'show its last pushes').action(async (name: string, options: JsonOption) => {
    const { api, screen } = toolsFor(context);
    const answer = await api.call('GET', `streams/${segment(name)}/deliveries`);
    present(screen, options, answer, (fields) => showTries(screen, fields));
  });

  leaf(group, 'replay <name>', 'send again from a place in the audit log on')
    .requiredOption('--from <number>', 'the number of an audit entry, or now to leave out what waits', parsePlace)
    .action(async (name: string, options: JsonOption & { from: number | 'now' }) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('POST', `streams/${segment(name)}/replay`, { body: { from: options.from } });
      present(screen, options, answer, (stream) =>
        screen.line(`Stream ${stream.text('name')} goes on with entry ${stream.text('cursor')}.`),
      );
    });

  noun.removeCommand(group, context, streams, 'remove the receiver and its stream; its token stops working');
};
