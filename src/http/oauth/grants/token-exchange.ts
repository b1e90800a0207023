/**
 * Token exchange (RFC 8693): an agent acts for somebody whose token it was given, or narrows a token of its own. The
 * actor is always the agent; the subject is whom the issuer of the token says it is about. Nothing that comes out of it
 * outlives the token that went in.
 */
import { decodeJwt } from 'jose';
import { claimAt } from '../../../domain/claim-rules.ts';
import { agentTokenFacts, deadAgentToken, deadGrant, grantFacts } from '../../../domain/liveness.ts';
import type { Agent } from '../../../domain/model.ts';
import { subjectOf } from '../../../domain/subject.ts';
import type { Core } from '../../../services/core.ts';
import { tokenTypes } from '../../../services/identity/foreign-tokens.ts';
import { findToken } from '../../../services/issuing/introspect.ts';
import { subjectRefused } from '../../../services/issuing/issue-agent-token.ts';
import { anonymous, type Edge } from '../../edge.ts';
import { authenticateClient, type Client, givesClientAuthentication, recordFailedAuthentication } from '../client.ts';
import { type Form, OAuthError } from '../form.ts';
import type { Target } from '../target.ts';
import type { Claim, GrantType, TokenRequest } from './grant-type.ts';

const typeName = (name: string): string => `urn:ietf:params:oauth:token-type:${name}`;
const accessToken = typeName('access_token');
const jwt = typeName('jwt');

/** What may be exchanged (section 3), and the `typ` a JWT of that kind may have. */
const subjectTypes = new Map<string, ReadonlySet<string>>([
  [accessToken, tokenTypes.accessToken],
  [typeName('id_token'), tokenTypes.idToken],
  [jwt, tokenTypes.accessToken],
]);

/** One refusal for whatever is wrong with either token, or with acting for its subject (section 2.2.2). */
const refused = (why: string): OAuthError => {
  const { code, detail } = subjectRefused().refusal;
  return new OAuthError(code, detail, { privately: why });
};

const required = (form: Form, name: string): string => {
  const value = form.get(name);
  if (value === undefined) throw new OAuthError('invalid_request', `${name} is missing`);
  return value;
};

/** Whether a token is of this broker: of anything else in it, nothing is believed. */
const isOwn = (issuer: string, token: string): boolean => {
  if (token.startsWith('wdr_')) return true;
  try {
    return decodeJwt(token).iss === issuer;
  } catch {
    return false;
  }
};

/** The agent that a token in `actor_token` is of: a workload's, or an agent token that acts for nobody else. */
const actorOf = async ({ edge, req, form }: TokenRequest, token: string, type: string): Promise<Client> => {
  const { core } = edge;
  const fail = async (why: string): Promise<never> => {
    await recordFailedAuthentication(edge, req, form.get('client_id'), why);
    throw refused(why);
  };
  if (type === jwt) {
    const proven = await edge.foreign.proveAgent(token, form.get('client_id'), 'actor_token', anonymous(req));
    if (!proven.ok) return fail(proven.why);
    const { agent, issuers, guards } = proven;
    return { agent, issuers, guards, keys: [] };
  }
  if (type !== accessToken) return fail('actor_token_type is not one that is accepted');
  const since = core.state.newestSeq;
  const found = await findToken(core, token);
  if (found?.kind !== 'agent') return fail('the actor token is not an agent token');
  const { row } = found;
  const agent = core.state.agents.get(row.agent_id);
  const dead = deadAgentToken(row, agent, core.state.fences, core.clock.now());
  if (dead || !agent) return fail(`the actor token: ${dead?.code ?? 'revoked'}`);
  if (row.subject !== null) return fail('the actor token acts for somebody itself');
  const named = form.get('client_id');
  if (named !== undefined && named !== agent.id && named !== agent.name) {
    return fail('client_id is another client than the actor token’s');
  }
  return {
    agent,
    issuers: row.issuers,
    guards: [
      { guard: 'unfenced', since, facts: agentTokenFacts(row, agent) },
      { guard: 'unchanged', table: 'agent_tokens', id: row.id, version: row.version },
    ],
    keys: row.jkt === null ? [] : [row.jkt],
  };
};

const client = async (request: TokenRequest): Promise<Client> => {
  const { edge, req, form } = request;
  const authenticated = givesClientAuthentication(req, form) ? await authenticateClient(edge, req, form) : undefined;
  const [actor, type] = [form.get('actor_token'), form.get('actor_token_type')];
  // Section 2.1: the type is there if, and only if, the token is.
  if ((actor === undefined) !== (type === undefined)) {
    throw new OAuthError('invalid_request', 'actor_token and actor_token_type belong together');
  }
  if (actor === undefined || type === undefined) return authenticated ?? authenticateClient(edge, req, form);
  const acting = await actorOf(request, actor, type);
  if (authenticated && authenticated.agent.id !== acting.agent.id) {
    throw refused('the actor token is of another agent than the client');
  }
  return acting;
};

