/** The settings of `oauth2` connections, and the client's credentials at the authorization server. */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { isScopeName, scopeNameRule } from '../../../src/domain/names.ts';
import { MIN_SECRET_BYTES } from '../../../src/domain/secret-mask.ts';
import { present, rotationFields } from '../../rotation/subject.ts';
import { parsedOnce } from '../shared/checking.ts';
import { addressProblems, inject, isTrimmed, rules, timeouts, visibleAscii } from '../shared/gateway-settings.ts';

/** RFC 6749 section 3.3: `scope-token`. */
const scopeToken = z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,200}$/, 'not a scope of RFC 6749');
const scopeTokens = z.array(scopeToken).max(50);

const address = z.string().max(2000);
const line = z
  .string()
  .min(1)
  .max(500)
  .regex(visibleAscii, 'printable ASCII only')
  .refine(isTrimmed, 'no blanks around');

/**
 * Parameters of the authorization request that vendors add and that only choose what the person sees or gets. What the
 * protocol rests on (`state`, `redirect_uri`, `code_challenge`, `response_type`, `response_mode`, …) is not among them.
 */
const authorizeParameters = [
  ...['access_type', 'acr_values', 'actor', 'approval_prompt', 'audience', 'display', 'domain_hint', 'duration'],
  ...['hd', 'include_granted_scopes', 'kc_idp_hint', 'login_hint', 'owner', 'prompt', 'team', 'tenant'],
  ...['token_access_type', 'ui_locales', 'user_scope'],
] as const;

const scope = z.strictObject({
  /** What is asked for at the authorization server. */
  oauth_scopes: scopeTokens.default([]),
  /** What the gateway lets pass. */
  rules: rules.optional(),
});

const endpoints = [
  'authorization_endpoint',
  'token_endpoint',
  'revocation_endpoint',
  'introspection_endpoint',
] as const;

export const settings = z
  .strictObject({
    issuer: address.optional(),
    authorization_endpoint: address.optional(),
    token_endpoint: address.optional(),
    revocation_endpoint: address.optional(),
    introspection_endpoint: address.optional(),
    client_id: line,
    client_auth: z
      .enum(['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'])
      .default('client_secret_basic'),
    grant: z.enum(['authorization_code', 'client_credentials']).default('authorization_code'),
    /** Who narrows: the server, by `scope`, or Warder request by request. */
    narrowing: z.enum(['upstream', 'gateway']).default('upstream'),
    scopes: z
      .record(z.string().refine(isScopeName, scopeNameRule), scope)
      .refine((scopes) => Object.keys(scopes).length > 0, 'at least one scope'),
    /** Asked for at consent beside those of `scopes`: `offline_access`, `openid`. */
    connect_scopes: scopeTokens.default([]),
    authorize_params: z.partialRecord(z.enum(authorizeParameters), line).default({}),
    audience: line.optional(),
    /** RFC 8707. */
    resource: z.array(address).max(10).default([]),
    /** How long an access token may live whose answer was never heard: the server's own limit. */
    longest_token_life_seconds: z.int().min(1).max(31_536_000).default(86_400),
    /**
     * Whether ending a grant revokes its access token. RFC 7009 section 2.1 lets a server revoke the refresh token along
     * with it, and many do: only where this one is known not to, or there is none.
     */
    revoke_access_tokens: z.boolean().optional(),
    base_url: address.optional(),
    inject,
    allow_private_network: z.boolean().default(false),
    timeouts_ms: timeouts,
  })
  .superRefine((value, context) => {
    const problem = (message: string, ...path: string[]): void => context.addIssue({ code: 'custom', path, message });
    for (const field of ['issuer', ...endpoints, 'base_url'] as const) {
      const given = value[field];
      if (given === undefined) continue;
      for (const message of addressProblems(given, value.allow_private_network)) problem(message, field);
    }
    if (value.token_endpoint === undefined && value.issuer === undefined) {
      problem('needed, unless the endpoints are given', 'issuer');
    }
    const consent = value.grant === 'authorization_code';
    if (consent && value.token_endpoint !== undefined && value.authorization_endpoint === undefined) {
      problem('needed beside token_endpoint, for a person to consent', 'authorization_endpoint');
    }
    if (value.token_endpoint === undefined && value.authorization_endpoint !== undefined) {
      problem('needed beside authorization_endpoint', 'token_endpoint');
    }
    if (!consent && value.client_auth === 'none') {
      problem('client credentials are what proves this client', 'client_auth');
    }
    if (value.narrowing === 'gateway' && value.base_url === undefined) {
      problem('needed where the gateway narrows', 'base_url');
    }
    for (const [name, { oauth_scopes, rules: allowed }] of Object.entries(value.scopes)) {
      if (value.narrowing === 'gateway' && allowed === undefined) {
        problem('needed where the gateway narrows', 'scopes', name, 'rules');
      }
      if (value.narrowing === 'upstream' && oauth_scopes.length === 0) {
        problem('at least one, where the server narrows', 'scopes', name, 'oauth_scopes');
      }
    }
  });
