/**
 * What the gateway puts into requests of OAuth connections: access tokens, renewed before they end. While one is fresh
 * nobody waits; when it is about to end the next call renews it beside itself; only when it has ended do calls wait,
 * all of them for one redemption.
 */

import { LRUCache } from 'lru-cache';
import type { Connection } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { SecretText } from '../../domain/secret-text.ts';
import type { AuthorizationServer, HeldTokens, NewTokens } from '../../ports/authorization.ts';
import type { ConnectionSecret } from '../../ports/call-context.ts';
import { heldOf } from '../accounts/authorization-tokens.ts';
import { redemptionTimes, serverContext } from '../accounts/authorizations.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';

/** An access token is renewed when this much is left of it, or a fifth of its life where that is less. */
const leadMs = 60_000;
/** Until then an upstream's 401 is taken to be about something else: a token this new has not been forgotten. */
const youngMs = 10_000;
/** After a failure nobody asks again for so long; each further failure doubles it. */
const firstRestMs = 1_000;
const longestRestMs = 30_000;

/** One access token that is in use. */
interface Source {
  secret: ConnectionSecret;
  held: HeldTokens;
  /** Counts the tokens of this account. */
  version: number;
  since: number;
}

interface Rest {
  until: number;
  failures: number;
  error: unknown;
}

const maxSources = 5_000;

export class GatewayCredentials {
  readonly #core: CoreWithSecrets;
  /** Of client credentials: they cost nothing but a request, so no ledger holds them. */
  readonly #own = new LRUCache<string, Source & { of: string }>({ max: maxSources });
  readonly #secrets = new WeakMap<HeldTokens, ConnectionSecret>();
  readonly #renewing = new Map<string, Promise<void>>();
  readonly #resting = new LRUCache<string, Rest>({ max: maxSources });
  /** Access tokens an upstream did not take. */
  readonly #refused = new LRUCache<string, SecretText>({ max: maxSources });
  #made = 0;

  constructor(core: CoreWithSecrets) {
    this.#core = core;
    core.keyring.onSealed(() => this.#own.clear());
  }

  /**
   * The access token for calls of this subject, at once where one is fresh.
   * @throws Refused `needs_connection`, `sealed`; ProviderFailure where the server was needed and failed
   */
  secret(
    connection: Connection,
    subject: string | null,
    server: AuthorizationServer,
  ): ConnectionSecret | Promise<ConnectionSecret> {
    const key = keyOf(connection, subject);
    const found = this.#source(connection, subject, server);
    const now = this.#core.clock.now();
    if (found && this.#refused.get(key) !== found.held.accessToken) {
      const { expiresAt } = found.held;
      if (expiresAt === null || now < expiresAt - leadOf(expiresAt - found.since)) return found.secret;
      if (now < expiresAt) {
        // Its failure is told by the log and by the row; this call has what it needs.
        this.#renew(connection, subject, server).catch(() => undefined);
        return found.secret;
      }
    }
    return this.#renewed(connection, subject, server);
  }

  /** The upstream answered 401 to this token: the next call brings another. The call itself is not repeated. */
  refused(connection: Connection, subject: string | null, secret: ConnectionSecret): void {
    const server = this.#core.providers.get(connection.provider)?.authorizations;
    const found = server && this.#source(connection, subject, server);
    if (found?.secret !== secret || this.#core.clock.now() - found.since < youngMs) return;
    this.#refused.set(keyOf(connection, subject), found.held.accessToken);
  }

  #source(connection: Connection, subject: string | null, server: AuthorizationServer): Source | undefined {
    const core = this.#core;
    if (!server.needsConsent(connection.settings)) {
      const own = this.#own.get(connection.id);
      return own?.of === generationOf(connection) ? own : undefined;
    }
    const row = core.authorizations.require(core, connection.id, subject);
    const held = core.authorizations.open(row);
    const since = row.last_refreshed_at ?? row.created_at;
    return { held, secret: this.#secretOf(held), version: row.tokens_version, since };
  }

  #secretOf(held: HeldTokens): ConnectionSecret {
    const known = this.#secrets.get(held);
    if (known) return known;
    this.#made += 1;
    const secret = { version: this.#made, fields: { access_token: held.accessToken } };
    this.#secrets.set(held, secret);
    return secret;
  }

  async #renewed(
    connection: Connection,
    subject: string | null,
    server: AuthorizationServer,
  ): Promise<ConnectionSecret> {
    await this.#renew(connection, subject, server);
    const found = this.#source(connection, subject, server);
    // What was renewed was of the connection as it was.
    if (!found) throw new Refused('conflict', 'this connection changed at this moment; try again');
    return found.secret;
  }

  /** One renewal at a time of each account in this process; authorizations.ts sees to the others. */
  #renew(connection: Connection, subject: string | null, server: AuthorizationServer): Promise<void> {
    // A new secret, or new settings, wait for no renewal with the old ones, and do not rest after its failure.
    const key = `${generationOf(connection)} ${keyOf(connection, subject)}`;
    const running = this.#renewing.get(key);
    if (running) return running;
    const rest = this.#resting.get(key);
    if (rest && this.#core.clock.now() < rest.until) return Promise.reject(rest.error);
    const begun = this.#ask(connection, subject, server)
      .then(
        () => void this.#resting.delete(key),
        (error: unknown) => {
          const failures = (rest?.failures ?? 0) + 1;
          const restMs = Math.min(firstRestMs * 2 ** (failures - 1), longestRestMs);
          this.#resting.set(key, { until: this.#core.clock.now() + restMs, failures, error });
          throw error;
        },
      )
      .finally(() => this.#renewing.delete(key));
    this.#renewing.set(key, begun);
    return begun;
  }

  async #ask(connection: Connection, subject: string | null, server: AuthorizationServer): Promise<void> {
    const core = this.#core;
    const before = this.#source(connection, subject, server)?.version;
    if (!server.needsConsent(connection.settings)) {
      const signal = AbortSignal.timeout(redemptionTimes.redemptionMs);
      const tokens = await server.refresh(connection, undefined, serverContext(core, connection, signal));
      this.#keepOwn(connection, tokens);
      return;
    }
    await core.authorizations.redeem(core, connection.id, subject, {
      needed: (row) => row.tokens_version === before,
      work: async (held, signal) => {
        const tokens = await server.refresh(connection, held, serverContext(core, connection, signal));
        return { tokens, result: undefined };
      },
    });
  }

  #keepOwn(connection: Connection, tokens: NewTokens): void {
    const held = heldOf(tokens);
    const source = { held, secret: this.#secretOf(held), version: 0, since: this.#core.clock.now() };
    this.#own.set(connection.id, { ...source, of: generationOf(connection) });
  }
}

const keyOf = (connection: Connection, subject: string | null): string => JSON.stringify([connection.id, subject]);

/** What a token of client credentials rests on: new settings or a new secret ask for a new one. */
const generationOf = (connection: Connection): string => `${connection.version}`;

const leadOf = (lifeMs: number): number => Math.max(0, Math.min(leadMs, lifeMs / 5));
