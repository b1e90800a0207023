/** Selectors as operators write them: by names or ids. */
import { z } from 'zod';
import { isId } from '../../domain/ids.ts';
import type { Selector } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { agentCalled } from '../../services/access/manage-agents.ts';
import { connectionCalled } from '../../services/access/manage-connections.ts';
import type { Core } from '../../services/core.ts';
import * as field from '../schemas.ts';
import { InvalidRequest } from '../validate.ts';

export const selectorSchema = z
  .strictObject({
    everything: z.literal(true),
    agent: field.reference,
    connection: field.reference,
    provider: field.provider,
    owner: field.owner,
    subject: field.subject,
    issuer: field.reference,
    entitlement: field.reference,
    grant: field.reference,
  })
  .partial()
  .refine((selector) => Object.keys(selector).length > 0, 'name what to revoke; {"everything": true} is everything')
  .refine(
    (selector) => selector.everything === undefined || Object.keys(selector).length === 1,
    'everything stands alone',
  );

/** Not looked up when it is an id: the issuer may be gone while what was issued on its word lives. */
const unknownIssuer = (text: string): string => {
  if (isId('iss', text)) return text;
  throw new Refused('not_found', 'there is no such issuer');
};

/** Names become ids. A selector that names nothing that exists is an error, not a success that did nothing. */
export const resolved = async (core: Core, selector: z.infer<typeof selectorSchema>): Promise<Selector> => {
  const { agent, connection, provider, issuer, entitlement, grant } = selector;
  if (provider !== undefined && !core.providers.has(provider)) {
    throw new InvalidRequest([`selector.provider: one of ${[...core.providers.keys()].join(', ')}`]);
  }
  if (grant !== undefined && !(await core.state.grants.get(grant))) {
    throw new Refused('not_found', 'there is no such grant');
  }
  return {
    ...(selector.everything === undefined ? {} : { everything: true as const }),
    ...(provider === undefined ? {} : { provider }),
    ...(selector.owner === undefined ? {} : { owner: selector.owner }),
    ...(selector.subject === undefined ? {} : { subject: selector.subject }),
    ...(issuer === undefined ? {} : { issuer: core.state.issuerCalled(issuer)?.id ?? unknownIssuer(issuer) }),
    ...(grant === undefined ? {} : { grant }),
    ...(agent === undefined ? {} : { agent: agentCalled(core, agent).id }),
    ...(connection === undefined ? {} : { connection: connectionCalled(core, connection).id }),
    // Not looked up: the entitlement may be gone while what was issued under it lives.
    ...(entitlement === undefined ? {} : { entitlement }),
  };
};
