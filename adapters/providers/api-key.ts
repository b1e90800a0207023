/**
 * `api-key`: a service that knows one long-lived key. It cannot narrow it, so the agent never gets it: requests go
 * through the gateway, which lets pass what the scope's rules allow and puts the key in.
 */
import { z } from 'zod';
import { isScopeName, scopeNameRule } from '../../src/domain/names.ts';
import { MIN_SECRET_BYTES } from '../../src/domain/secret-mask.ts';
import type { Provider } from '../../src/ports/provider.ts';
import type { MethodParts } from '../rotation/method.ts';
import { present, rotationFields } from '../rotation/subject.ts';
import { apiKeyRotation } from './api-key/rotation.ts';
import { checked, jsonSchemaOf, parsedOnce } from './shared/checking.ts';
import { inject, isTrimmed, judgeBaseUrl, rules, targetOf, timeouts, visibleAscii } from './shared/gateway-settings.ts';

const settings = z
  .strictObject({
    base_url: z.string().max(2000),
    inject,
    scopes: z
      .record(z.string().refine(isScopeName, scopeNameRule), rules)
      .refine((scopes) => Object.keys(scopes).length > 0, 'at least one scope'),
    allow_private_network: z.boolean().default(false),
    timeouts_ms: timeouts,
  })
  .superRefine(judgeBaseUrl);
type Settings = z.infer<typeof settings>;
const parsed = parsedOnce<Settings>(settings);
const scopeNames = new WeakMap<Settings, string[]>();

const secret = z
  .strictObject({
    value: z
      .string()
      // Shorter ones cannot be kept out of answers: ordinary text would be masked with them.
      .min(MIN_SECRET_BYTES, `at least ${MIN_SECRET_BYTES} characters`)
      .max(8192)
      .regex(visibleAscii, 'printable ASCII only: it must fit a header')
      .refine(isTrimmed, 'no blanks before or behind it'),
    ...rotationFields,
  })
  .transform(present);

/** What needs nothing of the outside; {@link openApiKeyProvider} can rotate as well. */
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
    const key = held.fields['value']?.reveal() ?? '';
    return targetOf(parsed(connection.settings), key);
  },
};

export const openApiKeyProvider = (parts: MethodParts): Provider => ({
  ...apiKeyProvider,
  rotation: apiKeyRotation(parsed, apiKeyProvider.checkSecret, parts),
});
