/**
 * Reads what the broker answered, for showing it: by name, with a fallback for what is missing, and every text made
 * {@link printable} on the way. A newer broker with more fields, or one with fewer, is shown as well as can be.
 */
import { printable } from './sanitise.ts';

export interface Fields {
  /** A text, number or truth value as text; '' when it is missing, null or something else. */
  text(name: string): string;
  /** As {@link text}, undefined instead of ''. */
  maybe(name: string): string | undefined;
  number(name: string): number | undefined;
  flag(name: string): boolean;
  /** The texts of a list. */
  texts(name: string): string[];
  /** The objects of a list. */
  items(name: string): Fields[];
  /** The object under a name; one without fields when there is none. */
  within(name: string): Fields;
  /** Whether the name is there and not null. */
  has(name: string): boolean;
  /** The names it has, printable. */
  names(): string[];
  /** The value under a name as compact JSON. */
  json(name: string): string;
  /** A text exactly as it came, '' when there is none: for passing on, never for a terminal. */
  raw(name: string): string;
}

const scalar = (value: unknown): string =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? printable(String(value)) : '';

export const fieldsOf = (value: unknown): Fields => {
  const held = new Map<string, unknown>(
    typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.entries(value) : [],
  );
  const list = (name: string): unknown[] => {
    const found = held.get(name);
    return Array.isArray(found) ? found : [];
  };
  return {
    text: (name) => scalar(held.get(name)),
    maybe: (name) => scalar(held.get(name)) || undefined,
    number: (name) => {
      const found = held.get(name);
      return typeof found === 'number' ? found : undefined;
    },
    flag: (name) => held.get(name) === true,
    texts: (name) => list(name).map(scalar),
    items: (name) => list(name).map(fieldsOf),
    within: (name) => fieldsOf(held.get(name)),
    has: (name) => held.get(name) !== undefined && held.get(name) !== null,
    names: () => [...held.keys()].map(printable),
    json: (name) => printable(JSON.stringify(held.get(name)) ?? ''),
    raw: (name) => {
      const found = held.get(name);
      return typeof found === 'string' ? found : '';
    },
  };
};
