/**
 * The drain: what a fence, the clock or a return has ended here is taken back upstream too, and so is what a crash or
 * a failure left half-made. It decides nothing: a grant is dead for every check point before it comes along. It works
 * from what the ledger says, so it goes on after a restart where it was.
 *
 * Each connection has a lane of its own: an upstream that hangs keeps only its own grants waiting. A try that fails is
 * repeated after a pause, a bounded number of times; then the grant is `unrevocable`, where everybody sees it. What
 * cannot be taken back and ends by itself stays `live` upstream, with its time, until that time is over.
 */
import { selectorMatches } from '../../domain/fences.ts';
import { grantFacts } from '../../domain/liveness.ts';
import type { Grant, Revocation } from '../../domain/model.ts';
import { endsByIn, providersHandle, withEnd, withoutBox } from '../../domain/stored-handle.ts';
import { commit, record } from '../core.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { Lanes } from './lanes.ts';
import { countKilled, systemCaller } from './revoke.ts';
import { grantNames, recordUndone, revokeUpstream } from './undo-intended.ts';

export interface DrainPatience {
  /** Expired grants are looked for this often; what a change ended starts a round at once. */
  roundMs: number;
  /** Tries at the upstream before a grant is `unrevocable`. */
  tries: number;
  /** The pause after the first failure; each is twice the one before. */
  firstPauseMs: number;
  longestPauseMs: number;
  /** What an upstream may have made after it went silent while minting is looked for once more, after this time. */
  secondLookMs: number;
}

/** Ten tries with these pauses last eight minutes: an upstream that restarts meanwhile loses nothing. */
export const drainPatience: DrainPatience = {
  roundMs: 5_000,
  tries: 10,
  firstPauseMs: 1_000,
  longestPauseMs: 300_000,
  secondLookMs: 30_000,
};

/** Enough at once to hide an upstream's latency, few enough not to exhaust its connections, or our own. */
const laneLimits = { perLane: 8, inAll: 128, waiting: 5_000 };
const page = 200;
/** After a round the drain rests so many times as long as it took: each clean-up wakes it, and it walks all there is. */
const restFactor = 4;
/**
 * A renewal that was sent to the ledger just before its grant's end may still take place; the ledger answers or refuses
 * within this time (use-grant.ts). After it the end is the end.
 */
const expiryGraceMs = 2_000;

/** How a clean-up ended: gone, failed to the last try, or not to be had before a time (ms since the epoch). */
type End = { failure?: string } | { endsBy: number };

const drainer = systemCaller('drain');
const recovery = systemCaller('recovery');

export class UpstreamDrain {
  readonly #core: CoreWithSecrets;
  readonly #patience: DrainPatience;
  readonly #lanes: Lanes;
  readonly #stop = new AbortController();
  /** In a lane, waiting or running. */
  readonly #queued = new Set<string>();
  readonly #failed = new Map<string, { tries: number; restUntil: number }>();
  /** Open revocations with nothing left to do before a time: all they wait for ends by itself. */
  readonly #waiting = new Map<string, number>();
  #round: Promise<void> | undefined;
  #rest: NodeJS.Timeout | undefined;
  #again = false;
  /** The newest fence when a walk over everything was last complete. */
  #walkedFence = -2;
  #timer: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #unsubscribe = (): unknown => undefined;

  constructor(core: CoreWithSecrets, patience: DrainPatience = drainPatience) {
    this.#core = core;
    this.#patience = patience;
    this.#lanes = new Lanes(laneLimits, () => this.wake());
  }

