/**
 * Calls through the gateway: which are allowed, what is recorded of them, and which must end because what allowed them
 * died. A call is recorded before a byte goes upstream, and again when it is over.
 */

import { namesParameter, overridesMethod } from '../../domain/gateway-query.ts';
import { type CompiledRule, compileRule, matches } from '../../domain/gateway-rules.ts';
import { type Dead, deadGrant, grantFacts } from '../../domain/liveness.ts';
import type { Agent, Connection, Grant } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { type Needles, secretNeedles } from '../../domain/secret-mask.ts';
import { sameDigest, tokenDigest, tokenRowId } from '../../domain/tokens.ts';
import type { ConnectionSecret } from '../../ports/call-context.ts';
import type { GatewayTarget, Provider } from '../../ports/provider.ts';
import { type Caller, commit, record } from '../core.ts';
import { proofUsedBefore, requireBinding, type VerifiedProof, verifyProof } from '../identity/verify-proof.ts';
import { refusalOfProvider } from '../issuing/provider-calls.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { GatewayCredentials } from './gateway-credentials.ts';

export interface CallRequest {
  token: string | undefined;
  /** How the token was presented; as Bearer unless said. */
  scheme?: 'Bearer' | 'DPoP' | undefined;
  /** The proof of possession that came with it (RFC 9449). */
  proof?: string | undefined;
  connection: string;
  method: string;
  /** As it will be sent, without the query. */
  path: string;
  /** `''`, or beginning with `?`. Never recorded, as it may carry personal data, and no rule looks at it. */
  query: string;
}

/** A request that is refused, as far as it could be understood. */
export type RefusedRequest = Pick<CallRequest, 'method'> &
  Partial<Pick<CallRequest, 'connection' | 'path'>> & {
    /** Why it was not even looked at, as a stable word. */
    why?: string;
  };

/** Whose gateway token it is, dead or alive. */
export interface Holder {
  grant: Grant;
  agent: Agent | undefined;
}

/** Where a call came from. */
export interface CallOrigin {
  requestId: string;
  address?: string | undefined;
}

/** What a gateway call that may go ahead needs. */
export interface OpenCall {
  /** As it is now: a renewal while the call runs replaces it. */
  grant: Grant;
  agent: Agent;
  connection: Connection;
  target: GatewayTarget;
  needles: Needles;
  /** What was put into `target`. */
  secret: ConnectionSecret;
  /** The ledger's number of the call's first entry; its last entry refers to it. */
  seq: number;
  startedAt: number;
}

export interface CallResult {
  outcome: 'done' | 'failed' | 'cut';
  status: number | null;
  bytesIn: number;
  bytesOut: number;
  /** For `failed` and `cut`: why, as a stable code. */
  why?: string;
}

/** A connection's rules, made ready once for each version of it, and what is put in where all calls share one secret. */
interface Prepared {
  version: number;
  provider: Provider;
  rules: Map<string, CompiledRule[]>;
  shared: Injection | undefined;
}

/** A secret, and what a call with it needs. */
interface Injection {
  version: number;
  secret: ConnectionSecret;
  target: GatewayTarget;
  needles: Needles;
}

/** A silent stream outlives its grant by this at most; a piece of data never does. */
const clockMs = 250;

/** A challenge must stay a header of bearable length. */
const maxSufficientScopes = 20;

const sufficientScopes = (rules: ReadonlyMap<string, readonly CompiledRule[]>, request: CallRequest): string[] =>
  [...rules]
    .filter(([, some]) => some.some((rule) => matches(rule, request.method, request.path)))
    .map(([scope]) => scope)
    .slice(0, maxSufficientScopes);

export class GatewayCalls {
  readonly #core: CoreWithSecrets;
  readonly #prepared = new Map<string, Prepared>();
  /** Of access tokens, which come and go: each as long as somebody holds its token. */
  readonly #injections = new WeakMap<ConnectionSecret, Injection>();
  readonly #credentials: GatewayCredentials;
  readonly #running = new Map<OpenCall, (dead: Dead) => void>();
  #clockwork: NodeJS.Timeout | undefined;

