/** What an operator writes about a Vault: where it is, how Warder logs in, which paths agents may have secrets of. */
import { z } from 'zod';
import { isScopeName, scopeNameRule } from '../../../src/domain/names.ts';
import { judgeHost } from '../../../src/domain/network-address.ts';
import { isKvPath, isVaultPath, leavesVaultAlone, pathRule } from '../../vault/path.ts';
import type { VaultSite } from '../../vault/transport.ts';
import { asPem, authorities } from '../shared/certificates.ts';
import { parsedOnce } from '../shared/checking.ts';

const path = z.string().refine(isVaultPath, pathRule);
const mount = path.refine((text) => !/^sys(\/|$)/i.test(text), 'not a place where somebody logs in');

const auth = z.discriminatedUnion('method', [
  z.strictObject({ method: z.literal('token') }),
  z.strictObject({ method: z.literal('approle'), mount: mount.default('approle') }),
  z.strictObject({
    method: z.literal('kubernetes'),
    role: z.string().regex(/^[\w.-]{1,128}$/, 'the name of a role'),
    mount: mount.default('kubernetes'),
    jwt_path: z.string().max(500).default('/var/run/secrets/kubernetes.io/serviceaccount/token'),
  }),
]);

const parameterName = z.string().regex(/^[a-z][a-z0-9_-]{0,63}$/i, 'not the name of a parameter');
const parameter = z.union([z.string().max(4000), z.number(), z.boolean()]);
const parameters = z.record(parameterName, z.union([parameter, z.array(parameter).max(100)]));

const scope = z
  .strictObject({
    path: path.refine(leavesVaultAlone, 'not a path that Vault itself is managed by'),
    method: z.enum(['read', 'write']).default('read'),
    parameters: parameters.default({}),
    /** The parameter that tells the engine how long the secret shall live, where it takes one: `ttl` for `aws`. */
    ttl_parameter: parameterName.optional(),
  })
  .superRefine((value, context) => {
    const problem = (name: string, message: string): void =>
      context.addIssue({ code: 'custom', path: ['parameters', name], message });
    for (const [name, given] of Object.entries(value.parameters)) {
      if (value.method === 'read' && typeof given === 'object') problem(name, 'a list needs the method write');
      if (name === value.ttl_parameter) problem(name, 'is set by the grant: it is the ttl_parameter');
    }
  });
export type VaultScope = z.infer<typeof scope>;

/** A path of a KV value, or everything below one: `secret/data/warder/*`. */
const readable = z
  .string()
  .refine(
    (text) => isKvPath(text.replace(/\/\*$/, '/x')),
    `a path like secret/data/name or secret/data/team/*: ${pathRule}`,
  );

export const vaultSettings = z
  .strictObject({
    address: z.string().max(500),
    namespace: z
      .string()
      .max(200)
      .regex(/^[\w-]+(?:\/[\w-]+)*\/?$/, 'the path of a namespace: team-a/payments')
      .optional(),
    ca: authorities.optional(),
    allow_private_network: z.boolean().default(false),
    auth: auth.default({ method: 'token' }),
    child_tokens: z.boolean().default(true),
    child_policies: z
      .array(z.string().regex(/^[\w./-]{1,128}$/, 'the name of a policy'))
      .min(1)
      .max(50)
      .refine((names) => !names.includes('root'), 'never root')
      .optional(),
    scopes: z.record(z.string().refine(isScopeName, scopeNameRule), scope).default({}),
    readable: z.array(readable).max(500).default([]),
  })
  .superRefine((value, context) => {
    const problem = (field: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [field], message });
    judgeAddress(value, (message) => problem('address', message));
    if (value.child_policies && !value.child_tokens) problem('child_policies', 'only where child_tokens is true');
    if (Object.keys(value.scopes).length === 0 && value.readable.length === 0) {
      problem('scopes', 'at least one scope, or a readable path');
    }
  });
export type VaultSettings = z.infer<typeof vaultSettings>;
export const parsedVaultSettings = parsedOnce<VaultSettings>(vaultSettings);

const judgeAddress = (
  value: { address: string; allow_private_network: boolean },
  problem: (message: string) => void,
): void => {
  if (!URL.canParse(value.address)) {
    problem('not a URL');
    return;
  }
  const url = new URL(value.address);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    problem('https or http only');
    return;
  }
  // One spelling: it is compared to find out whether the token would go elsewhere.
  if (value.address.replace(/\/$/, '') !== url.origin)
    problem('scheme, host and port only: https://vault.example.com:8200');
  const judged = judgeHost(url.hostname);
  if (judged.kind === 'invalid') problem('not a host');
  else if (judged.kind === 'private' && judged.range === 'metadata') {
    problem('this address hands out credentials of the machine; it is never a Vault');
  } else if (!value.allow_private_network) {
    if (judged.kind === 'private') {
      problem('this address is not on the public internet; set allow_private_network if that is meant');
    } else if (url.protocol === 'http:') {
      problem('https only: the token would cross the public internet in clear');
    }
  }
};

export const siteOf = (value: VaultSettings): VaultSite => ({
  address: new URL(value.address).origin,
  namespace: value.namespace,
  ca: value.ca?.map(asPem),
  allowPrivateNetwork: value.allow_private_network,
});

/** @returns whether the value at this path may be a connection's secret */
export const mayBeRead = (value: VaultSettings, wanted: string): boolean =>
  isKvPath(wanted) &&
  value.readable.some((allowed) =>
    allowed.endsWith('/*') ? wanted.startsWith(allowed.slice(0, -1)) : wanted === allowed,
  );
