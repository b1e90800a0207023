/**
 * Providers for tests that really create something: accounts in a service of another process (upstream-service.ts).
 *
 * - `test-account`: the account's name is planned before it is made.
 * - `test-lease`: learns a lease id while minting; from then on only the lease ends what was made.
 * - `test-rotating`: its secret is a refresh token that each mint redeems for the next one.
 */
import { fileURLToPath } from 'node:url';
import {
  type Handle,
  type MintRequest,
  type Provider,
  type ProviderContext,
  ProviderFailure,
} from '../../src/ports/provider.ts';
import { type Child, runScript } from '../faults/child-process.ts';
import { eventually } from './eventually.ts';
import type { UpstreamKey } from './upstream-keys.ts';
import type { Account, Behaviour, UpstreamOperation, UpstreamStats } from './upstream-service.ts';

export interface Upstream {
  url: string;
  behave(operation: UpstreamOperation, behaviour: Behaviour): Promise<void>;
  /** Lets go on what `hold` holds. */
  release(): Promise<void>;
  /** Resolves when so many requests are held. */
  held(count: number): Promise<void>;
  accounts(): Promise<Account[]>;
  stats(): Promise<UpstreamStats>;
  /** The keys it accepts; with one given, that one from now on, too. */
  keys(add?: UpstreamKey): Promise<UpstreamKey[]>;
  /** @returns the upstream's status: 200 works, 401 no such account, 403 not this scope */
  use(credential: unknown, scope: string): Promise<number>;
  /** Forgets everything but the refresh token. */
  reset(): Promise<void>;
  stop(): Promise<void>;
}

export const startUpstream = async (port = 0): Promise<Upstream> => {
  const child: Child = runScript(fileURLToPath(new URL('./upstream-service.ts', import.meta.url)), String(port));
  const url = await child.line('http');
  const control = async (what: string, body: object = {}): Promise<Response> =>
    fetch(`${url}/control/${what}`, { method: 'POST', body: JSON.stringify(body) });
  const upstream: Upstream = {
    url,
    behave: async (operation, behaviour) => void (await control('behaviour', { [operation]: behaviour })),
    release: async () => void (await control('release')),
    held: async (count) => {
      await eventually(`${count} requests are held`, upstream.stats, (stats) => stats.held >= count);
    },
    accounts: async () => (await (await control('accounts')).json()) as Account[],
    stats: async () => (await (await control('stats')).json()) as UpstreamStats,
    keys: async (add) => (await (await control('keys', add)).json()) as UpstreamKey[],
    use: async (credential, scope) => {
      const { username, password } = accountOf(credential);
      const body = JSON.stringify({ password, scope });
      return (await fetch(`${url}/use/${encodeURIComponent(username)}`, { method: 'POST', body })).status;
    },
    reset: async () => void (await control('reset')),
    stop: async () => {
      child.process.kill('SIGKILL');
      await child.ended;
    },
  };
  return upstream;
};

/** A credential as the agent got it, whichever of the two types it has. */
const accountOf = (credential: unknown): { username: string; password: string } => {
  const given = credential as { username?: string; password?: string; token?: string };
  const [username = '', password = ''] = given.token?.split('.') ?? [given.username ?? '', given.password ?? ''];
  return { username, password };
};

export const callUpstream = async (
  context: Pick<ProviderContext, 'signal'>,
  url: unknown,
  operation: UpstreamOperation | 'reserve',
  target: string,
  body: object,
): Promise<{ status: number; body: Record<string, unknown> }> => {
  let response: Response;
  let text: string;
  try {
    response = await fetch(`${url}/${operation}/${encodeURIComponent(target)}`, {
      method: 'POST',
      body: JSON.stringify(body),
      signal: context.signal,
    });
    text = await response.text();
  } catch (error) {
    const late = context.signal.aborted;
    throw new ProviderFailure(late ? 'timeout' : 'unavailable', 'the test upstream did not answer', { cause: error });
  }
  const { status } = response;
  if (status >= 500) throw new ProviderFailure('unavailable', `the test upstream answered ${status}`);
  if (text === '') return { status, body: {} };
  try {
    return { status, body: JSON.parse(text) };
  } catch {
    throw new ProviderFailure('unavailable', 'the test upstream answered nonsense');
  }
};

