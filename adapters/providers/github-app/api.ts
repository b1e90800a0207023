/** The two calls of GitHub's API that `github-app` makes, and what their answers mean. */
import { SignJWT } from 'jose';
import { z } from 'zod';
import type { SecretText } from '../../../src/domain/secret-text.ts';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import { callJson, type JsonAnswer } from '../shared/json-call.ts';
import { rsaPrivateKey } from '../shared/rsa-key.ts';
import { withoutSlash } from '../shared/upstream-url.ts';
import { type Asked, includes, type Settings } from './settings.ts';

type Fetch = typeof globalThis.fetch;

/** GitHub advises a minute for clocks that differ, and takes assertions of at most ten minutes; this one is used at once. */
const assertionSeconds = { past: 60, future: 120 };
/** Above this the clocks are the likeliest reason for a 401. */
const clockToleranceMs = 50_000;

/** Proves to be the App: docs.github.com "Generating a JSON Web Token (JWT) for a GitHub App". */
const appAssertion = async (settings: Settings, privateKey: SecretText, now: number): Promise<string> => {
  const seconds = Math.floor(now / 1000);
  // It was checked when it was set; a secret that is read from elsewhere at each use was not.
  const key = rsaPrivateKey(privateKey.reveal());
  if (!key) throw new ProviderFailure('refused', 'the secret of this connection is not a private key');
  return new SignJWT()
    .setProtectedHeader({ alg: 'RS256', typ: 'JWT' })
    .setIssuer(String(settings.app_id ?? settings.client_id))
    .setIssuedAt(seconds - assertionSeconds.past)
    .setExpirationTime(seconds + assertionSeconds.future)
    .sign(key);
};

const headersFor = (bearer: string): Record<string, string> => ({
  accept: 'application/vnd.github+json',
  authorization: `Bearer ${bearer}`,
  'user-agent': 'warder',
  'x-github-api-version': '2022-11-28',
});

// What goes into a header, and nothing that could end one.
const tokenOnly = z.object({ token: z.string().regex(/^[\x21-\x7e]{20,1000}$/) });
const tokenAnswer = z.object({
  expires_at: z.iso.datetime({ offset: true }),
  permissions: z.record(z.string(), z.string()),
  repository_selection: z.enum(['all', 'selected']),
  repositories: z.array(z.object({ id: z.number(), full_name: z.string() })).optional(),
});

export interface InstallationToken {
  token: string;
  /** What it can do; undefined when that is more than was asked for, or cannot be told from the answer. */
  narrow:
    | {
        /** Milliseconds since the epoch, by GitHub's clock. */
        expiresAt: number;
        permissions: Record<string, string>;
        /** `owner/name`; null = all of the installation. */
        repositories: string[] | null;
      }
    | undefined;
}

const isNarrow = (answer: z.infer<typeof tokenAnswer>, asked: Asked): boolean => {
  const permitted = Object.entries(answer.permissions).every(
    // GitHub adds `metadata: read` to every token: names and visibility of the repositories it is for.
    ([name, level]) => includes(asked.permissions[name] ?? '', level) || (name === 'metadata' && level === 'read'),
  );
  if (asked.repositories === 'all') return permitted;
  if (answer.repository_selection !== 'selected' || !answer.repositories) return false;
  const wanted = new Set<string | number>(
    'ids' in asked.repositories ? asked.repositories.ids : asked.repositories.names.map((name) => name.toLowerCase()),
  );
  const byId = 'ids' in asked.repositories;
  return permitted && answer.repositories.every((one) => wanted.has(byId ? one.id : one.full_name.toLowerCase()));
};

const isRateLimit = ({ status, headers }: JsonAnswer): boolean =>
  status === 429 || (status === 403 && (headers.has('retry-after') || headers.get('x-ratelimit-remaining') === '0'));

/** What GitHub's refusal of a token means; its own words stay where they are. */
const failureOf = (answer: JsonAnswer, now: number): ProviderFailure => {
  const refused = (message: string): ProviderFailure => new ProviderFailure('refused', message);
  const { status, headers } = answer;
  if (isRateLimit(answer)) return new ProviderFailure('unavailable', 'GitHub’s rate limit is reached; try again later');
  switch (status) {
    case 401: {
      const theirs = Date.parse(headers.get('date') ?? '');
      return Math.abs(theirs - now) > clockToleranceMs
        ? refused('GitHub did not accept the App’s key: the clocks of Warder and GitHub differ')
        : refused('GitHub did not accept the App’s key');
    }
    case 403:
      return refused('GitHub forbids it: the installation is suspended, or may not be used from here');
    case 404:
      return refused('GitHub knows no such installation of this App');
    case 422:
      return refused('GitHub refuses it: a repository or a permission is not the installation’s');
    default:
      return status >= 400 && status < 500
        ? refused('GitHub refused it')
        : new ProviderFailure('unavailable', 'GitHub failed');
  }
};

/**
 * `POST /app/installations/{id}/access_tokens`. Each call makes a token of its own.
 * @throws ProviderFailure
 */
export const createInstallationToken = async (
  fetch: Fetch,
  settings: Settings,
  privateKey: SecretText,
  asked: Asked,
  context: { now(): number; signal: AbortSignal },
): Promise<InstallationToken> => {
  const { repositories } = asked;
  const narrowed =
    repositories === 'all'
      ? {}
      : 'ids' in repositories
        ? { repository_ids: repositories.ids }
        : { repositories: repositories.names.map((name) => name.slice(name.indexOf('/') + 1)) };
  const answer = await callJson(
    fetch,
    {
      upstream: 'GitHub',
      method: 'POST',
      url: `${withoutSlash(settings.base_url)}/app/installations/${settings.installation_id}/access_tokens`,
      headers: {
        ...headersFor(await appAssertion(settings, privateKey, context.now())),
        'content-type': 'application/json',
      },
      body: JSON.stringify({ ...narrowed, permissions: asked.permissions }),
    },
    context.signal,
  );
  if (answer.status !== 201) throw failureOf(answer, context.now());
  const bare = tokenOnly.safeParse(answer.body);
  if (!bare.success) throw new ProviderFailure('unavailable', 'the answer is not one that GitHub gives');
  const { token } = bare.data;
  const read = tokenAnswer.safeParse(answer.body);
  if (!read.success || !isNarrow(read.data, asked)) return { token, narrow: undefined };
  const { expires_at: expiresAt, permissions, repository_selection: selection, repositories: given } = read.data;
  return {
    token,
    narrow: {
      expiresAt: Date.parse(expiresAt),
      permissions,
      repositories: selection === 'all' ? null : (given ?? []).map((one) => one.full_name),
    },
  };
};

/** Of a token that was deleted or has expired. Another 401 may come from something on the way. */
const deadToken = z.object({ message: z.literal('Bad credentials') });

/**
 * `DELETE /installation/token`, with the token itself.
 * @throws ProviderFailure unless the token is dead afterwards
 */
export const deleteInstallationToken = async (
  fetch: Fetch,
  baseUrl: string,
  token: SecretText,
  signal: AbortSignal,
): Promise<void> => {
  const answer = await callJson(
    fetch,
    {
      upstream: 'GitHub',
      method: 'DELETE',
      url: `${withoutSlash(baseUrl)}/installation/token`,
      headers: headersFor(token.reveal()),
    },
    signal,
  );
  if (answer.status === 204) return;
  if (answer.status === 401 && deadToken.safeParse(answer.body).success) return;
  throw new ProviderFailure('unavailable', 'GitHub did not take the token back');
};
