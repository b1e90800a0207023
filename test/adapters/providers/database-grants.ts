/** Calls a database provider as the issuance cycle does, without a broker: for what a provider must keep by itself. */
import type { Connection, Grant } from '../../../src/domain/model.ts';
import { SecretText } from '../../../src/domain/secret-text.ts';
import type { Handle, Provider, ProviderContext } from '../../../src/ports/provider.ts';

export interface Account {
  username: string;
  password: string;
}

export interface DirectGrant extends Account {
  id: string;
  handle: Handle | null;
  credential: Record<string, unknown>;
}

export interface DirectGrants {
  mint(scopes: string[], more?: { id?: string; lifeMs?: number; signal?: AbortSignal }): Promise<DirectGrant>;
  revoke(grant: Pick<DirectGrant, 'id' | 'handle'>, signal?: AbortSignal): Promise<unknown>;
  renew(grant: Pick<DirectGrant, 'id' | 'handle'>, scopes: string[], expiresAt: number): Promise<void>;
  /** What `journal` was given last. */
  journalled(): Handle | undefined;
  /** As an operator gives a new one. */
  replaceSecret(secret: Account): void;
}

let made = 0;
/** Of the form of a grant's id, and different each time. */
export const someGrantId = (): string => {
  made += 1;
  return `grt_01test${String(process.pid).padStart(10, '0')}${String(made).padStart(10, '0')}`;
};

/** @throws Error with the problems when the settings are not right */
export const directGrants = (provider: Provider, settings: object, firstSecret: Account): DirectGrants => {
  const checkedSettings = provider.checkSettings(settings);
  if (!checkedSettings.ok) throw new Error(checkedSettings.problems.join('\n'));
  const connection: Connection = {
    id: 'con_direct',
    name: 'direct',
    provider: provider.type,
    owner: null,
    settings: checkedSettings.value,
    status: 'active',
    secret_version: 1,
    secret_source: null,
    version: 1,
    created_at: 0,
    updated_at: 0,
  };
  let secret = firstSecret;
  let version = 1;
  let journalled: Handle | undefined;
  const context = (signal: AbortSignal): ProviderContext => ({
    now: () => Date.now(),
    signal,
    secret: async () => ({
      version,
      fields: { username: new SecretText(secret.username), password: new SecretText(secret.password) },
    }),
    journal: async (handle) => {
      journalled = handle;
    },
    kept: async () => undefined,
    replaceSecret: async () => undefined,
    // There is no refresh token at a database.
    authorization: undefined as never,
    signJwt: async () => '',
  });
  const patience = (): AbortSignal => AbortSignal.timeout(10_000);

  return {
    mint: async (scopes, { id = someGrantId(), lifeMs = 60_000, signal = patience() } = {}) => {
      const request = {
        grantId: id,
        agent: { id: 'agt_x', name: 'direct' },
        connection,
        scopes,
        subject: null,
        issuedAt: Date.now(),
        expiresAt: Date.now() + lifeMs,
      };
      const plan = provider.plan(request);
      const { credential, handle } = await provider.mint(request, plan, context(signal));
      const { username, password } = credential as unknown as Account;
      return { id, handle: handle ?? plan.handle, credential, username, password };
    },
    revoke: async ({ id, handle }, signal = patience()) => provider.revoke({ id, handle }, connection, context(signal)),
    renew: async ({ id, handle }, scopes, expiresAt) => {
      const grant = { id, handle, scopes } as unknown as Grant;
      await provider.renew?.(grant, connection, expiresAt, context(patience()));
    },
    journalled: () => journalled,
    replaceSecret: (next) => {
      secret = next;
      version += 1;
    },
  };
};
