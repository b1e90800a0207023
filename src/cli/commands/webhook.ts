/** `warder webhook`: who is told of alerts. */
import type { Command } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { exitCodes, Failure, usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import { type Screen, shownTime } from '../screen.ts';
import { collectNames, parseDuration, parsePlace } from '../values.ts';

const eventsHint = 'an alert, all of a kind (rotation.*), or * (repeatable); see warder webhook events';

/** How far an endpoint has been told: what webhooks and streams show alike. */
export const deliverySheet: readonly noun.Cell[] = [
  noun.plain('delivered', 'delivered'),
  noun.time('last delivered', 'last_delivered_at'),
  noun.plain('given up', 'failed'),
  noun.plain('skipped', 'skipped'),
  noun.time('failing since', 'failing_since'),
  noun.plain('last failure', 'last_failure'),
  noun.time('next try', 'next_try_at'),
  noun.plain('next entry', 'cursor'),
];

/** The last tries, newest first. */
export const showTries = (screen: Screen, answer: Fields): void => {
  const items = answer.items('items');
  if (items.length === 0) screen.note('none since the broker started');
  else
    screen.table(
      ['AT', 'EVENT', 'ENTRY', 'RESULT', 'MS', 'MESSAGE'],
      items.map((one) => [
        shownTime(one.text('at')),
        one.text('type'),
        one.text('seq'),
        one.maybe('failure') ?? `taken (${one.text('status')})`,
        one.text('ms'),
        one.text('message'),
      ]),
    );
};

const webhooks: noun.Noun = {
  name: 'webhook',
  path: 'webhooks',
  argument: '<name>',
  columns: [
    noun.plain('NAME', 'name'),
    noun.plain('URL', 'url'),
    noun.names('EVENTS', 'events'),
    noun.status('STATUS'),
    noun.time('LAST DELIVERED', 'last_delivered_at'),
    noun.plain('LAST FAILURE', 'last_failure'),
  ],
  sheet: [
    noun.plain('name', 'name'),
    noun.plain('id', 'id'),
    noun.plain('url', 'url'),
    noun.names('events', 'events'),
    noun.status('status'),
    noun.plain('disabled because', 'disabled_because'),
    ['old secret until', (item) => shownTime(item.within('secret').text('previous_until'))],
    ...deliverySheet,
    noun.time('created', 'created_at'),
    noun.time('updated', 'updated_at'),
  ],
};

/** A secret that is shown once, as a line to paste into a configuration. */
const showSecret = (screen: Screen, webhook: Fields): void => {
  screen.line('This signing secret is shown once; the receiver verifies with it:');
  screen.line();
  screen.line(`WARDER_WEBHOOK_SECRET=${webhook.text('signing_secret')}`);
};

/** @throws Failure 2 */
const hostOf = (url: string): string => {
  if (!URL.canParse(url)) throw usage('that is not a URL');
  return new URL(url).hostname;
};

interface ChangeOptions extends JsonOption {
  url?: string;
  events?: string[];
  allowPrivateNetwork?: boolean;
}

const changeCommands = (group: Command, context: Context): void => {
  leaf(group, 'add <url>', 'send alerts to an address')
    .option('--name <name>', 'what it is called here; its host unless said')
    .option('--events <event>', `${eventsHint}; all unless said`, collectNames)
    .option('--allow-private-network', 'its address is a private one')
    .action(async (url: string, options: ChangeOptions & { name?: string }) => {
      const body = {
        name: options.name ?? hostOf(url),
        url,
        events: options.events,
        allow_private_network: options.allowPrivateNetwork,
      };
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('POST', 'webhooks', { body }), (webhook) => {
        screen.line(`Added webhook ${webhook.text('name')} (${webhook.texts('events').join(' ')}).`);
        showSecret(screen, webhook);
      });
    });

  leaf(group, 'update <name>', 'change its address or what it is told of')
    .option('--url <url>', 'where alerts are sent')
    .option('--events <event>', `instead of what it is told of: ${eventsHint}`, collectNames)
    .option('--allow-private-network', 'its address is a private one')
    .option('--no-allow-private-network', 'its address must be a public one')
    .action(async (name: string, options: ChangeOptions) => {
      const body = { url: options.url, events: options.events, allow_private_network: options.allowPrivateNetwork };
      if (Object.values(body).every((value) => value === undefined)) throw usage('nothing to change was given');
      const { api, screen } = toolsFor(context);
      const answer = await api.call('PATCH', `webhooks/${segment(name)}`, { body });
      present(screen, options, answer, (webhook) => screen.line(`Changed webhook ${webhook.text('name')}.`));
    });

  for (const [verb, status, description] of [
    ['disable', 'disabled', 'send it nothing until it is enabled; what happens meanwhile waits'],
    ['enable', 'active', 'send again, from where it was'],
  ] as const) {
    leaf(group, `${verb} <name>`, description).action(async (name: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('PATCH', `webhooks/${segment(name)}`, { body: { status } });
      present(screen, options, answer, (webhook) => screen.line(`Webhook ${webhook.text('name')}: ${verb}d.`));
    });
  }

  leaf(group, 'rotate-secret <name>', 'give it a new signing secret')
    .option('--grace <duration>', 'how long the old one signs as well (default: 1d)', parseDuration)
    .action(async (name: string, options: JsonOption & { grace?: number }) => {
      const { api, screen } = toolsFor(context);
      const body = { grace_seconds: options.grace };
      const answer = await api.call('POST', `webhooks/${segment(name)}/secret`, { body });
      present(screen, options, answer, (webhook) => showSecret(screen, webhook));
    });

  leaf(group, 'replay <name>', 'send again from a place in the audit log on')
    .requiredOption('--from <number>', 'the number of an audit entry, or now to leave out what waits', parsePlace)
    .action(async (name: string, options: JsonOption & { from: number | 'now' }) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('POST', `webhooks/${segment(name)}/replay`, { body: { from: options.from } });
      present(screen, options, answer, (webhook) =>
        screen.line(`Webhook ${webhook.text('name')} goes on with entry ${webhook.text('cursor')}.`),
      );
    });
};

