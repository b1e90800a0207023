/** Tokens and leases of one namespace, and how the end of the one is the end of the other. */
import { randomBytes } from 'node:crypto';
import { VaultError } from './errors.ts';

export interface Token {
  id: string;
  accessor: string;
  policies: string[];
  /** The id of the token that made it; undefined for a root token, an orphan, or one from a login. */
  parent: string | undefined;
  meta: Record<string, string> | null;
  displayName: string;
  path: string;
  renewable: boolean;
  createdAt: number;
  creationTtl: number;
  /** ms since the epoch; undefined lives for ever. */
  expiresAt: number | undefined;
  maxEnd: number | undefined;
}

export interface Lease {
  id: string;
  token: string;
  expiresAt: number;
  maxEnd: number;
  renewable: boolean;
  revoke(): void;
}

const random = (bytes: number): string => randomBytes(bytes).toString('base64url').replaceAll(/[-_]/g, 'x');
const systemMaxSeconds = 768 * 3600;

/** `900`, `"900"`, `"900s"`, `"15m"`, `"1h"`: seconds. */
export const seconds = (value: unknown, otherwise = 0): number => {
  if (value === undefined || value === '' || value === null) return otherwise;
  const [, digits, unit] = /^(\d+)([smh]?)$/.exec(String(value)) ?? [];
  if (digits === undefined) throw new VaultError(400, `time: invalid duration ${JSON.stringify(value)}`);
  return Number(digits) * (unit === 'h' ? 3600 : unit === 'm' ? 60 : 1);
};

export class Tokens {
  readonly tokens = new Map<string, Token>();
  readonly leases = new Map<string, Lease>();
  readonly #sweep = setInterval(() => this.expire(), 100).unref();

  close(): void {
    clearInterval(this.#sweep);
  }

  /** What is over is gone whoever asks; leases are taken back at the system behind them. */
  expire(): void {
    const now = Date.now();
    for (const token of this.tokens.values()) {
      if (token.expiresAt !== undefined && token.expiresAt <= now) this.revoke(token.id);
    }
    for (const lease of this.leases.values()) if (lease.expiresAt <= now) this.revokeLease(lease.id);
  }

  make(given: Partial<Token> & { policies: string[]; ttl: number; explicitMax?: number; path: string }): Token {
    const now = Date.now();
    const ttl = Math.min(given.ttl || systemMaxSeconds, given.explicitMax || systemMaxSeconds, systemMaxSeconds);
    const token: Token = {
      id: given.id ?? `hvs.${random(24)}`,
      accessor: random(18),
      policies: given.policies,
      parent: given.parent,
      meta: given.meta ?? null,
      displayName: given.displayName ?? 'token',
      path: given.path,
      renewable: given.renewable ?? true,
      createdAt: now,
      creationTtl: ttl,
      expiresAt: given.policies.includes('root') && given.ttl === 0 ? undefined : now + ttl * 1000,
      maxEnd: now + (given.explicitMax || systemMaxSeconds) * 1000,
    };
    this.tokens.set(token.id, token);
    return token;
  }

  live(id: string): Token | undefined {
    this.expire();
    return this.tokens.get(id);
  }

  byAccessor(accessor: unknown): Token | undefined {
    this.expire();
    return [...this.tokens.values()].find((token) => token.accessor === accessor);
  }

  ttlOf(token: Token): number {
    return token.expiresAt === undefined ? 0 : Math.max(0, Math.floor((token.expiresAt - Date.now()) / 1000));
  }

  renew(token: Token, increment: number): void {
    if (!token.renewable || token.expiresAt === undefined) throw new VaultError(400, 'lease is not renewable');
    const wanted = Date.now() + (increment || token.creationTtl) * 1000;
    token.expiresAt = Math.min(wanted, token.maxEnd ?? wanted);
  }

  /** With every token it made, and every lease that was made with any of them. */
  revoke(id: string): void {
    this.tokens.delete(id);
    for (const lease of [...this.leases.values()]) if (lease.token === id) this.revokeLease(lease.id);
    for (const child of [...this.tokens.values()]) if (child.parent === id) this.revoke(child.id);
  }

  lend(token: Token, path: string, life: { ttl: number; max: number }, revoke: () => void): Lease {
    const now = Date.now();
    const lease: Lease = {
      id: `${path}/${random(18)}`,
      token: token.id,
      expiresAt: now + life.ttl * 1000,
      maxEnd: now + life.max * 1000,
      renewable: true,
      revoke,
    };
    this.leases.set(lease.id, lease);
    return lease;
  }

  renewLease(id: unknown, increment: number): Lease {
    this.expire();
    const lease = this.leases.get(String(id));
    if (!lease) throw new VaultError(400, 'lease not found');
    if (!lease.renewable) throw new VaultError(400, 'lease is not renewable');
    lease.expiresAt = Math.min(Date.now() + increment * 1000, lease.maxEnd);
    return lease;
  }

  /** Nothing happens when it is gone. @throws VaultError, and the lease stays, when the system behind it fails */
  revokeLease(id: string): void {
    const lease = this.leases.get(id);
    if (!lease) return;
    lease.revoke();
    this.leases.delete(id);
  }
}
