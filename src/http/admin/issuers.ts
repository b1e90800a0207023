/** `/admin/v1/issuers`: whose tokens are believed at the token endpoint. Changing that is for admins. */
import { z } from 'zod';
import { assertionAlgorithms, type IssuerKeys, longestTokenAgeSeconds } from '../../domain/model.ts';
import { isPlainLine } from '../../domain/names.ts';
import { readJwks } from '../../domain/public-jwk.ts';
import { createIssuer, deleteIssuer, issuerCalled, updateIssuer } from '../../services/access/manage-issuers.ts';
import * as field from '../schemas.ts';
import { InvalidRequest } from '../validate.ts';
import { issuerView } from '../views.ts';
import { publicJwks } from './agents.ts';
import { given } from './entitlements.ts';
import { type AdminRoute, admins, created, everyone, noContent, ok, pageOf, route } from './route.ts';

/** An https URL without anything a reader could drop, or a SPIFFE trust domain. It is compared byte for byte. */
const isIssuer = (text: string): boolean => {
  if (/^spiffe:\/\/[a-z0-9._-]{1,255}$/.test(text)) return true;
  const url = URL.parse(text);
  return (
    url !== null && /^https?:\/\/[^/?#@\\]+(?:\/[^?#\\]*)?$/.test(text) && url.username === '' && isPlainLine(text, 500)
  );
};

const list = <T extends z.ZodType>(item: T, max: number) =>
  z
    .array(item)
    .max(max)
    .refine((items) => new Set(items).size === items.length, 'something is named twice');

const address = z
  .url({ protocol: /^https?$/ })
  .max(2000)
  .refine((text) => isPlainLine(text, 2000) && URL.parse(text)?.username === '', 'a URL without credentials');

const fields = {
  issuer: z.string().refine(isIssuer, 'an https URL without query and fragment, or spiffe://<trust domain>'),
  jwks: publicJwks,
  jwks_uri: address,
  allow_private_network: z.boolean(),
  audiences: list(
    z.string().refine((text) => isPlainLine(text, 500), 'one line of at most 500 characters'),
    20,
  ),
  algorithms: list(z.enum(assertionAlgorithms), 10).min(1),
  uses: list(z.enum(['workload', 'subject']), 2).min(1),
  subject_claim: z
    .string()
    .min(1)
    .refine((text) => isPlainLine(text, 200), 'the name of a claim'),
  claims: field.claimRules,
  max_token_age_seconds: z.int().min(1).max(longestTokenAgeSeconds),
  single_use: z.boolean(),
};

const create = z.strictObject({
  name: field.name,
  ...fields,
  jwks: fields.jwks.optional(),
  jwks_uri: fields.jwks_uri.optional(),
  allow_private_network: fields.allow_private_network.optional(),
  audiences: fields.audiences.default([]),
  algorithms: fields.algorithms.default([...assertionAlgorithms]),
  subject_claim: fields.subject_claim.default('sub'),
  claims: fields.claims.default({}),
  max_token_age_seconds: fields.max_token_age_seconds.default(3600),
  single_use: fields.single_use.default(true),
});
/** `jwks_uri: null` and no `jwks`: the keys are where the issuer's metadata says. */
const patch = z
  .strictObject({ ...fields, jwks: fields.jwks.nullable(), jwks_uri: fields.jwks_uri.nullable(), status: field.status })
  .partial();

interface KeySource {
  jwks?: z.infer<typeof publicJwks> | null | undefined;
  jwks_uri?: string | null | undefined;
  allow_private_network?: boolean | undefined;
}

/** @throws InvalidRequest */
const keysOf = ({ jwks, jwks_uri, allow_private_network }: KeySource): IssuerKeys => {
  const reach = allow_private_network === undefined ? {} : { allow_private_network };
  if (jwks && jwks_uri) throw new InvalidRequest(['jwks_uri: either jwks or jwks_uri']);
  if (jwks_uri) return { from: 'jwks_uri', jwks_uri, ...reach };
  if (!jwks) return { from: 'discovery', ...reach };
  const read = readJwks(jwks);
  if (!read.ok) throw new InvalidRequest([`jwks: ${read.why}`]);
  return { from: 'jwks', jwks };
};

/** What of a patch says where keys come from, laid over what is so now; undefined when it says nothing of it. */
const patchedKeys = (keys: IssuerKeys, said: KeySource): IssuerKeys | undefined => {
  if ([said.jwks, said.jwks_uri, said.allow_private_network].every((one) => one === undefined)) return undefined;
  const reach = keys.from === 'jwks' ? undefined : keys.allow_private_network;
  const moved = said.jwks !== undefined || said.jwks_uri !== undefined;
  return keysOf({
    jwks: moved ? said.jwks : keys.from === 'jwks' ? publicJwks.parse(keys.jwks) : undefined,
    jwks_uri: moved ? said.jwks_uri : keys.from === 'jwks_uri' ? keys.jwks_uri : undefined,
    allow_private_network: said.allow_private_network ?? reach,
  });
};

export const issuerRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/issuers',
    roles: admins,
    summary: 'Trust the tokens of an issuer: of workloads, of people to act for, or both',
    body: create,
    handle: async ({ edge, body, caller }) => {
      const { jwks, jwks_uri, allow_private_network, ...rest } = body;
      const keys = keysOf({ jwks, jwks_uri, allow_private_network });
      const row = await createIssuer(edge.core, { ...rest, keys, status: 'active' }, caller);
      return created(issuerView(row), `/admin/v1/issuers/${row.name}`);
    },
  }),
  route({
    method: 'GET',
    path: '/issuers',
    roles: everyone,
    summary: 'List trusted issuers',
    query: z.strictObject(field.pageQuery('iss')),
    handle: async ({ edge, query }) => pageOf(edge.core.state.trustedIssuers.all(), query, issuerView),
  }),
  route({
    method: 'GET',
    path: '/issuers/:name',
    roles: everyone,
    summary: 'Show a trusted issuer',
    handle: async ({ edge, params }) => ok(issuerView(issuerCalled(edge.core, params['name'] ?? ''))),
  }),
  route({
    method: 'PATCH',
    path: '/issuers/:name',
    roles: admins,
    summary: 'Change, suspend or resume a trusted issuer; trusting it less kills what was issued on its word',
    body: patch,
    handle: async ({ edge, params, body, operator, caller }) => {
      const row = issuerCalled(edge.core, params['name'] ?? '');
      const { jwks, jwks_uri, allow_private_network, ...rest } = body;
      const keys = patchedKeys(row.keys, { jwks, jwks_uri, allow_private_network });
      const set = { ...given(rest), ...(keys === undefined ? {} : { keys }) };
      return ok(issuerView(await updateIssuer(edge.core, row, set, operator, caller)));
    },
  }),
  route({
    method: 'DELETE',
    path: '/issuers/:name',
    roles: admins,
    summary: 'Trust an issuer no more, and kill what was issued on its word',
    handle: async ({ edge, params, operator, caller }) => {
      await deleteIssuer(edge.core, issuerCalled(edge.core, params['name'] ?? ''), operator, caller);
      return noContent();
    },
  }),
];