/** A token of Warder: only its holder may exchange it, so that a token which strayed is worth nothing to the finder. */
const ownSubject = async (core: Core, agent: Agent, token: string, type: string, target: Target): Promise<Claim> => {
  // All of them are access tokens; those that are no JWT are opaque (section 3).
  if (type !== accessToken && (type !== jwt || token.startsWith('wdr_'))) {
    throw refused('a token of this broker that is not of the type it is said to be');
  }
  const since = core.state.newestSeq;
  const { state } = core;
  const found = await findToken(core, token);
  if (found?.row.agent_id !== agent.id) throw refused('a token of this broker that is not the client’s own');
  const now = core.clock.now();
  const holder = state.agents.get(agent.id);
  const { issuers, expires_at: notAfter, jkt, subject } = found.row;
  const keys = jkt === null ? [] : [jkt];
  if (found.kind === 'agent') {
    const { row } = found;
    const dead = deadAgentToken(row, holder, state.fences, now);
    if (dead) throw refused(`the subject token: ${dead.code}`);
    return {
      keys,
      standing: {
        issuers,
        notAfter,
        ...(subject === null ? {} : { behalf: { subject, endsAt: row.subject_expires_at ?? notAfter } }),
        guards: [
          { guard: 'unfenced', since, facts: agentTokenFacts(row, holder) },
          { guard: 'unchanged', table: 'agent_tokens', id: row.id, version: row.version },
        ],
      },
    };
  }
  const { row } = found;
  const connection = state.connections.get(row.connection_id);
  const dead = deadGrant(row, holder, connection, state.fences, now);
  if (dead || !connection) throw refused(`the subject token: ${dead?.code ?? 'revoked'}`);
  // What was narrowed stays narrow: the same connection, and no scope that it does not have.
  if (target.kind === 'own' || target.connection !== connection.name) {
    throw new OAuthError('invalid_target', 'this token can only be exchanged for one on its own connection');
  }
  if (!target.scopes.every((scope) => row.scopes.includes(scope))) {
    throw new OAuthError('invalid_scope', 'this token does not have all of these scopes');
  }
  return {
    keys,
    standing: {
      issuers,
      notAfter,
      ...(subject === null ? {} : { behalf: { subject, endsAt: notAfter } }),
      guards: [
        { guard: 'unfenced', since, facts: grantFacts(row, holder) },
        { guard: 'unchanged', table: 'grants', id: row.id, version: row.version },
      ],
    },
  };
};

/** A token of a trusted issuer: its subject is a person, or a program, of that issuer. */
const foreignSubject = async (edge: Edge, agent: Agent, token: string, types: ReadonlySet<string>): Promise<Claim> => {
  const { core } = edge;
  const verified = await edge.foreign.verify(token, 'subject', types);
  if (!verified.ok) throw refused(verified.why);
  const { issuer, claims, endsAt } = verified.token;
  if (endsAt <= core.clock.now()) throw refused('the subject token: expired');
  const name = claimAt(claims, issuer.subject_claim);
  const subject = typeof name === 'string' ? subjectOf(issuer.name, name) : undefined;
  if (subject === undefined) throw refused(`the claim ${issuer.subject_claim} names nobody`);
  // Section 4.4: where the token says who may act for its subject, it is this agent or nobody.
  if (claims['may_act'] !== undefined) {
    const [sub, iss] = [claimAt(claims, '/may_act/sub'), claimAt(claims, '/may_act/iss')];
    if (sub !== agent.name || (iss !== undefined && iss !== core.issuer)) throw refused('may_act names somebody else');
  }
  // RFC 7800 section 3: bound to a key, it is worth nothing without it.
  const jkt = claimAt(claims, '/cnf/jkt');
  if (claims['cnf'] !== undefined && typeof jkt !== 'string')
    throw refused('it is bound in a way that is not supported');
  return {
    keys: typeof jkt === 'string' ? [jkt] : [],
    standing: {
      issuers: [issuer.id],
      notAfter: endsAt,
      behalf: { subject, endsAt },
      guards: [edge.foreign.guardOf(verified.token)],
    },
  };
};

const handler = async (request: TokenRequest, { agent, issuers, guards }: Client, target: Target): Promise<Claim> => {
  const { edge, form } = request;
  const token = required(form, 'subject_token');
  const type = required(form, 'subject_token_type');
  const types = subjectTypes.get(type);
  if (!types) throw new OAuthError('invalid_request', 'subject_token_type is not one that is accepted');
  const wanted = form.get('requested_token_type') ?? accessToken;
  if (wanted !== accessToken && wanted !== jwt) {
    throw new OAuthError('invalid_request', 'requested_token_type is not one that is issued');
  }
  if (wanted === jwt && target.kind === 'own') {
    throw new OAuthError('invalid_request', 'an agent token is not a JWT; name a connection that issues one');
  }
  const found = isOwn(edge.core.issuer, token)
    ? await ownSubject(edge.core, agent, token, type, target)
    : await foreignSubject(edge, agent, token, types);
  const { standing } = found;
  return {
    ...found,
    standing: {
      ...standing,
      issuers: [...new Set([...issuers, ...standing.issuers])],
      guards: [...guards, ...(standing.guards ?? [])],
    },
    jwtOnly: wanted === jwt,
    answer: { issued_token_type: wanted },
  };
};

export const tokenExchange: GrantType = {
  grantType: 'urn:ietf:params:oauth:grant-type:token-exchange',
  parameters: [
    'subject_token',
    'subject_token_type',
    'actor_token',
    'actor_token_type',
    'requested_token_type',
    'audience',
  ],
  client,
  handler,
};
