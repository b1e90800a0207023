/** The calls of Google Cloud's APIs that `gcp-service-account` makes, and what their refusals mean. */
import { createPrivateKey } from 'node:crypto';
import { SignJWT } from 'jose';
import { z } from 'zod';
import { type ProviderContext, ProviderFailure } from '../../../src/ports/provider.ts';
import { callJson, type JsonAnswer } from '../shared/json-call.ts';
import { withoutSlash } from '../shared/upstream-url.ts';
import type { Asked, ServiceAccountKey, Settings } from './settings.ts';

type Fetch = typeof globalThis.fetch;
type Context = Pick<ProviderContext, 'now' | 'signal' | 'signJwt'>;

const upstream = 'Google';
const tokenExchange = 'urn:ietf:params:oauth:grant-type:token-exchange';
const accessTokenType = 'urn:ietf:params:oauth:token-type:access_token';
/** All that impersonating takes; `cloud-platform` would do as well, and everything else besides. */
const impersonationScope = 'https://www.googleapis.com/auth/iam';
/** An assertion is used at once; these are for clocks that differ. */
const assertionSeconds = { past: 10, future: 60 };
const clockToleranceMs = 50_000;

// What goes into a header, and nothing that could end one.
const bearer = z.string().regex(/^[\x21-\x7e]{1,16384}$/);
const oauthAnswer = z.object({ access_token: bearer });
const impersonationAnswer = z.object({ accessToken: bearer, expireTime: z.iso.datetime({ offset: true }) });

const read = <T>(schema: z.ZodType<T>, answer: JsonAnswer): T => {
  const parsed = schema.safeParse(answer.body);
  if (parsed.success) return parsed.data;
  throw new ProviderFailure('unavailable', 'the answer is not one that Google gives');
};

/** @param meaning what a refusal with this status means here; `other` for any that is not named */
const failureOf = (
  { status }: JsonAnswer,
  meaning: Readonly<Record<number, string>> & { other: string },
): ProviderFailure => {
  if (status === 429) return new ProviderFailure('unavailable', 'Google’s quota is used up; try again later');
  if (status >= 400 && status < 500) return new ProviderFailure('refused', meaning[status] ?? meaning.other);
  return new ProviderFailure('unavailable', 'Google failed');
};

const postForm = (fetch: Fetch, url: string, fields: Record<string, string>, signal: AbortSignal) =>
  callJson(
    fetch,
    {
      upstream,
      method: 'POST',
      url,
      headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' },
      body: new URLSearchParams(fields).toString(),
    },
    signal,
  );

/** RFC 7523 section 2.1, with the key of a service account. @returns whatever Google answers */
export const signIn = async (
  fetch: Fetch,
  settings: Settings,
  key: ServiceAccountKey,
  context: Context,
): Promise<JsonAnswer> => {
  const seconds = Math.floor(context.now() / 1000);
  const assertion = await new SignJWT({ scope: impersonationScope })
    .setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid: key.private_key_id })
    .setIssuer(key.client_email)
    // Whatever the way there: it is Google's own name of itself.
    .setAudience('https://oauth2.googleapis.com/token')
    .setIssuedAt(seconds - assertionSeconds.past)
    .setExpirationTime(seconds + assertionSeconds.future)
    .sign(createPrivateKey(key.private_key));
  const fields = { grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion };
  return postForm(fetch, settings.token_url, fields, context.signal);
};

/** Whether a refusal may be for the time that Warder's assertion says, by the date of the answer. */
export const clocksDiffer = (answer: JsonAnswer, now: number): boolean =>
  Math.abs(Date.parse(answer.headers.get('date') ?? '') - now) > clockToleranceMs;

const keyToken = async (
  fetch: Fetch,
  settings: Settings,
  key: ServiceAccountKey,
  context: Context,
): Promise<string> => {
  const answer = await signIn(fetch, settings, key, context);
  if (answer.status === 200) return read(oauthAnswer, answer).access_token;
  const clocks = clocksDiffer(answer, context.now()) ? ': the clocks of Warder and Google differ' : '';
  throw failureOf(answer, { other: `Google did not accept the service account’s key${clocks}` });
};

