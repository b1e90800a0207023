/** `vault-transit` through the conformance suite: the test's own Vault, or a real one (test/vendors/vault/bench.ts). */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openVaultTransit } from '../../../adapters/kms/vault-transit.ts';
import { SecretText } from '../../../src/domain/secret-text.ts';
import { KmsRefused, KmsUnavailable } from '../../../src/ports/kms.ts';
import { kmsConformance } from '../../conformance/kms.ts';
import { eventually } from '../../support/eventually.ts';
import { isRealVault, startVaultBench, type VaultBench } from '../../vendors/vault/bench.ts';

const context = { 'warder:purpose': 'key-encryption-key', 'warder:number': '1' };
const key = Buffer.alloc(32, 7);

const setUp = async () => {
  const bench = await startVaultBench();
  const mount = bench.inside ? 'transit' : bench.fresh('transit');
  const policy = bench.fresh('warder-kms');
  await bench.admin('POST', `sys/mounts/${mount}`, { type: 'transit' });
  for (const name of ['warder', 'other']) {
    await bench.admin('POST', `${mount}/keys/${name}`, {});
    await bench.admin('POST', `${mount}/keys/${name}/config`, { deletion_allowed: true });
  }
  const allow = (names: string[]) =>
    bench.admin('POST', `sys/policies/acl/${policy}`, {
      policy: names
        .flatMap((name) =>
          ['encrypt', 'decrypt'].map((action) => `path "${mount}/${action}/${name}" { capabilities = ["update"] }`),
        )
        .join('\n'),
    });
  await allow(['warder', 'other']);
  const made = await bench.admin('POST', 'auth/token/create', { policies: [policy], ttl: '1h' });
  const token = String(made.body.auth?.['client_token']);
  const open = (name: string, text = token) =>
    openVaultTransit(
      { mount, key: name },
      { address: bench.url, token: new SecretText(text) },
      // Shorter than in production, so that a service that hangs is waited for in two seconds.
      { patienceMs: 2_000 },
    );
  return { bench, mount, policy, token, open, allow };
};

kmsConformance(
  'vault-transit',
  async () => {
    const { bench, mount, token, open, allow } = await setUp();
    const { trouble } = bench;
    return {
      kms: open('warder'),
      other: open('other'),
      key: {
        disable: async () => void (await allow(['other'])),
        enable: async () => void (await allow(['warder', 'other'])),
        destroy: async () => void (await bench.admin('DELETE', `${mount}/keys/warder`)),
      },
      trouble: {
        ...trouble,
        throttled: bench.throttled,
        wrongKey: () => bench.misled('/decrypt/warder', '/decrypt/other'),
        well: async () => {
          await bench.misled('', '');
          await bench.throttled(0);
          await trouble.well();
        },
      },
      canaries: [token, bench.url, new URL(bench.url).host],
      close: bench.close,
    };
  },
  { canDisable: true, canDestroy: true, hasTrouble: true, patienceMs: 3_000 },
);

describe('what only Vault can say', () => {
  let rig: Awaited<ReturnType<typeof setUp>>;
  let bench: VaultBench;
  beforeAll(async () => {
    rig = await setUp();
    ({ bench } = rig);
  });
  afterAll(() => bench.close());
  const ifInside = isRealVault ? test.skip : test;

  test('a token that was revoked refuses, and so seals', async () => {
    const made = await bench.admin('POST', 'auth/token/create', { policies: [rig.policy], ttl: '1h' });
    const kms = rig.open('warder', String(made.body.auth?.['client_token']));
    const wrapped = await kms.wrap(key, context);
    await bench.admin('POST', 'auth/token/revoke-accessor', { accessor: made.body.auth?.['accessor'] });
    await expect(kms.unwrap(wrapped, context)).rejects.toThrow(KmsRefused);
  });

  test('a key that was rotated still opens what it wrapped before, until its old versions are retired', async () => {
    const kms = rig.open('other');
    const before = await kms.wrap(key, context);
    await bench.admin('POST', `${rig.mount}/keys/other/rotate`);
    const after = await kms.wrap(key, context);
    expect([before.split(':')[1], after.split(':')[1]]).toEqual(['v1', 'v2']);
    expect(Buffer.from(await kms.unwrap(before, context)).equals(key)).toBe(true);
    await bench.admin('POST', `${rig.mount}/keys/other/config`, { min_decryption_version: 2 });
    await expect(kms.unwrap(before, context)).rejects.toThrow(KmsRefused);
    expect(Buffer.from(await kms.unwrap(after, context)).equals(key)).toBe(true);
  });

  test('a key that is not there is never made by naming it', async () => {
    await expect(rig.open('warrder').wrap(key, context)).rejects.toThrow(KmsRefused);
    expect((await bench.admin('GET', `${rig.mount}/keys/warrder`)).status).toBe(404);
  });

  test('a token with a life is prolonged before half of it is over', async () => {
    const made = await bench.admin('POST', 'auth/token/create', {
      policies: [rig.policy],
      ttl: '3s',
      explicit_max_ttl: '1h',
    });
    const kms = rig.open('warder', String(made.body.auth?.['client_token']));
    const accessor = made.body.auth?.['accessor'];
    const wrapped = await kms.wrap(key, context);
    const end = Date.now() + 5_000;
    await eventually(
      'it lives past its first end',
      async () => {
        await kms.unwrap(wrapped, context);
        return Date.now();
      },
      (now) => now > end,
    );
    expect((await bench.admin('POST', 'auth/token/lookup-accessor', { accessor })).status).toBe(200);
  });

  ifInside('a sealed Vault is an outage, not a refusal', async () => {
    const kms = rig.open('warder');
    const wrapped = await kms.wrap(key, context);
    if (bench.inside) bench.inside.sealed = true;
    await expect(kms.unwrap(wrapped, context)).rejects.toThrow(KmsUnavailable);
    if (bench.inside) bench.inside.sealed = false;
    expect(Buffer.from(await kms.unwrap(wrapped, context)).equals(key)).toBe(true);
  });
});

describe('somebody else at its address', () => {
  const answers: [number, string, Record<string, string>][] = [
    [403, '<html>Forbidden</html>', {}],
    [404, 'not found', {}],
    [404, '{"message":"no such host"}', {}],
    [400, '', {}],
    [302, '', { Location: 'https://login.example.com/' }],
    [307, '', { Location: 'http://127.0.0.1:1/' }],
    [472, '{"errors":[]}', {}],
    [473, '{"errors":[]}', {}],
    [412, '{"errors":["required index state not present"]}', {}],
    [500, '{"errors":["internal error"]}', {}],
    [502, '{"errors":["x"]}', {}],
    [200, '', {}],
    [200, '[]', {}],
    [200, 'null', {}],
    [200, '{"data":{"plaintext":""}}', {}],
    [200, '{"data":{"plaintext":"%%%"}}', {}],
    [204, '', {}],
  ];

  test('says nothing about the key: an outage', async () => {
    let next: (typeof answers)[number] = [500, '', {}];
    const server = createServer((_req, res) => {
      res.writeHead(next[0], next[2]).end(next[1]);
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const kms = openVaultTransit({ mount: 'transit', key: 'k' }, { address, token: new SecretText('hvs.canary') });
    for (const answer of answers) {
      next = answer;
      const failure = await kms.unwrap('vault:v1:QUFBQQ==', context).catch((error: unknown) => error);
      expect([answer, failure]).toEqual([answer, expect.any(KmsUnavailable)]);
    }
    server.closeAllConnections();
    server.close();
  });
});