  constructor(core: CoreWithSecrets) {
    this.#core = core;
    this.#credentials = new GatewayCredentials(core);
    core.state.onKilled(() => this.#endTheDead());
    core.keyring.onSealed(() => this.#prepared.clear());
  }

  get running(): number {
    return this.#running.size;
  }

  /** @returns whose token it is, or undefined when Warder never issued it */
  async holderOf(token: string | undefined): Promise<Holder | undefined> {
    const id = token === undefined ? undefined : tokenRowId('gateway', token);
    if (id === undefined || token === undefined) return undefined;
    const { state } = this.#core;
    const grant = state.grants.peek(id) ?? (await state.grants.get(id));
    if (!grant?.token_digest || !sameDigest(grant.token_digest, tokenDigest(token))) return undefined;
    return { grant, agent: state.agents.get(grant.agent_id) };
  }

  /**
   * Check point `gateway`. When this resolves the call is recorded durably.
   * @throws Refused; recording that is the caller's, by {@link recordRefusal}
   */
  async open(request: CallRequest, caller: CallOrigin): Promise<OpenCall> {
    const holder = await this.holderOf(request.token);
    if (!holder) throw new Refused('unauthenticated', 'no valid gateway token was presented');
    const { grant, agent } = holder;
    const unbound = grant.jkt === null && request.scheme !== 'DPoP';
    const proof = unbound ? undefined : await this.#possession(grant, request);
    return this.#openWith(grant, agent, request, caller, proof);
  }

  /** @throws Refused `invalid_dpop_proof`, `unauthenticated` */
  async #possession({ jkt }: Grant, request: CallRequest): Promise<VerifiedProof | undefined> {
    const { scheme = 'Bearer', proof, token, method, connection, path } = request;
    if (jkt === null || scheme === 'Bearer' || proof === undefined) {
      requireBinding(jkt, scheme, undefined);
      return undefined;
    }
    const url = `${this.#core.issuer}/gateway/${connection}${path}`;
    const verified = await verifyProof(this.#core, proof, { method, url, accessToken: token });
    requireBinding(jkt, scheme, verified);
    return verified;
  }

  async #openWith(
    grant: Grant,
    agent: Agent | undefined,
    request: CallRequest,
    caller: CallOrigin,
    proof: VerifiedProof | undefined,
  ): Promise<OpenCall> {
    const core = this.#core;
    const decidedAt = core.state.newestSeq;
    const connection = core.state.connections.get(grant.connection_id);
    const dead = this.#dead(grant);
    if (dead) throw new Refused(dead.code, dead.detail);
    if (!connection || !agent) throw new Refused('revoked', 'this credential was revoked');
    if (connection.name !== request.connection) {
      throw new Refused('not_entitled', 'this gateway token is for another connection');
    }
    const prepared = this.#ready(connection) ?? (await this.#prepare(connection));
    const allowed = grant.scopes.some((scope) =>
      prepared.rules.get(scope)?.some((rule) => matches(rule, request.method, request.path)),
    );
    if (!allowed) {
      throw new Refused('scope_not_allowed', `no rule of the granted scopes allows ${request.method} on this path`, {
        scopes: sufficientScopes(prepared.rules, request),
      });
    }
    if (overridesMethod(request.query)) {
      throw new Refused('invalid_request', 'the query names another method than that of the request; leave it out');
    }
    const given = this.#injection(connection, grant.subject, prepared);
    const injection = given instanceof Promise ? await given : given;
    const { inject } = injection.target;
    if (inject.in === 'query' && namesParameter(request.query, inject.name)) {
      throw new Refused('invalid_request', 'this query parameter carries the secret; leave it out');
    }
    const startedAt = core.clock.now();
    const result = await commit(core, {
      guards: [{ guard: 'unfenced', since: decidedAt, facts: grantFacts(grant, agent) }],
      writes: proof ? [proof.use] : [],
      audit: [
        record(core, this.#callerOf(agent, caller), {
          type: 'gateway.call',
          ...this.#names(grant, agent, connection),
          data: { method: request.method, path: request.path },
        }),
      ],
    });
    if (!result.ok && result.why === 'exists') throw proofUsedBefore();
    if (!result.ok) throw new Refused('revoked', 'this credential was revoked');
    const { target, needles, secret } = injection;
    return { grant, agent, connection, target, needles, secret, seq: result.seq, startedAt };
  }

