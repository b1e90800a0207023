/** What a scope of an `ssh` connection permits: as whom, with which options. Everything here was written by somebody. */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import { isScopeName, scopeNameRule } from '../../../src/domain/names.ts';

/** What an account may be called, and nothing that a list, a file of principals or a shell reads otherwise. */
const plainPrincipal = /^[A-Za-z0-9_][A-Za-z0-9_.@:+-]{0,127}$/;
const placeholder = /\{(agent|subject)\}/g;

const principal = z
  .string()
  .max(64)
  .superRefine((text, context) => {
    const problem = (message: string): void => context.addIssue({ code: 'custom', message });
    const names = text.match(placeholder) ?? [];
    const literal = text.replace(placeholder, '');
    if (!plainPrincipal.test(text.replace(placeholder, 'x'))) {
      return problem('letters, digits and _ . @ : + -, at most 64; {agent} or {subject} where a name is put in');
    }
    if (names.length > 1) return problem('one placeholder at most: two names run into each other');
    // Or an agent called `root`, or a subject that another system named so, would be root.
    if (names.length === 1 && !/[_.@:+-]/.test(literal)) {
      return problem('beside a placeholder something that no account is called like, as in agent-{agent}');
    }
  });

/** sshd-session's own, and what vendors add: `login@github.com=NAME`. */
const standardExtensions = [
  ...['permit-X11-forwarding', 'permit-agent-forwarding', 'permit-port-forwarding', 'permit-pty', 'permit-user-rc'],
] as const;
const vendorExtension = /^[a-z0-9][a-z0-9-]{0,60}@[a-z0-9][a-z0-9.-]{0,100}(?:=[\x21-\x7e]{1,200})?$/;

const extension = z
  .string()
  .max(400)
  .refine(
    (text) => standardExtensions.some((name) => name === text) || vendorExtension.test(text),
    `one of ${standardExtensions.join(', ')}, or a vendor's name@domain=value`,
  );
const nameOf = (text: string): string => text.split('=', 1)[0] ?? text;

/** sshd refuses a certificate whose addresses have bits set behind their prefix. */
const isNetwork = (text: string): boolean => {
  const [address = '', prefix, more] = text.split('/');
  const version = isIP(address);
  if (version === 0 || more !== undefined || address.includes('%')) return false;
  if (prefix === undefined) return true;
  if (!/^(?:0|[1-9][0-9]{0,2})$/.test(prefix) || Number(prefix) > (version === 4 ? 32 : 128)) return false;
  const family = version === 4 ? ipaddr.IPv4 : ipaddr.IPv6;
  return family.networkAddressFromCIDR(text).toNormalizedString() === ipaddr.parse(address).toNormalizedString();
};

const criticalOptions = z.strictObject({
  'force-command': z
    .string()
    .min(1)
    .max(2000)
    .regex(/^[\x20-\x7e]+$/, 'one line of printable ASCII')
    .optional(),
  'source-address': z
    .array(z.string().max(60).refine(isNetwork, 'an address, or a network in CIDR form without bits behind its prefix'))
    .min(1)
    .max(50)
    .optional(),
});

const scope = z.strictObject({
  principals: z
    .array(principal)
    .min(1)
    .max(64)
    .refine((list) => new Set(list).size === list.length, 'a principal is named twice'),
  extensions: z
    .array(extension)
    .max(20)
    .refine((list) => new Set(list.map(nameOf)).size === list.length, 'an extension is named twice')
    .transform((list) => list.toSorted())
    .default(['permit-pty']),
  critical_options: criticalOptions.default({}),
});
export type Scope = z.infer<typeof scope>;

export const sshSettings = z.strictObject({
  scopes: z
    .record(z.string().refine(isScopeName, scopeNameRule), scope)
    .refine((scopes) => Object.keys(scopes).length > 0, 'at least one scope'),
  /** Told to the agent with its certificate; Warder itself connects nowhere. */
  host: z
    .string()
    .regex(/^[A-Za-z0-9.:-]{1,253}$/, 'the name or address of a host')
    .optional(),
  port: z.int().min(1).max(65_535).default(22),
});

/** @returns the principals of these scopes with names put in, and what stands in the way of that */
export const principalsOf = (
  scopes: readonly Scope[],
  names: { agent: string; subject: string | null },
): { principals: string[]; problems: string[] } => {
  const problems = new Set<string>();
  const filled = scopes.flatMap(({ principals }) =>
    principals.map((text) => {
      if (text.includes('{subject}') && names.subject === null) {
        problems.add('scopes: these are for acting as a person, and the grant names none');
      }
      const name = text.replace(placeholder, (_, which) => (which === 'agent' ? names.agent : (names.subject ?? '')));
      // Refused, never cleaned: two names that are cleaned alike would be one account.
      if (!plainPrincipal.test(name)) problems.add('scopes: the name of the agent or subject does not fit a principal');
      return name;
    }),
  );
  return { principals: [...new Set(filled)].sort(), problems: [...problems] };
};
