/**
 * The drain: what a fence, the clock or a return has ended here is taken back upstream too, and so is what a crash or
 * a failure left half-made. It decides nothing: a grant is dead for every check point before it comes along. It works
 * from what the ledger says, so it goes on after a restart where it was.
 *
 * Each connection has a lane of its own: an upstream that hangs keeps only its own grants waiting. A try that fails is
 * repeated after a pause, a bounded number of times; then the grant is `unrevocable`, where everybody sees it. What
 * cannot be taken back and ends by itself stays `live` upstream, with its time, until that time is over.
 *
 * A round asks the ledger for what is to be done and never for more than there is room for: what a fence matches, by its
 * selector; what has ended; what is half-made. So its work does not grow with what lives.
 */

import { grantFacts } from '../../domain/liveness.ts';
import type { Grant, Revocation } from '../../domain/model.ts';
import { endsByIn } from '../../domain/stored-handle.ts';
import type { Changeset, Committed, Write } from '../../ports/ledger.ts';
import type { StandingFence } from '../../ports/readers/revocations.ts';
import { commit } from '../core.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { closeRevocation, type End, recordEnd } from './clean-up.ts';
import { type DrainPatience, drainPatience } from './drain-patience.ts';
import { InPlay } from './in-play.ts';
import { Killers } from './killers.ts';
import { Lanes } from './lanes.ts';
import { fenceOf, systemCaller } from './revoke.ts';
import { recordUndone, revokeUpstream } from './undo-intended.ts';

/** Enough at once to hide an upstream's latency, few enough not to exhaust its connections, or our own. */
const laneLimits = { perLane: 8, inAll: 128, waiting: 2_000 };
const page = 200;
/** After a round the drain rests twice as long as it took, within these: changes that follow each other share one. */
const rest = { factor: 2, leastMs: 20, mostMs: 1_000 };
/**
 * All that lives is walked this often: for what a fence reaches later than it was put up, because an agent has a new owner.
 */
const sweepMs = 600_000;
const lookAgainMs = 60_000;
/**
 * A renewal that was sent to the ledger just before its grant's end may still take place; the ledger answers or refuses
 * within this time (use-grant.ts). After it the end is the end.
 */
const expiryGraceMs = 2_000;

/** A revocation whose clean-up has not ended. */
interface Open {
  id: string;
  fence: StandingFence;
  /** Grants it waits for that are in a lane or rest. */
  waitsFor: Set<string>;
  /** Whether to ask the ledger what is left, and when that was last done: what nobody told of is found a minute later. */
  look: boolean;
  lookedAt: number;
  /** All it waits for ends by itself; the next of it at this moment. 0: it does not wait for a moment. */
  restUntil: number;
}

const drainer = systemCaller('drain');
const recovery = systemCaller('recovery');

/** Whether there may be something new to do after this write. What the drain itself writes is not asked. */
const mayEnd = (write: Write): boolean => {
  if (write.table === 'fences') return true;
  return write.table === 'grants' && write.write === 'update' && (write.set.status ?? 'active') !== 'active';
};

export class UpstreamDrain {
  readonly #core: CoreWithSecrets;
  readonly #patience: DrainPatience;
  readonly #lanes: Lanes;
  readonly #stop = new AbortController();
  readonly #inPlay = new InPlay();
  readonly #open = new Map<string, Open>();
  #killers = new Killers([]);
  /** Revocations heard of since the open ones were last asked for. */
  #heard: Revocation[] = [];
  /** Revocations may have been opened or closed by somebody else. */
  #reload = true;
  readonly #ownChangesets = new WeakSet<Changeset>();
  #round: Promise<void> | undefined;
  #rest: NodeJS.Timeout | undefined;
  #again = false;
  #sweepAt: number;
  #timer: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #unsubscribe = (): unknown => undefined;

  constructor(core: CoreWithSecrets, patience: DrainPatience = drainPatience) {
    this.#core = core;
    this.#patience = patience;
    this.#lanes = new Lanes(laneLimits, () => this.wake());
    this.#sweepAt = core.clock.now() + sweepMs;
  }