  start(): void {
    this.#unsubscribe = this.#core.state.onKilled(() => this.wake());
    this.#timer = setInterval(() => this.wake(), this.#patience.roundMs);
    this.#timer.unref();
    this.wake();
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
        this.#rest = setTimeout(
          () => {
            this.#rest = undefined;
            if (this.#again) this.wake();
          },
          restFactor * (performance.now() - began),
        );
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
    const { reader, state, clock, keyring } = this.#core;
    if (keyring.state().sealed) return;
    const [newestFence, newestSeq] = [state.fences.newest, state.newestSeq];
    // One that is durable and not heard of yet comes with its own round.
    const open = (await reader.openRevocations()).filter((one) => one.seq <= newestFence);
    open.sort((a, b) => a.seq - b.seq);

    for (let after = ''; !this.#stop.signal.aborted; ) {
      const intents = await reader.intendedGrants(newestSeq, page, after);
      for (const grant of intents) if (!state.issuing.has(grant.id)) this.#queue(grant, () => this.#undo(grant));
      const last = intents.at(-1);
      if (!last || intents.length < page) break;
      after = last.id;
    }

    const pending = new Map<string, number>();
    const now = clock.now();
    const waits = ({ id }: Revocation): boolean => (this.#waiting.get(id) ?? 0) > now;
    const everything = !open.every(waits) || this.#walkedFence < newestFence;
    for (let after = ''; !this.#stop.signal.aborted; ) {
      const endedBy = everything ? undefined : clock.now() - expiryGraceMs;
      const grants = await reader.upstreamGrants(after, page, endedBy);
      for (const grant of grants) {
        const killer = this.#killer(grant, open);
        const endsBy = endsByIn(grant.handle) ?? 0;
        if (killer) pending.set(killer.id, Math.min(pending.get(killer.id) ?? Number.POSITIVE_INFINITY, endsBy));
        if (endsBy > now) continue;
        if (killer || this.#isDue(grant, newestFence)) this.#queue(grant, () => this.#finish(grant, killer));
      }
      const last = grants.at(-1);
      if (!last || grants.length < page) break;
      after = last.id;
    }
    this.#armRetry();
    if (this.#stop.signal.aborted) return;
    this.#walkedFence = Math.max(this.#walkedFence, everything ? newestFence : -1);
    if (!everything) return;
    this.#waiting.clear();
    for (const revocation of open) {
      const next = pending.get(revocation.id);
      if (next === undefined) await this.#close(revocation);
      else this.#waiting.set(revocation.id, next);
    }
  }

  /** The revocation that ended this grant while it lived; of several the first. */
  #killer(grant: Grant, open: readonly Revocation[]): Revocation | undefined {
    if (grant.status !== 'active') return undefined;
    const facts = grantFacts(grant, this.#core.state.agents.get(grant.agent_id));
    return open.find(
      (one) => one.seq > grant.seq && one.created_at < grant.expires_at && selectorMatches(one.selector, facts),
    );
  }

  #isDue(grant: Grant, newestFence: number): boolean {
    const { clock, state } = this.#core;
    const now = clock.now();
    if (grant.status === 'aborted') return grant.issued_at + this.#patience.secondLookMs <= now;
    if (grant.status !== 'active' || grant.expires_at + expiryGraceMs <= now) return true;
    const fence = state.fences.fencedBy(grant.seq, grantFacts(grant, state.agents.get(grant.agent_id)));
    return fence !== undefined && fence <= newestFence;
  }

  #queue(grant: Grant, work: () => Promise<void>): void {
    const { id } = grant;
    const rests = (this.#failed.get(id)?.restUntil ?? 0) > this.#core.clock.now();
    if (rests || this.#queued.has(id) || this.#stop.signal.aborted) return;
    const accepted = this.#lanes.add(grant.connection_id, async () => {
      try {
        if (!this.#stop.signal.aborted) await work();
      } catch (error) {
        // The ledger: nothing was recorded, so the next round finds it again.
        this.#core.log.error({ err: error, grant: id }, 'a clean-up upstream could not be recorded');
      } finally {
        this.#queued.delete(id);
      }
    });
    if (accepted) this.#queued.add(id);
  }

  async #undo(found: Grant): Promise<void> {
    const grant = await this.#core.state.grants.get(found.id);
    if (grant?.status !== 'intended') return;
    const end = await this.#try(grant);
    if (!end) return;
    await recordUndone(this.#core, grant, recovery, { why: 'it was left half-made', ...end });
  }

  async #finish(found: Grant, killer: Revocation | undefined): Promise<void> {
    const core = this.#core;
    const end = await this.#try(found);
    if (!end) return;
    for (;;) {
      // As it is now: it may have been returned meanwhile.
      const grant = (await core.state.grants.get(found.id)) ?? found;
      if (grant.upstream !== 'live') return;
      const facts = grantFacts(grant, core.state.agents.get(grant.agent_id));
      if ('endsBy' in end) {
        if (endsByIn(grant.handle) !== undefined) return;
        if (await this.#livesOn(grant, killer, end.endsBy)) return;
        continue;
      }
      const fenced = killer !== undefined || core.state.fences.fencedBy(grant.seq, facts) !== undefined;
      const ended = grant.status === 'active' ? (fenced ? 'revoked' : 'expired') : grant.status;
      const byItself = endsByIn(grant.handle) !== undefined;
      const status = end.failure === undefined ? ended : 'unrevocable';
      const result = await commit(core, {
        writes: [
          {
            write: 'update',
            table: 'grants',
            id: grant.id,
            set: {
              status,
              upstream: end.failure === undefined ? 'gone' : 'unrevocable',
              handle: withoutBox(grant.handle),
              revocation_id: killer?.id ?? null,
              version: grant.version + 1,
            },
            from: { upstream: 'live', version: grant.version },
          },
        ],
        audit: [
          record(core, drainer, {
            type: end.failure === undefined ? 'grant.cleaned_up' : 'grant.unrevocable',
            ...grantNames(core, grant),
            data: {
              status,
              revocation: killer?.id,
              ...end,
              ...(byItself ? { ended_by_itself: true } : {}),
              ...(end.failure ? { handle: providersHandle(grant.handle) } : {}),
            },
          }),
        ],
      });
      if (result.ok) return;
    }
  }

  /** Records, once, that a credential lives on; its status is what it was. @returns false when the row changed meanwhile */
  async #livesOn(grant: Grant, killer: Revocation | undefined, endsBy: number): Promise<boolean> {
    const result = await commit(this.#core, {
      writes: [
        {
          write: 'update',
          table: 'grants',
          id: grant.id,
          set: {
            handle: withEnd(grant.handle, endsBy),
            revocation_id: killer?.id ?? null,
            version: grant.version + 1,
          },
          from: { upstream: 'live', version: grant.version },
        },
      ],
      audit: [
        record(this.#core, drainer, {
          type: 'grant.lives_on',
          ...grantNames(this.#core, grant),
          data: { ends_by: new Date(endsBy).toISOString(), revocation: killer?.id },
        }),
      ],
    });
    return result.ok;
  }

