/** What all commands have in common: `--json`, lists with pages, and an action that is given an API. */
import type { Command } from 'commander';
import { type Answer, type Api, connectApi, isOpenToEavesdroppers, type Query } from './api.ts';
import type { Context } from './context.ts';
import type { Fields } from './fields.ts';
import { type Screen, screenOf } from './screen.ts';
import { parseCount } from './values.ts';

export interface JsonOption {
  json?: true;
}

export interface PageOptions extends JsonOption {
  limit?: number;
  cursor?: string;
}

/** What an action works with. */
export interface Tools {
  api: Api;
  screen: Screen;
}

/** As many lines as somebody may still want to look at; then the hint that there are more. */
const listLimit = 500;

/** A command that answers with `--json` as well. */
export const leaf = (parent: Command, usage: string, description: string): Command =>
  parent.command(usage).description(description).option('--json', 'print exactly what the API returned');

export const listLeaf = (parent: Command, what: string): Command =>
  leaf(parent, 'list', `list ${what}`)
    .option('--limit <count>', `at most so many (default: ${listLimit}; with --json one page of the API)`, parseCount)
    .option('--cursor <cursor>', 'go on where another page ended');

/** Connects as the environment says, with a warning where the token could be read on the way. */
export const toolsFor = (context: Context): Tools => {
  const screen = screenOf(context);
  const api = connectApi(context);
  if (isOpenToEavesdroppers(api.url)) {
    screen.note(`warning: ${api.url} is not encrypted: whoever sees the traffic has the operator token`);
  }
  return { api, screen };
};

/** Prints an answer: its bytes with `--json`, what `show` makes of it otherwise. */
export const present = (screen: Screen, { json }: JsonOption, answer: Answer, show: (fields: Fields) => void): void => {
  if (json) screen.json(answer.body);
  else show(answer.fields);
};

/** What one request for a page asks for at most; the broker may give less. */
const pageSize = 100;

/**
 * A list: with `--json` one page as the API gave it, for people as many pages as the limit takes, as one table.
 *
 * @param show prints the items; not called when there are none
 */
export const presentList = async (
  { api, screen }: Tools,
  path: string,
  query: Query,
  { json, limit, cursor }: PageOptions,
  show: (items: Fields[]) => void,
): Promise<void> => {
  if (json) {
    screen.json((await api.call('GET', path, { query: { ...query, limit, cursor } })).body);
    return;
  }
  const wanted = limit ?? listLimit;
  const items: Fields[] = [];
  let next = cursor;
  do {
    const size = Math.min(pageSize, wanted - items.length);
    const { fields } = await api.call('GET', path, { query: { ...query, limit: size, cursor: next } });
    items.push(...fields.items('items'));
    // A page may be empty and have a next one: the broker looks at so many rows a request, whatever they match.
    const following = fields.maybe('next_cursor');
    next = following === next ? undefined : following;
  } while (next !== undefined && items.length < wanted);
  if (items.length === 0) screen.note('none');
  else show(items);
  if (next !== undefined) screen.note(`there are more: --cursor ${next}`);
};
