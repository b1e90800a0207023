/** What an operator writes of a `gcp-service-account` connection, and what its scopes amount to together. */
import { z } from 'zod';
import { canonicalJson } from '../../../src/domain/canonical-json.ts';
import { isScopeName, scopeNameRule } from '../../../src/domain/names.ts';
import { Refused } from '../../../src/domain/refusals.ts';
import { parsedOnce } from '../shared/checking.ts';
import { rsaPrivateKey } from '../shared/rsa-key.ts';
import { upstreamUrl, upstreamUrlProblem } from '../shared/upstream-url.ts';

/** An e-mail address that Google gives to service accounts, or the account's number. Neither can leave its path segment. */
const account = z
  .string()
  .regex(
    /^(?:[a-z0-9][a-z0-9-]{0,62}@[a-z0-9][a-z0-9.-]{0,200}\.gserviceaccount\.com|[0-9]{10,30})$/,
    'not the e-mail address or number of a service account',
  );

const oauthScope = z
  .string()
  .max(300)
  .regex(/^https:\/\/[a-z0-9.-]+\/[A-Za-z0-9._/-]*$/, 'not a scope like https://www.googleapis.com/auth/…');

const role = /^inRole:(?:(?:projects|organizations)\/[a-z0-9][a-z0-9:.-]{0,100}\/)?roles\/[A-Za-z0-9._]{1,100}$/;
const bucket = /^\/\/storage\.googleapis\.com\/projects\/_\/buckets\/[a-z0-9][a-z0-9._-]{1,221}$/;
const line = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    .regex(/^\P{Cc}+$/u, 'one line');

/** docs.cloud.google.com/iam/docs/downscoping-short-lived-credentials; only Cloud Storage honours it. */
const boundaryRule = z.strictObject({
  available_resource: z.string().regex(bucket, 'not //storage.googleapis.com/projects/_/buckets/NAME'),
  available_permissions: z.array(z.string().regex(role, 'not inRole:roles/NAME')).min(1).max(20),
  availability_condition: z
    .strictObject({ expression: line(2048), title: line(200).optional(), description: line(500).optional() })
    .optional(),
});
type BoundaryRule = z.infer<typeof boundaryRule>;

/** Google's limit for one boundary. */
const maxRules = 10;

const scope = z.strictObject({
  oauth_scopes: z.array(oauthScope).min(1).max(50),
  access_boundary: z.array(boundaryRule).min(1).max(maxRules).optional(),
});
type Scope = z.infer<typeof scope>;

const urls = {
  token_url: 'https://oauth2.googleapis.com/token',
  iam_credentials_url: 'https://iamcredentials.googleapis.com',
  sts_url: 'https://sts.googleapis.com/v1/token',
  iam_url: 'https://iam.googleapis.com',
} as const;

export const settings = z
  .strictObject({
    target_service_account: account,
    delegates: z.array(account).max(10).default([]),
    /** Warder's own signed assertion is the source, and no key is kept. */
    workload_identity: z
      .strictObject({
        audience: z
          .string()
          .regex(
            /^\/\/iam\.googleapis\.com\/projects\/[0-9]{1,30}\/locations\/global\/workloadIdentityPools\/[a-z0-9-]{4,32}\/providers\/[a-z0-9-]{4,32}$/,
            'not //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER',
          ),
      })
      .optional(),
    token_url: upstreamUrl.default(urls.token_url),
    iam_credentials_url: upstreamUrl.default(urls.iam_credentials_url),
    sts_url: upstreamUrl.default(urls.sts_url),
    /** Where keys are managed; used for rotation only. */
    iam_url: upstreamUrl.default(urls.iam_url),
    allow_private_network: z.boolean().default(false),
    scopes: z
      .record(z.string().refine(isScopeName, scopeNameRule), scope)
      .refine((scopes) => Object.keys(scopes).length > 0, 'at least one scope'),
  })
  .superRefine((value, context) => {
    for (const name of Object.keys(urls) as (keyof typeof urls)[]) {
      const message = upstreamUrlProblem(value[name], value.allow_private_network);
      if (message !== undefined) context.addIssue({ code: 'custom', message, path: [name] });
    }
  });
