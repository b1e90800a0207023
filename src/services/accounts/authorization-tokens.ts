/** The tokens of authorizations: sealed in their rows, opened on use, kept opened while they are in force. */
import { LRUCache } from 'lru-cache';
import type { Authorization, SealedBox } from '../../domain/model.ts';
import { SecretText } from '../../domain/secret-text.ts';
import type { HeldTokens, NewTokens } from '../../ports/authorization.ts';
import type { BoxContext, Keyring } from '../keys/keyring.ts';

type Whose = Pick<Authorization, 'id' | 'connection_id'>;

export const boxOf = (row: Whose, tokensVersion: number): BoxContext => ({
  purpose: 'authorization',
  connection: row.connection_id,
  authorization: row.id,
  version: String(tokensVersion),
});

interface Stored {
  access_token: string;
  refresh_token: string | null;
  expires_at: number | null;
}

/** @throws Refused `sealed` */
export const sealTokens = (keyring: Keyring, row: Whose, tokensVersion: number, tokens: NewTokens): SealedBox => {
  const stored: Stored = {
    access_token: tokens.accessToken,
    refresh_token: tokens.refreshToken,
    expires_at: tokens.expiresAt,
  };
  const plain = Buffer.from(JSON.stringify(stored));
  try {
    return keyring.encrypt(boxOf(row, tokensVersion), plain);
  } finally {
    plain.fill(0);
  }
};

const openTokens = (keyring: Keyring, row: Authorization): HeldTokens => {
  const plain = keyring.decrypt(boxOf(row, row.tokens_version), row.sealed);
  try {
    const stored: Stored = JSON.parse(plain.toString());
    return {
      accessToken: new SecretText(stored.access_token),
      refreshToken: stored.refresh_token === null ? null : new SecretText(stored.refresh_token),
      expiresAt: stored.expires_at,
      scopes: row.scopes,
    };
  } finally {
    plain.fill(0);
  }
};

/** Tokens that are in no row. */
export const heldOf = (tokens: NewTokens): HeldTokens => ({
  accessToken: new SecretText(tokens.accessToken),
  refreshToken: tokens.refreshToken === null ? null : new SecretText(tokens.refreshToken),
  expiresAt: tokens.expiresAt,
  scopes: [],
});

/** About 2 KB each: those used lately. */
const maxOpened = 5_000;

/** Opened tokens, for one keyring; forgotten when it seals. */
export class OpenedTokens {
  readonly #keyring: Keyring;
  readonly #held = new LRUCache<string, { box: SealedBox; held: HeldTokens }>({ max: maxOpened });

  constructor(keyring: Keyring) {
    this.#keyring = keyring;
    keyring.onSealed(() => this.#held.clear());
  }

  /** Without waiting: the rows are in memory. @throws Refused `sealed` */
  open(row: Authorization): HeldTokens {
    this.#keyring.requireUnsealed();
    const known = this.#held.get(row.id);
    // The box itself, not its version: an account connected anew begins to count from one again.
    if (known?.box === row.sealed) return known.held;
    const held = openTokens(this.#keyring, row);
    this.#held.set(row.id, { box: row.sealed, held });
    return held;
  }
}
