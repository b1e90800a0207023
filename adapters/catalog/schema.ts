/** What a preset's file may say. The schema says shapes; `presetFaults` says what must hold between its parts. */
import { z } from 'zod';
import { compileRule } from '../../src/domain/gateway-rules.ts';
import { isName, isPlainLine, isScopeName, nameRule, plainLineRule, scopeNameRule } from '../../src/domain/names.ts';
import { clientId, type Preset, presetCategories, risks } from '../../src/domain/preset.ts';
import { isChoice, variablePatterns } from '../../src/domain/preset-variables.ts';

const line = (max: number) =>
  z
    .string()
    .max(max)
    .refine((text) => isPlainLine(text, max), plainLineRule(max));

/** Of a page for people: no variables, no user, nothing but https. */
const page = line(500).refine((text) => {
  const url = URL.parse(text);
  return url !== null && url.protocol === 'https:' && url.username === '' && url.password === '' && url.port === '';
}, 'an https:// URL');

/** Of an endpoint: may name variables; where they may stand is checked with the whole preset. */
const endpoint = line(500).refine((text) => text.startsWith('https://'), 'an https:// URL');

const variableName = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,39}$/, 'lower-case letters, digits and _, beginning with a letter')
  .refine((name) => name !== 'secret' && name !== clientId.name, 'secret and client_id have a meaning of their own');

const variable = z
  .strictObject({
    description: line(300).describe('What it is, and where somebody finds it.'),
    pattern: z.enum(variablePatterns).describe('The shape of its value.'),
    choices: z.array(z.string().refine(isChoice, 'a label, a host name or an id')).min(1).max(50).optional(),
    default: line(253).optional(),
    example: line(253).optional(),
  })
  .refine(({ pattern, choices }) => (pattern === 'choice') === (choices !== undefined), {
    message: 'choices are given exactly where the pattern is choice',
    path: ['choices'],
  });

/** Whether it can carry a secret is the provider's to judge: the expanded settings are shown to it. */
const inject = z.union(
  [
    z.strictObject({ header: line(100), value: line(1000).optional() }),
    z.strictObject({ query: line(100) }),
    z.strictObject({ basic: z.strictObject({ username: z.union([z.literal(''), line(200)]) }) }),
  ],
  { error: 'one of {header, value}, {query} or {basic: {username}}' },
);

const ability = {
  api: z.boolean().describe('Whether the vendor has an API for it.'),
  how: line(500).describe('How it is done.'),
};

const scopeToken = line(200).refine((text) => !/\s/.test(text), 'no white space');

const apiKey = z.strictObject({
  obtain: line(500).describe('How to obtain a key at the vendor.'),
  looks_like: z.array(line(60)).min(1).max(10).optional().describe('How keys begin, as plain text.'),
  inject,
  rotation: z.strictObject({ ...ability, overlap: z.boolean().describe('Whether two keys can be valid at once.') }),
  revocation: z.strictObject(ability),
});

const oauth2 = z
  .strictObject({
    obtain: line(500).describe('Where to register the client.'),
    documentation: page,
    grant: z.enum(['authorization_code', 'client_credentials']),
    authorization_endpoint: endpoint.optional(),
    token_endpoint: endpoint,
    revocation_endpoint: endpoint.optional().describe('RFC 7009; left out where the vendor has none.'),
    pkce: z.boolean().describe('Whether the vendor takes a PKCE challenge (S256).'),
    scope_separator: z.enum(['space', 'comma']).default('space'),
    client_authentication: z.enum(['client_secret_basic', 'client_secret_post']),
    refresh_tokens: z.enum(['rotating', 'reusable', 'none']),
    connect_scopes: z.array(scopeToken).min(1).max(20).optional(),
    audience: line(500).optional(),
    authorization_parameters: z.record(z.string().regex(/^[a-z_]{1,60}$/), line(200)).optional(),
  })
  .refine((value) => (value.grant === 'authorization_code') === (value.authorization_endpoint !== undefined), {
    message: 'is given exactly where the grant is authorization_code',
    path: ['authorization_endpoint'],
  });

const rule = z
  .strictObject({
    methods: z.array(z.string().max(20)).min(1).max(20),
    path: z.string().max(1024),
    search: z.literal(true).optional().describe('A POST that only looks something up.'),
  })
  .superRefine((value, context) => {
    const compiled = compileRule(value);
    if (!compiled.ok) context.addIssue({ code: 'custom', message: compiled.why });
  });

const scope = z.strictObject({
  risk: z.enum(risks),
  description: line(300),
  rules: z.array(rule).min(1).max(100),
  oauth2: z.array(scopeToken).max(20).optional().describe('The scopes to ask the authorization server for.'),
});

export const presetSchema = z.strictObject({
  name: z.string().refine(isName, nameRule).describe('As the file is called.'),
  title: line(60),
  category: z.enum(presetCategories),
  documentation: page.describe("The vendor's reference of its API."),
  base_url: endpoint.describe('Where the service is; may name variables, as in https://{subdomain}.example.com.'),
  variables: z.record(variableName, variable).optional(),
  api_key: apiKey.optional(),
  oauth2: oauth2.optional(),
  scopes: z
    .record(z.string().refine(isScopeName, scopeNameRule), scope)
    .refine((scopes) => Object.keys(scopes).length > 0, 'at least one scope')
    .refine((scopes) => Object.keys(scopes).length <= 60, 'at most 60 scopes'),
  notes: z.array(line(500)).min(1).max(20).optional(),
}) satisfies z.ZodType<Preset>;
