/** What the audit log says happened, read entry by entry: who holds what, what ended it, which calls were recorded. */
import type { Selector } from '../../../src/domain/model.ts';

/** An entry as it is exported, as far as it is looked at here. */
interface Entry {
  type: string;
  time: string;
  agent?: { id: string; name: string };
  connection?: { id: string; name: string };
  grant?: string;
  data?: Record<string, unknown>;
}

export interface RecordedGrant {
  id: string;
  seq: number;
  agent: string;
  connection: string;
  connectionName: string;
  provider: string;
  entitlement: string;
  expiresAt: number;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

export class AuditView {
  /** The number of the next entry. */
  size = 0;
  /** When the newest entry was made. */
  newest = '1970-01-01T00:00:00.000Z';
  readonly issued = new Set<string>();
  readonly living = new Map<string, RecordedGrant>();
  /** How grants ended, by id. */
  readonly ended = new Map<string, 'revoked' | 'returned'>();
  readonly unrevocable = new Set<string>();
  /** Last words of the paths of recorded gateway calls. */
  readonly calls = new Set<string>();
  /** By the reason they were sent with. */
  readonly revocations = new Map<string, { seq: number; id: string }>();
  readonly #owners: ReadonlyMap<string, string>;

  /** @param owners of the agents, by id */
  constructor(owners: ReadonlyMap<string, string>) {
    this.#owners = owners;
  }

  /** @param lines of an export; what is known already is skipped. @returns what is wrong with their order */
  read(lines: readonly string[]): string[] {
    for (const line of lines) {
      const { seq, entry } = JSON.parse(line) as { seq?: number; entry?: Entry };
      if (seq === undefined || entry === undefined || seq < this.size) continue;
      if (seq > this.size) return [`the log goes on with ${seq} where ${this.size} comes next`];
      this.size = seq + 1;
      if (entry.time > this.newest) this.newest = entry.time;
      this.#take(seq, entry);
    }
    return [];
  }

  #take(seq: number, entry: Entry): void {
    const { grant = '', data = {} } = entry;
    switch (entry.type) {
      case 'grant.issued':
        this.issued.add(grant);
        this.living.set(grant, {
          id: grant,
          seq,
          agent: entry.agent?.id ?? '',
          connection: entry.connection?.id ?? '',
          connectionName: entry.connection?.name ?? '',
          provider: text(data['provider']),
          entitlement: text(data['entitlement']),
          expiresAt: Date.parse(text(data['expires_at'])),
        });
        return;
      case 'grant.renewed': {
        const living = this.living.get(grant);
        if (living) living.expiresAt = Date.parse(text(data['expires_at']));
        return;
      }
      case 'grant.returned':
      // It was over already: by the clock, which the log says nothing else about.
      case 'grant.return_ignored':
        this.#end(grant, 'returned');
        return;
      case 'grant.unrevocable':
        this.unrevocable.add(grant);
        return;
      case 'gateway.call':
        this.calls.add(text(data['path']).slice('/x/'.length));
        return;
      case 'revocation.created': {
        this.revocations.set(text(data['reason']), { seq, id: text(data['revocation']) });
        const selector = data['selector'] as Selector;
        for (const one of this.living.values()) if (this.#reaches(selector, one)) this.#end(one.id, 'revoked');
        return;
      }
    }
  }

  #end(grant: string, how: 'revoked' | 'returned'): void {
    if (this.living.delete(grant)) this.ended.set(grant, how);
  }

  /** In the log selectors name ids. */
  #reaches(selector: Selector, grant: RecordedGrant): boolean {
    const facts: Record<string, string | undefined> = {
      agent: grant.agent,
      owner: this.#owners.get(grant.agent),
      connection: grant.connection,
      provider: grant.provider,
      entitlement: grant.entitlement,
      grant: grant.id,
    };
    return Object.entries(selector).every(([field, value]) => field === 'everything' || facts[field] === value);
  }
}