export type Settings = z.infer<typeof settings>;
export const parsed = parsedOnce<Settings>(settings);

/** Whether a single access token may be revoked without its account going along. */
export const revocable = (value: Settings): boolean =>
  value.revoke_access_tokens ?? value.grant === 'client_credentials';

/** What the server is asked for on behalf of these scopes: each once. */
export const oauthScopes = (value: Settings, scopes: readonly string[]): string[] => [
  ...new Set(
    scopes.flatMap((name) => (Object.hasOwn(value.scopes, name) ? (value.scopes[name]?.oauth_scopes ?? []) : [])),
  ),
];

/** All that a person is asked to consent to. */
export const consentScopes = (value: Settings): string[] => [
  ...new Set([...oauthScopes(value, Object.keys(value.scopes)), ...value.connect_scopes]),
];

/** Where people consent, or the client is known: for them to recognise. */
export const hostOf = (value: Settings): string =>
  new URL(value.authorization_endpoint ?? value.token_endpoint ?? value.issuer ?? '').host;

/**
 * Every place the client's credentials and the tokens are sent to, and as which client: when one of them changes, those
 * in force must not follow. Of the issuer all of it: what is published below it names the endpoints, and on one host there
 * may be issuers of many.
 */
export const destination = (value: Settings): string =>
  [
    ...(value.issuer === undefined ? [] : [`issuer ${value.issuer}`]),
    ...([...endpoints, 'base_url'] as const).flatMap((field) => {
      const text = value[field];
      return text === undefined ? [] : [`${field} ${new URL(text).origin}`];
    }),
    `client ${value.client_id}`,
  ].join(', ');

/** Below 2048 bits RSA is broken, and the JOSE algorithms refuse it (RFC 7518 section 3.3). */
const minRsaBits = 2048;

/** The JOSE algorithm a key signs with, and how WebCrypto calls it. */
const algorithms = {
  rsa: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
  'rsa-pss': { name: 'RSA-PSS', hash: 'SHA-256' },
  prime256v1: { name: 'ECDSA', namedCurve: 'P-256' },
  secp384r1: { name: 'ECDSA', namedCurve: 'P-384' },
  ed25519: { name: 'Ed25519' },
} as const;

const kindOf = (key: KeyObject): keyof typeof algorithms | undefined => {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  const name = type === 'ec' ? details?.namedCurve : type;
  if ((type === 'rsa' || type === 'rsa-pss') && (details?.modulusLength ?? 0) < minRsaBits) return undefined;
  return Object.keys(algorithms).find((known): known is keyof typeof algorithms => known === name);
};

const privateKey = (pem: string): KeyObject | undefined => {
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined;
  }
};

/** @throws Error for what {@link secret} would refuse */
export const signingKeyOf = (pem: string) => {
  const key = privateKey(pem);
  const kind = key && kindOf(key);
  if (!key || !kind) throw new Error('the private key in force is not one that can sign');
  return key.toCryptoKey(algorithms[kind], false, ['sign']);
};

const text = z
  .string()
  // Shorter ones cannot be kept out of what the gateway and the log show.
  .min(MIN_SECRET_BYTES, `at least ${MIN_SECRET_BYTES} characters`)
  .max(8192)
  .regex(visibleAscii, 'printable ASCII only')
  .refine(isTrimmed, 'no blanks before or behind it');

/** A client secret, or the key of `private_key_jwt`; `{value}` is a client secret too. Nothing, for public clients. */
export const secret = z
  .union(
    [
      z.strictObject({ client_secret: text, ...rotationFields }),
      z
        .strictObject({ value: text, ...rotationFields })
        .transform(({ value, ...more }) => ({ client_secret: value, ...more })),
      z.strictObject({
        private_key: z
          .string()
          .max(16_384)
          .refine((pem) => {
            const key = privateKey(pem);
            return key !== undefined && kindOf(key) !== undefined;
          }, 'a private key in PEM without a passphrase: RSA of 2048 bits or more, P-256, P-384 or Ed25519'),
        key_id: line.optional(),
      }),
      z.undefined(),
    ],
    { error: 'one of {client_secret} or {private_key, key_id}' },
  )
  .transform((given): Record<string, string> | undefined => {
    if (given === undefined) return given;
    if ('client_secret' in given) return present(given);
    return { private_key: given.private_key, ...(given.key_id === undefined ? {} : { key_id: given.key_id }) };
  });
