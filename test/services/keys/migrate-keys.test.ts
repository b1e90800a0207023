/** Migration from one key service to another: checked before, complete with its commit, and nobody waits. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { canonicalJson } from '../../../src/domain/canonical-json.ts';
import type { KeyServiceName } from '../../../src/domain/key-service-name.ts';
import type { Connection } from '../../../src/domain/model.ts';
import { type KeyService, KmsRefused, KmsUnavailable } from '../../../src/ports/kms.ts';
import { LedgerUnavailable } from '../../../src/ports/ledger.ts';
import { createConnection } from '../../../src/services/access/manage-connections.ts';
import type { Caller } from '../../../src/services/core.ts';
import type { CoreWithSecrets } from '../../../src/services/issuing/provider-context.ts';
import { Keyring } from '../../../src/services/keys/keyring.ts';
import { migrateKeys } from '../../../src/services/keys/migrate-keys.ts';
import { rotateKek } from '../../../src/services/keys/rotate-keys.ts';
import { OpenedSecrets } from '../../../src/services/secrets/secrets.ts';
import { removeTemporaryDirs } from '../../support/broker.ts';
import { openServices } from '../../support/services.ts';

const caller: Caller = { actor: { kind: 'system', name: 'test' }, requestId: 'req_test' };
const settings = { base_url: 'https://api.example.com', scopes: { all: [{ methods: ['*'], path: '/**' }] } };
const elsewhere: KeyServiceName = { kind: 'vault-transit', mount: 'transit', key: 'secret-place' };

/** A key service in memory that keeps the port's contract, and that can be put into trouble. */
class RemoteService implements KeyService {
  readonly name: string;
  readonly #root = randomBytes(32);
  trouble: 'none' | 'away' | 'disabled' | 'another-key' = 'none';
  /** Waited for before every answer. */
  hold: Promise<void> | undefined;
  unwrapped = 0;

  constructor(name = 'vault-transit:transit/secret-place') {
    this.name = name;
  }

  async wrap(key: Uint8Array, context: Record<string, string>): Promise<string> {
    await this.#answers();
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#root, nonce).setAAD(Buffer.from(canonicalJson(context)));
    return Buffer.concat([nonce, cipher.update(key), cipher.final(), cipher.getAuthTag()]).toString('base64');
  }

  async unwrap(wrapped: string, context: Record<string, string>): Promise<Uint8Array> {
    await this.#answers();
    this.unwrapped += 1;
    if (this.trouble === 'another-key') return randomBytes(32);
    const bytes = Buffer.from(wrapped, 'base64');
    try {
      const opening = createDecipheriv('aes-256-gcm', this.#root, bytes.subarray(0, 12));
      opening.setAAD(Buffer.from(canonicalJson(context))).setAuthTag(bytes.subarray(-16));
      return Buffer.concat([opening.update(bytes.subarray(12, -16)), opening.final()]);
    } catch {
      throw new KmsRefused('another key');
    }
  }

  async #answers(): Promise<void> {
    await this.hold;
    if (this.trouble === 'away') throw new KmsUnavailable('it does not answer');
    if (this.trouble === 'disabled') throw new KmsRefused('the key is disabled');
  }
}

let core: CoreWithSecrets;
let close: () => Promise<void>;
let remote: RemoteService;
let connection: Connection;

beforeEach(async () => {
  ({ core, close } = await openServices());
  remote = new RemoteService();
  core.openKeyService = () => remote;
  const input = { name: 'one', provider: 'api-key', settings, secret: { value: 'sk_one_0123456789' } };
  connection = await createConnection(core, input, caller);
});
afterEach(async () => {
  await close();
  removeTemporaryDirs();
});

const migrate = (dryRun = false) => migrateKeys(core, { to: elsewhere, dryRun }, caller);
const rows = () => core.state.keyEncryptionKeys.all();
const secretWith = async (keyring: Keyring): Promise<string | undefined> =>
  (await new OpenedSecrets(keyring).open(core.reader, connection))?.fields['value']?.reveal();
const types = async (): Promise<string[]> =>
  (await core.reader.audit({}, { limit: 100 })).map(({ body }) => String(JSON.parse(body).type));