export type Settings = z.infer<typeof settings>;
export const parsed = parsedOnce<Settings>(settings);

/** What is used of a key file; Warder keeps no more of it than this. */
const serviceAccountKey = z.object({
  type: z.literal('service_account'),
  client_email: account,
  private_key: z.string().refine((pem) => rsaPrivateKey(pem) !== undefined, 'not an RSA private key'),
  private_key_id: z.string().regex(/^[A-Za-z0-9]{1,100}$/, 'not the id of a key'),
  // A key file says itself where its proof is to be sent. One that names a stranger's host would make Warder send it there.
  token_uri: z.literal(urls.token_url, {
    error: 'not Google’s; another address belongs into the settings, as token_url',
  }),
  universe_domain: z
    .literal('googleapis.com', { error: 'another universe than googleapis.com is not supported' })
    .optional(),
});

const key = z
  .string()
  .max(16_384)
  .transform((text, context) => {
    const problem = (message: string): never => {
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    };
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      return problem('not JSON');
    }
    const kind = z.object({ type: z.string() }).safeParse(json);
    if (kind.success && kind.data.type !== 'service_account') {
      // external_account names files, programs and addresses to ask: whoever writes it would decide what Warder reads.
      return problem(
        'only the key of a service account is taken; to keep no key at all use settings.workload_identity',
      );
    }
    const read = serviceAccountKey.safeParse(json);
    if (read.success) return JSON.stringify(read.data);
    return problem(read.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '));
  });

/** None at all for workload identity. */
export const secret = z.strictObject({ key_json: key }).optional();

export interface ServiceAccountKey {
  client_email: string;
  private_key: string;
  private_key_id: string;
}

/**
 * @param text a key file; it was checked when it was set, but a secret that is read from elsewhere at each use was not
 * @returns undefined when it is none
 */
export const readKey = (text: string): ServiceAccountKey | undefined => {
  const checked = key.safeParse(text);
  return checked.success ? serviceAccountKey.parse(JSON.parse(checked.data)) : undefined;
};

/** What a token is asked for. */
export interface Asked {
  oauthScopes: string[];
  /** null = no boundary: all that the OAuth scopes and the account allow. */
  boundary: BoundaryRule[] | null;
}

const sorted = (values: readonly string[]): string[] => [...new Set(values)].sort();
const oauthOf = (one: Scope): string => sorted(one.oauth_scopes).join(' ');
const boundaryOf = (one: Scope): string => sorted((one.access_boundary ?? []).map(canonicalJson)).join();

/**
 * Several scopes in one token. A token has one set of OAuth scopes and one boundary, and can do whatever both allow; put
 * together from scopes that differ in both it could do more than they can one by one, and that is refused.
 * @throws Refused `scope_not_allowed`
 */
export const combined = ({ scopes }: Settings, names: readonly string[]): Asked => {
  const chosen = names.flatMap((name) => {
    const one = Object.hasOwn(scopes, name) ? scopes[name] : undefined;
    return one ? [one] : [];
  });
  const [first] = chosen;
  if (!first || chosen.length < names.length)
    throw new Refused('scope_not_allowed', 'this connection has no such scope');
  const bounded = chosen.filter((one) => one.access_boundary !== undefined).length;
  const sameOauth = chosen.every((one) => oauthOf(one) === oauthOf(first));
  const sameBoundary = chosen.every((one) => boundaryOf(one) === boundaryOf(first));
  if (!sameBoundary && (!sameOauth || bounded < chosen.length)) {
    throw new Refused(
      'scope_not_allowed',
      'one Google token for these scopes could do more than they can one by one; ask for a grant each',
    );
  }
  const rules = new Map(chosen.flatMap((one) => one.access_boundary ?? []).map((rule) => [canonicalJson(rule), rule]));
  if (rules.size > maxRules) {
    throw new Refused('scope_not_allowed', `these scopes have more than ${maxRules} rules; ask for a grant each`);
  }
  return {
    oauthScopes: sorted(chosen.flatMap((one) => one.oauth_scopes)),
    boundary: bounded === 0 ? null : [...rules.values()],
  };
};
