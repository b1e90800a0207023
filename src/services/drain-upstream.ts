/**
 * The drain: what a fence or the clock has killed here is taken back upstream too, a bounded number at a time, with
 * tries and delays, resumed after a restart. It decides nothing: a grant is dead for every check point before it
 * comes along.
 */
import { FenceIndex } from '../domain/fences.ts';
import { grantFacts } from '../domain/liveness.ts';
import type { Fence, Grant, Revocation } from '../domain/model.ts';
import { commit, record } from './core.ts';
import type { CoreWithSecrets } from './provider-context.ts';
import { systemCaller } from './revoke.ts';
import { revokeUpstream } from './undo-intended.ts';

/** Upstream calls at once: enough to hide latency, few enough not to exhaust an upstream's connections. */
const atOnce = 8;
const page = 200;
/** Expired grants are looked for this often; fences start a round at once. */
export const expiryRoundMs = 5_000;

export class UpstreamDrain {
  readonly #core: CoreWithSecrets;
  #running: Promise<void> | undefined;
  #again = false;
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(core: CoreWithSecrets) {
    this.#core = core;
  }

  start(): void {
    this.#core.state.onKilled(() => this.wake());
    this.#timer = setInterval(() => this.wake(), expiryRoundMs);
    this.#timer.unref();
    this.wake();
  }

  /** Starts a round, or another after the one that runs. */
  wake(): void {
    if (this.#stopped) return;
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#running = this.#round()
      .catch((error: unknown) => this.#core.log.error({ err: error }, 'a drain round failed'))
      .finally(() => {
        this.#running = undefined;
        if (this.#again) {
          this.#again = false;
          this.wake();
        }
      });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#running;
  }

  async #round(): Promise<void> {
    if (this.#core.keyring.state().sealed) return;
    const open = await this.#core.reader.openRevocations();
    let after = '';
    while (!this.#stopped) {
      const grants = await this.#core.reader.upstreamGrants(after, page);
      const last = grants.at(-1);
      if (!last) break;
      after = last.id;
      const dead = grants.filter((grant) => this.#isDead(grant));
      for (let i = 0; i < dead.length && !this.#stopped; i += atOnce) {
        await Promise.all(dead.slice(i, i + atOnce).map((grant) => this.#finish(grant, open)));
      }
    }
    if (!this.#stopped) for (const revocation of open) await this.#close(revocation);
  }

  #isDead(grant: Grant): boolean {
    const agent = this.#core.state.agents.get(grant.agent_id);
    return (
      grant.status !== 'active' ||
      grant.expires_at <= this.#core.clock.now() ||
      this.#core.state.fences.fencedBy(grant.seq, grantFacts(grant, agent)) !== undefined
    );
  }

  async #finish(grant: Grant, open: Revocation[]): Promise<void> {
    const core = this.#core;
    const agent = core.state.agents.get(grant.agent_id);
    const facts = grantFacts(grant, agent);
    const fenced = core.state.fences.fencedBy(grant.seq, facts) !== undefined;
    const revocation = open.find((one) => new FenceIndex([fenceOf(one)]).fencedBy(grant.seq, facts) !== undefined);
    const failure = await revokeUpstream(core, grant, systemCaller('drain'));
    const ended = grant.status === 'active' ? (fenced ? 'revoked' : 'expired') : grant.status;
    const status = failure === undefined ? ended : 'unrevocable';
    const connection = core.state.connections.get(grant.connection_id);
    await commit(core, {
      writes: [
        {
          write: 'update',
          table: 'grants',
          id: grant.id,
          set: {
            status,
            upstream: failure === undefined ? 'gone' : 'unrevocable',
            revocation_id: revocation?.id ?? null,
            version: grant.version + 1,
          },
          from: { upstream: 'live' },
        },
      ],
      audit: [
        record(core, systemCaller('drain'), {
          type: failure === undefined ? 'grant.cleaned_up' : 'grant.unrevocable',
          agent: { id: grant.agent_id, name: agent?.name ?? grant.agent_id },
          connection: { id: grant.connection_id, name: connection?.name ?? grant.connection_id },
          grant: grant.id,
          data: {
            status,
            revocation: revocation?.id,
            ...(failure === undefined ? {} : { failure, handle: grant.handle }),
          },
        }),
      ],
    });
  }

  /** A revocation is complete when nothing it matched is left active upstream. */
  async #close(revocation: Revocation): Promise<void> {
    const core = this.#core;
    const progress = await core.reader.upstreamProgress(revocation.id);
    await commit(core, {
      writes: [
        {
          write: 'update',
          table: 'revocations',
          id: revocation.id,
          set: {
            upstream_pending: 0,
            upstream_revoked: progress.revoked,
            upstream_unrevocable: progress.unrevocable,
            completed_at: core.clock.now(),
          },
          from: { completed_at: null },
        },
      ],
      audit: [
        record(core, systemCaller('drain'), {
          type: 'revocation.completed',
          data: { revocation: revocation.id, ...progress },
        }),
      ],
    });
  }
}

const fenceOf = (revocation: Revocation): Fence => ({
  id: '',
  seq: revocation.seq,
  revocation_id: revocation.id,
  selector: revocation.selector,
  created_at: revocation.created_at,
});
