/**
 * `POST /token`: the one way through it, whatever the grant type. Who asks -> which key does he hold -> what for -> on
 * what standing -> issue -> answer. A grant type fills in the first and the fourth and can skip none.
 */
import type { RequestHandler } from 'express';
import type { Agent } from '../../../domain/model.ts';
import { commit, record } from '../../../services/core.ts';
import { spendProof, type VerifiedProof, verifyProof } from '../../../services/identity/verify-proof.ts';
import { issueAgentToken } from '../../../services/issuing/issue-agent-token.ts';
import { issueGrant } from '../../../services/issuing/issue-grant.ts';
import { proofHeader } from '../../access-token.ts';
import type { Edge } from '../../edge.ts';
import { refusalOf } from '../../problem.ts';
import { sendJson } from '../../reply.ts';
import { authenticateClient, type Client, callerOf, recordFailedAuthentication } from '../client.ts';
import { noStore, toOAuthError } from '../errors.ts';
import { OAuthError, readForm } from '../form.ts';
import { type Target, targetOf } from '../target.ts';
import { clientCredentials } from './client-credentials.ts';
import type { Claim, GrantType, TokenRequest } from './grant-type.ts';
import { jwtBearer } from './jwt-bearer.ts';
import { tokenExchange } from './token-exchange.ts';

const grantTypes: ReadonlyMap<string, GrantType> = new Map(
  [clientCredentials, jwtBearer, tokenExchange].map((one) => [one.grantType, one]),
);

/** For the metadata: what works. */
export const grantTypesSupported = [...grantTypes.keys()];

const grantTypeOf = ({ form }: TokenRequest): GrantType | undefined => grantTypes.get(form.get('grant_type') ?? '');

const unsupported = ({ form }: TokenRequest): OAuthError =>
  form.get('grant_type') === undefined
    ? new OAuthError('invalid_request', 'grant_type is missing')
    : new OAuthError('unsupported_grant_type', `supported are ${grantTypesSupported.join(', ')}`);

const noProof = (why: string): OAuthError => new OAuthError('invalid_dpop_proof', why);

/** Tokens in the request that are bound to a key are worth nothing without a proof of it. */
const provesKeys = (keys: readonly string[], proof: VerifiedProof | undefined): boolean =>
  keys.every((jkt) => jkt === proof?.jkt);

const unprovenKey = (): OAuthError => noProof('a token in the request is bound to a key; send a proof of that key');

/** RFC 9449 section 5: a proof in the request binds what is issued to its key. Spent, as from here on it is acted on. */
const possession = async ({ edge, req }: TokenRequest, { agent, keys }: Client): Promise<VerifiedProof | undefined> => {
  const header = proofHeader(req);
  const target = { method: req.method, url: `${edge.core.issuer}/token` };
  const proof = header === undefined ? undefined : await verifyProof(edge.core, header, target);
  if (!provesKeys(keys, proof)) throw unprovenKey();
  if (!proof && agent.dpop === 'required') throw noProof('this agent must prove that it holds a key (DPoP)');
  if (proof) await spendProof(edge.core, proof, callerOf(req, agent));
  return proof;
};

const issueOwn = async ({ edge, req }: TokenRequest, agent: Agent, claim: Claim, jkt: string | undefined) => {
  const standing = { ...claim.standing, jkt };
  const issued = await issueAgentToken(edge.core, agent, callerOf(req, agent), standing);
  return {
    access_token: issued.token,
    token_type: jkt === undefined ? 'Bearer' : 'DPoP',
    expires_in: issued.expiresInSeconds,
    ...claim.answer,
  };
};

const issueForConnection = async (
  { edge, req }: TokenRequest,
  agent: Agent,
  claim: Claim,
  jkt: string | undefined,
  target: Extract<Target, { kind: 'connection' }>,
) => {
  const { connection, scopes, ttlSeconds, reason, detailed } = target;
  const { issuers, guards, behalf, notAfter } = claim.standing;
  const asked = { agent, connection, scopes, ttlSeconds, reason, detailed, issuers, guards, jkt, notAfter };
  const issued = await issueGrant(
    edge.core,
    { ...asked, subject: behalf?.subject, bearerOnly: true, jwtOnly: claim.jwtOnly },
    callerOf(req, agent),
  );
  const { grant } = issued;
  return {
    access_token: issued.credential['token'],
    token_type: grant.jkt === null ? 'Bearer' : 'DPoP',
    expires_in: Math.floor((grant.expires_at - grant.issued_at) / 1000),
    ...(grant.scopes.length === scopes.length ? {} : { scope: grant.scopes.join(' ') }),
    ...(grant.authorization_details === null ? {} : { authorization_details: grant.authorization_details }),
    ...claim.answer,
    grant_id: grant.id,
  };
};

/** What was refused to somebody known leaves a record; the ledger's own trouble cannot. */
const recordTokenRefusal = async ({ edge, req }: TokenRequest, agent: Agent, error: unknown): Promise<void> => {
  const { code, privately } = toOAuthError(error);
  if (refusalOf(error).code === 'ledger_unavailable') return;
  await commit(edge.core, {
    writes: [],
    audit: [
      record(edge.core, callerOf(req, agent), {
        type: 'token.refused',
        outcome: 'refused',
        agent: { id: agent.id, name: agent.name },
        data: { code, why: privately },
      }),
    ],
  });
};

/** @param recorded to be called where a refusal has, or will have, a record of another kind than this endpoint's */
const work = async (request: TokenRequest, client: Client, recorded: () => void): Promise<object> => {
  const { edge, req, form } = request;
  const grantType = grantTypeOf(request);
  if (!grantType) throw unsupported(request);
  const proof = await possession(request, client).catch(async (error: unknown) => {
    if (client.keys.length > 0) {
      // Whoever has only a bound token of the agent is not the agent: nothing is said in its name.
      recorded();
      await recordFailedAuthentication(
        edge,
        req,
        client.agent.id,
        'no proof of the key that the actor token is bound to',
      );
    }
    throw error;
  });
  const audiences = grantType.parameters.includes('audience') ? form.all('audience') : [];
  const target = targetOf(edge.core.issuer, form, audiences);
  const claim = await grantType.handler(request, client, target);
  if (!provesKeys(claim.keys ?? [], proof)) throw unprovenKey();
  if (target.kind === 'own') return issueOwn(request, client.agent, claim, proof?.jkt);
  // From here on refusals are recorded with what was asked for (issue-grant.ts).
  recorded();
  return issueForConnection(request, client.agent, claim, proof?.jkt, target);
};

export const tokenEndpoint =
  (edge: Edge): RequestHandler =>
  async (req, res) => {
    const request: TokenRequest = { edge, req, form: await readForm(req) };
    const grantType = grantTypeOf(request);
    const client = await (grantType?.client(request) ?? authenticateClient(edge, req, request.form));
    let recorded = false;
    let body: object;
    try {
      body = await work(request, client, () => {
        recorded = true;
      });
    } catch (error) {
      if (!recorded) await recordTokenRefusal(request, client.agent, error);
      throw error;
    }
    noStore(res);
    sendJson(res, 200, body);
  };
