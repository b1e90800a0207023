/** Calls of the `vault` provider without a broker: what is journalled when, and a connection as a test wants it. */
import type { Connection } from '../../../src/domain/model.ts';
import { SecretText } from '../../../src/domain/secret-text.ts';
import type { Handle, Minted, MintRequest, Provider, ProviderContext } from '../../../src/ports/provider.ts';

export interface Direct {
  connection: Connection;
  context: ProviderContext;
  /** Handles in the order they were journalled. */
  journalled: Handle[];
  mint(scope: string, lifeSeconds: number): Promise<Minted>;
  revoke(handle: Handle | null | undefined): Promise<unknown>;
  renew(handle: Handle | null | undefined, lifeSeconds: number): Promise<void>;
}

let made = 0;

/** @throws Error with the problems when the settings are not right */
export const direct = (
  provider: Provider,
  settings: object,
  secret: Record<string, string> | undefined,
  over: Partial<ProviderContext> = {},
): Direct => {
  const checked = provider.checkSettings(settings);
  if (!checked.ok) throw new Error(checked.problems.join('\n'));
  made += 1;
  const connection: Connection = {
    id: `con_direct${made}`,
    name: 'direct',
    provider: provider.type,
    owner: null,
    settings: checked.value,
    status: 'active',
    secret_version: secret ? 1 : null,
    secret_source: null,
    version: 1,
    created_at: 0,
    updated_at: 0,
  };
  const journalled: Handle[] = [];
  const context: ProviderContext = {
    now: () => Date.now(),
    signal: AbortSignal.timeout(30_000),
    secret: async () =>
      secret && {
        version: 1,
        fields: Object.fromEntries(Object.entries(secret).map(([name, value]) => [name, new SecretText(value)])),
      },
    journal: async (handle) => void journalled.push(handle),
    kept: async () => undefined,
    replaceSecret: async () => undefined,
    authorization: { redeem: () => Promise.reject(new Error('nothing to redeem')) },
    signJwt: () => Promise.reject(new Error('nothing to sign')),
    ...over,
  };
  const id = 'grt_01arz3ndektsv4rrffq69g5fav';
  const request = (scope: string, lifeSeconds: number): MintRequest => ({
    grantId: id,
    agent: { id: 'agt_x', name: 'worker' },
    connection,
    scopes: [scope],
    subject: null,
    issuedAt: Date.now(),
    expiresAt: Date.now() + lifeSeconds * 1000,
  });
  return {
    connection,
    context,
    journalled,
    mint: async (scope, lifeSeconds) => {
      const asked = request(scope, lifeSeconds);
      return provider.mint(asked, provider.plan(asked), context);
    },
    revoke: async (handle) => provider.revoke({ id, handle: handle ?? null }, connection, context),
    renew: async (handle, lifeSeconds) => {
      if (!provider.renew) throw new Error('this provider does not renew');
      const grant = { id, handle: handle ?? null } as Parameters<NonNullable<Provider['renew']>>[0];
      await provider.renew(grant, connection, Date.now() + lifeSeconds * 1000, context);
    },
  };
};
