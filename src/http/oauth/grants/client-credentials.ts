/** `client_credentials` (RFC 6749 section 4.4): the agent asks for itself. */
import { authenticateClient } from '../client.ts';
import type { GrantType } from './grant-type.ts';

export const clientCredentials: GrantType = {
  grantType: 'client_credentials',
  parameters: [],
  client: ({ edge, req, form }) => authenticateClient(edge, req, form),
  handler: async (_request, { issuers, guards }) => ({ standing: { issuers, guards } }),
};
