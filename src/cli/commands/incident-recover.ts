/** `warder incident recover`: back to work, with less. */
import type { Command } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import { type Screen, shownTime } from '../screen.ts';
import { collectPatterns, parseDuration, parseExpiry } from '../values.ts';

interface RecoverOptions extends JsonOption {
  reason: string;
  narrow?: string[];
  maxTtl?: string[];
  endBy?: string[];
  remove?: string[];
  narrowUnused?: true;
  lift: boolean;
  resume: boolean;
}

/** `ent_…=a,b` → the entitlement and what follows it. */
const pairOf = (option: string, text: string): [string, string] => {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1) throw usage(`${option} takes ENTITLEMENT=…`);
  return [text.slice(0, at), text.slice(at + 1)];
};

/** What each entitlement is narrowed to, from options that each name one. */
const narrowings = (options: RecoverOptions, now: number): Record<string, unknown>[] => {
  const byId = new Map<string, Record<string, unknown>>();
  const add = (entitlement: string, fields: Record<string, unknown>): void => {
    byId.set(entitlement, { entitlement, ...byId.get(entitlement), ...fields });
  };
  for (const text of options.narrow ?? []) {
    const [id, scopes] = pairOf('--narrow', text);
    add(id, { scopes: scopes.split(',').filter((scope) => scope !== '') });
  }
  for (const text of options.maxTtl ?? []) {
    const [id, duration] = pairOf('--max-ttl', text);
    add(id, { max_ttl_seconds: parseDuration(duration) });
  }
  for (const text of options.endBy ?? []) {
    const [id, when] = pairOf('--end-by', text);
    add(id, { expires_at: parseExpiry(when, now) });
  }
  for (const id of options.remove ?? []) add(id, { remove: true });
  return [...byId.values()];
};

const limits = (of: Fields): string =>
  [of.texts('scopes').join(' '), `${of.text('max_ttl_seconds')} s`, shownTime(of.text('expires_at'))]
    .filter((part) => part !== '')
    .join(', ');

export const showChanges = (incident: Fields, screen: Screen): void => {
  const changes = incident.items('changes');
  if (changes.length === 0) return;
  screen.line();
  screen.table(
    ['ENTITLEMENT', 'AGENT', 'CONNECTION', 'BEFORE', 'AFTER'],
    changes.map((one) => [
      one.text('entitlement'),
      one.text('agent'),
      one.text('connection'),
      limits(one.within('before')),
      one.has('after') ? limits(one.within('after')) : 'removed',
    ]),
  );
};

export const recoverCommand = (group: Command, context: Context): void => {
  leaf(group, 'recover <id>', 'lift its freezes, resume the agents it suspended, narrow entitlements, in one step')
    .requiredOption('--reason <text>', 'why; it is recorded')
    .option('--narrow <ent=scopes>', 'leave an entitlement these scopes only: ENT=a,b (repeatable)', collectPatterns)
    .option('--max-ttl <ent=duration>', 'shorten what it gives: ENT=15m (repeatable)', collectPatterns)
    .option('--end-by <ent=when>', 'let it end: ENT=7d (repeatable)', collectPatterns)
    .option('--remove <ent>', 'take an entitlement away (repeatable)', collectPatterns)
    .option('--narrow-unused', 'take away scopes that were not obtained in the window or the 90 days before it')
    .option('--no-lift', 'leave its freezes')
    .option('--no-resume', 'leave its agents suspended')
    .action(async (id: string, options: RecoverOptions) => {
      const body = {
        reason: options.reason,
        lift: options.lift,
        resume: options.resume,
        narrow: narrowings(options, context.now()),
        narrow_unused: options.narrowUnused === true,
      };
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('POST', `incidents/${segment(id)}/recover`, { body }), (incident) => {
        screen.line(
          `${screen.paint('bold', 'Recovered.')} resumed: ${incident.within('measures').texts('resumed').join(' ') || 'nobody'}`,
        );
        showChanges(incident, screen);
      });
    });
};
