/** What `list`, `show`, `remove`, `suspend` and `resume` do for every noun alike. */
import type { Command } from 'commander';
import { type Query, segment } from './api.ts';
import { type JsonOption, leaf, listLeaf, type PageOptions, present, presentList, toolsFor } from './command.ts';
import type { Context } from './context.ts';
import type { Fields } from './fields.ts';
import { type Screen, shownTime } from './screen.ts';

/** A column of a table, or a line of a sheet: its name and where its value comes from. */
export type Cell = readonly [name: string, value: (item: Fields, screen: Screen) => string | undefined];

export interface Noun {
  /** `agent` */
  name: string;
  /** `agents`, as in `/admin/v1/agents` */
  path: string;
  /** What names one: `<name>` or `<id>`. */
  argument: '<name>' | '<id>';
  /** The columns of `list`. */
  columns: readonly Cell[];
  /** The lines of `show`. */
  sheet: readonly Cell[];
}

/** A field as it is. */
export const plain = (heading: string, field: string): Cell => [heading, (item) => item.text(field)];
/** A field that is a time. */
export const time = (heading: string, field: string): Cell => [heading, (item) => shownTime(item.text(field))];
/** A field that is a list of names. */
export const names = (heading: string, field: string): Cell => [heading, (item) => item.texts(field).join(' ')];
/** A field that is an end, which null means never. */
export const end = (heading: string, field: string): Cell => [
  heading,
  (item) => shownTime(item.text(field)) || 'never',
];
/** The field `status`, in its colour. */
export const status = (heading: string): Cell => [heading, (item, screen) => screen.status(item.text('status'))];

export const showTable = (screen: Screen, columns: readonly Cell[], items: readonly Fields[]): void =>
  screen.table(
    columns.map(([heading]) => heading),
    items.map((item) => columns.map(([, value]) => value(item, screen) ?? '')),
  );

export const showSheet = (screen: Screen, sheet: readonly Cell[], item: Fields): void =>
  screen.pairs(sheet.map(([heading, value]) => [heading, value(item, screen)]));

/** @param queryOf reads the filters among the options */
export const listCommand = <O extends PageOptions>(
  group: Command,
  context: Context,
  noun: Noun,
  queryOf: (options: O) => Query = () => ({}),
): Command =>
  listLeaf(group, noun.path).action(async (options: O) => {
    const query = queryOf(options);
    const tools = toolsFor(context);
    await presentList(tools, noun.path, query, options, (items) => showTable(tools.screen, noun.columns, items));
  });

/** @param more shows what does not fit into a sheet */
export const showCommand = (
  group: Command,
  context: Context,
  noun: Noun,
  more: (item: Fields, screen: Screen) => void = () => undefined,
): Command =>
  leaf(group, `show ${noun.argument}`, `show one ${noun.name}`).action(async (key: string, options: JsonOption) => {
    const { api, screen } = toolsFor(context);
    present(screen, options, await api.call('GET', `${noun.path}/${segment(key)}`), (item) => {
      showSheet(screen, noun.sheet, item);
      more(item, screen);
    });
  });

export const removeCommand = (group: Command, context: Context, noun: Noun, description: string): Command =>
  leaf(group, `remove ${noun.argument}`, description).action(async (key: string, options: JsonOption) => {
    const { api, screen } = toolsFor(context);
    const answer = await api.call('DELETE', `${noun.path}/${segment(key)}`);
    present(screen, options, answer, () => screen.line(`Removed ${noun.name} ${key}.`));
  });

/** `suspend` and `resume`. */
export const stateCommands = (
  group: Command,
  context: Context,
  noun: Noun,
  descriptions: { suspend: string; resume: string },
): void => {
  for (const [verb, state, done] of [
    ['suspend', 'suspended', 'Suspended'],
    ['resume', 'active', 'Resumed'],
  ] as const) {
    leaf(group, `${verb} ${noun.argument}`, descriptions[verb]).action(async (key: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('PATCH', `${noun.path}/${segment(key)}`, { body: { status: state } });
      present(screen, options, answer, () => screen.line(`${done} ${noun.name} ${key}.`));
    });
  }
};
