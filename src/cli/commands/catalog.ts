/** `warder catalog`: presets of well-known services, to make connections from. */
import type { Command } from 'commander';
import type { PageOptions } from '../command.ts';
import type { Context } from '../context.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import type { Screen, Style } from '../screen.ts';

interface CatalogFilters extends PageOptions {
  search?: string;
  category?: string;
}

const riskStyles: Record<string, Style> = { read: 'green', write: 'yellow', destructive: 'redBright' };

const shownRisk = (screen: Screen, risk: string): string =>
  Object.hasOwn(riskStyles, risk) ? screen.paint(riskStyles[risk] ?? 'reset', risk) : risk;

const presets: noun.Noun = {
  name: 'preset',
  path: 'catalog',
  argument: '<name>',
  columns: [
    noun.plain('NAME', 'name'),
    noun.plain('SERVICE', 'title'),
    noun.plain('CATEGORY', 'category'),
    noun.names('PROVIDERS', 'providers'),
    ['SCOPES', (preset) => String(preset.items('scopes').length)],
    noun.names('VARIABLES', 'variables'),
    noun.plain('SOURCE', 'source'),
  ],
  sheet: [
    noun.plain('name', 'name'),
    noun.plain('service', 'title'),
    noun.plain('category', 'category'),
    noun.names('providers', 'providers'),
    noun.plain('address', 'base_url'),
    noun.plain('documentation', 'documentation'),
    noun.plain('source', 'source'),
    noun.plain('digest', 'digest'),
  ],
};

const yesNo = (flag: boolean, yes: string, no: string): string => (flag ? yes : no);

const injected = (inject: Fields): string => {
  if (inject.has('header')) return `header ${inject.text('header')}: ${inject.maybe('value') ?? '{secret}'}`;
  if (inject.has('query')) return `query parameter ${inject.text('query')}`;
  return `HTTP Basic, user ${inject.within('basic').text('username') || '(none)'}, the key as password`;
};

const heading = (screen: Screen, text: string): void => {
  screen.line();
  screen.line(screen.paint('bold', text));
};

const showVariables = (screen: Screen, variables: Fields): void => {
  if (variables.names().length === 0) return;
  heading(screen, 'Variables (--var name=value)');
  for (const name of variables.names()) {
    const variable = variables.within(name);
    const fallback = variable.maybe('default');
    const choices = variable.texts('choices');
    screen.line(`  ${name}${fallback === undefined ? '' : ` (default: ${fallback})`}: ${variable.text('description')}`);
    if (choices.length > 0) screen.line(`    one of ${choices.join(', ')}`);
  }
};

const showKey = (screen: Screen, key: Fields): void => {
  const [rotation, revocation] = [key.within('rotation'), key.within('revocation')];
  heading(screen, 'With a key (provider api-key)');
  screen.line(`  Obtain: ${key.text('obtain')}`);
  const looks = key.texts('looks_like');
  if (looks.length > 0) screen.line(`  Looks like: ${looks.map((beginning) => `${beginning}…`).join(', ')}`);
  screen.line(`  Sent as: ${injected(key.within('inject'))}`);
  const two = yesNo(rotation.flag('overlap'), 'two keys can be valid at once', 'the old key ends when the new begins');
  screen.line(`  Rotation: ${yesNo(rotation.flag('api'), 'by API', 'by hand')}; ${two}. ${rotation.text('how')}`);
  screen.line(`  Revocation: ${yesNo(revocation.flag('api'), 'by API', 'by hand')}. ${revocation.text('how')}`);
};

const showOauth = (screen: Screen, oauth: Fields): void => {
  heading(screen, 'With OAuth (provider oauth2)');
  screen.line(`  Obtain: ${oauth.text('obtain')}`);
  screen.line(`  Grant: ${oauth.text('grant')}; PKCE: ${yesNo(oauth.flag('pkce'), 'yes', 'no')}`);
  for (const [name, field] of [
    ['Authorization', 'authorization_endpoint'],
    ['Token', 'token_endpoint'],
    ['Documentation', 'documentation'],
  ] as const) {
    if (oauth.has(field)) screen.line(`  ${name}: ${oauth.text(field)}`);
  }
  screen.line(`  Refresh tokens: ${oauth.text('refresh_tokens')}`);
  const none = 'no endpoint: what was issued lives until it expires';
  screen.line(`  Revocation: ${oauth.maybe('revocation_endpoint') ?? none}`);
};

const showScopes = (screen: Screen, scopes: Fields): void => {
  heading(screen, 'Scopes');
  for (const name of scopes.names()) {
    const scope = scopes.within(name);
    screen.line(`  ${name} (${shownRisk(screen, scope.text('risk'))}): ${scope.text('description')}`);
    for (const rule of scope.items('rules')) {
      const search = yesNo(rule.flag('search'), ' (only looks)', '');
      screen.line(`    ${rule.texts('methods').join(',')} ${rule.text('path')}${search}`);
    }
    const upstream = scope.texts('oauth2');
    if (upstream.length > 0) screen.line(`    OAuth: ${upstream.join(' ')}`);
  }
};

/** What does not fit into a sheet, in the order somebody who sets the service up needs it. */
const showPreset = (preset: Fields, screen: Screen): void => {
  const variables = preset.within('variables');
  showVariables(screen, variables);
  if (preset.has('api_key')) showKey(screen, preset.within('api_key'));
  if (preset.has('oauth2')) showOauth(screen, preset.within('oauth2'));
  showScopes(screen, preset.within('scopes'));
  const notes = preset.texts('notes');
  if (notes.length > 0) {
    heading(screen, 'Notes');
    for (const note of notes) screen.line(`  - ${note}`);
  }
  showNextSteps(screen, preset);
};

/** The commands that make a connection of it, one for each provider. */
const showNextSteps = (screen: Screen, preset: Fields): void => {
  const variables = preset.within('variables');
  const needed = variables.names().filter((name) => !variables.within(name).has('default'));
  const [first] = preset.texts('providers');
  screen.line();
  for (const provider of preset.texts('providers')) {
    const oauth = provider === 'oauth2';
    const given = [...needed, ...(oauth ? ['client_id'] : [])].map((name) => ` --var ${name}=…`).join('');
    const named = provider === first ? '' : ` --provider ${provider}`;
    screen.line(`warder connection add NAME --preset ${preset.text('name')}${named}${given} --secret env:NAME`);
    const consent = oauth && preset.within('oauth2').text('grant') === 'authorization_code';
    if (consent) screen.line('warder connection connect NAME');
  }
};

/** Adds `catalog` and everything below it. */
export const catalogCommands = (program: Command, context: Context): void => {
  const group = program.command('catalog').description('presets of well-known services, to make connections from');
  noun
    .listCommand(group, context, presets, (options: CatalogFilters) => ({
      search: options.search,
      category: options.category,
    }))
    .option('--search <words>', 'only where every word is in name, title, category or a scope')
    .option('--category <name>', 'only of this category');
  noun.showCommand(group, context, presets, showPreset);
};
