/** How a connection's secret is rotated: as its policy says, or in the usual way of its provider. */
import type { Connection } from '../../domain/model.ts';
import type { Provider } from '../../ports/provider.ts';
import type { SecretRotation } from '../../ports/rotation.ts';
import type { Core } from '../core.ts';

/** Instead of a method of the provider: the refresh token of every connected account is redeemed, which rotates it. */
export const accountsMethod = { accounts: 'refresh' } as const;
export const isAccountsMethod = (method: unknown): boolean =>
  typeof method === 'object' && method !== null && 'accounts' in method && method.accounts === 'refresh';

export type Method =
  | { ok: true; kind: 'secret'; rotation: SecretRotation; method: Record<string, unknown> }
  | { ok: true; kind: 'accounts'; method: Record<string, unknown> }
  | { ok: false; problem: string };

/** @param method as an operator wrote it; undefined asks for the provider's usual way */
export const judgeMethod = (core: Core, connection: Connection, method: unknown): Method => {
  const { name } = connection;
  const provider = core.providers.get(connection.provider);
  if (!provider) return { ok: false, problem: `there is no provider ${connection.provider}` };
  if (isAccountsMethod(method)) return judgeAccounts(connection, provider, method);
  if (connection.secret_source) {
    const vault = core.state.connections.get(connection.secret_source.connection_id)?.name ?? 'a vault';
    return {
      ok: false,
      problem: `the secret of ${name} is kept in a vault and read through ${vault}: rotate it there, and Warder follows`,
    };
  }
  if (!provider.rotation) {
    return {
      ok: false,
      problem: `secrets of ${provider.type} are replaced by hand: make a new one there, set it (warder connection set-secret ${name}), test a grant, then end the old one there`,
    };
  }
  if (connection.secret_version === null) {
    return { ok: false, problem: `${name} has no secret yet: set one (warder connection set-secret ${name})` };
  }
  const checked = provider.rotation.checkMethod(method, connection.settings);
  if (checked.ok) return { ok: true, kind: 'secret', rotation: provider.rotation, method: checked.value };
  const [problem] = checked.problems;
  return {
    ok: false,
    problem:
      method === undefined
        ? `how to rotate ${name} has to be said (warder rotate set ${name} --method FILE.yaml): ${problem}`
        : `method: ${problem}`,
  };
};

const judgeAccounts = (connection: Connection, provider: Provider, method: unknown): Method => {
  if (!provider.authorizations?.needsConsent(connection.settings)) {
    return { ok: false, problem: `method: no accounts are connected through ${connection.name}` };
  }
  if (Object.keys(method ?? {}).length !== 1) {
    return { ok: false, problem: 'method: accounts stands alone' };
  }
  return { ok: true, kind: 'accounts', method: { ...accountsMethod } };
};

/** How this connection is rotated now. */
export const methodOf = (core: Core, connection: Connection): Method =>
  judgeMethod(core, connection, core.state.rotationPolicies.get(connection.id)?.method ?? undefined);
