/** A `vault` connection to the bench's Vault: least privileges, a login of Warder's own, a database behind it. */
import { type Network, openNetwork } from '../../../adapters/network.ts';
import { openVaultProvider } from '../../../adapters/providers/vault.ts';
import type { Provider } from '../../../src/ports/provider.ts';
import { startVaultBench, type TestDatabase, type VaultBench } from '../../vendors/vault/bench.ts';

/** As docs/providers/vault.md gives it, for the mounts of this test. */
export const warderPolicy = (database: string): string => `
path "auth/token/create-orphan"   { capabilities = ["update"] }
path "auth/token/renew-accessor"  { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "sys/leases/renew"           { capabilities = ["update"] }
path "sys/leases/revoke"          { capabilities = ["update"] }
path "${database}/creds/reader"   { capabilities = ["read"] }
path "${database}/creds/writer"   { capabilities = ["read"] }
path "${database}/creds/short"    { capabilities = ["read"] }
`;

export interface VaultRig {
  bench: VaultBench;
  network: Network;
  provider: Provider;
  database: TestDatabase;
  /** Where the engine is mounted. */
  mount: string;
  policy: string;
  /** Of the role that Warder logs in as. */
  secret: Record<string, string>;
  approle: string;
  settings: Record<string, unknown>;
  close(): Promise<void>;
}

export const startVaultRig = async (more: { settings?: object; policy?: string } = {}): Promise<VaultRig> => {
  const bench = await startVaultBench();
  const network = openNetwork();
  const mount = bench.inside ? 'database' : bench.fresh('database');
  const [policy, approle] = [bench.fresh('warder'), bench.fresh('approle')];
  const database = await bench.database(mount);
  await database.role('short', { default_ttl: '2s', max_ttl: '1h' });
  await bench.admin('POST', `sys/policies/acl/${policy}`, { policy: `${warderPolicy(mount)}${more.policy ?? ''}` });
  await bench.admin('POST', `sys/auth/${approle}`, { type: 'approle' });
  const role = `auth/${approle}/role/warder`;
  await bench.admin('POST', role, { token_policies: [policy], token_ttl: '20m', token_max_ttl: '1h' });
  const roleId = (await bench.admin('GET', `${role}/role-id`)).body.data?.['role_id'];
  const secretId = (await bench.admin('POST', `${role}/secret-id`)).body.data?.['secret_id'];
  return {
    bench,
    network,
    provider: openVaultProvider(network),
    database,
    mount,
    policy,
    approle,
    secret: { role_id: String(roleId), secret_id: String(secretId) },
    settings: {
      address: bench.url,
      allow_private_network: true,
      auth: { method: 'approle', mount: approle },
      scopes: {
        read: { path: `${mount}/creds/reader` },
        write: { path: `${mount}/creds/writer` },
        short: { path: `${mount}/creds/short` },
      },
      ...more.settings,
    },
    close: async () => {
      await bench.close();
      await network.close();
    },
  };
};
