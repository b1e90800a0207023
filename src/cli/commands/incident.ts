/** `warder incident`: from opening one to closing it. docs/incident.md says what to type, in order. */
import { type Command, Option } from 'commander';
import { type Answer, segment } from '../api.ts';
import { confirm, isInteractive } from '../ask.ts';
import { type JsonOption, leaf, type PageOptions, present, presentList, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { exitCodes, Failure, usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import { type Screen, shownTime } from '../screen.ts';
import { type SelectorOptions, selectorFrom, withSelectorOptions } from '../selector-options.ts';
import { parseCount, parseMoment } from '../values.ts';
import { drillCommand } from './incident-drill.ts';
import { recoverCommand, showChanges } from './incident-recover.ts';
import { reportCommand } from './incident-report.ts';
import { followRevocation, requireClean, shownSelector, showOutcome } from './revocation.ts';

const severities = ['low', 'medium', 'high', 'critical'];
const statuses = ['open', 'contained', 'remediating', 'recovered', 'closed'];

const shownWindow: noun.Cell[1] = (incident) => {
  const window = incident.within('window');
  return `${shownTime(window.text('from'))} to ${shownTime(window.text('to')) || 'now'}`;
};
const about: noun.Cell[1] = (incident) => shownSelector(incident.within('selector'));
const title: noun.Cell[1] = (incident) => `${incident.flag('drill') ? '(drill) ' : ''}${incident.text('title')}`;
const ofMeasures =
  (field: string): noun.Cell[1] =>
  (incident) =>
    incident.within('measures').texts(field).join(' ');

const incidents: noun.Noun = {
  name: 'incident',
  path: 'incidents',
  argument: '<id>',
  columns: [
    noun.plain('ID', 'id'),
    noun.plain('STATUS', 'status'),
    noun.plain('SEVERITY', 'severity'),
    ['ABOUT', about],
    noun.time('OPENED', 'opened_at'),
    ['TITLE', title],
  ],
  sheet: [
    noun.plain('id', 'id'),
    ['title', title],
    noun.plain('status', 'status'),
    noun.plain('severity', 'severity'),
    ['about', about],
    ['window', shownWindow],
    noun.plain('reason', 'reason'),
    noun.time('opened', 'opened_at'),
    noun.plain('by', 'opened_by'),
    noun.time('contained', 'contained_at'),
    noun.time('recovered', 'recovered_at'),
    noun.time('closed', 'closed_at'),
    ['revocations', ofMeasures('revocations')],
    ['freezes', ofMeasures('freezes')],
    ['suspended', ofMeasures('suspended')],
    ['resumed', ofMeasures('resumed')],
  ],
};

const itemColumns: noun.Cell[] = [
  noun.plain('#', 'number'),
  noun.plain('KIND', 'kind'),
  ['STATUS', (item, screen) => (item.text('status') === 'open' ? screen.paint('yellow', 'open') : item.text('status'))],
  noun.plain('WHO', 'assigned_to'),
  noun.plain('WHAT', 'text'),
  noun.plain('NOTE', 'note'),
];

const showItems = (incident: Fields, screen: Screen): void => {
  const items = incident.items('items');
  if (items.length === 0) return;
  screen.line();
  noun.showTable(screen, itemColumns, items);
};

const timelineColumns: noun.Cell[] = [
  noun.plain('SEQ', 'seq'),
  noun.time('TIME', 'time'),
  noun.plain('TYPE', 'type'),
  ['WHO', (entry) => entry.within('actor').maybe('name') ?? entry.within('actor').text('address')],
  noun.plain('AGENT', 'agent'),
  noun.plain('CONNECTION', 'connection'),
  ['DATA', (entry) => entry.json('data')],
];

const path = (id: string, ...more: string[]): string => ['incidents', segment(id), ...more].join('/');

interface OpenOptions extends SelectorOptions, JsonOption {
  title: string;
  severity: string;
  reason: string;
  from?: string;
  to?: string;
}

const openCommand = (group: Command, context: Context): void => {
  withSelectorOptions(leaf(group, 'open', 'open an incident about what the options name'))
    .requiredOption('--title <text>', 'what happened, in a line')
    .requiredOption('--reason <text>', 'why you think so; it is recorded')
    .addOption(new Option('--severity <level>', 'how bad').choices(severities).default('high'))
    .option('--from <when>', 'when it began: a day, a time, or a duration ago (default: 24h)')
    .option('--to <when>', 'when it ended (default: it goes on)')
    .action(async (options: OpenOptions) => {
      const rules = { now: context.now(), zone: 'utc', duration: 'ago' } as const;
      const body = {
        title: options.title,
        severity: options.severity,
        selector: selectorFrom(options),
        window: {
          ...(options.from === undefined ? {} : { from: parseMoment(options.from, { ...rules, day: 'start' }) }),
          ...(options.to === undefined ? {} : { to: parseMoment(options.to, { ...rules, day: 'end' }) }),
        },
        reason: options.reason,
      };
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('POST', 'incidents', { body }), (incident) => {
        const id = incident.text('id');
        screen.line(`${screen.paint('bold', 'Opened')} ${id}: ${incident.text('title')}`);
        screen.line(`Contain it: warder incident contain ${id} --reason …    See it: warder incident report ${id}`);
      });
    });
};

interface ContainOptions extends JsonOption {
  reason: string;
  revoke: boolean;
  freeze: boolean;
  suspend?: true;
  rotate?: true;
  wait?: true;
  yes?: true;
}

const contain = async (context: Context, id: string, options: ContainOptions): Promise<void> => {
  const { api, screen } = toolsFor(context);
  if (!options.yes && isInteractive(context)) {
    const { fields } = await api.call('GET', path(id));
    const selector = fields.within('selector');
    if (selector.flag('everything')) {
      const sure = await confirm(context, 'This incident is about everything: every agent is stopped. Go on?');
      if (!sure) throw new Failure(exitCodes.failed, ['not confirmed; nothing was contained']);
    }
  }
  const answer = await api.call('POST', path(id, 'contain'), {
    body: {
      reason: options.reason,
      revoke: options.revoke,
      freeze: options.freeze,
      suspend: options.suspend === true,
      rotate: options.rotate === true,
    },
  });
  const { fields } = answer;
  const revocation = fields.within('revocation');
  if (!options.json) {
    screen.line(`${screen.paint('bold', 'Contained.')} ${shownSelector(fields.within('incident').within('selector'))}`);
    if (fields.has('revocation')) {
      screen.line(`- revoked: fence ${revocation.text('fence')} stands (${revocation.text('id')})`);
    }
    if (fields.has('freeze')) {
      screen.line(`- frozen: nothing new is issued (${fields.within('freeze').text('id')})`);
    } else if (options.freeze) {
      screen.line('- frozen: it was before');
    }
    const suspended = fields.texts('suspended');
    if (options.suspend) screen.line(`- suspended: ${suspended.join(' ') || 'nobody who was active'}`);
  }
  let last: Answer | undefined;
  if (options.wait && fields.has('revocation')) {
    last = await followRevocation(api, context, { ...answer, fields: revocation }, true);
    if (!options.json) showOutcome(screen, last.fields);
  }
  if (options.json) screen.json(answer.body);
  else screen.line(`Next: warder incident report ${id}; warder incident remediate ${id}`);
  if (last) requireClean(last.fields);
};

const containCommand = (group: Command, context: Context): void => {
  leaf(group, 'contain <id>', 'revoke what is out and freeze issuing, at once; suspend and rotate if asked to')
    .requiredOption('--reason <text>', 'why; it is recorded')
    .option('--no-revoke', 'leave what is out')
    .option('--no-freeze', 'do not freeze issuing')
    .option('--suspend', 'suspend the agents it reaches, too')
    .option('--rotate', 'replace the secrets it reaches, too')
    .option('--wait', 'wait until the clean-up upstream has ended')
    .option('--yes', 'do not ask')
    .action((id: string, options: ContainOptions) => contain(context, id, options));
};

const remediateCommand = (group: Command, context: Context): void => {
  leaf(group, 'remediate <id>', 'make the check list from what was exposed, or add to it').action(
    async (id: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('POST', path(id, 'remediate')), (fields) => {
        screen.line(`${fields.text('added')} items were added.`);
        showItems(fields.within('incident'), screen);
      });
    },
  );
};

