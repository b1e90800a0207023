/** What a token request asks a token for: the agent API, or one connection, named in one of three ways. */
import { readDetails } from '../../domain/authorization-details.ts';
import { countMembers, jsonFault } from '../../domain/json-limits.ts';
import { type Form, OAuthError } from './form.ts';

export type Target =
  /** The agent's own token, for `/v1`. */
  | { kind: 'own' }
  | {
      kind: 'connection';
      connection: string;
      scopes: string[];
      ttlSeconds?: number;
      reason?: string;
      /** It was asked for as authorization_details (RFC 9396), and is answered so. */
      detailed: boolean;
    };

const oneOnly = (): OAuthError => new OAuthError('invalid_target', 'exactly one resource can be asked for at a time');

/** The connection a `resource` names (RFC 8707). @throws OAuthError `invalid_target` */
const connectionIn = (issuer: string, resource: string): string => {
  const prefix = `${issuer}/connections/`;
  if (!resource.startsWith(prefix))
    throw new OAuthError('invalid_target', 'the resource is not a connection of this issuer');
  return resource.slice(prefix.length);
};

const invalidDetails = (why: string): OAuthError => new OAuthError('invalid_authorization_details', why);

/** RFC 9396 section 5. @throws OAuthError `invalid_authorization_details` */
const detailsIn = (text: string) => {
  const members = countMembers(Buffer.from(text));
  let value: unknown;
  try {
    value = members === undefined ? undefined : JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (members === undefined || value === undefined) throw invalidDetails('authorization_details is not JSON');
  const fault = jsonFault(value, members);
  if (fault !== undefined) throw invalidDetails(fault);
  const read = readDetails(value);
  if (!read.ok) throw invalidDetails(read.why);
  return read.details;
};

/**
 * @param audiences logical names of connections, where the grant type knows them (RFC 8693 section 2.1)
 * @throws OAuthError `invalid_target`, `invalid_scope`, `invalid_authorization_details`, `invalid_request`
 */
export const targetOf = (issuer: string, form: Form, audiences: readonly string[]): Target => {
  const resources = form.all('resource');
  const scope = form.get('scope');
  const details = form.get('authorization_details');
  // The agent API is a resource too (RFC 9728): its token is the agent's own.
  const own =
    audiences.length === 0 && (resources.length === 0 || (resources.length === 1 && resources[0] === `${issuer}/v1`));
  if (own && details === undefined) {
    if (scope === undefined) return { kind: 'own' };
    throw new OAuthError('invalid_scope', 'scopes belong to a connection: name it with the resource parameter');
  }
  if (own && resources.length === 1) {
    throw new OAuthError('invalid_target', 'the resource is another one than authorization_details names');
  }
  if (resources.length > 1 || audiences.length > 1) throw oneOnly();
  const named = new Set([...resources.map((resource) => connectionIn(issuer, resource)), ...audiences]);
  if (details !== undefined) {
    if (scope !== undefined) {
      throw new OAuthError('invalid_request', 'name the scopes in scope or in authorization_details, not in both');
    }
    const { connection, scopes, ttl_seconds, reason } = detailsIn(details);
    if (![...named].every((one) => one === connection)) {
      throw new OAuthError('invalid_target', 'the resource is another one than authorization_details names');
    }
    return {
      kind: 'connection',
      connection,
      scopes,
      detailed: true,
      ...(ttl_seconds === undefined ? {} : { ttlSeconds: ttl_seconds }),
      ...(reason === undefined ? {} : { reason }),
    };
  }
  const [connection = '', ...more] = named;
  if (more.length > 0) throw new OAuthError('invalid_target', 'resource and audience name different connections');
  const scopes = (scope ?? '').split(' ').filter((one) => one !== '');
  if (scopes.length === 0) throw new OAuthError('invalid_scope', 'name the scopes the grant shall have');
  return { kind: 'connection', connection, scopes, detailed: false };
};