/** @throws ProviderFailure `refused` for any status but these */
export const doneWith = ({ status }: { status: number }, ...fine: number[]): void => {
  if (!fine.includes(status)) throw new ProviderFailure('refused', `the test upstream answered ${status}`);
};

const stringList = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

type Variant = 'test-account' | 'test-lease' | 'test-rotating';

/** Redemptions are one after another: a refresh token is worth nothing once it was used. */
const redeeming = new Map<string, Promise<unknown>>();
const inTurn = async <T>(key: string, work: () => Promise<T>): Promise<T> => {
  const before = redeeming.get(key) ?? Promise.resolve();
  const mine = before.then(work, work);
  redeeming.set(key, mine);
  return mine;
};

const redeem = async (context: ProviderContext, url: unknown): Promise<void> => {
  const secret = await context.secret();
  if (!secret) throw new ProviderFailure('refused', 'there is no refresh token');
  const answer = await callUpstream(context, url, 'redeem', 'token', { refresh: secret.fields['refresh']?.reveal() });
  doneWith(answer, 200);
  const kept = await context.replaceSecret(secret.version, { refresh: String(answer.body['refresh']) });
  if (kept === undefined) throw new ProviderFailure('refused', 'the refresh token was replaced meanwhile');
};

const mint = async (variant: Variant, request: MintRequest, handle: Handle | null, context: ProviderContext) => {
  const { url, credential } = request.connection.settings;
  const name = String(handle?.['account']);
  const wanted = { scopes: request.scopes, expires_at: request.expiresAt };
  if (variant === 'test-rotating') await inTurn(request.connection.id, () => redeem(context, url));
  let target = name;
  if (variant === 'test-lease') {
    const reserved = await callUpstream(context, url, 'reserve', name, {});
    doneWith(reserved, 201);
    target = String(reserved.body['lease']);
    await context.journal({ account: name, lease: target });
  }
  const made = await callUpstream(context, url, 'create', target, wanted);
  doneWith(made, 201);
  const { password } = made.body as { password?: unknown };
  if (typeof password !== 'string') throw new ProviderFailure('unavailable', 'the test upstream answered nonsense');
  const bearer = credential === 'bearer';
  return {
    credential: bearer
      ? { type: 'bearer', token: `${name}.${password}` }
      : { type: 'account', username: name, password },
  };
};

const targetOf = (handle: Handle | null): string => String(handle?.['lease'] ?? handle?.['account']);

const provider = (variant: Variant): Provider => ({
  type: variant,
  enforcement: () => 'upstream',
  settingsSchema: { type: 'object' },
  checkSettings: (settings) => ({ ok: true, value: { ...(settings as object) } }),
  checkSecret: (secret) => {
    if (variant !== 'test-rotating') {
      return secret === undefined ? { ok: true, value: undefined } : { ok: false, problems: ['secret: none is taken'] };
    }
    const given = secret as { refresh?: unknown } | undefined;
    if (typeof given?.refresh !== 'string') return { ok: false, problems: ['secret.refresh: a string'] };
    return { ok: true, value: { refresh: given.refresh } };
  },
  scopes: (settings) => stringList(settings['scopes']),
  plan: (request) => ({
    credentialType: request.connection.settings['credential'] === 'bearer' ? 'bearer' : 'account',
    handle: { account: `wdr_${request.grantId}` },
  }),
  mint: (request, plan, context) => mint(variant, request, plan.handle, context),
  revoke: async ({ handle }, connection, context) =>
    doneWith(await callUpstream(context, connection.settings['url'], 'delete', targetOf(handle), {}), 204, 404),
  renew: async ({ handle }, connection, expiresAt, context) =>
    doneWith(
      await callUpstream(context, connection.settings['url'], 'renew', targetOf(handle), { expires_at: expiresAt }),
      200,
    ),
});

/** All three: what a broker of the tests brings beside the registry's. */
export const upstreamProviders: readonly Provider[] = [
  provider('test-account'),
  provider('test-lease'),
  provider('test-rotating'),
];

/** The grant an account was made for. */
export const grantOf = (account: Pick<Account, 'name'>): string => account.name.slice('wdr_'.length);