interface ItemOptions extends JsonOption {
  add?: string;
  done?: string;
  waive?: string;
  reopen?: true;
  assign?: string;
  rotate?: true;
}

const itemCall = (id: string, number: string | undefined, options: ItemOptions) => {
  const { add, done, waive, reopen, assign, rotate } = options;
  if (add !== undefined) {
    if (number !== undefined || done || waive || reopen || rotate) throw usage('--add stands alone, or with --assign');
    const body = { text: add, ...(assign === undefined ? {} : { assigned_to: assign }) };
    return { method: 'POST', target: path(id, 'items'), body } as const;
  }
  if (number === undefined) throw usage('which item? its number, as in warder incident show');
  const item = path(id, 'items', segment(number));
  if ([done, waive, reopen, rotate].filter((one) => one !== undefined).length > 1) {
    throw usage('--done, --waive, --reopen and --rotate exclude each other');
  }
  if (rotate) {
    if (assign !== undefined) throw usage('--rotate stands alone');
    return { method: 'POST', target: `${item}/rotate`, body: undefined } as const;
  }
  const body = {
    ...(done === undefined ? {} : { status: 'done', note: done }),
    ...(waive === undefined ? {} : { status: 'waived', note: waive }),
    ...(reopen ? { status: 'open' } : {}),
    ...(assign === undefined ? {} : { assigned_to: assign }),
  };
  if (Object.keys(body).length === 0) {
    throw usage('what about it? --done NOTE, --waive REASON, --assign WHO, --rotate, --reopen');
  }
  return { method: 'PATCH', target: item, body } as const;
};

