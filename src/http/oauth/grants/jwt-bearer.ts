/**
 * `jwt-bearer` (RFC 7523 section 2.1): the platform an agent runs on signed who it is. The token of the workload is all
 * the agent has; it keeps no secret.
 */
import { anonymous } from '../../edge.ts';
import { authenticateClient, givesClientAuthentication, recordFailedAuthentication } from '../client.ts';
import { OAuthError } from '../form.ts';
import type { GrantType } from './grant-type.ts';

export const jwtBearer: GrantType = {
  grantType: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
  parameters: ['assertion'],
  client: async ({ edge, req, form }) => {
    // Not needed (section 3.1); where it is given it must be good, and of the same agent.
    const client = givesClientAuthentication(req, form) ? await authenticateClient(edge, req, form) : undefined;
    const assertion = form.get('assertion');
    if (assertion === undefined) throw new OAuthError('invalid_request', 'assertion is missing');
    const claimed = client?.agent.id ?? form.get('client_id');
    const proven = await edge.foreign.proveAgent(assertion, claimed, 'jwt-bearer', anonymous(req));
    if (!proven.ok) {
      await recordFailedAuthentication(edge, req, claimed, proven.why);
      throw new OAuthError('invalid_grant', 'the assertion was not accepted');
    }
    const { agent, issuers, guards } = proven;
    return { agent, issuers, guards, keys: [] };
  },
  handler: async (_request, { issuers, guards }) => ({ standing: { issuers, guards } }),
};