  /** @returns how it ended upstream, or undefined while there are tries left */
  async #try(grant: Grant): Promise<End | undefined> {
    // Ended by itself: there is nothing to ask anybody.
    if (endsByIn(grant.handle) !== undefined) return {};
    const revoked = await revokeUpstream(this.#core, grant, drainer, { stop: this.#stop.signal });
    if (revoked.how === 'later') return undefined;
    const tries = (this.#failed.get(grant.id)?.tries ?? 0) + 1;
    if (revoked.how === 'lives_on') {
      this.#failed.delete(grant.id);
      return { endsBy: revoked.endsBy };
    }
    if (revoked.how === 'gone' || tries >= this.#patience.tries) {
      this.#failed.delete(grant.id);
      return revoked.how === 'gone' ? {} : { failure: `${revoked.why}, ${tries} times` };
    }
    const { firstPauseMs, longestPauseMs } = this.#patience;
    const pauseMs = Math.min(firstPauseMs * 2 ** (tries - 1), longestPauseMs);
    this.#failed.set(grant.id, { tries, restUntil: this.#core.clock.now() + pauseMs });
    return undefined;
  }

  /** A round for whoever has rested, where that is before the next regular one. */
  #armRetry(): void {
    clearTimeout(this.#retry);
    let next = Number.POSITIVE_INFINITY;
    for (const [id, { restUntil }] of this.#failed) if (!this.#queued.has(id)) next = Math.min(next, restUntil);
    if (next === Number.POSITIVE_INFINITY || this.#stop.signal.aborted) return;
    this.#retry = setTimeout(() => this.wake(), Math.max(1, next - this.#core.clock.now()));
    this.#retry.unref();
  }

  /** A revocation is complete when nothing it killed is left upstream. */
  async #close(revocation: Revocation): Promise<void> {
    const core = this.#core;
    const killed = await countKilled(core, revocation);
    await commit(core, {
      writes: [
        {
          write: 'update',
          table: 'revocations',
          id: revocation.id,
          set: {
            ...killed,
            grants: revocation.grants ?? killed.grants,
            upstream_pending: 0,
            completed_at: core.clock.now(),
            version: revocation.version + 1,
          },
          from: { completed_at: null },
        },
      ],
      audit: [
        record(core, drainer, {
          type: 'revocation.completed',
          data: {
            revocation: revocation.id,
            revoked: killed.upstream_revoked,
            unrevocable: killed.upstream_unrevocable,
          },
        }),
      ],
    });
  }
}
