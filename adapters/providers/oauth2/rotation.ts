/**
 * How the client secret of an `oauth2` connection is replaced: by a recipe at the vendor's API for clients, whose calls
 * carry an access token of this very client, by a webhook or a script. Refresh tokens are rotated elsewhere.
 *
 * Not by dynamic client registration (RFC 7592): there the server replaces the secret in the answer that names the new
 * one, and when that answer is lost nobody has a secret that works.
 */
import { randomBytes } from 'node:crypto';
import { clientCredentialsGrant, ResponseBodyError, refreshTokenGrant } from 'openid-client';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import type { RotationContext, SecretFields, SecretRotation } from '../../../src/ports/rotation.ts';
import { type MethodParts, rotationBy } from '../../rotation/method.ts';
import { patiently } from '../../rotation/patiently.ts';
import { checked } from '../shared/checking.ts';
import { withoutSlash } from '../shared/upstream-url.ts';
import { failureOf } from './answers.ts';
import { ofClient, scopeParameter, targets, tokensOf } from './requests.ts';
import type { Servers } from './server.ts';
import { oauthScopes, parsed, secret as secretForm } from './settings.ts';

/** RFC 6749 section 5.2, and the words of GitHub and Slack for the same. */
const notValid = new Set(['invalid_client', 'incorrect_client_credentials', 'bad_client_secret']);
/** Said to a client that has proved itself: of the refresh token, the scopes, the grant. */
const proved = new Set([
  'invalid_grant',
  'bad_refresh_token',
  'invalid_refresh_token',
  'invalid_scope',
  'unauthorized_client',
]);

/** At servers of many machines (Entra ID) a new secret is known everywhere some seconds later. */
const usualPatienceMs = 15_000;

/** What the answer says about the client itself; undefined where it says nothing. */
const verdict = ({ error, status }: ResponseBodyError): 'proved' | 'not valid' | undefined => {
  // Asked too often, or out of order: whatever the body says, nobody looked at the client.
  if (status >= 500 || status === 429) return undefined;
  // Keycloak says this, with 401, to a client whose secret is wrong; in RFC 6749 it is about one that is authenticated.
  if (notValid.has(error) || (error === 'unauthorized_client' && status === 401)) return 'not valid';
  return proved.has(error) ? 'proved' : undefined;
};

const callContext = (secret: SecretFields, { now, signal }: RotationContext) => ({
  now,
  signal,
  secret: async () => ({ version: 0, fields: secret }),
});

/**
 * Asks for a token as this client. Where clients get none of their own, by a refresh token that nobody ever issued: a
 * server looks at the client first (RFC 6749 section 6), and says `invalid_grant` only to one that proved itself.
 */
const test = async (servers: Servers, secret: SecretFields, context: RotationContext): Promise<void> => {
  const value = parsed(context.connection.settings);
  const { signal } = context;
  try {
    const configuration = await servers.configuration(value, callContext(secret, context));
    if (value.grant === 'client_credentials') {
      const [first = ''] = Object.keys(value.scopes);
      const asked = [...targets(value), ...scopeParameter(oauthScopes(value, [first]))];
      await clientCredentialsGrant(configuration, new URLSearchParams(asked));
    } else {
      const none = `warder-test-${randomBytes(32).toString('base64url')}`;
      await refreshTokenGrant(configuration, none, new URLSearchParams(targets(value)));
    }
  } catch (error) {
    const said = error instanceof ResponseBodyError ? verdict(error) : undefined;
    if (said === 'proved') return;
    const failure = failureOf(error, signal);
    if (said === 'not valid') {
      const message = 'the authorization server does not accept the client secret';
      throw new ProviderFailure('refused', message, { cause: failure.cause });
    }
    if (failure.kind !== 'refused') throw failure;
    throw new ProviderFailure('unavailable', failure.message, { cause: failure.cause });
  }
};

export const clientSecretRotation = (
  servers: Servers,
  parts: MethodParts,
  patienceMs = usualPatienceMs,
): SecretRotation =>
  rotationBy(
    {
      field: 'client_secret',
      checkSecret: (value) => checked<Record<string, string> | undefined>(secretForm, value, 'secret'),
      problem: (settings) => {
        const { client_auth: auth } = parsed(settings);
        if (auth === 'client_secret_basic' || auth === 'client_secret_post') return undefined;
        return `a client that proves itself by ${auth} has no client secret to replace`;
      },
      baseUrl: (settings) => {
        const { base_url: url } = parsed(settings);
        return url === undefined ? undefined : withoutSlash(url);
      },
      allowsPrivateNetwork: (settings) => parsed(settings).allow_private_network,
      credentials: async (secret, context, scopes) => {
        const value = parsed(context.connection.settings);
        const answer = await ofClient(servers, value, scopes, callContext(secret, context));
        const { accessToken } = tokensOf(answer, context.now(), null);
        return { in: 'header', name: 'Authorization', value: `Bearer ${accessToken}` };
      },
      asksForTokens: true,
      test: (secret, context, patient) =>
        patiently(patient ? patienceMs : 0, context.signal, () => test(servers, secret, context)),
    },
    parts,
  );
