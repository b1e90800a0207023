/** What becomes of leases and tokens at a Vault: also at a real one (test/vendors/vault/bench.ts). */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { openVaultProvider } from '../../../adapters/providers/vault.ts';
import { type Handle, ProviderFailure } from '../../../src/ports/provider.ts';
import { eventually, pause } from '../../support/eventually.ts';
import { isRealVault, skippedOnReal } from '../../vendors/vault/bench.ts';
import { direct } from './vault-direct.ts';
import { startVaultRig, type VaultRig } from './vault-rig.ts';

let rig: VaultRig;
beforeAll(async () => {
  rig = await startVaultRig();
});
afterAll(() => rig.close());
afterEach(() => rig.bench.trouble.well());

const ifInside = isRealVault ? test.skip : test;
const nothingLeft = () => eventually('no account is left', rig.database.accounts, (left) => left.length === 0);
const failureOf = (call: Promise<unknown>): Promise<unknown> => call.catch((error: unknown) => error);
const dataOf = (minted: { credential: Record<string, unknown> }) =>
  minted.credential['data'] as Record<string, unknown>;
/** Ends Warder's own tokens: those that came from a login. */
const endLogins = async (): Promise<number> => {
  const { bench, approle } = rig;
  const { body } = await bench.admin('GET', 'auth/token/accessors?list=true');
  let ended = 0;
  for (const accessor of (body.data?.['keys'] as string[] | undefined) ?? []) {
    const found = await bench.admin('POST', 'auth/token/lookup-accessor', { accessor });
    if (found.body.data?.['path'] !== `auth/${approle}/login`) continue;
    await bench.admin('POST', 'auth/token/revoke-accessor', { accessor });
    ended += 1;
  }
  return ended;
};

