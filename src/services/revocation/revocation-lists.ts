/**
 * Lists of credentials to refuse before their end, for systems that check credentials without asking Warder. A list is
 * computed from the ledger, by the same question every check point asks (liveness.ts), and needs no secret: it is served
 * while Warder is sealed too.
 */
import { hash } from 'node:crypto';
import { deadGrant } from '../../domain/liveness.ts';
import type { Connection, Grant } from '../../domain/model.ts';
import type { RevocationList } from '../../ports/provider.ts';
import type { Core } from '../core.ts';

export interface PublishedList {
  body: Uint8Array;
  /** Differs when what is listed differs; not with the time it was made. */
  tag: string;
}

/** Rows in memory at a time: a list of a hundred thousand is a megabyte, its rows would be a hundred. */
const pageRows = 1000;
/** A list is made at most this often for a connection; whoever asks in between waits for the next one. */
const pauseMs = 1000;
/** What is over leaves a list that nothing else changes. */
const pruneMs = 60_000;
/** What was revoked stays listed so long after its end: for whoever checks with a clock that is behind. */
const clockToleranceMs = 300_000;

interface Kept {
  list: PublishedList;
  /** How many changes that may kill were known when the reading began. */
  kills: number;
  madeAt: number;
  endedAt: number;
}

const pauseFor = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class RevocationLists {
  readonly #core: Core;
  readonly #kept = new Map<string, Kept>();
  readonly #making = new Map<string, Promise<Kept>>();
  #kills = 0;

  constructor(core: Core) {
    this.#core = core;
    core.state.onKilled(() => {
      this.#kills += 1;
      for (const id of this.#kept.keys()) if (!core.state.connections.get(id)) this.#kept.delete(id);
    });
  }

  /** @returns the list with everything in it that was dead when this was called */
  async list(connection: Connection, format: RevocationList): Promise<PublishedList> {
    const asked = this.#kills;
    for (;;) {
      const kept = this.#kept.get(connection.id);
      if (kept && kept.kills >= asked && this.#core.clock.now() - kept.madeAt < pruneMs) return kept.list;
      // One that is being made began before this was asked, or not: afterwards it is seen.
      const making = this.#making.get(connection.id) ?? this.#make(connection, format, kept);
      this.#making.set(connection.id, making);
      const made = await making.finally(() => {
        if (this.#making.get(connection.id) === making) this.#making.delete(connection.id);
      });
      if (made.kills >= asked) return made.list;
    }
  }

  async #make(connection: Connection, format: RevocationList, before: Kept | undefined): Promise<Kept> {
    const { clock, state } = this.#core;
    const early = before ? before.endedAt + pauseMs - performance.now() : 0;
    if (early > 0) await pauseFor(early);
    const [kills, number, madeAt] = [this.#kills, state.newestSeq + 1, clock.now()];
    const serials = await this.#serials(connection, format, madeAt);
    const tag = hash('sha256', new Uint8Array(serials.buffer, 0, serials.byteLength), 'base64url').slice(0, 22);
    const body = format.make(serials, { number, at: madeAt, comment: `warder ${connection.name}` });
    const made = { list: { body, tag }, kills, madeAt, endedAt: performance.now() };
    if (state.connections.get(connection.id)) this.#kept.set(connection.id, made);
    return made;
  }

  /** @returns the serial numbers of what died before its time and whose time is not over, ascending */
  async #serials(connection: Connection, format: RevocationList, now: number): Promise<BigUint64Array> {
    const { reader } = this.#core;
    let found = new BigUint64Array(pageRows);
    let count = 0;
    for (let before: string | undefined; ; ) {
      const page: Grant[] = await reader.grants(
        { connection_id: connection.id, alive_at: now - clockToleranceMs },
        { before, limit: pageRows },
      );
      for (const grant of page) {
        if (!this.#isDead(grant, now)) continue;
        if (count === found.length) {
          const larger = new BigUint64Array(found.length * 2);
          larger.set(found);
          found = larger;
        }
        found[count] = format.serial(grant.id);
        count += 1;
      }
      before = page.at(-1)?.id;
      if (page.length < pageRows) return found.slice(0, count).sort();
    }
  }

  #isDead(grant: Grant, now: number): boolean {
    // What is being issued has not left yet; if it never does, it becomes `aborted`.
    if (grant.status === 'intended') return false;
    const { state } = this.#core;
    const [agent, connection] = [state.agents.get(grant.agent_id), state.connections.get(grant.connection_id)];
    // Before its time was over, for what is: that it is over its holder's certificate says itself.
    const dead = deadGrant(grant, agent, connection, state.fences, Math.min(now, grant.expires_at - 1));
    return dead !== undefined && dead.code !== 'expired';
  }
}
