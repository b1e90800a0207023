/**
 * What a grant type is: who asks, and on what standing. Authentication of keys, targets, decisions, issuing, records and
 * the shape of the answer are the dispatcher's (endpoint.ts), so that no grant type can leave one of them out.
 */
import type { Request } from 'express';
import type { Standing } from '../../../services/issuing/issue-agent-token.ts';
import type { Edge } from '../../edge.ts';
import type { Client } from '../client.ts';
import type { Form } from '../form.ts';
import type { Target } from '../target.ts';

export interface TokenRequest {
  edge: Edge;
  req: Request;
  form: Form;
}

/** What a grant type found: nothing is issued yet. */
export interface Claim {
  /** Its guards hold on to whatever this was decided on. */
  standing: Omit<Standing, 'jkt'>;
  /** Keys that tokens in the request are bound to: the proof of the request must be of each of them. */
  keys?: string[];
  /** Only a JWT of Warder's own will do. */
  jwtOnly?: boolean;
  /** Further members of the answer. */
  answer?: Record<string, unknown>;
}

export interface GrantType {
  grantType: string;
  /** Parameters of its own, beside those every grant type has. */
  parameters: readonly string[];
  /** @throws OAuthError; a failure to authenticate is recorded and counted by whoever throws it */
  client(request: TokenRequest): Promise<Client>;
  /** @throws OAuthError, Refused; recorded by the dispatcher */
  handler(request: TokenRequest, client: Client, target: Target): Promise<Claim>;
}
