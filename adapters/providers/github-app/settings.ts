/** What an operator writes of a `github-app` connection, and what its scopes amount to together. */
import { z } from 'zod';
import { isScopeName, scopeNameRule } from '../../../src/domain/names.ts';
import { Refused } from '../../../src/domain/refusals.ts';
import { parsedOnce } from '../shared/checking.ts';
import { minModulusBits, rsaPrivateKey } from '../shared/rsa-key.ts';
import { upstreamUrl, upstreamUrlProblem } from '../shared/upstream-url.ts';

/** In rising order: each includes those before it. */
const levels = ['read', 'write', 'admin'] as const;
export type Level = (typeof levels)[number];
export type Permissions = Record<string, Level>;

export const includes = (held: string, asked: string): boolean =>
  levels.indexOf(asked as Level) >= 0 && levels.indexOf(asked as Level) <= levels.indexOf(held as Level);

/** GitHub takes at most 500 repositories for a token. */
const maxRepositories = 500;
const id = z.int().min(1);
/** `owner/name`, as GitHub spells them: the name cannot be `.` or `..`, and no segment reaches a URL. */
const repository = z
  .string()
  .max(140)
  .regex(
    /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})(?:_[A-Za-z0-9]{1,39})?\/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}$/,
    'not OWNER/NAME',
  );

const distinct = (values: readonly (string | number)[]): boolean =>
  new Set(values.map((value) => String(value).toLowerCase())).size === values.length;
const ownerOf = (name: string): string => name.slice(0, name.indexOf('/')).toLowerCase();

const scope = z
  .strictObject({
    permissions: z
      .record(z.string().regex(/^[a-z][a-z_]{0,63}$/, 'not the name of a permission'), z.enum(levels))
      .refine((permissions) => Object.keys(permissions).length > 0, 'at least one permission'),
    repositories: z
      .union([z.literal('all'), z.array(repository).min(1).max(maxRepositories)], {
        error: `"all", or 1 to ${maxRepositories} names OWNER/NAME`,
      })
      .optional(),
    repository_ids: z.array(id).min(1).max(maxRepositories).optional(),
  })
  .superRefine(({ repositories, repository_ids: ids }, context) => {
    const problem = (message: string): void => context.addIssue({ code: 'custom', message });
    if ((repositories === undefined) === (ids === undefined)) {
      problem('one of repositories and repository_ids; repositories: all for every one of the installation');
    }
    const named = repositories ?? ids ?? [];
    if (named === 'all') return;
    if (!distinct(named)) problem('a repository is named twice');
    if (new Set((Array.isArray(repositories) ? repositories : []).map(ownerOf)).size > 1) {
      problem('an installation belongs to one owner: the repositories must, too');
    }
  });
type Scope = z.infer<typeof scope>;

export const settings = z
  .strictObject({
    app_id: id.optional(),
    client_id: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,100}$/, 'not a client ID')
      .optional(),
    installation_id: id,
    base_url: upstreamUrl.default('https://api.github.com'),
    allow_private_network: z.boolean().default(false),
    scopes: z
      .record(z.string().refine(isScopeName, scopeNameRule), scope)
      .refine((scopes) => Object.keys(scopes).length > 0, 'at least one scope'),
  })
  .superRefine((value, context) => {
    if ((value.app_id === undefined) === (value.client_id === undefined)) {
      context.addIssue({ code: 'custom', message: 'one of app_id and client_id', path: ['app_id'] });
    }
    const message = upstreamUrlProblem(value.base_url, value.allow_private_network);
    if (message !== undefined) context.addIssue({ code: 'custom', message, path: ['base_url'] });
  });
export type Settings = z.infer<typeof settings>;
export const parsed = parsedOnce<Settings>(settings);

export const secret = z.strictObject({
  private_key: z
    .string()
    .max(16_384)
    .refine(
      (text) => /^-----BEGIN (?:RSA )?PRIVATE KEY-----\r?\n/.test(text) && rsaPrivateKey(text) !== undefined,
      `not an unencrypted RSA private key of at least ${minModulusBits} bits in PEM, as GitHub hands out`,
    ),
});

/** What a token is asked for. */
export interface Asked {
  permissions: Permissions;
  repositories: 'all' | { names: string[] } | { ids: number[] };
}

const repositoriesOf = ({ repositories, repository_ids: ids }: Scope): Asked['repositories'] => {
  if (repositories === 'all') return 'all';
  return repositories ? { names: repositories } : { ids: ids ?? [] };
};

const canonical = (repositories: Asked['repositories']): string => {
  if (repositories === 'all') return 'all';
  return 'ids' in repositories
    ? `ids ${[...repositories.ids].sort((a, b) => a - b)}`
    : `names ${repositories.names.map((name) => name.toLowerCase()).sort()}`;
};

/**
 * Several scopes in one token: of each permission the higher level. A token has one set of repositories for all its
 * permissions, so scopes over different ones would each gain the other's, and are refused.
 * @throws Refused `scope_not_allowed`
 */
export const combined = ({ scopes }: Settings, names: readonly string[]): Asked => {
  const chosen = names.map((name) => (Object.hasOwn(scopes, name) ? scopes[name] : undefined));
  const [first] = chosen;
  if (!first || chosen.includes(undefined)) throw new Refused('scope_not_allowed', 'this connection has no such scope');
  const repositories = repositoriesOf(first);
  const permissions: Permissions = {};
  for (const one of chosen) {
    if (!one) continue;
    if (canonical(repositoriesOf(one)) !== canonical(repositories)) {
      throw new Refused(
        'scope_not_allowed',
        'these scopes are for different repositories, and one GitHub token would give each of them the other’s; ask for a grant each',
      );
    }
    for (const [name, level] of Object.entries(one.permissions)) {
      if (!includes(permissions[name] ?? '', level)) permissions[name] = level;
    }
  }
  return { permissions, repositories };
};