  start(): void {
    this.#unsubscribe = this.#core.ledger.onCommitted((changeset) => this.#hear(changeset));
    this.#timer = setInterval(() => this.wake(), this.#patience.roundMs);
    this.#timer.unref();
    this.wake();
  }

  #hear(changeset: Changeset): void {
    if (this.#ownChangesets.has(changeset)) return;
    const newOwner = changeset.writes.some(
      (write) => write.table === 'agents' && write.write === 'update' && write.set.owner !== undefined,
    );
    if (newOwner) this.#sweepAt = 0;
    for (const write of changeset.writes) {
      if (write.table !== 'revocations') continue;
      this.#reload = true;
      // Before any grant it killed is written down as ended.
      if (write.write !== 'insert') continue;
      this.#killers.add(write.row);
      this.#heard.push(write.row);
    }
    if (newOwner || changeset.writes.some(mayEnd)) this.wake();
  }

  /** Starts a round, or another after the one that runs and a rest. */
  wake(): void {
    if (this.#stop.signal.aborted) return;
    if (this.#round || this.#rest) {
      this.#again = true;
      return;
    }
    this.#again = false;
    const began = performance.now();
    this.#round = this.#look()
      .catch((error: unknown) => this.#core.log.error({ err: error }, 'a drain round failed'))
      .finally(() => {
        this.#round = undefined;
        const restMs = Math.min(rest.mostMs, Math.max(rest.leastMs, rest.factor * (performance.now() - began)));
        this.#rest = setTimeout(() => {
          this.#rest = undefined;
          if (this.#again) this.wake();
        }, restMs);
        this.#rest.unref();
      });
  }

  /** Ends what is under way as a try that does not count. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#unsubscribe();
    clearInterval(this.#timer);
    clearTimeout(this.#retry);
    this.#lanes.clear();
    await this.#round;
    clearTimeout(this.#rest);
    await this.#lanes.idle();
  }

  /** One round: finds what is to be done and puts it into the lanes; closes revocations with nothing left to do. */
  async #look(): Promise<void> {
    const { state, clock, keyring } = this.#core;
    if (keyring.state().sealed) return;
    const newestSeq = state.newestSeq;
    if (this.#reload) await this.#loadOpen(state.fences.newest);
    await this.#retryRested();
    await this.#walkIntents(newestSeq);
    await this.#walk((after) => this.#ended(after, clock.now() - expiryGraceMs));
    for (const open of this.#open.values()) await this.#follow(open);
    if (this.#sweepAt <= clock.now()) await this.#sweep();
    this.#armRetry();
  }

  /** One that is durable and not heard of yet comes with its own round. */
  async #loadOpen(newestFence: number): Promise<void> {
    this.#reload = false;
    this.#heard = [];
    const rows = (await this.#core.reader.openRevocations()).filter(({ seq }) => seq <= newestFence);
    const ids = new Set(rows.map(({ id }) => id));
    for (const id of this.#open.keys()) if (!ids.has(id)) this.#open.delete(id);
    for (const row of rows.sort((a, b) => a.seq - b.seq)) {
      if (this.#open.has(row.id)) continue;
      const fence = fenceOf(this.#core, row);
      this.#open.set(row.id, { id: row.id, fence, waitsFor: new Set(), look: true, lookedAt: 0, restUntil: 0 });
    }
    // With those that came while these were read; they are followed from the next round on.
    this.#killers = new Killers([...rows, ...this.#heard.filter(({ id }) => !ids.has(id))]);
  }

  async #walk(read: (after: string) => Promise<Grant[]>): Promise<void> {
    for (let after = ''; !this.#stop.signal.aborted; ) {
      const grants = await read(after);
      const last = grants.at(-1);
      if (!last || grants.length < page) return;
      after = last.id;
    }
  }

  async #walkIntents(upToSeq: number): Promise<void> {
    const { reader, state } = this.#core;
    await this.#walk(async (after) => {
      const intents = await reader.intendedGrants(upToSeq, page, after);
      for (const grant of intents) if (!state.issuing.has(grant.id)) this.#queue(grant, () => this.#undo(grant));
      return intents;
    });
  }

  /** What is not active any more, or whose time is over. */
  async #ended(after: string, endedBy: number): Promise<Grant[]> {
    const found = await this.#core.reader.upstreamGrants(after, page, endedBy, this.#inPlay.full());
    for (const grant of found) {
      if (this.#isDue(grant)) this.#queue(grant, () => this.#finish(grant));
    }
    return found;
  }

  /** What a revocation matches and is still live upstream. */
  async #follow(open: Open): Promise<void> {
    const { reader, clock } = this.#core;
    const now = clock.now();
    const awaited = open.restUntil > 0 && open.restUntil <= now;
    if (this.#stop.signal.aborted || !(open.look || awaited || open.lookedAt + lookAgainMs <= now)) return;
    Object.assign(open, { look: false, lookedAt: now, restUntil: 0 });
    let left = false;
    await this.#walk(async (after) => {
      const found = await reader.upstreamGrantsOf(open.fence, now, after, page, this.#inPlay.full());
      for (const grant of found) {
        left = true;
        // Asked for before the fence, it will not settle; whoever issues it undoes it, or the walk over intents does.
        if (grant.status === 'intended') open.look = true;
        else if (!this.#isDue(grant, true) || this.#queue(grant, () => this.#finish(grant)))
          open.waitsFor.add(grant.id);
      }
      return found;
    });
    if (left || this.#stop.signal.aborted) return;
    // Also not what there was no room for at the time: it has another look when there is room, or at once if there is again.
    if ((await reader.upstreamGrantsOf(open.fence, now, '', 1, [])).length > 0) {
      if (!this.#inPlay.crowded) open.look = this.#again = true;
      return;
    }
    const next = await reader.nextEndOf(open.id, now);
    if (next !== null) {
      open.restUntil = next;
      return;
    }
    if (await closeRevocation(this.#core, this.#commit, open.id)) this.#open.delete(open.id);
    else {
      // Its row changed at this moment.
      open.look = true;
      this.#again = true;
    }
  }

  async #sweep(): Promise<void> {
    this.#sweepAt = this.#core.clock.now() + sweepMs;
    await this.#walk(async (after) => {
      const found = await this.#core.reader.upstreamGrants(after, page, undefined, this.#inPlay.full());
      for (const grant of found) {
        const endsBy = endsByIn(grant.handle) ?? 0;
        if (endsBy <= this.#core.clock.now() && this.#isDue(grant)) this.#queue(grant, () => this.#finish(grant));
      }
      return found;
    });
  }

  /** @param fenced whether a fence is known to match it */
  #isDue(grant: Grant, fenced = false): boolean {
    const { clock, state } = this.#core;
    const now = clock.now();
    if (grant.status === 'aborted') return grant.issued_at + this.#patience.secondLookMs <= now;
    if (fenced || grant.status !== 'active' || grant.expires_at + expiryGraceMs <= now) return true;
    return state.fences.fencedBy(grant.seq, grantFacts(grant, state.agents.get(grant.agent_id))) !== undefined;
  }

  /** @returns whether it is in its lane, or rests; false where there is no room */
  #queue(grant: Grant, work: () => Promise<void>): boolean {
    const { id, connection_id: connection } = grant;
    if (this.#inPlay.isQueued(id) || this.#inPlay.rests(id, this.#core.clock.now())) return true;
    if (this.#stop.signal.aborted || !this.#inPlay.hasRoom(id, connection)) return false;
    const accepted = this.#lanes.add(connection, async () => {
      try {
        if (!this.#stop.signal.aborted) await work();
      } catch (error) {
        // The ledger: nothing was recorded. It is done again, after a pause, and that is no further try.
        this.#core.log.error({ err: error, grant: id }, 'a clean-up upstream could not be recorded');
        this.#rests(id, this.#inPlay.triesOf(id), this.#patience.firstPauseMs);
      } finally {
        this.#through(id, connection);
      }
    });
    if (accepted) this.#inPlay.queue(id, connection);
    return accepted;
  }

  /** Its task has ended: it rests, or whoever waits for it goes on. */
  #through(id: string, connection: string): void {
    const ended = this.#inPlay.end(id, connection);
    if (ended === 'rests') {
      this.#armRetry();
      return;
    }
    let wake = ended === 'room';
    for (const open of this.#open.values()) {
      const last = open.waitsFor.delete(id) && open.waitsFor.size === 0;
      if (!last && ended !== 'room') continue;
      open.look = true;
      wake = true;
    }
    if (wake) this.wake();
  }

  async #undo(found: Grant): Promise<void> {
    const grant = await this.#core.state.grants.get(found.id);
    if (grant?.status !== 'intended') return;
    const end = await this.#try(grant);
    if (!end) return;
    await recordUndone(this.#core, grant, recovery, { why: 'it was left half-made', ...end });
  }

  async #finish(found: Grant): Promise<void> {
    const core = this.#core;
    // It was found on a page that may be older than the end of the try before it: then it is through, and not tried anew.
    if (((await core.state.grants.get(found.id)) ?? found).upstream !== 'live') return;
    const end = await this.#try(found);
    if (!end) return;
    const killerOf = (grant: Grant) => this.#killers.of(grant, core.state.agents.get(grant.agent_id));
    await recordEnd(core, this.#commit, found, end, killerOf);
  }

  /** Its own commits do not wake it: they end what it was woken for. */
  readonly #commit = (changeset: Changeset): Promise<Committed> => {
    this.#ownChangesets.add(changeset);
    return commit(this.#core, changeset);
  };

  /** @returns how it ended upstream, or undefined while there are tries left */
  async #try(grant: Grant): Promise<End | undefined> {
    // Ended by itself: there is nothing to ask anybody.
    if (endsByIn(grant.handle) !== undefined) return {};
    const revoked = await revokeUpstream(this.#core, grant, drainer, { stop: this.#stop.signal });
    if (revoked.how === 'later') return undefined;
    const tries = this.#inPlay.triesOf(grant.id) + 1;
    if (revoked.how !== 'failed' || tries >= this.#patience.tries) {
      this.#inPlay.succeed(grant.id);
      if (revoked.how === 'lives_on') return { endsBy: revoked.endsBy };
      return revoked.how === 'gone' ? {} : { failure: `${revoked.why}, ${tries} times` };
    }
    const { firstPauseMs, longestPauseMs } = this.#patience;
    this.#rests(grant.id, tries, Math.min(firstPauseMs * 2 ** (tries - 1), longestPauseMs));
    return undefined;
  }

  /** Not all that failed together come back together: a quarter more or less. */
  #rests(id: string, tries: number, pauseMs: number): void {
    const spread = 0.75 + (this.#core.entropy(1)[0] ?? 0) / 510;
    this.#inPlay.fail(id, tries, this.#core.clock.now() + pauseMs * spread);
  }

  /** Those that have rested go back into their lanes, as they are now. */
  async #retryRested(): Promise<void> {
    const { state, clock } = this.#core;
    for (const id of this.#inPlay.rested(clock.now())) {
      if (this.#stop.signal.aborted) return;
      const grant = await state.grants.get(id);
      if (grant?.upstream === 'live') {
        this.#queue(grant, () => (grant.status === 'intended' ? this.#undo(grant) : this.#finish(grant)));
      } else {
        // Somebody else was quicker.
        this.#inPlay.succeed(id);
        if (grant) this.#through(id, grant.connection_id);
      }
    }
  }

  /** A round for whoever has rested, where that is before the next regular one. */
  #armRetry(): void {
    clearTimeout(this.#retry);
    let next = this.#inPlay.nextRested();
    for (const { restUntil } of this.#open.values()) if (restUntil > 0) next = Math.min(next, restUntil);
    if (next === Number.POSITIVE_INFINITY || this.#stop.signal.aborted) return;
    this.#retry = setTimeout(() => this.wake(), Math.min(Math.max(1, next - this.#core.clock.now()), 2 ** 31 - 1));
    this.#retry.unref();
  }
}
