/** Keys of a service account, replaced at the server of test/vendors/gcp, which takes only what a certificate proves. */
import { createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openNetwork } from '../../../adapters/network.ts';
import { signIn } from '../../../adapters/providers/gcp-service-account/api.ts';
import { selfSigned } from '../../../adapters/providers/gcp-service-account/certificate.ts';
import { parsed, readKey } from '../../../adapters/providers/gcp-service-account/settings.ts';
import { openGcpServiceAccountProvider } from '../../../adapters/providers/gcp-service-account.ts';
import { rotationConformance } from '../../conformance/rotation.ts';
import { type Attempt, beginAttempt, type Fields, rotationOf } from '../../conformance/rotation-attempt.ts';
import { account as accountOf, keyFileOf, startTestGcp, type TestGcp } from '../../vendors/gcp/rig.ts';

/** Making an RSA key takes a while: what operators bring is one of these. */
const pairs = [0, 1].map(() =>
  generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  }),
);
const [pair, stranger] = pairs as [(typeof pairs)[0], (typeof pairs)[0]];

let made = 0;
const someAccount = (gcp: TestGcp, provider: ReturnType<typeof openGcpServiceAccountProvider>) => {
  made += 1;
  const email = `warder${made}@acme.iam.gserviceaccount.com`;
  const [, account] = accountOf(email);
  account.keyAdmins.add(email);
  account.keys.set('f0f0', createPublicKey(pair.publicKey));
  gcp.state.accounts.set(email, account);
  const secretOf = (privateKey: string): Fields => {
    const read = provider.checkSecret({
      key_json: keyFileOf(privateKey, { client_email: email, private_key_id: 'f0f0' }),
    });
    if (!read.ok || !read.value) throw new Error('not a secret');
    return read.value;
  };
  return { account, email, secret: secretOf(pair.privateKey), wrong: secretOf(stranger.privateKey) };
};

const settingsOf = (gcp: TestGcp) => ({
  ...gcp.settings,
  scopes: { read: { oauth_scopes: ['https://www.googleapis.com/auth/devstorage.read_only'] } },
});

rotationConformance(
  'gcp-service-account, keys',
  async () => {
    const gcp = await startTestGcp('impersonated', /./);
    const network = openNetwork();
    const provider = openGcpServiceAccountProvider(network, 0);
    return {
      provider,
      account: async () => {
        const { account, secret, wrong } = someAccount(gcp, provider);
        return {
          settings: settingsOf(gcp),
          method: undefined,
          secret,
          wrong,
          accepts: async (fields) => {
            const key = readKey(fields['key_json'] ?? '');
            const known = key && account.keys.get(key.private_key_id);
            return known?.equals(createPublicKey(key?.private_key ?? '')) ?? false;
          },
          count: async () => account.keys.size,
        };
      },
      trouble: gcp.upstream.trouble,
      close: async () => {
        await network.close();
        await gcp.close();
      },
    };
  },
  { overlaps: true },
);

describe('keys of a service account', () => {
  let gcp: TestGcp;
  const network = openNetwork();
  const provider = openGcpServiceAccountProvider(network, 5_000);
  beforeAll(async () => {
    gcp = await startTestGcp();
  });
  afterAll(async () => {
    await network.close();
    await gcp.close();
  });

  const begin = (secret: Fields): Attempt =>
    beginAttempt({
      provider,
      account: { settings: settingsOf(gcp), method: {}, secret, wrong: {}, accepts: async () => false },
      current: secret,
      spoken: () => undefined,
    });

  test('a certificate around a key is one that X.509 knows, and says nothing', () => {
    const key = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const certificate = new X509Certificate(selfSigned(key.publicKey, key.privateKey, Date.UTC(2026, 10, 23)));
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.publicKey.equals(key.publicKey)).toBe(true);
    expect(certificate).toMatchObject({ subject: 'CN=unused', issuer: 'CN=unused', subjectAltName: undefined });
    expect([certificate.validFrom, certificate.validTo]).toEqual([
      'Nov 22 00:00:00 2026 GMT',
      'Dec 31 23:59:59 9999 GMT',
    ]);
  });

  test('the private half never travels', async () => {
    const seen: string[] = [];
    const { secret } = someAccount(gcp, provider);
    const watching = openGcpServiceAccountProvider({
      ...network,
      fetch: (reach) => async (url, init) => {
        seen.push(`${String(url)} ${String(init?.body ?? '')}`);
        return network.fetch(reach)(url, init);
      },
    });
    const rotation = rotationOf(watching);
    expect(rotation.destinations({}, {})).toEqual([]);
    const attempt = beginAttempt({
      provider: watching,
      account: { settings: settingsOf(gcp), method: {}, secret, wrong: {}, accepts: async () => false },
      current: secret,
      spoken: (text) => seen.push(text),
    });
    const next = readKey((await attempt.create())['key_json'] ?? '');
    await attempt.test();
    const inner = (next?.private_key ?? '').split('\n').slice(2, -3);
    expect(inner.length).toBeGreaterThan(10);
    const told = seen.map((text) => text + Buffer.from(text, 'base64').toString('latin1')).join('\n');
    expect(inner.filter((line) => told.includes(line))).toEqual([]);
  });

  test('a key that Google knows only some moments later is waited for', async () => {
    gcp.state.keyLagMs = 700;
    const attempt = begin(someAccount(gcp, provider).secret);
    const next = await attempt.create();
    gcp.state.keyLagMs = 0;
    const key = readKey(next['key_json'] ?? '');
    if (!key) throw new Error('no key');
    const checkedSettings = provider.checkSettings(settingsOf(gcp));
    if (!checkedSettings.ok) throw new Error(checkedSettings.problems.join());
    const settings = parsed(checkedSettings.value);
    const context = { now: Date.now, signal: AbortSignal.timeout(5_000), signJwt: async () => '' };
    expect((await signIn(fetch, settings, key, context)).status).toBe(400);
    await attempt.test();
  });

  test('clocks that differ leave a key in doubt', async () => {
    const { secret, wrong } = someAccount(gcp, provider);
    gcp.state.clockOffsetMs = 3_600_000;
    await expect(begin(secret).test(wrong)).rejects.toMatchObject({ kind: 'unavailable' });
    gcp.state.clockOffsetMs = 0;
  });

  test('an account that may not manage its keys is told so, and nothing is left', async () => {
    const { account, secret } = someAccount(gcp, provider);
    account.keyAdmins.clear();
    const attempt = begin(secret);
    await expect(attempt.create()).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('may not manage its own keys'),
    });
    expect(account.keys.size).toBe(1);
    // It may still not look; there is nothing to be looked for.
    await attempt.undo(true);
  });

  test('keys that others made are left alone', async () => {
    const { account, secret } = someAccount(gcp, provider);
    account.keys.set('abab', createPublicKey(stranger.publicKey));
    const attempt = begin(secret);
    await attempt.create();
    await attempt.undo(true);
    expect([...account.keys.keys()]).toEqual(['f0f0', 'abab']);
  });

  test('there is none to replace with workload identity', () => {
    const audience = '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/warder';
    const settings = provider.checkSettings({ ...settingsOf(gcp), workload_identity: { audience } });
    if (!settings.ok) throw new Error(settings.problems.join());
    expect(rotationOf(provider).checkMethod(undefined, settings.value)).toMatchObject({ ok: false });
  });
});
