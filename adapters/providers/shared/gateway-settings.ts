/** What connections whose requests pass through the gateway have in common: where they go, and how a secret is put in. */
import { z } from 'zod';
import { compileRule } from '../../../src/domain/gateway-rules.ts';
import { judgeHost } from '../../../src/domain/network-address.ts';
import type { GatewayTarget } from '../../../src/ports/provider.ts';

const headerName = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/;
/** Headers that frame or route a message: a secret in one of them would change what the upstream takes it for. */
const framing = new Set([
  ...['host', 'content-length', 'transfer-encoding', 'connection', 'keep-alive', 'upgrade', 'te', 'trailer', 'expect'],
  // The gateway's own, so that it can look into the answer.
  'accept-encoding',
]);
export const visibleAscii = /^[\x20-\x7e]+$/;
/** Blanks around a field's value are not part of it (RFC 9110 section 5.5): the upstream would see another secret. */
export const isTrimmed = (text: string): boolean => text.trim() === text;

const template = z
  .string()
  .max(1000)
  .regex(visibleAscii, 'printable ASCII only')
  .refine(isTrimmed, 'no blanks before or behind it')
  .refine((text) => text.split('{secret}').length === 2, 'must contain {secret} exactly once');

/** How a secret is put into a request, without a default. */
export const injection = z.union(
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

/** What a scope allows. */
export const rules = z.array(rule).min(1).max(200);

/** How the secret is put into a request. */
export const inject = injection.default({ header: 'Authorization', value: 'Bearer {secret}' });

const timeoutMs = z.int().min(1).max(3_600_000);
export const timeouts = z
  .strictObject({
    connect: timeoutMs.default(5_000),
    headers: timeoutMs.default(60_000),
    idle: timeoutMs.default(300_000),
  })
  .prefault({});

/** @returns what is wrong with an address that secrets are sent to */
export const addressProblems = (text: string, allowPrivateNetwork: boolean): string[] => {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return ['not a URL'];
  }
  const problems: string[] = [];
  if (url.protocol !== 'https:' && url.protocol !== 'http:') problems.push('http or https only');
  if (url.username !== '' || url.password !== '') problems.push('no credentials in a URL: they are a secret');
  if (url.search !== '' || url.hash !== '') problems.push('no query and no fragment');
  const judged = judgeHost(url.hostname);
  if (judged.kind === 'invalid') problems.push('not a host');
  else if (judged.kind === 'private' && judged.range === 'metadata') {
    problems.push('this address hands out credentials of the machine; it is never an upstream');
  } else if (!allowPrivateNetwork) {
    if (judged.kind === 'private') {
      problems.push('this address is not on the public internet; set allow_private_network if that is meant');
    } else if (url.protocol === 'http:') {
      problems.push('https only: the secret would cross the public internet in clear');
    }
  }
  return problems;
};

/** For the settings of a connection with a `base_url`. */
export const judgeBaseUrl = (
  value: { base_url: string; allow_private_network: boolean },
  context: z.RefinementCtx,
): void => {
  for (const message of addressProblems(value.base_url, value.allow_private_network)) {
    context.addIssue({ code: 'custom', path: ['base_url'], message });
  }
};

/** What the gateway needs of settings. */
export interface GatewaySettings {
  base_url: string;
  inject: z.infer<typeof inject>;
  allow_private_network: boolean;
  timeouts_ms: z.infer<typeof timeouts>;
}

/** Where in a request a secret goes, and as what. */
export const injected = (how: GatewaySettings['inject'], secret: string): GatewayTarget['inject'] => {
  if ('query' in how) return { in: 'query', name: how.query, value: secret };
  if ('basic' in how) {
    const pair = Buffer.from(`${how.basic.username}:${secret}`).toString('base64');
    return { in: 'header', name: 'Authorization', value: `Basic ${pair}` };
  }
  return { in: 'header', name: how.header, value: how.value.replace('{secret}', () => secret) };
};

/** Where requests go, with this secret put in. */
export const targetOf = (settings: GatewaySettings, secret: string): GatewayTarget => {
  const inject = injected(settings.inject, secret);
  return {
    baseUrl: settings.base_url,
    allowPrivateNetwork: settings.allow_private_network,
    inject,
    // The composed value too: `Basic …` does not contain the secret as it is.
    secrets: [secret, inject.value.replace(/^(?:Basic|Bearer) /, '')],
    timeouts: {
      connectMs: settings.timeouts_ms.connect,
      headersMs: settings.timeouts_ms.headers,
      idleMs: settings.timeouts_ms.idle,
    },
  };
};
