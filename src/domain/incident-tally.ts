/** Counting kinds of things in bounded memory. */
import type { Short, Span } from './incident-report.ts';

/** Counts by key, for so many keys at most; what comes when it is full is counted as more. */
export class Tally<T extends object> {
  readonly #held = new Map<string, T & { count: number; first: number; last: number }>();
  readonly #max: number;
  #more = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /**
   * @param max less than all there is room for, to keep some of it free
   * @returns what is counted under this key, to be added to; undefined when it is full and the key is not in it
   */
  add(key: string, at: number, make: () => T, max = this.#max): T | undefined {
    const known = this.#held.get(key);
    if (known) {
      known.count += 1;
      known.first = Math.min(known.first, at);
      known.last = Math.max(known.last, at);
      return known;
    }
    if (this.#held.size >= max) return undefined;
    const made = { ...make(), count: 1, first: at, last: at };
    this.#held.set(key, made);
    return made;
  }

  /** As {@link Tally.add} for something that happened elsewhere already: its count stays. */
  get(key: string): T | undefined {
    return this.#held.get(key);
  }

  /** Counts what found no place. */
  missed(): void {
    this.#more += 1;
  }

  /** The most frequent first. */
  short(): Short<T & Span> {
    const items = [...this.#held.values()].sort((a, b) => b.count - a.count || a.first - b.first);
    return {
      items: items.map((item) => ({
        ...item,
        first: new Date(item.first).toISOString(),
        last: new Date(item.last).toISOString(),
      })),
      more: this.#more,
    };
  }
}

/** `12`, `5f2c…`, `ch_3Nx81`, a UUID: what names one thing among many of its kind. */
const looksLikeAnId = (segment: string): boolean =>
  /^\d+$/.test(segment) ||
  /^[0-9a-f]{8}-[0-9a-f-]{27}$/i.test(segment) ||
  (segment.length >= 8 && /\d/.test(segment) && /^[\w.~%=-]+$/.test(segment) && !/^v\d/.test(segment)) ||
  segment.length > 40;

/** Longer paths are cut: this many segments tell where somebody has been. */
const maxSegments = 8;

/** @returns the path with `*` for what looks like an identifier, and `**` for a tail beyond eight segments */
export const pathPattern = (path: string): string => {
  const segments = path.split('/').slice(1);
  const kept = segments.slice(0, maxSegments).map((segment) => (looksLikeAnId(segment) ? '*' : segment));
  return `/${kept.join('/')}${segments.length > maxSegments ? '/**' : ''}`;
};

/** @returns the first `segments` segments of a pattern, with `**` for the rest */
export const pathPrefix = (pattern: string, segments: number): string => {
  const all = pattern.split('/').slice(1);
  return all.length <= segments ? pattern : `/${[...all.slice(0, segments), '**'].join('/')}`;
};
