/** Secret ids of an AppRole, replaced at the Vault of test/vendors/vault, or a real one. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openNetwork } from '../../../adapters/network.ts';
import { openVaultProvider } from '../../../adapters/providers/vault.ts';
import { rotationConformance } from '../../conformance/rotation.ts';
import { beginAttempt, type Fields, rotationOf } from '../../conformance/rotation-attempt.ts';
import { isRealVault, startVaultBench, type VaultBench } from '../../vendors/vault/bench.ts';

/** As docs/providers/vault.md gives it. */
const ownSecretIds = (role: string): string => `
path "${role}/secret-id"                  { capabilities = ["update", "list"] }
path "${role}/secret-id/destroy"          { capabilities = ["update"] }
path "${role}/secret-id-accessor/lookup"  { capabilities = ["update"] }
path "${role}/secret-id-accessor/destroy" { capabilities = ["update"] }
`;

let made = 0;
const someRole = async (bench: VaultBench) => {
  made += 1;
  const [mount, name] = [bench.fresh(`approle${made}`), bench.fresh(`warder${made}`)];
  const role = `auth/${mount}/role/${name}`;
  await bench.admin('POST', `sys/policies/acl/${name}`, { policy: ownSecretIds(role) });
  await bench.admin('POST', `sys/auth/${mount}`, { type: 'approle' });
  await bench.admin('POST', role, { token_policies: [name], token_ttl: '20m' });
  const data = async (method: string, path: string) => (await bench.admin(method, `${role}/${path}`)).body.data ?? {};
  const secret: Fields = {
    role_id: String((await data('GET', 'role-id'))['role_id']),
    secret_id: String((await data('POST', 'secret-id'))['secret_id']),
  };
  const settings = {
    address: bench.url,
    allow_private_network: true,
    auth: { method: 'approle', mount },
    scopes: { read: { path: 'database/creds/reader' } },
  };
  const accepts = async (fields: Fields): Promise<boolean> =>
    (await bench.admin('POST', `auth/${mount}/login`, fields)).status === 200;
  const count = async (): Promise<number> => {
    const { keys } = await data('GET', 'secret-id?list=true');
    return Array.isArray(keys) ? keys.length : 0;
  };
  return {
    secret,
    settings,
    accepts,
    count,
    method: { role: name },
    wrong: { ...secret, secret_id: 'none-of-them' },
    name,
  };
};

rotationConformance(
  'vault, secret ids of an AppRole',
  async () => {
    const bench = await startVaultBench();
    const network = openNetwork();
    return {
      provider: openVaultProvider(network),
      account: () => someRole(bench),
      trouble: bench.trouble,
      close: async () => {
        await network.close();
        await bench.close();
      },
    };
  },
  { overlaps: true, publicFields: ['role_id'] },
);

describe('the secret id of an AppRole', () => {
  let bench: VaultBench;
  const network = openNetwork();
  const provider = openVaultProvider(network);
  beforeAll(async () => {
    bench = await startVaultBench();
  });
  afterAll(async () => {
    await network.close();
    await bench.close();
  });

  test('is not replaced for a role that may not: nothing is made, and nothing is left to undo', async () => {
    const account = await someRole(bench);
    await bench.admin('POST', `sys/policies/acl/${account.name}`, { policy: '' });
    const attempt = beginAttempt({ provider, account, current: account.secret, spoken: () => undefined });
    await expect(attempt.create()).rejects.toMatchObject({ kind: 'refused' });
    await attempt.undo(true);
    expect(await account.count()).toBe(1);
  });

  test.each([
    [undefined, { method: 'approle' }, 'needs role'],
    [{ role: '../../sys' }, { method: 'approle' }, 'the name of a role'],
    [{ role: 'a/b' }, { method: 'approle' }, 'the name of a role'],
    [{ role: 'warder' }, { method: 'token' }, 'replaced by hand'],
    [{ role: 'warder' }, { method: 'kubernetes', role: 'x' }, 'no secret to replace'],
  ])('is not replaced by %j for %j', async (method, auth, said) => {
    const checked = provider.checkSettings({
      address: bench.url,
      allow_private_network: true,
      auth,
      readable: ['secret/data/x'],
    });
    if (!checked.ok) throw new Error(checked.problems.join());
    expect(rotationOf(provider).checkMethod(method, checked.value)).toMatchObject({
      ok: false,
      problems: [expect.stringContaining(said)],
    });
  });

  (isRealVault ? test.skip : test)('is found by its mark alone: those of others stay', async () => {
    const account = await someRole(bench);
    const [, mount] = /mount":"([^"]+)/.exec(JSON.stringify(account.settings)) ?? [];
    await bench.admin('POST', `auth/${mount}/role/${account.name}/secret-id`, {
      metadata: '{"warder_rotation":"rot_other"}',
    });
    const attempt = beginAttempt({ provider, account, current: account.secret, spoken: () => undefined });
    await attempt.create();
    await attempt.undo(true);
    expect(await account.count()).toBe(2);
  });
});
