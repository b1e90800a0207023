/**
 * Named placeholders in what an operator writes about a call: `/v1/keys/{{id}}`. There is no language in it: a name
 * stands for one text, which is encoded for the place where it stands, so that no value can add a path segment, a header
 * or a member of a JSON document.
 */

/** What may stand between `{{` and `}}`. */
export const placeholders = ['rotation_id', 'connection', 'id', 'secret'] as const;
export type Placeholder = (typeof placeholders)[number];
export type Values = Partial<Record<Placeholder, string>>;

const anyPlaceholder = /\{\{([^{}]*)\}\}/g;

const isPlaceholder = (name: string): name is Placeholder => placeholders.some((one) => one === name);

/** @returns the placeholders in a text, or what is wrong with it */
export const placeholdersIn = (text: string): { names: Set<Placeholder> } | { problem: string } => {
  const names = new Set<Placeholder>();
  for (const [, name = ''] of text.matchAll(anyPlaceholder)) {
    if (!isPlaceholder(name)) return { problem: `unknown placeholder; there are ${placeholders.join(', ')}` };
    names.add(name);
  }
  const rest = text.replaceAll(anyPlaceholder, '');
  return rest.includes('{{') || rest.includes('}}') ? { problem: 'a placeholder is written {{name}}' } : { names };
};

/** A placeholder for which nothing is known here. */
export class NothingKnown extends Error {
  override readonly name = 'NothingKnown';
  readonly placeholder: string;

  constructor(placeholder: string) {
    super(`nothing is known for ${placeholder}`);
    this.placeholder = placeholder;
  }
}

/** @throws NothingKnown */
export const filled = (text: string, values: Values, encode: (value: string) => string = (value) => value): string =>
  text.replaceAll(anyPlaceholder, (_, name: string) => {
    const value = isPlaceholder(name) ? values[name] : undefined;
    if (value === undefined) throw new NothingKnown(name);
    return encode(value);
  });

/** Fills the texts of a JSON document; its names stay as they are. @throws NothingKnown */
export const filledJson = (document: unknown, values: Values): unknown => {
  if (typeof document === 'string') return filled(document, values);
  if (Array.isArray(document)) return document.map((one) => filledJson(one, values));
  if (typeof document !== 'object' || document === null) return document;
  return Object.fromEntries(Object.entries(document).map(([name, one]) => [name, filledJson(one, values)]));
};

/** All texts of a JSON document that may have placeholders in them. */
export const textsOf = (document: unknown): string[] => {
  if (typeof document === 'string') return [document];
  if (typeof document !== 'object' || document === null) return [];
  return Object.values(document).flatMap(textsOf);
};

/** RFC 6901; the empty pointer is the whole document. */
export const pointerForm = /^(?:\/(?:[^~/]|~[01])*)*$/;

/** @returns undefined where nothing is */
export const at = (document: unknown, pointer: string): unknown => {
  let found = document;
  for (const token of pointer.split('/').slice(1)) {
    const name = token.replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, name)) return undefined;
    found = Reflect.get(found, name);
  }
  return found;
};