  /** Registers a call that is under way: `end` is called when it must not go on (check point `gateway-stream`). */
  run(call: OpenCall, end: (dead: Dead) => void): void {
    this.#running.set(call, end);
    this.#watchTheClock();
    // What died between the record and now: a listener that was not there could not hear it.
    const dead = this.#dead(call.grant);
    if (dead) end(dead);
  }

  /** @returns why the call must not go on, if so: asked at each piece that is passed on */
  death(call: OpenCall): Dead | undefined {
    return this.#core.clock.now() < call.grant.expires_at ? undefined : this.#dead(call.grant);
  }

  /** Records how a call ended. Not waited for by the agent; a failure is logged, the first entry stands. */
  async close(call: OpenCall, request: CallRequest, result: CallResult, caller: Omit<Caller, 'actor'>): Promise<void> {
    this.#running.delete(call);
    const core = this.#core;
    try {
      await commit(core, {
        writes: [],
        audit: [
          record(core, this.#callerOf(call.agent, caller), {
            type: 'gateway.completed',
            ...this.#names(call.grant, call.agent, call.connection),
            data: {
              bytes_in: result.bytesIn,
              bytes_out: result.bytesOut,
              call: call.seq,
              duration_ms: core.clock.now() - call.startedAt,
              method: request.method,
              outcome: result.outcome,
              path: request.path,
              status: result.status,
              why: result.why,
            },
          }),
        ],
      });
    } catch (error) {
      core.log.error({ err: error, call: call.seq }, 'the end of a gateway call could not be recorded');
    }
  }

  #dead(grant: Grant) {
    const { state, clock } = this.#core;
    const current = state.grants.peek(grant.id) ?? grant;
    const agent = state.agents.get(current.agent_id);
    return deadGrant(current, agent, state.connections.get(current.connection_id), state.fences, clock.now());
  }

  #endTheDead(): void {
    for (const [call, end] of this.#running) {
      // Kept with the call: the state forgets grants that nobody asked for lately, and with them what a renewal said.
      call.grant = this.#core.state.grants.peek(call.grant.id) ?? call.grant;
      const dead = this.#dead(call.grant);
      if (dead) end(dead);
    }
  }

  /** No commit tells that a grant has expired, and a stream may be silent: while calls run, the clock is asked. */
  #watchTheClock(): void {
    this.#clockwork ??= setInterval(() => {
      this.#endTheDead();
      if (this.#running.size > 0) return;
      clearInterval(this.#clockwork);
      this.#clockwork = undefined;
    }, clockMs).unref();
  }

  /** The upstream answered 401: where the secret is one that Warder can renew or read anew, a later call brings it. */
  secretRefused(call: OpenCall): void {
    this.#core.secrets.doubt(call.connection, call.secret);
    try {
      this.#credentials.refused(call.connection, call.grant.subject, call.secret);
    } catch (error) {
      // Disconnected or sealed meanwhile: there is nothing to renew.
      if (!(error instanceof Refused)) throw error;
    }
  }

  /** Without waiting: the common case. */
  #ready(connection: Connection): Prepared | undefined {
    this.#core.keyring.requireUnsealed();
    const held = this.#prepared.get(connection.id);
    return held?.version === connection.version ? held : undefined;
  }

  async #prepare(connection: Connection): Promise<Prepared> {
    const core = this.#core;
    const provider = core.providers.get(connection.provider);
    // What is read from a vault is asked for at each call: it may have changed there.
    const elsewhere = connection.secret_source !== null;
    const secret = elsewhere ? undefined : await core.secrets.open(core.reader, connection);
    if (!provider?.gatewayRules || !provider.gatewayTarget) {
      throw new Refused('invalid_request', 'this connection is not used through the gateway');
    }
    if (!secret && !elsewhere && !provider.authorizations) {
      throw new Refused('conflict', 'this connection has no secret yet');
    }
    const rules = new Map<string, CompiledRule[]>();
    for (const scope of provider.scopes(connection.settings)) {
      const compiled = provider.gatewayRules(connection.settings, scope).map(compileRule);
      rules.set(
        scope,
        compiled.flatMap((rule) => (rule.ok ? [rule.rule] : [])),
      );
    }
    const shared = secret && !provider.authorizations ? injectionOf(connection, provider, secret) : undefined;
    const prepared: Prepared = { version: connection.version, provider, rules, shared };
    this.#prepared.set(connection.id, prepared);
    return prepared;
  }

  /** At once where the secret is at hand. @throws Refused, also by the promise */
  #injection(connection: Connection, subject: string | null, prepared: Prepared): Injection | Promise<Injection> {
    const { provider, shared } = prepared;
    if (shared) return shared;
    const injected = (secret: ConnectionSecret): Injection => {
      const known = this.#injections.get(secret);
      if (known?.version === connection.version) return known;
      const made = injectionOf(connection, provider, secret);
      this.#injections.set(secret, made);
      return made;
    };
    const secret = provider.authorizations
      ? this.#credentials.secret(connection, subject, provider.authorizations)
      : this.#core.secrets.open(this.#core.reader, connection).then((found) => {
          if (found) return found;
          throw new Refused('conflict', 'this connection has no secret yet');
        });
    if (!(secret instanceof Promise)) return injected(secret);
    return secret.then(injected, (error: unknown) => {
      throw refusalOfProvider(error);
    });
  }

  #callerOf({ id, name }: Agent, { requestId, address }: CallOrigin): Caller {
    const actor = { id, kind: 'agent', name } as const;
    return { requestId, actor: address === undefined ? actor : { address, ...actor } };
  }

  #names(grant: Grant, agent: Agent, connection: Connection) {
    return {
      agent: { id: agent.id, name: agent.name },
      connection: { id: connection.id, name: connection.name },
      grant: grant.id,
    };
  }

  /**
   * Records that a request was refused and what is known of it.
   * @param holder of the token it carried; undefined for a stranger
   * @throws Refused `ledger_unavailable`
   */
  async recordRefusal(
    holder: Holder | undefined,
    request: RefusedRequest,
    caller: Omit<Caller, 'actor'> & { address: string },
    error: Refused,
  ): Promise<void> {
    const core = this.#core;
    const agent = holder?.agent;
    const connection = holder && core.state.connections.get(holder.grant.connection_id);
    const { requestId, address } = caller;
    // Without proof of its key a token says nothing of who presents it: then what counts is where from.
    const known = error.refusal.code === 'invalid_dpop_proof' ? undefined : agent;
    await commit(core, {
      writes: [],
      audit: [
        record(
          core,
          known ? this.#callerOf(known, { requestId, address }) : { actor: { kind: 'anonymous', address }, requestId },
          {
            type: 'gateway.refused',
            outcome: 'refused',
            agent: agent && { id: agent.id, name: agent.name },
            connection: connection && { id: connection.id, name: connection.name },
            grant: holder?.grant.id,
            data: {
              code: error.refusal.code,
              why: request.why,
              method: request.method,
              path: request.path,
              asked: request.connection,
            },
          },
        ),
      ],
    });
  }
}

const injectionOf = (connection: Connection, provider: Provider, secret: ConnectionSecret): Injection => {
  if (!provider.gatewayTarget) throw new Refused('invalid_request', 'this connection is not used through the gateway');
  const target = provider.gatewayTarget(connection, secret);
  return { version: connection.version, secret, target, needles: secretNeedles(target.secrets) };
};
