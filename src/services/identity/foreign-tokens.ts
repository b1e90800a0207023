/**
 * Tokens that trusted issuers signed: of a workload, which prove an agent (RFC 7523), and of people to act for (RFC
 * 8693). Everything is checked here, in one place for both; whoever asks learns what was wrong for the audit log, and
 * tells the client nothing of it.
 */
import { createLocalJWKSet, type JWTPayload, jwtVerify } from 'jose';
import { brokenRule } from '../../domain/claim-rules.ts';
import { type Agent, longestTokenAgeSeconds, type TrustedIssuer } from '../../domain/model.ts';
import { readStrictJws } from '../../domain/strict-jws.ts';
import { tokenDigest } from '../../domain/tokens.ts';
import type { Egress } from '../../ports/egress.ts';
import type { Guard } from '../../ports/ledger.ts';
import { type Caller, type Core, commit, record } from '../core.ts';
import { IssuerKeys } from './issuer-keys.ts';

export type Use = TrustedIssuer['uses'][number];

/** What `typ` may be, in lower case and without `application/`; a token without one counts as `jwt`. */
export const tokenTypes = {
  /** Kubernetes writes none, GitHub `JWT`, SPIFFE `JWT` or `JOSE` (JWT-SVID section 2.3). */
  workload: new Set(['jwt', 'jose']),
  idToken: new Set(['jwt']),
  accessToken: new Set(['jwt', 'at+jwt']),
} as const;

export interface ForeignToken {
  issuer: TrustedIssuer;
  claims: Record<string, unknown>;
  /** Its `exp`, in milliseconds since the epoch. */
  endsAt: number;
}

export type Verified = { ok: true; token: ForeignToken } | { ok: false; why: string };
export type Proven = { ok: true; agent: Agent; issuers: string[]; guards: Guard[] } | { ok: false; why: string };

/** As large as a token with many groups in it; a form has 32 KiB. */
const maxTokenLength = 16 * 1024;
const skewSeconds = 30;

/** Header parameters that ask the reader to fetch, trust, skip or transform something, or belong to a JWE. */
const refusedHeaders = ['jku', 'x5u', 'jwk', 'x5c', 'crit', 'b64', 'zip', 'enc'];

/** Words of the token may be in it: short, and fit for an audit entry. */
const failed = (why: string): { ok: false; why: string } => ({ ok: false, why: why.slice(0, 200).toWellFormed() });

/** The year 5138: what is stored as a time must be one. */
const latestSeconds = 1e11;

const spiffeScheme = 'spiffe://';

/** Who says to have issued it: by `iss`, or, where a SPIFFE identity has none registered, by its trust domain. */
const issuerOf = (core: Core, claims: Record<string, unknown>): TrustedIssuer | undefined => {
  const { iss, sub } = claims;
  const all = core.state.trustedIssuers.all();
  const named = typeof iss === 'string' ? all.find(({ issuer }) => issuer === iss) : undefined;
  if (named || typeof sub !== 'string' || !sub.startsWith(spiffeScheme)) return named;
  return all.find(({ issuer }) => issuer.startsWith(spiffeScheme) && sub.startsWith(`${issuer}/`));
};

/** That the issuer still is what it was when its token was checked. */
const issuerGuard = ({ id, version }: TrustedIssuer): Guard => ({
  guard: 'unchanged',
  table: 'trusted_issuers',
  id,
  version,
});

export class ForeignTokens {
  readonly #core: Core;
  readonly #keys: IssuerKeys;

  constructor(core: Core, egress: Egress) {
    this.#core = core;
    this.#keys = new IssuerKeys(egress);
  }

