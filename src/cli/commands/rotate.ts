/** `warder rotate`: replaces secrets, now or in their window, and says when it is to be done by itself. */
import type { Command } from 'commander';
import { type Answer, type Api, segment } from '../api.ts';
import { type JsonOption, leaf, listLeaf, type PageOptions, present, presentList, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { failed, usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import { progressOn, type Screen, shownDuration, shownTime } from '../screen.ts';
import { rotateSetCommand, shownOf, shownSchedule } from './rotate-set.ts';

const shownWindow = (policy: Fields): string => {
  if (!policy.has('window')) return '';
  const window = policy.within('window');
  const days = window.texts('days').join(',');
  return `${days === '' ? '' : `${days} `}${window.text('from')}-${window.text('to')}`;
};

const shownDue: noun.Cell[1] = (item, screen) => {
  const policy = item.within('policy');
  const due = shownTime(policy.text('due_at'));
  return policy.flag('overdue') ? screen.paint('redBright', `overdue since ${due}`) : due;
};

const badly = new Set(['failed', 'stuck', 'cancelled']);
const shownStatus = (screen: Screen, status: string): string =>
  badly.has(status) ? screen.paint('red', status) : screen.status(status);

/** What is under way, and what is in the way of it. */
const shownCurrent: noun.Cell[1] = (item, screen) => {
  if (!item.has('current')) return '';
  const current = item.within('current');
  const status = current.text('status');
  const where = status === 'running' || status === 'stuck' ? `${status}: ${current.text('step')}` : status;
  const failure = current.text('failure');
  return `${shownStatus(screen, status).replace(status, where)}${failure === '' ? '' : ` (${failure})`}`;
};

const policyColumns: noun.Cell[] = [
  ['OF', shownOf],
  ['SCHEDULE', (item) => shownSchedule(item.within('policy'))],
  ['WINDOW', (item) => shownWindow(item.within('policy'))],
  ['LAST', (item) => shownTime(item.within('policy').text('rotated_at') || item.within('last').text('in_force_at'))],
  ['DUE', shownDue],
  ['NOW', shownCurrent],
];

const historyColumns: noun.Cell[] = [
  noun.plain('ID', 'id'),
  ['OF', shownOf],
  noun.time('ASKED', 'asked_at'),
  noun.plain('BY', 'requested_by'),
  ['WHY', (row) => [row.text('why'), row.text('reason')].filter((text) => text !== '').join(': ')],
  ['VERSIONS', (row) => (row.has('to_version') ? `${row.text('from_version')} → ${row.text('to_version')}` : '')],
  noun.plain('ATTEMPT', 'attempt'),
  ['STATUS', (row, screen) => shownStatus(screen, row.text('status'))],
  noun.time('IN FORCE', 'in_force_at'),
  noun.plain('FAILURE', 'failure'),
];

/** Of a rotation of connected accounts. */
const shownAccounts: noun.Cell[1] = (row) => {
  if (!row.has('accounts')) return '';
  const counts = row.within('accounts');
  const [all, failing] = [counts.text('accounts'), counts.text('failed')];
  return `${counts.text('refreshed')} of ${all} refreshed, ${counts.text('needs_reconnect')} to be connected anew, ${failing} not reached`;
};

const sheet: noun.Cell[] = [
  noun.plain('id', 'id'),
  ['of', shownOf],
  ['status', (row, screen) => shownStatus(screen, row.text('status'))],
  noun.plain('step', 'step'),
  noun.plain('attempt', 'attempt'),
  noun.plain('why', 'why'),
  noun.plain('reason', 'reason'),
  noun.plain('asked by', 'requested_by'),
  noun.plain('revocation', 'revocation'),
  ['versions', (row) => (row.has('to_version') ? `${row.text('from_version')} → ${row.text('to_version')}` : '')],
  ['accounts', shownAccounts],
  noun.plain('waits for', 'waits_for'),
  noun.plain('failure', 'failure'),
  noun.time('asked', 'asked_at'),
  noun.time('started', 'started_at'),
  noun.time('in force', 'in_force_at'),
  noun.time('retires', 'retires_at'),
  noun.time('ended', 'ended_at'),
  noun.time('next', 'next_at'),
];

const pollMs = 200;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const isOver = (rotation: Fields): boolean =>
  !['asked', 'running'].includes(rotation.text('status')) || rotation.has('waits_for');

/** Waits until the new secret is in force, or the rotation ended otherwise. @returns the newest answer */
const follow = async (api: Api, context: Context, first: Answer): Promise<Answer> => {
  const progress = progressOn(context.stderr, context.now);
  let answer = first;
  try {
    while (!isOver(answer.fields)) {
      await pause(pollMs);
      answer = await api.call('GET', `rotations/${segment(first.fields.text('id'))}`);
      const { fields } = answer;
      const trouble = fields.text('failure');
      progress.show(() => `${fields.text('status')}: ${fields.text('step')}${trouble === '' ? '' : ` (${trouble})`}`);
    }
    return answer;
  } finally {
    progress.end();
  }
};

const showOutcome = (screen: Screen, rotation: Fields): void => {
  const status = rotation.text('status');
  const of = shownOf(rotation);
  const versions = rotation.has('to_version') ? `: version ${rotation.text('to_version')} is in force` : '';
  if (status === 'grace') {
    screen.line(
      `Rotated ${of}${versions}; version ${rotation.text('from_version')} works until ${shownTime(rotation.text('retires_at'))}.`,
    );
  } else if (status === 'done') {
    screen.line(`Rotated ${of}${versions}.`);
  } else if (status === 'asked' || status === 'running') {
    const at = shownTime(rotation.text('next_at'));
    screen.line(
      `Asked for (${rotation.text('id')}); it begins at ${at}. How it goes: warder rotate history ${rotation.text('connection')}`,
    );
  }
};

/** @throws Failure 1 when it ended without a new secret in force */
const requireRotated = (rotation: Fields): void => {
  const status = rotation.text('status');
  if (rotation.has('waits_for')) {
    throw failed(
      `the rotation of ${shownOf(rotation)} waits for one that is stuck`,
      `look at it: warder rotate show ${rotation.text('waits_for')}`,
    );
  }
  if (!badly.has(status)) return;
  throw failed(
    `the rotation of ${shownOf(rotation)} ${status === 'stuck' ? 'is stuck' : status === 'failed' ? 'failed' : 'was cancelled'}: ${rotation.text('failure')}`,
    status === 'failed' ? 'the secret before is in force' : `look at it: warder rotate show ${rotation.text('id')}`,
  );
};

const showPreview = (screen: Screen, preview: Fields): void => {
  const test = preview.within('test');
  const overlaps = preview.has('overlaps');
  screen.line('Dry run; nothing was changed. This would rotate:');
  screen.line();
  screen.pairs([
    ['connection', preview.text('connection')],
    ['provider', preview.text('provider')],
    ['begins', shownTime(preview.text('begins_at'))],
    [
      'the one before',
      overlaps
        ? preview.flag('overlaps')
          ? `works for ${shownDuration(preview.number('grace_seconds'))} more`
          : 'stops working when the new one is set'
        : '',
    ],
    ['grants', preview.flag('fence') ? `${preview.text('grants')} would die` : 'go on until they expire'],
    ['sent to', preview.texts('sends_to').join(' ')],
    [
      'test of the secret in force',
      test.names().length === 0
        ? ''
        : test.flag('ok')
          ? screen.paint('green', 'accepted upstream')
          : screen.paint('redBright', test.text('why')),
    ],
  ]);
};

interface RotateOptions extends JsonOption {
  all?: true;
  due?: true;
  key?: string;
  now?: true;
  dryRun?: true;
  fence?: true;
  reason?: string;
  wait?: true;
}

const targetOf = (connection: string | undefined, { all, key }: Pick<RotateOptions, 'all' | 'key'>) => {
  const given = [connection, all, key].filter((one) => one !== undefined);
  if (given.length !== 1) throw usage('what is to be rotated? one of CONNECTION, --key and --all');
  return connection === undefined ? (all ? { all } : { key }) : { connection };
};

const rotateAll = async (context: Context, options: RotateOptions, body: object): Promise<void> => {
  const { api, screen } = toolsFor(context);
  const answer = await api.call('POST', 'rotations', { body: { ...body, due: options.due === true } });
  const last: Answer[] = [];
  // They go on side by side; asked after is one at a time, or a thousand would be asked after five times a second.
  for (const row of options.wait ? answer.fields.items('items') : [])
    last.push(await follow(api, context, { ...answer, fields: row }));
  present(screen, options, answer, ({ items }) => {
    const rows = options.wait ? last.map(({ fields }) => fields) : items('items');
    if (rows.length > 0) noun.showTable(screen, historyColumns, rows);
    for (const skipped of items('skipped'))
      screen.note(`${skipped.text('connection')} was not rotated: ${skipped.text('why')}`);
    if (rows.length === 0) screen.note(options.due ? 'nothing is due' : 'nothing has a rotation policy');
  });
  for (const { fields } of last) requireRotated(fields);
};

const rotate = async (context: Context, connection: string | undefined, options: RotateOptions): Promise<void> => {
  const target = targetOf(connection, options);
  if (options.due && !options.all) throw usage('--due belongs to --all');
  const { reason, fence } = options;
  const body = {
    ...target,
    now: options.now === true,
    ...(reason === undefined ? {} : { reason }),
    ...(fence ? { fence } : {}),
  };
  if (options.dryRun) {
    if (connection === undefined) throw usage('--dry-run is for one connection');
    const { api, screen } = toolsFor(context);
    const answer = await api.call('POST', 'rotations', { body: { ...body, dry_run: true } });
    const cannot = answer.fields.maybe('problem');
    present(screen, options, answer, (preview) => {
      if (cannot === undefined) showPreview(screen, preview);
    });
    if (cannot !== undefined) throw failed(cannot);
    if (answer.fields.within('test').has('why'))
      throw failed('the secret in force is not accepted: rotating would fail');
    return;
  }
  if (options.all) return rotateAll(context, options, body);
  const { api, screen } = toolsFor(context);
  const asked = await api.call('POST', 'rotations', { body });
  const last = options.wait ? await follow(api, context, asked) : asked;
  present(screen, options, last, (rotation) => showOutcome(screen, rotation));
  requireRotated(last.fields);
};

const otherCommands = (group: Command, context: Context): void => {
  // First, since it is a `list` until it has its name.
  listLeaf(group, 'rotations')
    .name('history')
    .usage('[options] [connection]')
    .argument('[connection]')
    .description('rotations, newest first: who asked, when, why, and how they ended')
    .option('--key <which>', 'of one of Warder’s own keys: key-encryption or signing')
    .action(async (connection: string | undefined, options: PageOptions & { key?: string }) => {
      const tools = toolsFor(context);
      await presentList(tools, 'rotations/history', { connection, key: options.key }, options, (items) =>
        noun.showTable(tools.screen, historyColumns, items),
      );
    });
  leaf(group, 'list', 'every rotation policy: the last time, the next, and what is under way').action(
    async (options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('GET', 'rotations'), ({ items }) => {
        if (items('items').length === 0) screen.note('none');
        else noun.showTable(screen, policyColumns, items('items'));
      });
    },
  );
  leaf(group, 'show <id>', 'show one rotation').action(async (id: string, options: JsonOption) => {
    const { api, screen } = toolsFor(context);
    present(screen, options, await api.call('GET', `rotations/${segment(id)}`), (row) =>
      noun.showSheet(screen, sheet, row),
    );
  });
  leaf(group, 'cancel <id>', 'take back a rotation that has not begun').action(
    async (id: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('DELETE', `rotations/${segment(id)}`), () =>
        screen.line(`Cancelled ${id}.`),
      );
    },
  );
  leaf(group, 'unset [connection]', 'rotate it only when somebody asks')
    .option('--key <which>', 'one of Warder’s own instead: key-encryption or signing')
    .action(async (connection: string | undefined, options: JsonOption & { key?: string }) => {
      if ((connection === undefined) === (options.key === undefined)) throw usage('one of CONNECTION and --key');
      const { api, screen } = toolsFor(context);
      const path =
        connection === undefined
          ? `keys/rotation/${segment(options.key ?? '')}`
          : `connections/${segment(connection)}/rotation`;
      present(screen, options, await api.call('DELETE', path), () =>
        screen.line(`${connection ?? `key ${options.key}`} is rotated only when somebody asks.`),
      );
    });
};

/** Adds `rotate` and everything below it. A connection that is called as one of these commands is named by its id. */
export const rotateCommands = (program: Command, context: Context): void => {
  const group = leaf(program, 'rotate [connection]', 'replace a secret by a new one that was tested')
    // Otherwise `rotate list --json` would be this command's --json.
    .enablePositionalOptions()
    .option('--now', 'at once, instead of in its window')
    .option('--all', 'everything that has a rotation policy')
    .option('--due', 'with --all: only what is due')
    .option('--key <which>', 'one of Warder’s own instead: key-encryption or signing')
    .option('--fence', 'kill grants of the secret before when the new one is in force')
    .option('--reason <text>', 'why; it is recorded')
    .option('--dry-run', 'only say what it would do, and try the secret in force')
    .option('--wait', 'wait until the new secret is in force')
    .action((connection: string | undefined, options: RotateOptions) => rotate(context, connection, options));
  otherCommands(group, context);
  rotateSetCommand(group, context);
};
