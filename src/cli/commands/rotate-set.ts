/** `warder rotate set`: when and how a secret is rotated. */
import type { Command } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import { shownDuration, shownTime } from '../screen.ts';
import { collectSecret, readSecretFields } from '../secret-input.ts';
import { collectNames, parseDuration, parseHours } from '../values.ts';
import { readMapping } from '../yaml-input.ts';

/** What a rotation or a policy is about. */
export const shownOf = (item: Fields): string => item.maybe('connection') ?? `key ${item.text('key')}`;

/** `every 30d`, `0 3 1 * *`, with its time zone where that is not UTC. */
export const shownSchedule = (policy: Fields): string => {
  const every = policy.number('every_seconds');
  if (every !== undefined) return `every ${shownDuration(every)}`;
  const zone = policy.text('time_zone');
  const cron = policy.text('cron');
  return cron === '' || zone === 'UTC' ? cron : `${cron} ${zone}`;
};

interface SetOptions extends JsonOption {
  key?: string;
  every?: number;
  cron?: string;
  timeZone?: string;
  window?: { from: string; to: string };
  days?: string[];
  grace?: number;
  fence?: true;
  method?: string;
  secret?: readonly string[];
}

/** Adds `set`. */
export const rotateSetCommand = (group: Command, context: Context): void => {
  leaf(group, 'set [connection]', 'say when and how a secret is rotated, as a whole')
    .option('--key <which>', 'one of Warder’s own instead: key-encryption or signing')
    .option('--every <duration>', 'so long after the last time, e.g. 30d', parseDuration)
    .option('--cron <pattern>', "at these times, e.g. '0 3 1 * *': minute hour day month weekday")
    .option('--time-zone <name>', 'of --cron, e.g. Europe/Berlin (default: UTC)')
    .option('--window <times>', 'begin only between these times of day in UTC, e.g. 22:00-04:00', parseHours)
    .option('--days <days>', 'the window opens on these days only: mon,tue,…', collectNames)
    .option('--grace <duration>', 'how long the secret before goes on working (default: 1h)', parseDuration)
    .option('--fence', 'kill grants of the secret before when the new one is in force')
    .option('--method <file>', 'how, where there is more than one way: YAML or JSON; see the page of the provider')
    .option(
      '--secret <source>',
      'the secret anew, for a method that sends it somewhere new; as for set-secret',
      collectSecret,
    )
    .action(async (connection: string | undefined, options: SetOptions) => {
      if ((connection === undefined) === (options.key === undefined)) throw usage('one of CONNECTION and --key');
      if (options.days && !options.window) throw usage('--days belongs to --window');
      const { every, cron, timeZone, window, days, grace, fence, method, secret } = options;
      if (options.key !== undefined && [grace, fence, method, secret].some((one) => one !== undefined)) {
        throw usage('--grace, --fence, --method and --secret are for connections');
      }
      const body = {
        every_seconds: every,
        cron,
        time_zone: timeZone,
        window: window && { ...window, days },
        grace_seconds: grace,
        fence,
        method: method === undefined ? undefined : await readMapping(method, context.stdin),
        secret: secret && (await readSecretFields(secret, context)),
      };
      const { api, screen } = toolsFor(context);
      const path =
        connection === undefined
          ? `keys/rotation/${segment(options.key ?? '')}`
          : `connections/${segment(connection)}/rotation`;
      present(screen, options, await api.call('PUT', path, { body }), (policy) => {
        const due = shownTime(policy.text('due_at'));
        const when =
          due === '' ? 'is rotated when somebody asks' : `is rotated ${shownSchedule(policy)}, next at ${due}`;
        screen.line(`${shownOf(policy)} ${when}.`);
      });
    });
};