/** Adds `webhook` and everything below it. */
export const webhookCommands = (program: Command, context: Context): void => {
  const group = program.command('webhook').description('who is told of alerts');
  noun.listCommand(group, context, webhooks);
  noun.showCommand(group, context, webhooks);
  changeCommands(group, context);

  leaf(group, 'test <name>', 'send a test message now').action(async (name: string, options: JsonOption) => {
    const { api, screen } = toolsFor(context);
    const answer = await api.call('POST', `webhooks/${segment(name)}/test`);
    const delivered = answer.fields.flag('delivered');
    present(screen, options, answer, (tried) => {
      if (delivered) screen.line(`${name} took it: status ${tried.text('status')}, ${tried.text('ms')} ms.`);
    });
    if (!delivered) throw new Failure(exitCodes.failed, [`${name} did not take it: ${answer.fields.text('failure')}`]);
  });

  leaf(group, 'deliveries <name>', 'show its last tries').action(async (name: string, options: JsonOption) => {
    const { api, screen } = toolsFor(context);
    const answer = await api.call('GET', `webhooks/${segment(name)}/deliveries`);
    present(screen, options, answer, (fields) => showTries(screen, fields));
  });

  leaf(group, 'events', 'list what webhooks can be told of').action(async (options: JsonOption) => {
    const { api, screen } = toolsFor(context);
    present(screen, options, await api.call('GET', 'alerts'), (fields) =>
      noun.showTable(
        screen,
        [noun.plain('EVENT', 'type'), noun.plain('SEVERITY', 'severity'), noun.plain('TITLE', 'title')],
        fields.items('items'),
      ),
    );
  });

  noun.removeCommand(group, context, webhooks, 'remove it; it is told no more');
};
