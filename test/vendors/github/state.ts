/** What GitHub knows: an App, its installation on an account, the account's repositories, and the tokens it made. */
import { type KeyObject, randomBytes } from 'node:crypto';

export type Level = 'read' | 'write' | 'admin';
const order: readonly string[] = ['read', 'write', 'admin'];
export const reaches = (held: string | undefined, needed: Level): boolean =>
  order.indexOf(held ?? '') >= order.indexOf(needed);

export interface Repository {
  id: number;
  full_name: string;
  files: Map<string, Buffer>;
}

export interface Token {
  value: string;
  permissions: Record<string, string>;
  /** null = all repositories of the installation. */
  repositories: Repository[] | null;
  expiresAt: number;
}

export interface Installation {
  id: number;
  permissions: Record<string, Level>;
  repositories: Repository[];
  suspended: boolean;
}

export interface GitHubState {
  app: { id: number; clientId: string; publicKey: KeyObject };
  installation: Installation;
  tokens: Map<string, Token>;
  /** Added to the machine's clock. */
  clockOffsetMs: number;
  /** Answers the next calls like this, until it is undefined: limits and oddities. */
  intercept:
    | ((route: string) => { status: number; headers?: Record<string, string>; body?: unknown } | undefined)
    | undefined;
  /** Changes an answer with a token before it is sent. */
  tamper: ((answer: Record<string, unknown>) => Record<string, unknown>) | undefined;
}

const lifeMs = 3_600_000;

export const githubState = (publicKey: KeyObject): GitHubState => {
  const repository = (id: number, name: string): Repository => ({
    id,
    full_name: `acme/${name}`,
    files: new Map([['README.md', Buffer.from(`# ${name}\n`)]]),
  });
  return {
    app: { id: 4711, clientId: 'Iv23liWarderTest0001', publicKey },
    installation: {
      id: 815,
      permissions: { contents: 'write', issues: 'read', metadata: 'read' },
      repositories: [repository(1, 'site'), repository(2, 'billing'), repository(3, 'docs.wiki')],
      suspended: false,
    },
    tokens: new Map(),
    clockOffsetMs: 0,
    intercept: undefined,
    tamper: undefined,
  };
};

export const nowOf = (state: GitHubState): number => Date.now() + state.clockOffsetMs;

export const makeToken = (
  state: GitHubState,
  permissions: Record<string, string>,
  repositories: Repository[] | null,
): Token => {
  const value = `ghs_${randomBytes(60)
    .toString('base64')
    .replace(/[^A-Za-z0-9]/g, '')
    .slice(0, 36)}`;
  // GitHub rounds to whole seconds.
  const expiresAt = Math.floor((nowOf(state) + lifeMs) / 1000) * 1000;
  const token = { value, permissions, repositories, expiresAt };
  state.tokens.set(value, token);
  return token;
};

/** @returns the token while it lives: not deleted, not expired */
export const liveToken = (state: GitHubState, value: string): Token | undefined => {
  const token = state.tokens.get(value);
  return token && token.expiresAt > nowOf(state) ? token : undefined;
};
