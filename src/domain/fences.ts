/** Selectors and fences: what a revocation kills, decided by comparing sequence numbers. */
import type { Fence, Selector } from './model.ts';

/** What a fence looks at. A token of an agent has no connection, so a selector that names one never matches it. */
export interface FenceFacts {
  agent: string;
  connection: string | null;
  provider: string | null;
  /** The owner when it was issued and the owner now: revoking either kills it. */
  owners: readonly string[];
  subject: string | null;
  /** Trusted issuers on whose word it was issued. */
  issuers: readonly string[];
  entitlement: string | null;
  grant: string | null;
}

/** The fields a selector may name, in one place for the parser, the tests and the documentation. */
export const selectorFields = [
  'everything',
  'agent',
  'connection',
  'provider',
  'owner',
  'subject',
  'issuer',
  'entitlement',
  'grant',
] as const satisfies (keyof Selector)[];

/** @returns whether everything the selector names is so of these facts; an empty selector matches nothing */
export const selectorMatches = (selector: Selector, facts: FenceFacts): boolean => {
  if (selector.everything === true) return true;
  let named = 0;
  for (const [field, value] of Object.entries(selector)) {
    if (value === undefined) continue;
    named += 1;
    if (field === 'owner') {
      if (!facts.owners.includes(String(value))) return false;
    } else if (field === 'issuer') {
      if (!facts.issuers.includes(String(value))) return false;
    } else if (field === 'agent' || field === 'connection' || field === 'provider' || field === 'subject') {
      if (facts[field] !== value) return false;
    } else if (field === 'entitlement' || field === 'grant') {
      if (facts[field] !== value) return false;
    } else {
      return false;
    }
  }
  return named > 0;
};

/**
 * All fences in force, arranged so that a check costs a few map look-ups however many there are: a selector of one
 * field goes into that field's map, only selectors of several fields are walked.
 */
export class FenceIndex {
  #everything = -1;
  readonly #single = new Map<string, number>();
  #compound: { selector: Selector; seq: number }[] = [];
  #newest = -1;

  constructor(fences: Iterable<Fence> = []) {
    for (const fence of fences) this.add(fence.selector, fence.seq);
  }

  /** The sequence number of the newest fence, -1 when there is none. */
  get newest(): number {
    return this.#newest;
  }

  add(selector: Selector, seq: number): void {
    this.#newest = Math.max(this.#newest, seq);
    if (selector.everything) {
      this.#everything = Math.max(this.#everything, seq);
      return;
    }
    const named = Object.entries(selector).filter(([, value]) => value !== undefined);
    const only = named.length === 1 ? named[0] : undefined;
    if (only) {
      const key = `${only[0]}:${String(only[1])}`;
      this.#single.set(key, Math.max(this.#single.get(key) ?? -1, seq));
    } else if (named.length > 1) {
      this.#compound.push({ selector, seq });
    }
  }

  /** Whether a fence names this owner, alone or with more. */
  namesOwner(owner: string): boolean {
    return this.#single.has(`owner:${owner}`) || this.#compound.some(({ selector }) => selector.owner === owner);
  }

  /**
   * @param seq the sequence number of what is checked
   * @returns the sequence number of a fence newer than it that matches, or undefined when none does
   */
  fencedBy(seq: number, facts: FenceFacts): number | undefined {
    if (this.#newest <= seq) return undefined;
    if (this.#everything > seq) return this.#everything;
    const single = (field: string, value: string | null): number | undefined => {
      const found = value === null ? undefined : this.#single.get(`${field}:${value}`);
      return found !== undefined && found > seq ? found : undefined;
    };
    for (const owner of facts.owners) {
      const found = single('owner', owner);
      if (found !== undefined) return found;
    }
    for (const issuer of facts.issuers) {
      const found = single('issuer', issuer);
      if (found !== undefined) return found;
    }
    return (
      single('agent', facts.agent) ??
      single('connection', facts.connection) ??
      single('provider', facts.provider) ??
      single('subject', facts.subject) ??
      single('entitlement', facts.entitlement) ??
      single('grant', facts.grant) ??
      this.#compound.find((fence) => fence.seq > seq && selectorMatches(fence.selector, facts))?.seq
    );
  }
}
