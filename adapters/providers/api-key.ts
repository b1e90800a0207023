/**
 * `api-key`: a service that knows one long-lived key. It cannot narrow it, so the agent never gets it: requests go
 * through the gateway, which lets pass what the scope's rules allow and puts the key in.
 */
import { z } from 'zod';
import { compileRule } from '../../src/domain/gateway-rules.ts';
import { isScopeName, scopeNameRule } from '../../src/domain/names.ts';
import { judgeHost } from '../../src/domain/network-address.ts';
import { MIN_SECRET_BYTES } from '../../src/domain/secret-mask.ts';
import type { Provider } from '../../src/ports/provider.ts';
import { checked, jsonSchemaOf, parsedOnce } from './checking.ts';

const headerName = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/;
/** Headers that frame or route a message: a secret in one of them would change what the upstream takes it for. */
const framing = new Set([
  ...['host', 'content-length', 'transfer-encoding', 'connection', 'keep-alive', 'upgrade', 'te', 'trailer', 'expect'],
  // The gateway's own, so that it can look into the answer.
  'accept-encoding',
]);
const visibleAscii = /^[\x20-\x7e]+$/;
/** Blanks around a field's value are not part of it (RFC 9110 section 5.5): the upstream would see another secret. */
const isTrimmed = (text: string): boolean => text.trim() === text;

const template = z
  .string()
  .max(1000)
  .regex(visibleAscii, 'printable ASCII only')
  .refine(isTrimmed, 'no blanks before or behind it')
  .refine((text) => text.split('{secret}').length === 2, 'must contain {secret} exactly once');

const inject = z.union(
  [
    z.strictObject({
      header: z
        .string()
        .regex(headerName, 'not a header name')
        .refine(
          (name) => !framing.has(name.toLowerCase().replaceAll('_', '-')),
          'this header frames the message; it cannot carry a secret',
        ),
      value: template.default('{secret}'),
    }),
    z.strictObject({ query: z.string().regex(/^[A-Za-z0-9._~-]{1,100}$/, 'not a plain parameter name') }),
    z.strictObject({
      basic: z.strictObject({
        username: z
          .string()
          .max(200)
          .regex(/^[^:]*$/, 'no colon in a username'),
      }),
    }),
  ],
  { error: 'one of {header, value}, {query} or {basic: {username}}' },
);

const rule = z
  .strictObject({ methods: z.array(z.string()).min(1).max(20), path: z.string().max(2000) })
  .superRefine((value, context) => {
    const compiled = compileRule(value);
    if (!compiled.ok) context.addIssue({ code: 'custom', message: compiled.why });
  });

const timeoutMs = z.int().min(1).max(3_600_000);

const settings = z
  .strictObject({
    base_url: z.string().max(2000),
    inject: inject.default({ header: 'Authorization', value: 'Bearer {secret}' }),
    scopes: z
      .record(z.string().refine(isScopeName, scopeNameRule), z.array(rule).min(1).max(200))
      .refine((scopes) => Object.keys(scopes).length > 0, 'at least one scope'),
    allow_private_network: z.boolean().default(false),
    timeouts_ms: z
      .strictObject({
        connect: timeoutMs.default(5_000),
        headers: timeoutMs.default(60_000),
        idle: timeoutMs.default(300_000),
      })
      .prefault({}),
  })
  .superRefine((value, context) => {
    const problem = (message: string): void => context.addIssue({ code: 'custom', path: ['base_url'], message });
    let url: URL;
    try {
      url = new URL(value.base_url);
    } catch {
      return problem('not a URL');
    }
    if (url.protocol !== 'https:' && url.protocol !== 'http:') problem('http or https only');
    if (url.username !== '' || url.password !== '') problem('no credentials in a URL: they are a secret');
    if (url.search !== '' || url.hash !== '') problem('no query and no fragment');
    const judged = judgeHost(url.hostname);
    if (judged.kind === 'invalid') problem('not a host');
    else if (judged.kind === 'private' && judged.range === 'metadata') {
      problem('this address hands out credentials of the machine; it is never an upstream');
    } else if (!value.allow_private_network) {
      if (judged.kind === 'private') {
        problem('this address is not on the public internet; set allow_private_network if that is meant');
      } else if (url.protocol === 'http:') {
        problem('https only: the secret would cross the public internet in clear');
      }
    }
  });
type Settings = z.infer<typeof settings>;
const parsed = parsedOnce<Settings>(settings);
const scopeNames = new WeakMap<Settings, string[]>();

const secret = z.strictObject({
  value: z
    .string()
    // Shorter ones cannot be kept out of answers: ordinary text would be masked with them.
    .min(MIN_SECRET_BYTES, `at least ${MIN_SECRET_BYTES} characters`)
    .max(8192)
    .regex(visibleAscii, 'printable ASCII only: it must fit a header')
    .refine(isTrimmed, 'no blanks before or behind it'),
});

const injected = (value: Settings, key: string): { in: 'header' | 'query'; name: string; value: string } => {
  if ('query' in value.inject) return { in: 'query', name: value.inject.query, value: key };
  if ('basic' in value.inject) {
    const pair = Buffer.from(`${value.inject.basic.username}:${key}`).toString('base64');
    return { in: 'header', name: 'Authorization', value: `Basic ${pair}` };
  }
  return { in: 'header', name: value.inject.header, value: value.inject.value.replace('{secret}', () => key) };
};

export const apiKeyProvider: Provider = {
  type: 'api-key',
  enforcement: () => 'gateway',
  settingsSchema: jsonSchemaOf(settings),
  checkSettings: (value) => checked<Record<string, unknown>>(settings, value, 'settings'),
  checkSecret: (value) => checked<Record<string, string> | undefined>(secret, value, 'secret'),
  secretDestination: (value) => new URL(parsed(value).base_url).origin,
  scopes: (value) => {
    const found = parsed(value);
    const names = scopeNames.get(found) ?? Object.keys(found.scopes);
    scopeNames.set(found, names);
    return names;
  },
  plan: () => ({ credentialType: 'gateway', handle: null }),
  mint: async () => ({ credential: { type: 'gateway' } }),
  // Nothing was made upstream: the fence is the whole revocation.
  revoke: async () => undefined,
  renew: async () => undefined,
  gatewayRules: (value, scope) => {
    const { scopes } = parsed(value);
    return Object.hasOwn(scopes, scope) ? (scopes[scope] ?? []) : [];
  },
  gatewayTarget: (connection, held) => {
    const value = parsed(connection.settings);
    const key = held.fields['value']?.reveal() ?? '';
    const inject = injected(value, key);
    return {
      baseUrl: value.base_url,
      allowPrivateNetwork: value.allow_private_network,
      inject,
      // The composed value too: `Basic …` does not contain the key as it is.
      secrets: [key, inject.value.replace(/^(?:Basic|Bearer) /, '')],
      timeouts: {
        connectMs: value.timeouts_ms.connect,
        headersMs: value.timeouts_ms.headers,
        idleMs: value.timeouts_ms.idle,
      },
    };
  },
};