/** Workload identity federation: an assertion of Warder's own, exchanged at the security token service. */
const federatedToken = async (
  fetch: Fetch,
  settings: Settings,
  identity: { audience: string; subject: string; id: string },
  context: Context,
): Promise<string> => {
  const seconds = Math.floor(context.now() / 1000);
  const assertion = await context.signJwt({
    aud: identity.audience,
    sub: identity.subject,
    iat: seconds - assertionSeconds.past,
    exp: seconds + assertionSeconds.future,
    jti: identity.id,
  });
  const fields = {
    grant_type: tokenExchange,
    audience: identity.audience,
    scope: impersonationScope,
    requested_token_type: accessTokenType,
    subject_token: assertion,
    subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
  };
  const answer = await postForm(fetch, settings.sts_url, fields, context.signal);
  if (answer.status === 200) return read(oauthAnswer, answer).access_token;
  throw failureOf(answer, { other: 'Google’s workload identity provider did not accept Warder’s assertion' });
};

/** Who impersonates: the key's account, or Warder as a workload. */
export type Source = { key: ServiceAccountKey } | { audience: string; subject: string; id: string };

/** @throws ProviderFailure */
export const sourceToken = (fetch: Fetch, settings: Settings, source: Source, context: Context): Promise<string> =>
  'key' in source ? keyToken(fetch, settings, source.key, context) : federatedToken(fetch, settings, source, context);

/**
 * `generateAccessToken` of the IAM Service Account Credentials API.
 * @param lifetimeSeconds whole, at least 1
 * @returns the token and its end by Google's clock, in milliseconds since the epoch
 * @throws ProviderFailure
 */
export const impersonate = async (
  fetch: Fetch,
  settings: Settings,
  source: string,
  asked: { oauthScopes: string[]; lifetimeSeconds: number },
  signal: AbortSignal,
): Promise<{ token: string; expiresAt: number }> => {
  const name = (one: string): string => `projects/-/serviceAccounts/${one}`;
  const answer = await callJson(
    fetch,
    {
      upstream,
      method: 'POST',
      url: `${withoutSlash(settings.iam_credentials_url)}/v1/${name(settings.target_service_account)}:generateAccessToken`,
      headers: { authorization: `Bearer ${source}`, 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify({
        ...(settings.delegates.length > 0 ? { delegates: settings.delegates.map(name) } : {}),
        scope: asked.oauthScopes,
        lifetime: `${asked.lifetimeSeconds}s`,
      }),
    },
    signal,
  );
  if (answer.status !== 200) {
    throw failureOf(answer, {
      400: 'Google refuses it: it does not accept these OAuth scopes, or so long a life',
      401: 'Google did not accept the source credential',
      403: 'the source may not impersonate this service account',
      404: 'Google knows no such service account',
      other: 'Google refused it',
    });
  }
  const { accessToken, expireTime } = read(impersonationAnswer, answer);
  return { token: accessToken, expiresAt: Date.parse(expireTime) };
};

/**
 * Puts a Credential Access Boundary around a token; what comes back ends with it.
 * @throws ProviderFailure
 */
export const downscope = async (
  fetch: Fetch,
  settings: Settings,
  token: string,
  boundary: NonNullable<Asked['boundary']>,
  signal: AbortSignal,
): Promise<string> => {
  const accessBoundaryRules = boundary.map((rule) => ({
    availableResource: rule.available_resource,
    availablePermissions: rule.available_permissions,
    ...(rule.availability_condition ? { availabilityCondition: rule.availability_condition } : {}),
  }));
  const fields = {
    grant_type: tokenExchange,
    requested_token_type: accessTokenType,
    subject_token: token,
    subject_token_type: accessTokenType,
    options: JSON.stringify({ accessBoundary: { accessBoundaryRules } }),
  };
  const answer = await postForm(fetch, settings.sts_url, fields, signal);
  if (answer.status === 200) return read(oauthAnswer, answer).access_token;
  throw failureOf(answer, { other: 'Google does not accept this access boundary' });
};

/**
 * A call of the IAM API about a service account: its keys.
 * @param path below the account, `keys/…` or `keys:upload`
 * @returns whatever Google answers
 */
export const callIam = (
  fetch: Fetch,
  settings: Settings,
  token: string,
  asked: { method: 'GET' | 'POST' | 'DELETE'; account: string; path: string; body?: object | undefined },
  signal: AbortSignal,
): Promise<JsonAnswer> =>
  callJson(
    fetch,
    {
      upstream,
      method: asked.method,
      url: `${withoutSlash(settings.iam_url)}/v1/projects/-/serviceAccounts/${asked.account}/${asked.path}`,
      headers: {
        authorization: `Bearer ${token}`,
        accept: 'application/json',
        ...(asked.body ? { 'content-type': 'application/json' } : {}),
      },
      ...(asked.body ? { body: JSON.stringify(asked.body) } : {}),
    },
    signal,
  );
