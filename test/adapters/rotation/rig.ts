/** The service of test/vendors/keys under an `api-key` connection, with the ways to rotate its keys. */
import { openNetwork } from '../../../adapters/network.ts';
import { openApiKeyProvider } from '../../../adapters/providers/api-key.ts';
import type { RotationUnderTest } from '../../conformance/rotation.ts';
import type { Fields, RotatedAccount } from '../../conformance/rotation-attempt.ts';
import { startTroubledServer } from '../../support/troubled-http.ts';
import { type Key, type KeyAccount, KeyService } from '../../vendors/keys/service.ts';

export const settingsOf = (url: string) => ({
  base_url: url,
  allow_private_network: true,
  scopes: { read: [{ methods: ['GET'], path: '/v1/things/**' }] },
});

export const recipe = {
  create: {
    path: '/v1/keys',
    json: { name: 'warder {{connection}} {{rotation_id}}' },
    secret: '/data/key',
    id: '/data/id',
  },
  list: {
    path: '/v1/keys',
    items: '/data',
    id: '/id',
    name: '/name',
    next: { pointer: '/next_cursor', query: 'cursor' },
  },
  test: { path: '/v1/me' },
  revoke: { path: '/v1/keys/{{id}}' },
};

export const identify = { path: '/v1/me', id: '/key/id' };

export const wrongValue = 'sk_nobody_knows_this_one';

export interface KeyRig {
  service: KeyService;
  url: string;
  account(key: Key, account: KeyAccount, method: unknown, more?: Partial<Fields>): RotatedAccount;
}

/** @param secretOf what an operator gives of a key */
export const setUpKeys = async (
  method: (rig: KeyRig, account: KeyAccount) => unknown,
  secretOf: (key: Key, account: KeyAccount) => Fields = ({ id, secret }) => ({ value: secret, id }),
  scripts?: string,
): Promise<RotationUnderTest & { rig: KeyRig }> => {
  const service = new KeyService();
  const server = await startTroubledServer(service.handler);
  const network = openNetwork();
  const rig: KeyRig = {
    service,
    url: server.url,
    account: (key, account, how) => ({
      settings: settingsOf(server.url),
      method: how,
      secret: secretOf(key, account),
      wrong: { ...secretOf(key, account), value: wrongValue },
      accepts: async (secret) => {
        const found = service.find(String(secret['value']));
        return found?.account === account && found.key !== undefined;
      },
      count: async () => account.keys.size,
    }),
  };
  return {
    rig,
    provider: openApiKeyProvider({ network, scripts }),
    account: async (kind) => {
      const { account, key } = service.addAccount(kind === 'hostile');
      return rig.account(key, account, method(rig, account));
    },
    trouble: server.trouble,
    close: async () => {
      await network.close();
      await server.close();
    },
  };
};
