/**
 * Client authentication at the token, introspection and revocation endpoints (RFC 6749 section 2.3, RFC 7523): which
 * agent is it? Unknown, known and suspended clients with a wrong proof get the same answer, after the same work.
 */
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import type { Agent } from '../../domain/model.ts';
import { readStrictJws } from '../../domain/strict-jws.ts';
import { sameDigest, tokenDigest } from '../../domain/tokens.ts';
import type { Egress } from '../../ports/egress.ts';
import type { Guard } from '../../ports/ledger.ts';
import { type Caller, type Core, commit, record } from '../core.ts';
import type { ForeignTokens } from './foreign-tokens.ts';
import { KeptFetch } from './kept-fetch.ts';
import { verifyInVain } from './nobodys-keys.ts';

export type ClientProof =
  | { method: 'client_secret_basic' | 'client_secret_post'; clientId: string; secret: string }
  | { method: 'private_key_jwt'; assertion: string; clientId: string | undefined };

/** `issuers`, `guards`: on whose word it is this agent, and that they are still trusted (foreign-tokens.ts). */
export type ClientAuthentication =
  | { ok: true; agent: Agent; issuers: string[]; guards: Guard[] }
  | { ok: false; why: string };

/** What it proved it with may be changed at this moment: then nothing is issued for it. */
const proven = (agent: Agent): ClientAuthentication => ({
  ok: true,
  agent,
  issuers: [],
  guards: [{ guard: 'unchanged', table: 'agents', id: agent.id, version: agent.version }],
});

/** The longest life of an assertion, and how far clocks may differ. */
const longestAssertionSeconds = 300;
const skewSeconds = 30;

/** Types of other tokens that must not pass for an assertion, and those that may stand there. */
const assertionTypes = new Set(['client-authentication+jwt', 'jwt']);

/** Header parameters that ask the reader to fetch, trust, skip or transform something, or belong to a JWE. */
const refusedHeaders = ['jku', 'x5u', 'jwk', 'x5c', 'crit', 'b64', 'zip', 'enc'] as const;

/** Compared with when there is no such client, so that the work is the same. */
const nobodysDigest = tokenDigest('nobody');

/** Whether the client has no key for it, so that no signature was looked at. */
const unverified = (error: unknown): boolean => {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return code.startsWith('ERR_JWKS_') || code === 'ERR_JOSE_ALG_NOT_ALLOWED';
};

/** Words of the client may be in it: short, and fit for an audit entry. */
const failed = (why: string): ClientAuthentication => ({ ok: false, why: why.slice(0, 200).toWellFormed() });

export class ClientAuthenticator {
  readonly #core: Core;
  readonly #egress: Egress;
  readonly #foreign: ForeignTokens;
  /** By jwks_uri, and whether it may be on a private network. */
  readonly #fetched = new Map<string, KeptFetch<JSONWebKeySet>>();

  constructor(core: Core, egress: Egress, foreign: ForeignTokens) {
    this.#core = core;
    this.#egress = egress;
    this.#foreign = foreign;
  }

  /** @returns the agent, or why not in words for the audit log; the client is told nothing of it */
  async authenticate(proof: ClientProof, caller: Caller): Promise<ClientAuthentication> {
    return proof.method === 'private_key_jwt' ? this.#assertion(proof, caller) : this.#secret(proof);
  }

