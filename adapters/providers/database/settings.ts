/** What the settings of every database connection have: where it is, how it is spoken to, whose password opens it. */
import { isIP } from 'node:net';
import { z } from 'zod';
import { judgeHost } from '../../../src/domain/network-address.ts';
import { type Handle, ProviderFailure } from '../../../src/ports/provider.ts';
import { asPem, authorities } from '../shared/certificates.ts';

export const databaseAddress = (port: number) => ({
  host: z.string().min(1).max(255),
  port: z.int().min(1).max(65_535).default(port),
  tls: z
    .strictObject({
      mode: z.enum(['verify-full', 'require', 'disable']).default('verify-full'),
      ca: authorities.optional(),
    })
    .prefault({}),
  allow_private_network: z.boolean().default(false),
});

export interface DatabaseAddress {
  host: string;
  port: number;
  tls: { mode: 'verify-full' | 'require' | 'disable'; ca?: string[] | undefined };
  allow_private_network: boolean;
}

/** How the database is spoken to, with its authorities in PEM: for the driver, and for whoever gets a credential. */
export const tlsOf = ({ tls: { mode, ca } }: DatabaseAddress) =>
  ca === undefined ? { mode } : { mode, ca: ca.map(asPem).join('') };

/** Adds what is wrong with the address. */
export const judgeDatabaseAddress = (value: DatabaseAddress, context: z.RefinementCtx): void => {
  const problem = (path: string[], message: string): void => context.addIssue({ code: 'custom', path, message });
  const judged = judgeHost(isIP(value.host) === 6 ? `[${value.host}]` : value.host);
  if (judged.kind === 'invalid') problem(['host'], 'not a host; in lower case, without a port');
  else if (judged.kind === 'private' && judged.range === 'metadata') {
    problem(['host'], 'this address hands out credentials of the machine; it is never an upstream');
  } else if (judged.kind === 'private' && !value.allow_private_network) {
    problem(['host'], 'this address is not on the public internet; set allow_private_network if that is meant');
  }
  if (value.tls.mode !== 'verify-full' && !value.allow_private_network) {
    // Without a verified certificate whoever stands between is the database, and is given the password.
    problem(['tls', 'mode'], 'verify-full only, on the public internet; a certificate of your own goes into tls.ca');
  }
  if (value.tls.mode !== 'verify-full' && value.tls.ca !== undefined) {
    problem(['tls', 'ca'], 'only verify-full looks at it');
  }
};

/** `host:port`, with brackets where the host is an IPv6 address. */
export const hostAndPort = ({ host, port }: { host: string; port: number }): string =>
  `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;

/**
 * For what was looked for in order to end it and is not there: gone, unless the settings lead to another server by now,
 * which has never heard of it.
 * @param handle its `at` says where it was made
 * @throws ProviderFailure `refused`
 */
export const requireMadeAt = (handle: Handle | null, settings: { host: string; port: number }): void => {
  const at = handle?.['at'];
  if (at === undefined || at === hostAndPort(settings)) return;
  throw new ProviderFailure('refused', 'this was made at another server than the connection is to now');
};

/** NUL ends a string in both protocols: what follows would be sent, and not read. */
export const noNul = (text: string): boolean => !text.includes('\0');

/** The account Warder itself logs in with. */
export const adminSecret = z.strictObject({
  username: z.string().min(1).max(128).refine(noNul, 'no NUL'),
  password: z.string().min(1).max(1024).refine(noNul, 'no NUL'),
});

/** The longest that what is made may be called before the 26 characters of the grant's id; see each database. */
export const accountPrefix = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[a-z][a-z0-9_]*$/, 'lower-case letters, digits and "_", beginning with a letter')
    .default('wdr_');

const placeholder = /\{\{([^{}]*)\}\}/g;

/**
 * Statements an operator wrote, with placeholders. What is put in for them has no quote, backslash or blank in it,
 * whatever it is (see each database), so that it means the same within any kind of quotes and without.
 */
export const statements = (placeholders: readonly string[]) =>
  z
    .array(
      z
        .string()
        .min(1)
        .max(10_000)
        .refine(noNul, 'no NUL')
        .superRefine((text, context) => {
          for (const [, name = ''] of text.matchAll(placeholder)) {
            if (placeholders.includes(name)) continue;
            context.addIssue({
              code: 'custom',
              message: `only ${placeholders.map((one) => `{{${one}}}`).join(', ')} are filled in`,
            });
          }
        }),
    )
    .min(1)
    .max(50);

/** @throws Error for a placeholder without a value: settings were checked, so this is a mistake of ours */
export const filledIn = (statement: string, values: Readonly<Record<string, string>>): string =>
  statement.replaceAll(placeholder, (_, name: string) => {
    const value = Object.hasOwn(values, name) ? values[name] : undefined;
    if (value === undefined || !/^[A-Za-z0-9_.:+/=$@%-]*$/.test(value.replaceAll(' ', '')))
      throw new Error(`no safe value for {{${name}}}`);
    return value;
  });
