/**
 * `internal-jwt`: access tokens for the user's own services (RFC 9068), signed by Warder and verifiable from `/jwks`.
 * The scope is in the token and the service enforces it; a service that asks `/introspect` learns of a revocation at
 * once, one that only checks the signature learns of it when the token ends.
 */
import { z } from 'zod';
import { isName, isScopeName, nameRule, scopeNameRule } from '../../src/domain/names.ts';
import type { Provider } from '../../src/ports/provider.ts';
import { checked, jsonSchemaOf, parsedOnce } from './shared/checking.ts';

const audience = z.string().min(1).max(500);
const settings = z.strictObject({
  audience: z.union([audience, z.array(audience).min(1).max(20)]),
  scopes: z
    .array(z.string().refine(isScopeName, scopeNameRule))
    .min(1)
    .max(200)
    .refine((scopes) => new Set(scopes).size === scopes.length, 'a scope is named twice'),
  /** Agents (the services themselves, as clients) that may ask `/introspect` about these tokens. */
  introspectors: z.array(z.string().refine(isName, nameRule)).max(100).default([]),
});

const parsed = parsedOnce<z.infer<typeof settings>>(settings);

const none = z.undefined('this provider signs with Warder’s own key: it takes no secret');

export const internalJwtProvider: Provider = {
  type: 'internal-jwt',
  enforcement: () => 'upstream',
  settingsSchema: jsonSchemaOf(settings),
  checkSettings: (value) => checked<Record<string, unknown>>(settings, value, 'settings'),
  checkSecret: (value) => checked<Record<string, string> | undefined>(none, value, 'secret'),
  scopes: (value) => parsed(value).scopes,
  plan: () => ({ credentialType: 'jwt', handle: null }),
  mint: async (request, _plan, context) => {
    // Whole seconds, rounded down: the token never outlives its grant.
    const seconds = (ms: number): number => Math.floor(ms / 1000);
    const token = await context.signJwt({
      sub: request.subject ?? request.agent.name,
      client_id: request.agent.name,
      // Who really acts (RFC 8693 section 4.1): the outermost actor, which is the only one that may decide anything.
      ...(request.subject === null ? {} : { act: { sub: request.agent.name } }),
      aud: parsed(request.connection.settings).audience,
      scope: request.scopes.join(' '),
      ...(request.jkt ? { cnf: { jkt: request.jkt } } : {}),
      ...(request.authorizationDetails ? { authorization_details: request.authorizationDetails } : {}),
      iat: seconds(request.issuedAt),
      exp: seconds(request.expiresAt),
      jti: request.grantId,
    });
    return { credential: { type: 'jwt', token }, bearer: token };
  },
  revoke: async () => undefined,
};
