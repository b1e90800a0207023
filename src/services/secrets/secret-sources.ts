/**
 * Secrets that are kept in a vault and only referred to here: read when they are needed, used no longer than their
 * reference allows, and never used past that when the vault cannot be asked.
 */

import type { Connection, SecretSource } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { SecretText } from '../../domain/secret-text.ts';
import type { ConnectionSecret } from '../../ports/call-context.ts';
import type { Provider } from '../../ports/provider.ts';
import { inTime, providerTimeoutMs, refusalOfProvider } from '../issuing/provider-calls.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';

interface Held {
  /** What it was read by: a change of any of them is a change of the secret. */
  source: SecretSource;
  settings: object;
  secretVersion: number | null;
  /** When it was asked for: the answer may have been on its way for a while. */
  askedAt: number;
  /** When it may be asked for again before its age is over. */
  restUntil: number;
  secret: ConnectionSecret;
}

/** A vault that is away is not asked by every call. */
const restMs = 1_000;

/**
 * Numbers of what was read, in the order it was: providers keep what they make of a secret by its version, and a vault's
 * own begins anew when a value is deleted. Far from those of secrets that are kept here.
 */
let lastVersion = 1_000_000_000;

export class SecretSources {
  readonly #core: CoreWithSecrets;
  readonly #held = new Map<string, Held>();
  readonly #reading = new Map<string, { source: SecretSource; via: Connection; secret: Promise<ConnectionSecret> }>();

  constructor(core: CoreWithSecrets) {
    this.#core = core;
    core.keyring.onSealed(() => this.#held.clear());
    core.state.onKilled(() => {
      for (const [id, { source }] of this.#held) {
        if (core.state.connections.get(id)?.secret_source !== source) this.#held.delete(id);
      }
    });
  }

  /**
   * @returns the secret; the very same object for as long as it does not change
   * @throws Refused `sealed`, `conflict`, `upstream_unavailable`, `upstream_timeout`, `upstream_refused`
   */
  async read(connection: Connection, source: SecretSource): Promise<ConnectionSecret> {
    const core = this.#core;
    core.keyring.requireUnsealed();
    const via = core.state.connections.get(source.connection_id);
    if (via?.status !== 'active' || via.secret_source) {
      throw new Refused('conflict', 'the vault that the secret of this connection is kept in cannot be used');
    }
    const held = this.#held.get(connection.id);
    const current =
      held?.source === source && held.settings === via.settings && held.secretVersion === via.secret_version
        ? held
        : undefined;
    const ageMs = current ? core.clock.now() - current.askedAt : Number.POSITIVE_INFINITY;
    const maxAgeMs = source.max_age_seconds * 1000;
    if (!current || ageMs >= maxAgeMs) return this.#readNow(connection, source, via);
    // Early, so that a vault which is away for a moment is not noticed by anybody.
    if (ageMs >= maxAgeMs / 2 && core.clock.now() >= current.restUntil) this.#readAgain(connection, via, current);
    return current.secret;
  }

  /** The upstream did not take this secret: it may have been replaced in the vault, so that is asked before its time. */
  doubt(connection: Connection, secret: ConnectionSecret): void {
    const { state, clock } = this.#core;
    const held = this.#held.get(connection.id);
    const via = held && state.connections.get(held.source.connection_id);
    if (held?.secret === secret && via && clock.now() >= held.restUntil) this.#readAgain(connection, via, held);
  }

  /** Beside the call that noticed. */
  #readAgain(connection: Connection, via: Connection, current: Held): void {
    const core = this.#core;
    current.restUntil = core.clock.now() + restMs;
    this.#readNow(connection, current.source, via).catch((error: unknown) => {
      core.log.warn({ err: error, connection: connection.name }, 'a secret in a vault could not be read again');
      // A clear no: it was taken away. Otherwise it may be used to its age.
      const refused = error instanceof Refused && error.refusal.code === 'upstream_refused';
      if (refused && this.#held.get(connection.id) === current) this.#held.delete(connection.id);
    });
  }

  /** Whoever asks meanwhile waits for the same answer. */
  #readNow(connection: Connection, source: SecretSource, via: Connection): Promise<ConnectionSecret> {
    const underway = this.#reading.get(connection.id);
    if (underway?.source === source && underway.via === via) return underway.secret;
    const reading = {
      source,
      via,
      secret: this.#ask(connection, source, via).finally(() => {
        if (this.#reading.get(connection.id) === reading) this.#reading.delete(connection.id);
      }),
    };
    this.#reading.set(connection.id, reading);
    return reading.secret;
  }

  async #ask(connection: Connection, source: SecretSource, via: Connection): Promise<ConnectionSecret> {
    const core = this.#core;
    const askedAt = core.clock.now();
    const [keeper, user] = [core.providers.get(via.provider), core.providers.get(connection.provider)];
    if (!keeper?.readSecret || !user) throw new Refused('conflict', 'there is no provider to read this secret with');
    const signal = AbortSignal.timeout(providerTimeoutMs);
    const context = { now: () => core.clock.now(), signal, secret: () => core.secrets.open(core.reader, via) };
    let read: Record<string, string>;
    try {
      read = await inTime(signal, keeper.readSecret(via, source, context));
    } catch (error) {
      throw refusalOfProvider(error);
    }
    const fields = fitting(user, read);
    const before = this.#held.get(connection.id)?.secret;
    const secret = before && sameFields(before.fields, fields) ? before : { version: nextVersion(), fields };
    // Sealed or changed while the vault was asked: then it is of use to this caller only, or to nobody.
    core.keyring.requireUnsealed();
    if (core.state.connections.get(connection.id)?.secret_source === source) {
      const { settings, secret_version: secretVersion } = via;
      this.#held.set(connection.id, { source, settings, secretVersion, askedAt, restUntil: askedAt + restMs, secret });
    }
    return secret;
  }
}

const nextVersion = (): number => {
  lastVersion += 1;
  return lastVersion;
};

const sameFields = (one: ConnectionSecret['fields'], other: ConnectionSecret['fields']): boolean =>
  Object.keys(one).length === Object.keys(other).length &&
  Object.entries(one).every(([name, value]) => value.reveal() === other[name]?.reveal());

/** What was read is judged as if an operator had given it. */
const fitting = (user: Provider, fields: Record<string, string>): Record<string, SecretText> => {
  const checked = user.checkSecret(fields);
  if (!checked.ok || checked.value === undefined) {
    const [problem] = checked.ok ? [] : checked.problems;
    throw new Refused(
      'upstream_refused',
      `what the vault holds for this connection is not a secret of ${user.type}${problem === undefined ? '' : `: ${problem}`}`,
    );
  }
  return Object.fromEntries(Object.entries(checked.value).map(([name, value]) => [name, new SecretText(value)]));
};
