/**
 * Where Google's tokens come from: the OAuth token endpoint (jwt-bearer), the IAM Service Account Credentials API
 * (generateAccessToken) and the Security Token Service (federation, access boundaries).
 */
import { createHash } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose';
import { oauthProblem, statusProblem } from './answers.ts';
import { addToken, type BoundaryRule, type GcpState, liveToken, nowOf, rolePermissions, type Token } from './state.ts';
import { readCondition } from './storage.ts';

const cloudPlatform = 'https://www.googleapis.com/auth/cloud-platform';
const iamScope = 'https://www.googleapis.com/auth/iam';
const hourMs = 3_600_000;
/** What Google allows for clocks that differ is not written down; this is what its own libraries count on at least. */
const skewSeconds = 60;

const tokenEndpoint = 'https://oauth2.googleapis.com/token';

/** developers.google.com/identity/protocols/oauth2/service-account: "Making the access token request". */
export const tokenRequest = async (state: GcpState, form: URLSearchParams) => {
  if (form.get('grant_type') !== 'urn:ietf:params:oauth:grant-type:jwt-bearer') {
    throw oauthProblem('unsupported_grant_type', 'Invalid grant_type');
  }
  const assertion = form.get('assertion') ?? '';
  const bad = oauthProblem('invalid_grant', 'Invalid JWT Signature.');
  let claims: Record<string, unknown>;
  try {
    const account = state.accounts.get(String(decodeJwt(assertion).iss));
    const { kid } = decodeProtectedHeader(assertion);
    // Without a key id each key is tried.
    const isKnown = (id: string): boolean => (account?.knownAt.get(id) ?? 0) <= Date.now();
    const keys = account ? [...account.keys].filter(([id]) => (kid === undefined || id === kid) && isKnown(id)) : [];
    const [found] = keys;
    if (!found) throw bad;
    const verified = await jwtVerify(assertion, found[1], {
      algorithms: ['RS256'],
      clockTolerance: skewSeconds,
      currentDate: new Date(nowOf(state)),
    });
    claims = verified.payload;
  } catch {
    throw bad;
  }
  const { iss, aud, iat, exp, scope, sub } = claims;
  const now = Math.floor(nowOf(state) / 1000);
  if (aud !== tokenEndpoint) throw oauthProblem('invalid_grant', 'Invalid JWT: Failed audience check.');
  if (typeof iat !== 'number' || typeof exp !== 'number' || iat > now + skewSeconds || exp - iat > 3600) {
    throw oauthProblem(
      'invalid_grant',
      'Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.',
    );
  }
  if (sub !== undefined && sub !== iss) {
    throw oauthProblem(
      'unauthorized_client',
      'Client is unauthorized to retrieve access tokens using this method.',
      401,
    );
  }
  if (typeof scope !== 'string' || scope === '') {
    throw oauthProblem('invalid_scope', 'Empty or missing scope not allowed.');
  }
  const token: Token = {
    principal: String(iss),
    scopes: scope.split(' '),
    kind: 'source',
    boundary: null,
    expiresAt: nowOf(state) + hourMs,
  };
  return { access_token: addToken(state, token), expires_in: 3599, token_type: 'Bearer' };
};

const prefix = 'projects/-/serviceAccounts/';

/** docs.cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken */
export const generateAccessToken = (
  state: GcpState,
  caller: Token | undefined,
  email: string,
  body: Record<string, unknown>,
) => {
  if (!caller) {
    throw statusProblem(
      401,
      'Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.',
    );
  }
  if (!caller.scopes.includes(cloudPlatform) && !caller.scopes.includes(iamScope)) {
    throw statusProblem(403, 'Request had insufficient authentication scopes.');
  }
  const account = state.accounts.get(email);
  if (!account) throw statusProblem(404, 'Not found; Gaia id not found for email');
  const { scope, lifetime = '3600s', delegates = [] } = body;
  if (!Array.isArray(delegates) || !delegates.every((one) => typeof one === 'string' && one.startsWith(prefix))) {
    throw statusProblem(400, 'Invalid delegates.');
  }
  let who = caller.principal;
  for (const next of [...delegates.map((one: string) => one.slice(prefix.length)), email]) {
    if (!state.accounts.get(next)?.tokenCreators.has(who)) {
      throw statusProblem(
        403,
        "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
      );
    }
    who = next;
  }
  const scopes: unknown[] = Array.isArray(scope) ? scope : [];
  if (scopes.length === 0 || !scopes.every((one) => typeof one === 'string' && one.startsWith('https://'))) {
    throw statusProblem(400, "Request contains an invalid argument: 'scope'.");
  }
  const seconds = /^(\d+)s$/.exec(String(lifetime))?.[1];
  const longest = account.extended ? 43_200 : 3_600;
  if (seconds === undefined || Number(seconds) < 1 || Number(seconds) > longest) {
    throw statusProblem(400, 'The provided token lifetime is invalid or exceeds the maximum allowed.');
  }
  const expiresAt = nowOf(state) + Number(seconds) * 1000;
  const token: Token = {
    principal: email,
    scopes: scopes.map(String),
    kind: 'impersonated',
    boundary: null,
    expiresAt,
  };
  // Whole seconds, as Google gives them.
  const expireTime = `${new Date(expiresAt).toISOString().slice(0, 19)}Z`;
  return { accessToken: addToken(state, token), expireTime };
};