  /**
   * Checks a token in every respect but what it is used for.
   * @param types the values of `typ` that may stand there
   */
  async verify(text: string, use: Use, types: ReadonlySet<string>): Promise<Verified> {
    if (text.length > maxTokenLength) return failed('too long');
    const parts = readStrictJws(text);
    if (!parts) return failed('not a JWT in its one spelling');
    const refused = refusedHeaders.find((name) => Object.hasOwn(parts.header, name));
    if (refused !== undefined) return failed(`${refused} in the header is not accepted`);
    const { typ = 'JWT' } = parts.header;
    if (typeof typ !== 'string' || !types.has(typ.toLowerCase().replace(/^application\//, ''))) {
      return failed('typ is another kind of token');
    }
    const issuer = issuerOf(this.#core, parts.payload);
    if (!issuer) return failed('nobody trusts this issuer');
    if (issuer.status !== 'active') return failed(`issuer ${issuer.name} is suspended`);
    if (!issuer.uses.includes(use)) return failed(`issuer ${issuer.name} is not trusted for this use`);
    const now = this.#core.clock.now();
    try {
      const payload = await this.#signed(text, issuer, now);
      const claims: Record<string, unknown> = { ...payload };
      const fault = faultOf(issuer, payload, now) ?? brokenRuleOf(issuer, claims);
      if (fault !== undefined) return failed(`issuer ${issuer.name}: ${fault}`);
      return { ok: true, token: { issuer, claims, endsAt: Math.floor(Number(payload.exp) * 1000) } };
    } catch (error) {
      return failed(`issuer ${issuer.name}: ${error instanceof Error ? error.message : 'unknown'}`);
    }
  }

  /**
   * Which agent is this workload? Exactly one must be bound to what the token says.
   * @param clientId where the request names the agent: then it must be that one
   * @param method how it was presented, for the audit entry
   */
  async proveAgent(text: string, clientId: string | undefined, method: string, caller: Caller): Promise<Proven> {
    const verified = await this.verify(text, 'workload', tokenTypes.workload);
    if (!verified.ok) return verified;
    const { issuer, claims } = verified.token;
    // RFC 7800 section 3: whoever presents it must prove that he holds a key, and an assertion has no place for that.
    if (claims['cnf'] !== undefined) return failed(`issuer ${issuer.name}: a token bound to a key is no assertion`);
    const bound = this.#core.state.agents
      .all()
      .filter(
        ({ auth }) => auth.method === 'workload' && auth.issuer === issuer.id && !brokenRule(auth.claims, claims),
      );
    const named = clientId === undefined ? bound : bound.filter(({ id, name }) => id === clientId || name === clientId);
    const [agent, ...more] = named;
    if (!agent) return failed(`issuer ${issuer.name}: no agent is bound to what this token says`);
    if (more.length > 0) return failed(`issuer ${issuer.name}: more than one agent is bound to what this token says`);
    const used = await commit(this.#core, {
      guards: [issuerGuard(issuer)],
      writes: issuer.single_use ? [{ write: 'insert', table: 'used_once', row: useOf(verified.token, text) }] : [],
      audit: [
        record(this.#core, caller, {
          type: 'agent.authenticated',
          agent: { id: agent.id, name: agent.name },
          data: {
            method,
            issuer: issuer.name,
            sub: String(claims['sub'] ?? '')
              .slice(0, 255)
              .toWellFormed(),
          },
        }),
      ],
    });
    if (!used.ok) {
      return failed(used.why === 'exists' ? 'this token was used before' : `issuer ${issuer.name} was changed`);
    }
    // What it is bound to may have changed since: then it is not this agent any more.
    const asBound: Guard = { guard: 'unchanged', table: 'agents', id: agent.id, version: agent.version };
    return { ok: true, agent, issuers: [issuer.id], guards: [issuerGuard(issuer), asBound] };
  }

  /** A guard for what is issued on this token's word. */
  guardOf(token: ForeignToken): Guard {
    return issuerGuard(token.issuer);
  }

  async #signed(text: string, issuer: TrustedIssuer, now: number): Promise<JWTPayload> {
    const verify = async (again: boolean) => {
      const keys = await this.#keys.of(issuer, now, again);
      return jwtVerify(text, createLocalJWKSet({ keys }), {
        algorithms: issuer.algorithms,
        audience: issuer.audiences.length > 0 ? issuer.audiences : this.#core.issuer,
        clockTolerance: skewSeconds,
        currentDate: new Date(now),
        requiredClaims: ['exp', 'sub', 'aud'],
      });
    };
    try {
      return (await verify(false)).payload;
    } catch (error) {
      const unknownKey = error instanceof Error && 'code' in error && error.code === 'ERR_JWKS_NO_MATCHING_KEY';
      if (!unknownKey || issuer.keys.from === 'jwks') throw error;
      // The issuer may have rotated since its keys were fetched.
      return (await verify(true)).payload;
    }
  }
}

const brokenRuleOf = (issuer: TrustedIssuer, claims: Record<string, unknown>): string | undefined => {
  const broken = brokenRule(issuer.claims, claims);
  return broken === undefined ? undefined : `the claim ${broken} is not what the issuer’s rules ask for`;
};

/** What jose does not look at, or reads more kindly. */
const faultOf = (issuer: TrustedIssuer, payload: JWTPayload, now: number): string | undefined => {
  const { iss, sub, aud, exp, iat } = payload;
  if (issuer.issuer.startsWith(spiffeScheme)) {
    if (typeof sub !== 'string' || !sub.startsWith(`${issuer.issuer}/`)) return 'sub is of another trust domain';
  } else if (iss !== issuer.issuer) {
    return 'iss is another one';
  }
  if (typeof sub !== 'string' || sub === '') return 'sub is missing';
  // A logout token or another event (RFC 8417 sections 4.5 and 4.6): the issuer says something about its subject there,
  // that he logged out perhaps, and vouches for nobody. Older servers send it without a `typ`.
  if (payload['events'] !== undefined) return 'it tells of an event';
  // Any of several audiences could present it here (RFC 7519 section 4.1.3 would let it pass).
  if (Array.isArray(aud) && aud.length !== 1) return 'more than one audience';
  if (!(Number(exp) < latestSeconds)) return 'exp is no time';
  const seconds = now / 1000;
  const oldest = issuer.max_token_age_seconds + skewSeconds;
  if (iat === undefined) return Number(exp) > seconds + oldest ? 'it has no iat and lives too long' : undefined;
  if (iat > seconds + skewSeconds) return 'iat is in the future';
  return iat < seconds - oldest ? 'it is too old' : undefined;
};

/**
 * The use of a token, by its `jti`; by its signed bytes where it has none. Not by its signature: one token can have
 * several that are valid.
 */
const useOf = ({ issuer, claims, endsAt }: ForeignToken, text: string) => {
  const { jti, iat } = claims;
  // By the longest age any issuer can be given, not its own: that may be prolonged while the token lives.
  const oldest = typeof iat === 'number' ? (iat + longestTokenAgeSeconds) * 1000 : Number.POSITIVE_INFINITY;
  const what = typeof jti === 'string' && jti !== '' ? `jti ${jti}` : `text ${text.slice(0, text.lastIndexOf('.'))}`;
  return {
    id: tokenDigest(`workload ${issuer.id} ${what}`),
    expires_at: Math.ceil(Math.min(endsAt, oldest)) + (skewSeconds + 1) * 1000,
  };
};
