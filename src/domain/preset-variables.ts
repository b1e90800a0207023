/**
 * What may stand in for a variable of a preset. A variable decides where a secret is sent, so its value is one of a few
 * shapes that cannot end a host, begin a path, or bring a user, a port or a scheme of its own.
 */

/**
 * - `dns-label`: one label of a host name (RFC 1123 section 2.1), in lower case: the tenant in `acme.zendesk.com`.
 * - `dns-name`: a whole host name of two labels or more. The last begins with a letter, as every top-level domain does:
 *   URL parsers take `1.2.3.4` and `1.0x2` for addresses.
 * - `id`: a segment of a path or a user name: letters, digits, `_` and `-`, with single dots between them.
 * - `number`: digits.
 * - `email`: an address as people have them, for HTTP Basic; no colon, which would end the user name.
 * - `choice`: one of the preset's own list.
 */
export const variablePatterns = ['dns-label', 'dns-name', 'id', 'number', 'email', 'choice'] as const;
export type VariablePattern = (typeof variablePatterns)[number];

export interface PresetVariable {
  description: string;
  pattern: VariablePattern;
  choices?: readonly string[] | undefined;
  default?: string | undefined;
  example?: string | undefined;
}

/** Letters that were encoded (`xn--`) look like others on a screen, and are refused with every `--` in third place. */
const label = '(?!..--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const dnsLabel = new RegExp(`^${label}$`);
const dnsName = new RegExp(`^(?=.{3,253}$)(?:${label}\\.)+(?=[a-z])${label}$`);
const id = /^(?=.{1,200}$)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$/;
const digits = /^[0-9]{1,20}$/;
const local = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/;

const isEmail = (text: string): boolean => {
  const [before = '', domain = '', ...rest] = text.split('@');
  return rest.length === 0 && local.test(before) && dnsName.test(domain.toLowerCase());
};

/** Where a value of a pattern may stand: in a URL's host, in its path, in a user name. */
export const standsIn: Record<VariablePattern, readonly ('host' | 'path' | 'username')[]> = {
  'dns-label': ['host', 'path', 'username'],
  'dns-name': ['host'],
  id: ['path', 'username'],
  number: ['path', 'username'],
  email: ['username'],
  choice: ['host', 'path', 'username'],
};

const rules: Record<Exclude<VariablePattern, 'choice'>, { fits: (text: string) => boolean; rule: string }> = {
  'dns-label': {
    fits: (text) => dnsLabel.test(text),
    rule: 'one label of a host name: lower-case letters, digits and -, at most 63, no dot',
  },
  'dns-name': {
    fits: (text) => dnsName.test(text),
    rule: 'a host name in lower case with a dot in it; no address, scheme, port or path',
  },
  id: { fits: (text) => id.test(text), rule: 'letters, digits, _ and -, single dots between them, at most 200' },
  number: { fits: (text) => digits.test(text), rule: 'digits, at most 20' },
  email: { fits: isEmail, rule: 'an email address: name@example.com' },
};

/** What may be one of a preset's choices: a label, a host name, or an id; then it fits wherever it may stand. */
export const isChoice = (text: string): boolean => dnsLabel.test(text) || dnsName.test(text) || id.test(text);

/** @returns the rule a value breaks, without the value, or undefined */
export const variableFault = (
  variable: Pick<PresetVariable, 'pattern' | 'choices'>,
  value: string,
): string | undefined => {
  if (variable.pattern === 'choice') {
    const choices = variable.choices ?? [];
    return choices.includes(value) ? undefined : `one of ${choices.join(', ')}`;
  }
  const { fits, rule } = rules[variable.pattern];
  return fits(value) ? undefined : rule;
};

/** `{name}`; `{secret}` is not one: it stays for the provider to fill in, request by request. */
const placeholder = /\{([a-z][a-z0-9_]{0,39})\}/g;
const reserved = 'secret';

/** @returns the variables a value names, wherever in it */
export const placeholdersIn = (value: unknown): Set<string> => {
  const found = new Set<string>();
  const look = (one: unknown): void => {
    if (typeof one === 'string') {
      for (const [, name = ''] of one.matchAll(placeholder)) if (name !== reserved) found.add(name);
    } else if (typeof one === 'object' && one !== null) Object.values(one).forEach(look);
  };
  look(value);
  return found;
};

/** Puts values in, wherever in a value their names stand. */
export const fill = (value: unknown, values: ReadonlyMap<string, string>): unknown => {
  // One pass: what a value brings in is not looked through for further placeholders.
  if (typeof value === 'string') return value.replaceAll(placeholder, (all, name: string) => values.get(name) ?? all);
  if (Array.isArray(value)) return value.map((item) => fill(item, values));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fill(item, values)]));
};

/**
 * @param given by whoever makes the connection
 * @param needed what is named in the settings that are to be filled in
 * @param problems is told what is unknown, missing or no value of its pattern
 */
export const variableValues = (
  preset: string,
  declared: Readonly<Record<string, PresetVariable>>,
  given: Readonly<Record<string, string>>,
  needed: ReadonlySet<string>,
  problems: string[],
): Map<string, string> => {
  const values = new Map<string, string>();
  const names = Object.keys(declared);
  if (Object.keys(given).some((name) => !Object.hasOwn(declared, name))) {
    problems.push(`variables: preset ${preset} has ${names.length === 0 ? 'none' : names.join(', ')}`);
  }
  for (const [name, variable] of Object.entries(declared)) {
    const value = Object.hasOwn(given, name) ? given[name] : variable.default;
    if (value === undefined) {
      if (needed.has(name)) problems.push(`variables.${name}: is needed: ${variable.description}`);
      continue;
    }
    const fault = variableFault(variable, value);
    if (fault === undefined) values.set(name, value);
    else problems.push(`variables.${name}: ${fault}`);
  }
  return values;
};
