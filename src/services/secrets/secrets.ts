/** The secrets of connections: sealed in the ledger, opened on use, kept opened while their version is in force. */

import type { Connection, SecretSource, SecretVersion } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { SecretText } from '../../domain/secret-text.ts';
import type { ConnectionSecret } from '../../ports/call-context.ts';
import type { Write } from '../../ports/ledger.ts';
import { type Core, newId } from '../core.ts';
import type { BoxContext, Keyring } from '../keys/keyring.ts';

export const contextOf = (connectionId: string, number: number): BoxContext => ({
  purpose: 'connection-secret',
  connection: connectionId,
  version: String(number),
});

/** The row that keeps a new secret. @throws Refused `sealed` */
export const sealSecret = (
  core: Pick<Core, 'clock' | 'entropy' | 'keyring'>,
  connectionId: string,
  number: number,
  fields: Record<string, string>,
  state: SecretVersion['state'] = 'current',
): SecretVersion => {
  const plain = Buffer.from(JSON.stringify(fields));
  const now = core.clock.now();
  try {
    return {
      id: newId(core, 'sec'),
      connection_id: connectionId,
      number,
      state,
      sealed: core.keyring.encrypt(contextOf(connectionId, number), plain),
      version: 1,
      created_at: now,
      updated_at: now,
    };
  } finally {
    plain.fill(0);
  }
};

/**
 * The writes that put a new secret in force; the connection's row is compared and swapped, so of two at once one wins.
 * @throws Refused `sealed`
 */
export const replaceSecretWrites = async (
  core: Core,
  connection: Connection,
  fields: Record<string, string>,
): Promise<{ writes: Write[]; number: number }> => {
  // A rotation may have kept the next number already, for a secret that is not in force yet.
  const number = (await core.reader.newestSecretNumber(connection.id)) + 1;
  const now = core.clock.now();
  const writes: Write[] = [
    {
      write: 'update',
      table: 'connections',
      id: connection.id,
      set: { secret_version: number, secret_source: null, version: connection.version + 1, updated_at: now },
      from: { version: connection.version },
    },
    { write: 'insert', table: 'secrets', row: sealSecret(core, connection.id, number, fields) },
    ...(await retireSecretWrites(core, connection)),
  ];
  return { writes, number };
};

/** The write that ends the secret kept here, where there is one. */
export const retireSecretWrites = async (core: Core, connection: Connection): Promise<Write[]> => {
  if (connection.secret_version === null) return [];
  const old = await core.reader.secret(connection.id, connection.secret_version);
  if (!old) return [];
  const set = { state: 'retired', version: old.version + 1, updated_at: core.clock.now() } as const;
  return [{ write: 'update', table: 'secrets', id: old.id, set }];
};

/** Opens one version of a secret, in force or not. @throws Refused `sealed`, or `conflict` when there is none */
export const openSecretVersion = async (
  core: { reader: Core['reader']; keyring: Keyring },
  connectionId: string,
  number: number,
): Promise<Record<string, SecretText>> => {
  const row = await core.reader.secret(connectionId, number);
  if (!row) throw new Refused('conflict', 'the secret of this connection was replaced at this moment; try again');
  const plain = core.keyring.decrypt(contextOf(connectionId, row.number), row.sealed);
  try {
    const fields: Record<string, string> = JSON.parse(plain.toString());
    return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, new SecretText(value)]));
  } finally {
    plain.fill(0);
  }
};

/** Reads what a connection refers to (secret-sources.ts). */
interface SecretReader {
  read(connection: Connection, source: SecretSource): Promise<ConnectionSecret>;
  doubt(connection: Connection, secret: ConnectionSecret): void;
}

/** Opened secrets by connection, for one keyring; forgotten when it seals. */
export class OpenedSecrets {
  readonly #held = new Map<string, ConnectionSecret>();
  readonly #keyring: Keyring;
  #sources: SecretReader | undefined;

  constructor(keyring: Keyring) {
    this.#keyring = keyring;
    keyring.onSealed(() => this.#held.clear());
  }

  /** From where the secrets are read that are not kept here; said once, where everything is wired. */
  readFrom(sources: SecretReader): void {
    this.#sources = sources;
  }

  /** The secret in force if it is opened already: the common case, without waiting. @throws Refused `sealed` */
  peek(connection: Connection): ConnectionSecret | undefined {
    this.#keyring.requireUnsealed();
    const held = this.#held.get(connection.id);
    return held?.version === connection.secret_version && !connection.secret_source ? held : undefined;
  }

  /**
   * @returns the secret in force; undefined when the connection has none
   * @throws Refused `sealed`; for one that is kept in a vault also what that says
   */
  async open(reader: Core['reader'], connection: Connection): Promise<ConnectionSecret | undefined> {
    if (connection.secret_source) {
      if (!this.#sources) throw new Error('nobody reads secrets that are kept elsewhere');
      return this.#sources.read(connection, connection.secret_source);
    }
    const held = this.peek(connection);
    if (held) return held;
    if (connection.secret_version === null) return undefined;
    const version = connection.secret_version;
    const fields = await openSecretVersion({ reader, keyring: this.#keyring }, connection.id, version);
    const opened = { version, fields };
    this.#held.set(connection.id, opened);
    return opened;
  }

  /** The upstream refused this secret. One that is kept here is what it is; another may have changed where it is. */
  doubt(connection: Connection, secret: ConnectionSecret): void {
    if (connection.secret_source) this.#sources?.doubt(connection, secret);
  }

  /** Forgets those whose connection is gone. */
  keepOnly(exists: (connectionId: string) => boolean): void {
    for (const id of this.#held.keys()) if (!exists(id)) this.#held.delete(id);
  }
}
