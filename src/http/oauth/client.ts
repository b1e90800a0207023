/** From a request to a proof of a client (RFC 6749 section 2.3.1, RFC 7521 section 4.2): one method, given once. */
import type { Request } from 'express';
import type { Agent } from '../../domain/model.ts';
import type { Guard } from '../../ports/ledger.ts';
import { type Caller, commit, record } from '../../services/core.ts';
import type { ClientProof } from '../../services/identity/authenticate-client.ts';
import { authorizationOf } from '../bearer.ts';
import { addressOf, anonymous, type Edge, requestId } from '../edge.ts';
import { type Form, OAuthError } from './form.ts';

const assertionType = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

/** Whoever stands at an OAuth endpoint, and on what that rests. */
export interface Client {
  agent: Agent;
  /** Ids of the trusted issuers on whose word it is this agent. */
  issuers: string[];
  guards: Guard[];
  /** Keys that the tokens which proved it are bound to. */
  keys: string[];
}

export const callerOf = (req: Request, agent: Agent): Caller => ({
  actor: { address: addressOf(req), id: agent.id, kind: 'agent', name: agent.name },
  requestId: requestId(req),
});

/** Whether the client tries to authenticate at all, in whatever way. */
export const givesClientAuthentication = (req: Request, form: Form): boolean =>
  req.headers.authorization !== undefined ||
  form.get('client_secret') !== undefined ||
  form.get('client_assertion') !== undefined;

/** Both halves are form-encoded before they are joined: `%` and `+` in them mean what they mean in a form. */
const formDecode = (text: string): string => decodeURIComponent(text.replaceAll('+', ' '));

const invalidClient = (): OAuthError =>
  new OAuthError('invalid_client', 'client authentication failed', { status: 401 });

const basicProof = (header: string): ClientProof => {
  const encoded = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(header)?.[1];
  if (encoded === undefined) throw invalidClient();
  const pair = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = pair.indexOf(':');
  if (colon < 0) throw invalidClient();
  try {
    return {
      method: 'client_secret_basic',
      clientId: formDecode(pair.slice(0, colon)),
      secret: formDecode(pair.slice(colon + 1)),
    };
  } catch {
    // A `%` that encodes nothing: no client of ours has such a name or secret.
    throw invalidClient();
  }
};

const proofOf = (req: Request, form: Form): ClientProof => {
  const header = authorizationOf(req);
  const secret = form.get('client_secret');
  const assertion = form.get('client_assertion');
  const clientId = form.get('client_id');
  const given = [header, secret, assertion].filter((one) => one !== undefined).length;
  if (given > 1) throw new OAuthError('invalid_request', 'more than one way of client authentication');
  if (header !== undefined) {
    const proof = basicProof(header);
    if (clientId !== undefined && 'secret' in proof && clientId !== proof.clientId) throw invalidClient();
    return proof;
  }
  if (assertion !== undefined) {
    const type = form.get('client_assertion_type');
    if (type === undefined) throw new OAuthError('invalid_request', 'client_assertion_type is missing');
    // A way to authenticate that is not supported (RFC 6749 section 5.2), not a malformed request.
    if (type !== assertionType) throw invalidClient();
    return { method: 'private_key_jwt', assertion, clientId };
  }
  if (secret !== undefined && clientId !== undefined) return { method: 'client_secret_post', clientId, secret };
  throw invalidClient();
};

/**
 * Authenticates the client of an OAuth endpoint.
 * @throws OAuthError `invalid_client` (401), the same for every reason; the reason is in the audit log
 */
export const authenticateClient = async (edge: Edge, req: Request, form: Form): Promise<Client> => {
  const caller = anonymous(req);
  let why = 'no client authentication';
  let claimed: string | undefined;
  try {
    const proof = proofOf(req, form);
    claimed = proof.clientId;
    const result = await edge.clients.authenticate(proof, caller);
    if (result.ok) return { agent: result.agent, issuers: result.issuers, guards: result.guards, keys: [] };
    why = result.why;
  } catch (error) {
    if (!(error instanceof OAuthError) || error.code !== 'invalid_client') throw error;
  }
  await recordFailedAuthentication(edge, req, claimed, why);
  throw invalidClient();
};

/**
 * Counts and records a proof that was not accepted.
 * @param claimed the client it was said to be
 * @throws Refused `rate_limited`, `ledger_unavailable`
 */
export const recordFailedAuthentication = async (
  edge: Edge,
  req: Request,
  claimed: string | undefined,
  why: string,
): Promise<void> => {
  const { core } = edge;
  await edge.limits.failed(addressOf(req));
  const agent = claimed === undefined ? undefined : core.state.agentCalled(claimed);
  await commit(core, {
    writes: [],
    audit: [
      record(core, anonymous(req), {
        type: 'agent.authentication_failed',
        outcome: 'refused',
        agent: agent && { id: agent.id, name: agent.name },
        data: { why, path: req.path },
      }),
    ],
  });
};