const itemCommand = (group: Command, context: Context): void => {
  leaf(group, 'item <id> [number]', 'work on a line of the check list, or add one')
    .option('--done <note>', 'it is done, and how')
    .option('--waive <reason>', 'it need not be done, and why')
    .option('--assign <who>', 'who does it')
    .option('--rotate', 'start the rotation it asks for')
    .option('--reopen', 'it is to be done after all')
    .option('--add <text>', 'a line of your own')
    .action(async (id: string, number: string | undefined, options: ItemOptions) => {
      const call = itemCall(id, number, options);
      const { api, screen } = toolsFor(context);
      const answer = await api.call(call.method, call.target, call.body === undefined ? {} : { body: call.body });
      present(screen, options, answer, (item) => noun.showTable(screen, itemColumns, [item]));
    });
};

const showCommand = (group: Command, context: Context): void => {
  leaf(group, 'show <id>', 'show an incident and its check list')
    .option('--timeline', 'what happened, in order')
    .option('--limit <count>', 'with --timeline: at most so many', parseCount)
    .option('--cursor <cursor>', 'with --timeline: go on where another page ended')
    .action(async (id: string, options: PageOptions & { timeline?: true }) => {
      const tools = toolsFor(context);
      if (options.timeline) {
        await presentList(tools, path(id, 'timeline'), {}, options, (items) =>
          noun.showTable(tools.screen, timelineColumns, items),
        );
        return;
      }
      present(tools.screen, options, await tools.api.call('GET', path(id)), (incident) => {
        noun.showSheet(tools.screen, incidents.sheet, incident);
        showItems(incident, tools.screen);
        showChanges(incident, tools.screen);
      });
    });
};

const textCommand = (
  group: Command,
  context: Context,
  { verb, option, field, describes, says }: Record<'verb' | 'option' | 'field' | 'describes' | 'says', string>,
): void => {
  leaf(group, `${verb} <id>`, describes)
    .requiredOption(`--${option} <text>`, 'in a line; it is recorded')
    .action(async (id: string, options: JsonOption & Record<string, string>) => {
      const { api, screen } = toolsFor(context);
      const route = verb === 'note' ? 'notes' : verb;
      const answer = await api.call('POST', path(id, route), { body: { [field]: options[option] } });
      present(screen, options, answer, () => screen.line(`${says} ${id}.`));
    });
};

/** Adds `incident` and everything below it. */
export const incidentCommands = (program: Command, context: Context): void => {
  const group = program.command('incident').description('something happened: contain, look, repair, recover');
  openCommand(group, context);
  noun
    .listCommand(group, context, incidents, ({ status }: PageOptions & { status?: string }) => ({ status }))
    .addOption(new Option('--status <status>', 'with this status only').choices(statuses));
  showCommand(group, context);
  containCommand(group, context);
  reportCommand(group, context);
  remediateCommand(group, context);
  itemCommand(group, context);
  recoverCommand(group, context);
  textCommand(group, context, {
    verb: 'note',
    option: 'text',
    field: 'note',
    describes: 'note something in its timeline',
    says: 'Noted in',
  });
  textCommand(group, context, {
    verb: 'close',
    option: 'summary',
    field: 'summary',
    describes: 'close it; no item may be open and no freeze stand',
    says: 'Closed',
  });
  drillCommand(group, context);
};
