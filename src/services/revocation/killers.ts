/** Which revocation ended a grant: of all that are open, found without walking them. */
import { type FenceFacts, selectorMatches } from '../../domain/fences.ts';
import { grantFacts } from '../../domain/liveness.ts';
import type { Agent, Grant, Revocation } from '../../domain/model.ts';

/** @returns the first of these, in order of their fences, that is newer than `seq` */
const firstAfter = (rows: readonly Revocation[] | undefined, seq: number): Revocation | undefined => {
  if (!rows) return undefined;
  let low = 0;
  for (let high = rows.length; low < high; ) {
    const middle = (low + high) >> 1;
    if ((rows[middle]?.seq ?? 0) > seq) high = middle;
    else low = middle + 1;
  }
  return rows[low];
};

export class Killers {
  /** By the one thing their selector names, each list in order of the fences. */
  readonly #single = new Map<string, Revocation[]>();
  /** Those that name several. */
  readonly #compound: Revocation[] = [];

  constructor(open: readonly Revocation[]) {
    for (const row of open.toSorted((a, b) => a.seq - b.seq)) this.add(row);
  }

  /** @param row newer than all that are there */
  add(row: Revocation): void {
    const named = Object.entries(row.selector).filter(([, value]) => value !== undefined);
    const [only] = named;
    if (!only) return;
    if (named.length > 1) {
      this.#compound.push(row);
      return;
    }
    const key = `${only[0]}:${String(only[1])}`;
    const list = this.#single.get(key);
    if (list) list.push(row);
    else this.#single.set(key, [row]);
  }

  /** @returns the revocation that ended this grant while it lived; of several the first */
  of(grant: Grant, agent: Agent | undefined): Revocation | undefined {
    if (grant.status !== 'active') return undefined;
    const facts = grantFacts(grant, agent);
    let first = this.#compound.find((row) => row.seq > grant.seq && selectorMatches(row.selector, facts));
    for (const key of keysOf(facts)) {
      const found = firstAfter(this.#single.get(key), grant.seq);
      if (found && found.seq < (first?.seq ?? Number.POSITIVE_INFINITY)) first = found;
    }
    return first && first.created_at < grant.expires_at ? first : undefined;
  }
}

const keysOf = (facts: FenceFacts): string[] => [
  'everything:true',
  `agent:${facts.agent}`,
  `connection:${facts.connection}`,
  `provider:${facts.provider}`,
  ...(facts.subject === null ? [] : [`subject:${facts.subject}`]),
  `entitlement:${facts.entitlement}`,
  `grant:${facts.grant}`,
  ...facts.owners.map((owner) => `owner:${owner}`),
  ...facts.issuers.map((issuer) => `issuer:${issuer}`),
];
