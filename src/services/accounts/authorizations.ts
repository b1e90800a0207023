/**
 * Keeps the tokens of OAuth connections alive. A refresh token that rotates is worth nothing once it was redeemed, and a
 * second redemption makes the server revoke the whole family (RFC 9700 section 4.14.2). So a redemption is made
 * - one at a time: in this process they stand in line; among processes whoever puts the marker `redeeming` into the row,
 *   by compare-and-swap, may redeem, and the others wait until it is gone or its time is over;
 * - journalled: the marker is durable before the refresh token leaves, so a crash leaves a record of it;
 * - kept before use: what came back is committed before anybody gets it.
 *
 * Whoever takes over from a process that died tries the refresh token once more. A server that does not rotate, or is
 * lenient for a while, takes it; `invalid_grant` means that somebody must consent again: `needs_reconnect`, which only
 * a new consent ends. Nothing else that goes wrong marks an account as dead.
 */

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Authorization, Connection, SealedBox } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { AuthorizationServer, HeldTokens, NewTokens } from '../../ports/authorization.ts';
import type { CallContext } from '../../ports/call-context.ts';
import { AuthorizationDead, ProviderFailure } from '../../ports/provider.ts';
import { commit, record } from '../core.ts';
import { type CallingCore, inTime, secretFor } from '../issuing/provider-calls.ts';
import type { Keyring } from '../keys/keyring.ts';
import { systemCaller } from '../revocation/revoke.ts';
import { heldOf, OpenedTokens, sealTokens } from './authorization-tokens.ts';

export interface RedemptionTimes {
  /** A redemption takes this long at most. */
  redemptionMs: number;
  /** Nobody else redeems for so long; longer than a redemption, so that only a process that died is taken over from. */
  markerMs: number;
}

/** The token endpoint gets as long as any call to a provider. */
export const redemptionTimes: RedemptionTimes = { redemptionMs: 10_000, markerMs: 15_000 };

/** Another process's marker is looked at this often. */
const pollMs = 20;
/** Redemptions in a row without letting go of the marker: the other processes want their turn. */
const longestRun = 20;
/** How often, and with what pauses, tokens that only this process has are tried to be committed: 6 s in all. */
const keepTries = 8;
/** Then they are tried again this much later, in the background. */
const keepAgainMs = 5_000;

const needsConnection = (subject: string | null, detail: string): Refused =>
  new Refused('needs_connection', subject === null ? detail : `${detail} (of the subject this grant is for)`);

/** One redemption, as its caller wants it. */
export interface Job<T> {
  /** Asked when it is its turn: whether there is still somebody who waits for it. */
  wanted?(): boolean;
  /** Asked when it is its turn: what another redemption brought meanwhile may do. */
  needed?(row: Authorization): boolean;
  work(held: HeldTokens, signal: AbortSignal): Promise<{ tokens: NewTokens; result: T }>;
}

interface Line {
  waiting: number;
  run: number;
  tail: Promise<unknown>;
}

const caller = systemCaller('authorizations');

export class Authorizations {
  readonly #tokens: OpenedTokens;
  readonly #times: RedemptionTimes;
  /** Tells this process's markers from those of others, also of itself before a restart. */
  readonly #instance = randomUUID();
  readonly #lines = new Map<string, Line>();
  /** Tokens that were received and could not be committed: nobody else has them. */
  readonly #unsaved = new Map<string, { from: number; tokens: NewTokens }>();

  constructor(keyring: Keyring, times: RedemptionTimes = redemptionTimes) {
    this.#tokens = new OpenedTokens(keyring);
    this.#times = times;
  }

  /** The account a grant acts with: the subject's own, or the organisation's; never one instead of the other. */
  require(core: CallingCore, connectionId: string, subject: string | null): Authorization {
    const row = core.state.authorizations.of(connectionId, subject);
    if (row?.status === 'connected') return row;
    if (row?.status === 'needs_reconnect') {
      throw needsConnection(subject, 'the account of this connection must be connected anew');
    }
    throw needsConnection(subject, 'no account is connected through this connection');
  }