const accessTokenType = 'urn:ietf:params:oauth:token-type:access_token';

const readBoundary = (options: string): BoundaryRule[] => {
  const invalid = oauthProblem('invalid_request', 'Invalid access boundary.');
  let rules: unknown;
  try {
    rules = JSON.parse(options)?.accessBoundary?.accessBoundaryRules;
  } catch {
    throw invalid;
  }
  if (!Array.isArray(rules) || rules.length < 1 || rules.length > 10) throw invalid;
  for (const rule of rules as BoundaryRule[]) {
    if (!rule.availableResource.startsWith('//storage.googleapis.com/projects/_/buckets/')) throw invalid;
    if (rule.availablePermissions.length === 0) throw invalid;
    if (!rule.availablePermissions.every((one) => one.startsWith('inRole:') && one.slice(7) in rolePermissions)) {
      throw invalid;
    }
    if (rule.availabilityCondition && !readCondition(rule.availabilityCondition.expression)) throw invalid;
  }
  return rules as BoundaryRule[];
};

/** docs.cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token */
export const exchange = async (state: GcpState, form: URLSearchParams) => {
  if (form.get('grant_type') !== 'urn:ietf:params:oauth:grant-type:token-exchange') {
    throw oauthProblem('unsupported_grant_type', 'Invalid grant_type');
  }
  if (form.get('requested_token_type') !== accessTokenType) {
    throw oauthProblem('invalid_request', 'Invalid value for "requestedTokenType"');
  }
  const subject = form.get('subject_token') ?? '';
  if (form.get('subject_token_type') === accessTokenType) {
    const held = liveToken(state, subject);
    if (!held) throw oauthProblem('invalid_grant', 'The subject token is invalid or expired.');
    const options = form.get('options');
    if (options === null) throw oauthProblem('invalid_request', 'Access boundary is required.');
    const boundary = readBoundary(options);
    const text = addToken(state, { ...held, kind: 'downscoped', boundary });
    const expires_in = Math.floor((held.expiresAt - nowOf(state)) / 1000);
    return { access_token: text, issued_token_type: accessTokenType, token_type: 'Bearer', expires_in };
  }
  if (form.get('subject_token_type') !== 'urn:ietf:params:oauth:token-type:jwt') {
    throw oauthProblem('invalid_request', 'Invalid value for "subjectTokenType"');
  }
  return federated(state, form, subject);
};

const federated = async (state: GcpState, form: URLSearchParams, subject: string) => {
  const { pool } = state;
  const audience = form.get('audience');
  if (!pool || audience !== pool.audience) {
    throw oauthProblem('invalid_target', 'The target service indicated by the "audience" parameters is invalid.');
  }
  try {
    const { payload, protectedHeader } = await jwtVerify(subject, pool.keys, {
      algorithms: ['RS256', 'ES256'],
      issuer: pool.issuer,
      // Allowed unless the provider says otherwise: its own full name, with or without the scheme.
      audience: [pool.audience, `https:${pool.audience}`],
      requiredClaims: ['iat', 'exp', 'sub'],
      currentDate: new Date(nowOf(state)),
    });
    const { iat = 0, exp = 0, sub = '' } = payload;
    if (!protectedHeader.kid || iat * 1000 > nowOf(state) || exp - iat > 172_800) throw new Error('times');
    if (Buffer.byteLength(sub) > 127) throw new Error('google.subject is too long');
    const text = addToken(state, {
      principal: `${pool.principalPrefix}${sub}`,
      scopes: (form.get('scope') ?? '').split(' '),
      kind: 'source',
      boundary: null,
      expiresAt: nowOf(state) + hourMs,
    });
    return { access_token: text, issued_token_type: accessTokenType, token_type: 'Bearer', expires_in: 3599 };
  } catch {
    const id = createHash('sha256').update(subject).digest('hex').slice(0, 8);
    throw oauthProblem('invalid_grant', `Error connecting to the given credential's issuer (${id}).`);
  }
};