describe('a migration', () => {
  test('moves every key, is in force at once, and is what the next start needs', async () => {
    await rotateKek(core, caller);
    const from = core.keyring.kmsName;
    expect(await migrate()).toEqual({ from, to: remote.name, keys: 2, dry_run: false });
    expect(rows().map(({ kms }) => kms)).toEqual([remote.name, remote.name]);
    expect([core.keyring.kmsName, core.keyring.configuredKmsName]).toEqual([remote.name, from]);
    expect(await secretWith(core.keyring)).toBe('sk_one_0123456789');
    // Confirming asks the new one, also when the old one is gone.
    const asked = remote.unwrapped;
    expect((await core.keyring.unseal(rows())).sealed).toBe(false);
    expect(remote.unwrapped).toBe(asked + 2);
    // New keys are wrapped by it, too.
    expect((await rotateKek(core, caller)).kms).toBe(remote.name);
    const next = new Keyring(remote, core.clock, Number.POSITIVE_INFINITY);
    expect((await next.unseal(rows())).sealed).toBe(false);
    expect(await secretWith(next)).toBe('sk_one_0123456789');
    expect(await types()).toContain('key.migrated');
  });

  test('makes a start with the old key service sealed, and says what to set without saying where', async () => {
    await migrate();
    const old = new Keyring(
      { ...remote, name: 'local:/old/root.key', wrap: async () => '', unwrap: async () => randomBytes(32) },
      core.clock,
      1000,
    );
    const state = await old.unseal(rows());
    expect(state).toEqual({
      sealed: true,
      why: 'the local key service: the keys were migrated to the vault-transit key service; set WARDER_KMS to that',
    });
    const sibling = new Keyring(new RemoteService('vault-transit:transit/another'), core.clock, 1000);
    const refused = await sibling.unseal(rows());
    expect(refused).toMatchObject({ sealed: true, why: expect.stringContaining('see WARDER_KMS') });
    expect(JSON.stringify([state, refused])).not.toMatch(/secret-place|another\b.*transit\/|\/old/);
  });

  test('that is only tried wraps and opens everything, and changes nothing', async () => {
    const before = rows();
    expect(await migrate(true)).toMatchObject({ to: remote.name, keys: 1, dry_run: true });
    expect(remote.unwrapped).toBe(1);
    expect(rows()).toEqual(before);
    expect(core.keyring.kmsName).not.toBe(remote.name);
    expect(await types()).toContain('key.migration_tried');
  });

  test.each(['away', 'disabled', 'another-key'] as const)(
    'to a service that is %s is refused and changes nothing',
    async (trouble) => {
      remote.trouble = trouble;
      const before = rows();
      const refused = await migrate().catch((error: unknown) => error);
      const code = trouble === 'away' ? 'upstream_unavailable' : 'upstream_refused';
      expect(refused).toMatchObject({ refusal: { code, detail: expect.not.stringContaining('secret-place') } });
      expect(rows()).toEqual(before);
      expect(await secretWith(core.keyring)).toBe('sk_one_0123456789');
    },
  );

  test('is refused while sealed, to a service that is not configured, and to where the keys are', async () => {
    core.openKeyService = () => {
      throw new KmsRefused('WARDER_VAULT_ADDR and WARDER_VAULT_TOKEN are not set');
    };
    await expect(migrate()).rejects.toMatchObject({ refusal: { code: 'upstream_refused' } });
    core.openKeyService = () => remote;
    await migrate();
    await expect(migrate()).rejects.toMatchObject({ refusal: { code: 'conflict' } });
    core.keyring.seal('test');
    await expect(migrate()).rejects.toMatchObject({ refusal: { code: 'sealed' } });
  });

  test('and a rotation at the same time: one of them takes place whole', async () => {
    const results = await Promise.allSettled([migrate(), rotateKek(core, caller)]);
    const refused = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    expect(refused.length).toBeLessThanOrEqual(1);
    for (const reason of refused) expect(reason).toMatchObject({ refusal: { code: 'conflict' } });
    // Every row names one service, which opens all of them.
    expect(new Set(rows().map(({ kms }) => kms)).size).toBe(1);
    core.keyring.seal('test');
    expect((await core.keyring.unseal(rows())).sealed).toBe(false);
    expect(await secretWith(core.keyring)).toBe('sk_one_0123456789');
  });

  test('whose commit nobody saw succeed is followed by the next rotation, so that one service opens all keys', async () => {
    const { commit } = core.ledger;
    core.ledger.commit = async (changeset) => {
      await commit.call(core.ledger, changeset);
      throw new LedgerUnavailable('nobody knows');
    };
    await expect(migrate()).rejects.toMatchObject({ refusal: { code: 'ledger_unavailable' } });
    core.ledger.commit = commit;
    await rotateKek(core, caller);
    expect(new Set(rows().map(({ kms }) => kms))).toEqual(new Set([remote.name]));
    const next = new Keyring(remote, core.clock, Number.POSITIVE_INFINITY);
    expect(await next.unseal(rows())).toEqual({ sealed: false });
  });

  test('is not undone by what the old service says of a question that was asked before it', async () => {
    await migrate();
    const second = new RemoteService('aws-kms:alias/second');
    core.openKeyService = () => second;
    let release = (): void => undefined;
    remote.hold = new Promise((resolve) => {
      release = resolve;
    });
    const stale = core.keyring.unseal(rows());
    await migrateKeys(core, { to: { kind: 'aws-kms', key: 'alias/second' }, dryRun: false }, caller);
    remote.trouble = 'disabled';
    release();
    expect((await stale).sealed).toBe(false);
    expect(core.keyring.kmsName).toBe(second.name);
    expect(await secretWith(core.keyring)).toBe('sk_one_0123456789');
  });
});