  /** The tokens in force, without waiting. @throws Refused `sealed` */
  open(row: Authorization): HeldTokens {
    return this.#tokens.open(row);
  }

  /**
   * Stands in line, then redeems as `job` says.
   * @returns undefined when it was not needed any more
   */
  async redeem<T>(
    core: CallingCore,
    connectionId: string,
    subject: string | null,
    job: Job<T>,
  ): Promise<T | undefined> {
    const key = JSON.stringify([connectionId, subject]);
    const line: Line = this.#lines.get(key) ?? { waiting: 0, run: 0, tail: Promise.resolve() };
    this.#lines.set(key, line);
    line.waiting += 1;
    const turn = line.tail.then(() => {
      line.waiting -= 1;
      return this.#inTurn(core, connectionId, subject, job, line);
    });
    const over = turn.then(
      () => undefined,
      () => undefined,
    );
    line.tail = over;
    void over.then(() => {
      if (line.tail === over) this.#lines.delete(key);
    });
    return turn;
  }

  async #inTurn<T>(
    core: CallingCore,
    connectionId: string,
    subject: string | null,
    job: Job<T>,
    line: Line,
  ): Promise<T | undefined> {
    const isWanted = (row: Authorization): boolean => {
      if (job.wanted?.() === false) {
        throw new ProviderFailure('timeout', 'the authorization server kept others waiting for too long');
      }
      return job.needed?.(row) !== false;
    };
    let marked: Authorization | undefined;
    try {
      marked = await this.#mark(core, connectionId, subject, isWanted);
    } finally {
      // The one before left it for this one, which does not need it.
      if (!marked && line.waiting === 0) await this.#letGo(core, connectionId, subject);
    }
    if (!marked) return undefined;
    const signal = AbortSignal.timeout(this.#times.redemptionMs);
    let done: { tokens: NewTokens; result: T };
    try {
      done = await inTime(signal, job.work(this.#tokens.open(marked), signal));
    } catch (error) {
      line.run = 0;
      return this.#failed(core, marked, error);
    }
    line.run += 1;
    const goesOn = line.waiting > 0 && line.run < longestRun;
    await this.#keep(core, marked, done.tokens, goesOn);
    if (!goesOn) {
      // Those in other processes look every few milliseconds: they must find it free once.
      if (line.waiting > 0) await sleep(3 * pollMs);
      line.run = 0;
    }
    return done.result;
  }

  /** @returns the row with this process's marker, or undefined when a redemption is not wanted any more */
  async #mark(
    core: CallingCore,
    connectionId: string,
    subject: string | null,
    wanted: (row: Authorization) => boolean,
  ): Promise<Authorization | undefined> {
    for (;;) {
      const row = this.require(core, connectionId, subject);
      if (!wanted(row)) return undefined;
      const unsaved = this.#unsaved.get(row.id);
      const now = core.clock.now();
      const { redeeming } = row;
      if (redeeming && redeeming.by !== this.#instance && redeeming.until > now) {
        await sleep(Math.min(pollMs, redeeming.until - now));
        continue;
      }
      if (unsaved?.from === row.tokens_version) {
        await this.#keep(core, row, unsaved.tokens, false);
        continue;
      }
      this.#unsaved.delete(row.id);
      // Put there with the tokens of the redemption before, for this one.
      const mine = redeeming?.by === this.#instance && redeeming.from === row.tokens_version;
      if (mine && redeeming.until - now > this.#times.redemptionMs) return row;
      const marker = { by: this.#instance, from: row.tokens_version, until: now + this.#times.markerMs };
      const result = await commit(core, {
        writes: [
          {
            write: 'update',
            table: 'authorizations',
            id: row.id,
            set: { redeeming: marker, version: row.version + 1 },
            from: { version: row.version, status: 'connected' },
          },
        ],
        audit: [
          record(core, caller, {
            type: 'authorization.redeeming',
            ...authorizationNames(core, row),
            data: {
              authorization: row.id,
              subject: row.subject,
              tokens: row.tokens_version,
              taken_over: redeeming !== null && redeeming.by !== this.#instance ? true : undefined,
            },
          }),
        ],
      });
      const marked = core.state.authorizations.get(row.id);
      if (result.ok && marked) return marked;
    }
  }

  /** Takes this process's marker away, where there is one; otherwise the others would wait for nothing. */
  async #letGo(core: CallingCore, connectionId: string, subject: string | null): Promise<void> {
    const row = core.state.authorizations.of(connectionId, subject);
    if (row?.redeeming?.by !== this.#instance) return;
    try {
      await commit(core, {
        writes: [
          {
            write: 'update',
            table: 'authorizations',
            id: row.id,
            set: { redeeming: null, version: row.version + 1 },
            from: { version: row.version },
          },
        ],
        audit: [
          record(core, caller, {
            type: 'authorization.released',
            ...authorizationNames(core, row),
            data: { authorization: row.id, subject: row.subject },
          }),
        ],
      });
    } catch (error) {
      core.log.warn({ err: error, authorization: row.id }, 'a marker stays until its time is over');
    }
  }

  /** Tokens that only this process has: tried again until they are kept, or the account has others. */
  #holdOn(core: CallingCore, marked: Authorization, tokens: NewTokens): void {
    this.#unsaved.set(marked.id, { from: marked.tokens_version, tokens });
    const again = (): void => {
      const row = core.state.authorizations.get(marked.id);
      const still = this.#unsaved.get(marked.id)?.tokens === tokens;
      if (!still || row?.tokens_version !== marked.tokens_version) return;
      this.#keep(core, row, tokens, false).catch((error: unknown) =>
        core.log.error({ err: error, authorization: row.id }, 'new tokens could not be recorded; they are in memory'),
      );
    };
    setTimeout(again, keepAgainMs).unref();
  }

  /** Commits what a redemption brought. @param goesOn the marker stays, for the next in line */
  async #keep(core: CallingCore, marked: Authorization, tokens: NewTokens, goesOn: boolean): Promise<void> {
    const from = marked.tokens_version;
    let sealed: SealedBox;
    try {
      sealed = sealTokens(core.keyring, marked, from + 1, tokens);
    } catch (error) {
      // Sealed at this very moment. The server knows only these any more.
      this.#holdOn(core, marked, tokens);
      throw error;
    }
    for (let attempt = 1; ; attempt += 1) {
      const row = core.state.authorizations.get(marked.id);
      // The ledger did what it said it had not; a rotation of keys may have sealed it anew since.
      const kept = row?.status === 'connected' && row.tokens_version === from + 1 ? this.open(row) : undefined;
      if (row?.sealed.text === sealed.text || kept?.accessToken.reveal() === tokens.accessToken) return;
      if (row?.status !== 'connected' || row.tokens_version !== from) {
        const connection = core.state.connections.get(marked.connection_id);
        if (connection) await this.discard(core, connection, heldOf(tokens));
        throw new ProviderFailure('unavailable', 'the account was disconnected, or connected anew, at this moment');
      }
      const now = core.clock.now();
      const next = { by: this.#instance, from: from + 1, until: now + this.#times.markerMs };
      try {
        const result = await commit(core, {
          writes: [
            {
              write: 'update',
              table: 'authorizations',
              id: row.id,
              set: {
                sealed,
                tokens_version: from + 1,
                redeeming: goesOn ? next : null,
                last_refreshed_at: now,
                failure: null,
                version: row.version + 1,
                updated_at: now,
              },
              from: { version: row.version },
            },
          ],
          audit: [
            record(core, caller, {
              type: 'authorization.refreshed',
              ...authorizationNames(core, row),
              data: { authorization: row.id, subject: row.subject, tokens: from + 1 },
            }),
          ],
        });
        if (result.ok) {
          this.#unsaved.delete(row.id);
          return;
        }
      } catch (error) {
        if (attempt === keepTries) {
          this.#holdOn(core, marked, tokens);
          throw error;
        }
        await sleep(50 * 2 ** (attempt - 1));
      }
    }
  }

  /** Revokes tokens that nobody will keep. What fails is logged: they are not known to anybody. */
  async discard(core: CallingCore, connection: Connection, tokens: HeldTokens): Promise<void> {
    const signal = AbortSignal.timeout(this.#times.redemptionMs);
    try {
      const server = authorizationServerOf(core, connection);
      await inTime(signal, server.revokeTokens(connection, tokens, serverContext(core, connection, signal)));
    } catch (error) {
      core.log.warn({ err: error, connection: connection.name }, 'tokens that nobody keeps could not be revoked');
    }
  }

  /** Records that a redemption failed, and what that means. @throws what went wrong, always */
  async #failed(core: CallingCore, marked: Authorization, error: unknown): Promise<never> {
    const dead = error instanceof AuthorizationDead;
    for (;;) {
      const row = core.state.authorizations.get(marked.id);
      if (row?.status !== 'connected') break;
      if (row.tokens_version !== marked.tokens_version) {
        // Someone else was quicker, with the same refresh token: the account is well.
        if (!dead) break;
        throw new ProviderFailure('unavailable', 'the tokens of this account were renewed at this moment; try again');
      }
      if (!dead && row.redeeming?.by !== this.#instance) break;
      const why = dead ? 'invalid_grant' : error instanceof ProviderFailure ? error.kind : 'internal';
      const now = core.clock.now();
      const data = { authorization: row.id, subject: row.subject, why, tokens: row.tokens_version };
      try {
        const result = await commit(core, {
          writes: [
            {
              write: 'update',
              table: 'authorizations',
              id: row.id,
              set: {
                redeeming: null,
                failure: why,
                version: row.version + 1,
                updated_at: now,
                ...(dead ? { status: 'needs_reconnect' as const } : {}),
              },
              from: { version: row.version },
            },
          ],
          audit: [
            record(core, caller, {
              type: dead ? 'authorization.needs_reconnect' : 'authorization.refresh_failed',
              ...authorizationNames(core, row),
              data,
            }),
          ],
        });
        if (!result.ok) continue;
      } catch (failure) {
        core.log.error({ err: failure, authorization: row.id }, 'a failed redemption could not be recorded');
        break;
      }
      const line = { err: error, connection: authorizationNames(core, row).connection.name, ...data };
      if (dead) core.log.error(line, 'an account must be connected anew');
      else core.log.warn(line, 'tokens could not be renewed');
      break;
    }
    throw error;
  }
}

/** What an audit entry about an authorization is found by. */
export const authorizationNames = (core: CallingCore, row: Pick<Authorization, 'connection_id'>) => ({
  connection: {
    id: row.connection_id,
    name: core.state.connections.get(row.connection_id)?.name ?? row.connection_id,
  },
});

/** What a call to the authorization server needs, outside of a grant. */
export const serverContext = (core: CallingCore, connection: Connection, signal: AbortSignal): CallContext => ({
  now: () => core.clock.now(),
  signal,
  secret: () => secretFor(core, connection),
});

const needsNone = 'no accounts are connected through this connection: it needs none';

/** For accounts there are, also when the settings want none any more. @throws Refused where there never were any */
export const authorizationServerOf = (core: CallingCore, connection: Connection): AuthorizationServer => {
  const server = core.providers.get(connection.provider)?.authorizations;
  if (!server) throw new Refused('invalid_request', needsNone);
  return server;
};

/** For accounts to be connected. @throws Refused where nobody has to consent */
export const consentServerOf = (core: CallingCore, connection: Connection): AuthorizationServer => {
  const server = authorizationServerOf(core, connection);
  if (!server.needsConsent(connection.settings)) throw new Refused('invalid_request', needsNone);
  return server;
};
