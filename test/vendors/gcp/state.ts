/** What Google Cloud knows: service accounts, who may impersonate whom, a workload identity pool, buckets, and tokens. */
import { type KeyObject, randomBytes } from 'node:crypto';
import type { JWTVerifyGetKey } from 'jose';

export interface Condition {
  expression: string;
}

export interface BoundaryRule {
  availableResource: string;
  availablePermissions: string[];
  availabilityCondition?: Condition;
}

export interface Token {
  /** The account's e-mail, or `principal://…` of a federated workload. */
  principal: string;
  scopes: string[];
  kind: 'source' | 'impersonated' | 'downscoped';
  boundary: BoundaryRule[] | null;
  expiresAt: number;
}

export interface Account {
  email: string;
  /** Public halves of its keys, by id. */
  keys: Map<string, KeyObject>;
  /** Of keys whose public half was uploaded, by key id: as it was uploaded. */
  certificates: Map<string, string>;
  /** When a key becomes known to those who check it, by id; absent: it is known. */
  knownAt: Map<string, number>;
  /** Principals with roles/iam.serviceAccountKeyAdmin on it. */
  keyAdmins: Set<string>;
  /** Principals with roles/iam.serviceAccountTokenCreator on it. */
  tokenCreators: Set<string>;
  /** By the organisation's policy a token may live for twelve hours instead of one. */
  extended: boolean;
}

export interface Bucket {
  /** Principal → roles. */
  policy: Map<string, string[]>;
  objects: Map<string, Buffer>;
}

export interface Pool {
  audience: string;
  /** `principal://…/subject/` before the subject. */
  principalPrefix: string;
  issuer: string;
  keys: JWTVerifyGetKey;
}

export interface GcpState {
  accounts: Map<string, Account>;
  buckets: Map<string, Bucket>;
  pool: Pool | undefined;
  tokens: Map<string, Token>;
  clockOffsetMs: number;
  /** A new key is known so much later. */
  keyLagMs: number;
  intercept:
    | ((route: string) => { status: number; headers?: Record<string, string>; body?: unknown } | undefined)
    | undefined;
}

export const nowOf = (state: GcpState): number => Date.now() + state.clockOffsetMs;

/** @returns the token's text, in the form Google gives it */
export const addToken = (state: GcpState, token: Token): string => {
  const text = `ya29.c.${randomBytes(96).toString('base64url')}`;
  state.tokens.set(text, token);
  return text;
};

export const liveToken = (state: GcpState, text: string): Token | undefined => {
  const token = state.tokens.get(text);
  return token && token.expiresAt > nowOf(state) ? token : undefined;
};

export const rolePermissions: Record<string, string[]> = {
  'roles/storage.objectViewer': ['storage.objects.get', 'storage.objects.list'],
  'roles/storage.objectCreator': ['storage.objects.create'],
  'roles/storage.objectUser': ['storage.objects.get', 'storage.objects.list', 'storage.objects.create'],
};