describe('a grant with a token of its own', () => {
  test('has its accessor journalled before the secret is asked for', async () => {
    let accountsThen: string[] | undefined;
    const calls = direct(rig.provider, rig.settings, rig.secret, {
      journal: async (handle) => {
        if (accountsThen !== undefined) return;
        accountsThen = await rig.database.accounts();
        expect(handle).toEqual({
          at: rig.bench.url,
          accessor: expect.stringMatching(/^\w{20,}/),
          asking_since: expect.any(Number),
        });
      },
    });
    const minted = await calls.mint('read', 60);
    expect(accountsThen).toEqual([]);
    expect(minted.handle).toEqual({
      at: rig.bench.url,
      accessor: expect.any(String),
      lease_id: expect.stringMatching(/\/creds\/reader\//),
    });
    await calls.revoke(minted.handle);
    await nothingLeft();
  });

  test('is undone by the accessor alone: a crash before the answer loses nothing', async () => {
    const calls = direct(rig.provider, rig.settings, rig.secret);
    const minted = await calls.mint('read', 60);
    expect(await rig.database.works(dataOf(minted), 'read')).toBe(true);
    const { at, accessor } = calls.journalled[0] ?? {};
    await calls.revoke({ at, accessor });
    await nothingLeft();
    expect(await rig.bench.grantTokens()).toEqual([]);
  });

  test('ends at Vault by itself when the grant ends, however long the lease would live', async () => {
    const calls = direct(rig.provider, rig.settings, rig.secret);
    const minted = await calls.mint('read', 2);
    expect(minted.credential).toMatchObject({ type: 'vault', lease_duration: 2, renewable: true });
    expect(await rig.database.works(dataOf(minted), 'read')).toBe(true);
    await nothingLeft();
    // Gone already is as good as revoked.
    await calls.revoke(minted.handle);
  });

  test('outlives the token that Warder itself had', async () => {
    const calls = direct(rig.provider, rig.settings, rig.secret);
    const minted = await calls.mint('read', 60);
    expect(await endLogins()).toBeGreaterThan(0);
    expect(await rig.database.works(dataOf(minted), 'read')).toBe(true);
    // And Warder logs in anew.
    await calls.revoke(minted.handle);
    await nothingLeft();
  });

  test('has a lease as long as the grant, where the engine gives shorter ones', async () => {
    const calls = direct(rig.provider, rig.settings, rig.secret);
    const minted = await calls.mint('short', 5);
    expect(minted.credential).toMatchObject({ lease_duration: 5 });
    await pause(3_000);
    expect(await rig.database.works(dataOf(minted), 'read')).toBe(true);
    await calls.revoke(minted.handle);
    await nothingLeft();
  });

  test('is prolonged with the grant, and refused past what Vault allows', async () => {
    await rig.database.role('short', { default_ttl: '2s', max_ttl: '20s' });
    const calls = direct(rig.provider, rig.settings, rig.secret);
    const minted = await calls.mint('short', 2);
    await calls.renew(minted.handle, 10);
    await pause(2_500);
    expect(await rig.database.works(dataOf(minted), 'read')).toBe(true);
    const failure = await failureOf(calls.renew(minted.handle, 600));
    expect(failure).toBeInstanceOf(ProviderFailure);
    expect(failure).toMatchObject({ kind: 'refused' });
    await calls.revoke(minted.handle);
    await nothingLeft();
    expect(await failureOf(calls.renew(minted.handle, 10))).toMatchObject({ kind: 'refused' });
    await rig.database.role('short', { default_ttl: '2s', max_ttl: '1h' });
  }, 20_000);

  test('may do no more than the policies that were named for it', async () => {
    const { bench, mount } = rig;
    const narrow = bench.fresh('narrow');
    await bench.admin('POST', `sys/policies/acl/${narrow}`, {
      policy: `path "${mount}/creds/reader" { capabilities = ["read"] }`,
    });
    const role = `auth/${rig.approle}/role/narrowing`;
    await bench.admin('POST', role, { token_policies: [rig.policy, narrow] });
    const roleId = (await bench.admin('GET', `${role}/role-id`)).body.data?.['role_id'];
    const secretId = (await bench.admin('POST', `${role}/secret-id`)).body.data?.['secret_id'];
    const calls = direct(
      rig.provider,
      { ...rig.settings, child_policies: [narrow] },
      { role_id: String(roleId), secret_id: String(secretId) },
    );
    const minted = await calls.mint('read', 60);
    const { body } = await bench.admin('POST', 'auth/token/lookup-accessor', { accessor: minted.handle?.['accessor'] });
    expect(body.data).toMatchObject({ policies: [narrow], orphan: true, meta: { warder_agent: 'worker' } });
    await calls.revoke(minted.handle);
    expect(await failureOf(calls.mint('write', 60))).toMatchObject({ kind: 'refused' });
    await calls.revoke(calls.journalled.at(-1));
    await nothingLeft();
    const wider = direct(rig.provider, { ...rig.settings, child_policies: ['root-of-all'] }, rig.secret);
    expect(await failureOf(wider.mint('read', 60))).toMatchObject({ kind: 'refused' });
  });
});

describe('without tokens of their own', () => {
  test('a lease is journalled as soon as Vault has named it, cut to the grant, and ended by its id', async () => {
    await rig.bench.admin('POST', `sys/policies/acl/${rig.policy}-simple`, {
      policy: `path "${rig.mount}/creds/reader" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }`,
    });
    const made = await rig.bench.admin('POST', 'auth/token/create', { policies: [`${rig.policy}-simple`], ttl: '1h' });
    const token = String(made.body.auth?.['client_token']);
    const settings = { ...rig.settings, auth: { method: 'token' }, child_tokens: false };
    const calls = direct(rig.provider, settings, { token });
    const minted = await calls.mint('read', 3);
    expect(calls.journalled).toEqual([{ at: rig.bench.url, lease_id: minted.credential['lease_id'] }]);
    expect(minted.handle).toEqual(calls.journalled[0]);
    expect(minted.credential['lease_duration']).toBe(3);
    await nothingLeft();
    const other = await calls.mint('read', 60);
    await calls.revoke(other.handle);
    await calls.revoke(other.handle);
    await nothingLeft();
  });
});

describe('what goes wrong', () => {
  test.each(['down', 'nonsense', 'halfDone', 'late'] as const)(
    'trouble from the moment the accessor is known (%s) leaves nothing that is not ended',
    async (into) => {
      const calls = direct(rig.provider, rig.settings, rig.secret, {
        journal: async (handle) => {
          if (journalled === undefined) await rig.bench.trouble[into]();
          journalled = handle;
        },
      });
      let journalled: Handle | undefined;
      expect(await failureOf(calls.mint('read', 60))).toMatchObject({ kind: 'unavailable' });
      await rig.bench.trouble.well();
      // Nothing had been asked for with the token.
      expect(journalled).not.toHaveProperty('asking_since');
      expect(await calls.revoke(journalled)).toBeUndefined();
      await pause(into === 'late' ? 500 : 0);
      await nothingLeft();
      expect(await rig.bench.grantTokens()).toEqual([]);
    },
  );

  test('a secret that is made after everybody has stopped waiting is ended all the same', async () => {
    await rig.database.role('reader', { default_ttl: '1h', max_ttl: '24h', slowSeconds: 2 });
    const impatient = direct(rig.provider, rig.settings, rig.secret, { signal: AbortSignal.timeout(700) });
    expect(await failureOf(impatient.mint('read', 60))).toMatchObject({ kind: 'timeout' });
    const [handle] = impatient.journalled;
    expect(handle).toMatchObject({ asking_since: expect.any(Number) });
    const hurried = openVaultProvider(rig.network, { requestMs: 4_000 });
    const calls = direct(hurried, rig.settings, rig.secret);
    // Were the token ended now, the lease would outlive it.
    expect(await calls.revoke(handle)).toEqual({ endsBy: expect.any(Number) });
    await eventually('it is made', rig.database.accounts, (there) => there.length === 1);
    await nothingLeft();
    expect(await calls.revoke(handle)).toBeUndefined();
    await rig.database.role('reader', { default_ttl: '1h', max_ttl: '24h' });
  }, 20_000);

  test('a path that the policy does not allow is refused, and nothing is left', async () => {
    const scopes = { read: { path: `${rig.mount}/creds/nobody` } };
    const calls = direct(rig.provider, { ...rig.settings, scopes }, rig.secret);
    const failure = await failureOf(calls.mint('read', 60));
    expect(failure).toMatchObject({ kind: 'refused', message: expect.stringContaining('403') });
    await calls.revoke(calls.journalled.at(-1));
    expect(await rig.bench.grantTokens()).toEqual([]);
  });

  test('a value without a lease is no dynamic secret, and nobody is given it', async () => {
    const { bench } = rig;
    const mount = bench.fresh('static');
    await bench.admin('POST', `sys/mounts/${mount}`, { type: 'kv', options: { version: '2' } });
    await eventually(
      'the engine is ready',
      () => bench.admin('POST', `${mount}/data/keys`, { data: { key: 'canary-static' } }),
      ({ status }) => status === 200,
    );
    await bench.admin('POST', `sys/policies/acl/${rig.policy}-static`, {
      policy: `path "${mount}/data/keys" { capabilities = ["read"] }
path "auth/token/create-orphan" { capabilities = ["update"] }
path "auth/token/renew-accessor" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }`,
    });
    const made = await bench.admin('POST', 'auth/token/create', { policies: [`${rig.policy}-static`], ttl: '1h' });
    const scopes = { read: { path: `${mount}/data/keys` } };
    const calls = direct(
      rig.provider,
      { ...rig.settings, auth: { method: 'token' }, scopes },
      { token: String(made.body.auth?.['client_token']) },
    );
    const failure = await failureOf(calls.mint('read', 60));
    expect(failure).toMatchObject({ kind: 'refused', message: expect.stringContaining('without a lease') });
    expect(String(failure)).not.toContain('canary-static');
    await calls.revoke(calls.journalled.at(-1));
    expect(await bench.grantTokens()).toEqual([]);
  });

  test('a clean-up that fails at the database is not taken for done, though Vault says 400 to it', async () => {
    const life = { default_ttl: '1h', max_ttl: '24h' };
    const calls = direct(rig.provider, rig.settings, rig.secret);
    const minted = await calls.mint('read', 60);
    await rig.database.role('reader', { ...life, revocation: 'SELECT nonsense' });
    expect(await failureOf(calls.revoke(minted.handle))).toMatchObject({ kind: 'refused' });
    expect(await rig.database.accounts()).toHaveLength(1);
    await rig.database.role('reader', life);
    await calls.revoke(minted.handle);
    await nothingLeft();
  });

  test('what was made at another Vault is not taken for gone because this one does not know it', async () => {
    const calls = direct(rig.provider, rig.settings, rig.secret);
    const elsewhere = { at: 'https://vault.example.com', lease_id: 'database/creds/reader/x' };
    expect(await failureOf(calls.revoke(elsewhere))).toMatchObject({ kind: 'refused' });
  });

  test('an aborted call ends at once as timed out, at every step', async () => {
    const calls = direct(rig.provider, rig.settings, rig.secret, { signal: AbortSignal.abort() });
    expect(await failureOf(calls.mint('read', 60))).toMatchObject({ kind: 'timeout' });
    expect(await failureOf(calls.revoke({ at: rig.bench.url, lease_id: 'a/b/c' }))).toMatchObject({ kind: 'timeout' });
  });

  test('a wrong secret id is refused in words that hold nothing of it', async () => {
    const secret = { ...rig.secret, secret_id: 'canary-secret-id' };
    const failure = await failureOf(direct(rig.provider, rig.settings, secret).mint('read', 60));
    expect(failure).toMatchObject({ kind: 'refused' });
    const { inspect } = await import('node:util');
    expect(inspect(failure, { depth: 20, showHidden: true })).not.toMatch(/canary|X-Vault-Token|hvs\./i);
  });

  test('a secret that does not fit the way of logging in is refused before anybody is asked', async () => {
    await rig.bench.trouble.down();
    const calls = direct(rig.provider, { ...rig.settings, auth: { method: 'token' } }, rig.secret);
    expect(await failureOf(calls.mint('read', 60))).toMatchObject({ kind: 'refused' });
    const none = direct(rig.provider, rig.settings, undefined);
    expect(await failureOf(none.mint('read', 60))).toMatchObject({ kind: 'refused' });
  });
});

describe('the login', () => {
  ifInside(`is one, however many wait for it${skippedOnReal}`, async () => {
    const calls = direct(rig.provider, rig.settings, rig.secret);
    const logins = rig.bench.inside?.namespace().logins ?? [];
    const before = logins.length;
    const minted = await Promise.all(Array.from({ length: 20 }, () => calls.mint('read', 60)));
    expect(logins.length - before).toBe(1);
    await endLogins();
    await Promise.all(minted.map(({ handle }) => calls.revoke(handle)));
    expect(logins.length - before).toBe(2);
    await nothingLeft();
  });
});