  #secret(proof: Extract<ClientProof, { secret: string }>): ClientAuthentication {
    const agent = this.#core.state.agentCalled(proof.clientId);
    const auth = agent?.auth;
    const digest = auth && 'secret_digest' in auth ? auth.secret_digest : nobodysDigest;
    const same = sameDigest(digest, tokenDigest(proof.secret));
    if (!agent || !auth || !('secret_digest' in auth)) return failed('unknown client or another method');
    if (!same) return failed('wrong client secret');
    if (auth.method !== proof.method) return failed('another authentication method is registered');
    return proven(agent);
  }

  async #assertion(proof: Extract<ClientProof, { assertion: string }>, caller: Caller): Promise<ClientAuthentication> {
    const parts = readStrictJws(proof.assertion);
    if (!parts) return failed('not a JWT in its one spelling');
    for (const name of refusedHeaders) {
      if (name in parts.header) return failed(`${name} in the header is not accepted`);
    }
    const subject = parts.payload['sub'];
    // A client's own assertion has itself as issuer and subject (RFC 7523 section 3); any other is what a platform says
    // of its workload, as cloud identity services take it.
    if (parts.payload['iss'] !== subject) {
      return this.#foreign.proveAgent(proof.assertion, proof.clientId, 'client_assertion', caller);
    }
    const agent = typeof subject === 'string' ? this.#core.state.agentCalled(subject) : undefined;
    if (agent?.auth.method !== 'private_key_jwt') {
      await verifyInVain(proof.assertion, parts.header['kid']);
      return failed('unknown client or another method');
    }
    const now = this.#core.clock.now();
    let claims: Record<string, unknown>;
    try {
      claims = await this.#verified(proof.assertion, String(subject), agent.auth, now);
    } catch (error) {
      if (unverified(error)) await verifyInVain(proof.assertion, parts.header['kid']);
      return failed(`the assertion was not accepted: ${error instanceof Error ? error.message : 'unknown'}`);
    }
    if (proof.clientId !== undefined && this.#core.state.agentCalled(proof.clientId)?.id !== agent.id) {
      return failed('client_id is another client than the assertion’s');
    }
    const { jti, exp } = claims;
    if (typeof jti !== 'string' || jti.length === 0 || jti.length > 256) return failed('jti is missing or too long');
    const used = await commit(this.#core, {
      writes: [
        {
          write: 'insert',
          table: 'used_once',
          row: {
            id: tokenDigest(`jti ${agent.id} ${jti}`),
            // A NumericDate may have a fraction (RFC 7519 section 2).
            expires_at: Math.ceil((Number(exp) + skewSeconds + 1) * 1000),
          },
        },
      ],
      audit: [
        record(this.#core, caller, {
          type: 'agent.authenticated',
          agent: { id: agent.id, name: agent.name },
          data: { method: 'private_key_jwt' },
        }),
      ],
    });
    return used.ok ? proven(agent) : failed('this assertion was used before');
  }

  async #verified(
    assertion: string,
    subject: string,
    auth: Extract<Agent['auth'], { method: 'private_key_jwt' }>,
    now: number,
  ): Promise<Record<string, unknown>> {
    const verify = async (keys: JSONWebKeySet) =>
      jwtVerify(assertion, createLocalJWKSet(keys), {
        algorithms: auth.algorithms,
        issuer: subject,
        subject,
        // The issuer only, and only it: an assertion for several audiences could be replayed by one of them here.
        audience: this.#core.issuer,
        clockTolerance: skewSeconds,
        currentDate: new Date(now),
        requiredClaims: ['exp', 'jti', 'iss', 'sub', 'aud'],
      });
    const keys = auth.jwks ?? (await this.#keysFrom(auth, now, false));
    let result: Awaited<ReturnType<typeof verify>>;
    try {
      result = await verify({ keys: keys.keys });
    } catch (error) {
      const unknownKey = error instanceof Error && 'code' in error && error.code === 'ERR_JWKS_NO_MATCHING_KEY';
      if (!unknownKey || auth.jwks) throw error;
      // The client may have rotated since its keys were fetched.
      result = await verify({ keys: (await this.#keysFrom(auth, now, true)).keys });
    }
    const { payload, protectedHeader } = result;
    const { typ } = protectedHeader;
    if (typ !== undefined && !assertionTypes.has(typ.toLowerCase().replace(/^application\//, '')))
      throw new Error(`typ ${typ} is another token`);
    if (Array.isArray(payload.aud) && payload.aud.length !== 1) throw new Error('more than one audience');
    const seconds = Math.floor(now / 1000);
    if (Number(payload.exp) > seconds + longestAssertionSeconds + skewSeconds) throw new Error('exp is too far away');
    if (payload.iat !== undefined) {
      if (payload.iat > seconds + skewSeconds) throw new Error('iat is in the future');
      // Made for a longer life, and only now near its end.
      if (Number(payload.exp) - payload.iat > longestAssertionSeconds + skewSeconds) throw new Error('iat is too old');
    }
    return payload;
  }

  /** The client's published keys. Anybody can name a client here before proving anything: hence the pauses between fetches. */
  async #keysFrom(
    auth: Extract<Agent['auth'], { method: 'private_key_jwt' }>,
    now: number,
    again: boolean,
  ): Promise<JSONWebKeySet> {
    const uri = auth.jwks_uri;
    if (uri === undefined) throw new Error('the client has neither jwks nor jwks_uri');
    const allowPrivateNetwork = auth.allow_private_network === true;
    const key = `${allowPrivateNetwork} ${uri}`;
    let kept = this.#fetched.get(key);
    if (!kept) {
      kept = new KeptFetch(() => this.#fetchKeys(uri, allowPrivateNetwork));
      if (this.#fetched.size > 1000) this.#fetched.clear();
      this.#fetched.set(key, kept);
    }
    return kept.get(now, again);
  }

  async #fetchKeys(uri: string, allowPrivateNetwork: boolean): Promise<JSONWebKeySet> {
    const document = await this.#egress.getJson(uri, { allowPrivateNetwork });
    if (typeof document !== 'object' || document === null || !('keys' in document) || !Array.isArray(document.keys)) {
      throw new Error('jwks_uri did not answer with a JWK set');
    }
    return { keys: document.keys.filter((jwk) => typeof jwk === 'object' && jwk?.kty !== 'oct') };
  }
}
