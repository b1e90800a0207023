/** A rotation of the key-encryption key: nothing is lost, nothing is brought back, and the old key goes when it may. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Connection, SecretVersion } from '../../../src/domain/model.ts';
import { Refused } from '../../../src/domain/refusals.ts';
import { sealedBoxIn, withBox } from '../../../src/domain/stored-handle.ts';
import { KmsUnavailable } from '../../../src/ports/kms.ts';
import { LedgerUnavailable, sealedTables, type Write } from '../../../src/ports/ledger.ts';
import { deleteConnection } from '../../../src/services/access/delete-connection.ts';
import { createConnection } from '../../../src/services/access/manage-connections.ts';
import { setSecret } from '../../../src/services/access/set-secret.ts';
import { sealTokens } from '../../../src/services/accounts/authorization-tokens.ts';
import { type Caller, commit, newId, record } from '../../../src/services/core.ts';
import { boxOf, type CoreWithSecrets, openKept } from '../../../src/services/issuing/provider-context.ts';
import { Rewrapping, rotateKek } from '../../../src/services/keys/rotate-keys.ts';
import { resealing } from '../../../src/services/keys/sealed-boxes.ts';
import { OpenedSecrets } from '../../../src/services/secrets/secrets.ts';
import * as make from '../../conformance/ledger-rows.ts';
import { removeTemporaryDirs } from '../../support/broker.ts';
import { eventually, pause } from '../../support/eventually.ts';
import { openServices } from '../../support/services.ts';

const caller: Caller = { actor: { kind: 'system', name: 'test' }, requestId: 'req_test' };
const settings = { base_url: 'https://api.example.com', scopes: { all: [{ methods: ['*'], path: '/**' }] } };

let core: CoreWithSecrets;
let close: () => Promise<void>;
let rewrapping: Rewrapping | undefined;

beforeEach(async () => {
  ({ core, close } = await openServices());
});
afterEach(async () => {
  await rewrapping?.stop();
  rewrapping = undefined;
  await close();
  removeTemporaryDirs();
});

const startRewrapping = (graceMs = 0): void => {
  rewrapping = new Rewrapping(core, { everyMs: 20, boxes: 7, graceMs });
  rewrapping.start();
};
const write = (...writes: Write[]) => commit(core, { writes, audit: [record(core, caller, { type: 'test.written' })] });
const connect = (name: string, value: string): Promise<Connection> =>
  createConnection(core, { name, provider: 'api-key', settings, secret: { value } }, caller);
/** What a connection's secret is, opened from the database and not from what is held. */
const secretOf = async (connection: Connection): Promise<string | undefined> => {
  const row = core.state.connections.get(connection.id) ?? connection;
  return (await new OpenedSecrets(core.keyring).open(core.reader, row))?.fields['value']?.reveal();
};
const boxesUnder = async (): Promise<Record<number, number>> =>
  Object.fromEntries((await core.reader.sealedBoxes()).map(({ kek, boxes }) => [kek, boxes]));
const states = (): Record<number, string> =>
  Object.fromEntries(core.state.keyEncryptionKeys.all().map(({ number, state }) => [number, state]));
const moved = (to: number) =>
  eventually('all boxes are moved', boxesUnder, (boxes) => Object.keys(boxes).join() === String(to));
const auditTypes = async (): Promise<string[]> =>
  (await core.reader.audit({}, { limit: 500 })).map(({ body }) => String(JSON.parse(body).type));

describe('a rotation', () => {
  test('seals what is new under the new key at once, and opens what is under the old one', async () => {
    const before = await connect('before', 'sk_before_0123456789');
    expect((await rotateKek(core, caller)).number).toBe(2);
    const after = await connect('after', 'sk_after_0123456789');
    expect(await boxesUnder()).toEqual({ 1: 5, 2: 1 });
    expect(await secretOf(before)).toBe('sk_before_0123456789');
    expect(await secretOf(after)).toBe('sk_after_0123456789');
  });

  test('moves every kind of box, opens to the same as before, and then retires the old key', async () => {
    const one = await connect('one', 'sk_one_0123456789');
    await setSecret(core, one, { value: 'sk_one_again_0123456789' }, caller);
    const keep = Buffer.from(JSON.stringify({ token: 'kept-canary' }));
    const grant = make.grant({ upstream: 'live' });
    grant.handle = withBox({ name: 'x' }, core.keyring.encrypt(boxOf(grant.id), keep));
    await write({ write: 'insert', table: 'grants', row: grant });
    startRewrapping();
    await rotateKek(core, caller);
    await moved(2);
    await eventually('the old key is retired', states, (found) => found[1] === 'retired');
    expect(core.state.keyEncryptionKeys.all().find(({ number }) => number === 1)?.wrapped).toBe('');
    expect(await secretOf(one)).toBe('sk_one_again_0123456789');
    const kept = await core.reader.grant(grant.id);
    const box = sealedBoxIn(kept?.handle ?? null);
    expect(box && openKept(core, grant.id, box)['token']?.reveal()).toBe('kept-canary');
    expect(kept?.handle).toMatchObject({ name: 'x' });
    expect(kept?.version).toBe(grant.version);
    expect(await core.signingKeys.signJwt({ sub: 'x' })).toContain('.');
    // What memory has is what the database has.
    core.keyring.seal('test');
    expect((await core.keyring.unseal(core.state.keyEncryptionKeys.all())).sealed).toBe(false);
    expect(await core.signingKeys.signJwt({ sub: 'x' })).toContain('.');
    expect(await auditTypes()).toEqual(expect.arrayContaining(['key.rotated', 'key.rewrapped', 'key.retired']));
  });

  test('knows how to seal anew every table that the store says has boxes', () => {
    const connection = make.connection();
    const sealed = (purpose: Parameters<typeof core.keyring.encrypt>[0]) =>
      core.keyring.encrypt(purpose, Buffer.from('x'));
    const [secret, key, grant] = [make.secret(connection), make.signingKey(), make.grant()];
    const [tokens, flow] = [make.authorization(connection), make.authorizationFlow(connection)];
    secret.sealed = sealed({ purpose: 'connection-secret', connection: connection.id, version: String(secret.number) });
    key.sealed = sealed({ purpose: 'signing-key', kid: key.id });
    grant.handle = withBox({}, sealed({ purpose: 'grant-keep', grant: grant.id }));
    const whose = { connection: connection.id, authorization: tokens.id, version: String(tokens.tokens_version) };
    tokens.sealed = sealed({ purpose: 'authorization', ...whose });
    flow.sealed = sealed({ purpose: 'authorization-flow', connection: connection.id, flow: flow.id });
    const [hook, stream] = [make.webhook(), make.signalStream()];
    hook.sealed = sealed({ purpose: 'webhook', webhook: hook.id, number: String(hook.secret_number) });
    stream.sealed = sealed({ purpose: 'signal-stream', stream: stream.id });
    const rows = [
      { table: 'secrets', row: secret },
      { table: 'signing_keys', row: key },
      { table: 'authorizations', row: tokens },
      { table: 'authorization_flows', row: flow },
      { table: 'grants', row: grant },
      { table: 'webhooks', row: hook },
      { table: 'signal_streams', row: stream },
    ] as const;
    expect(rows.map(({ table }) => table)).toEqual([...sealedTables]);
    for (const row of rows) expect(resealing(core.keyring, row)).toMatchObject({ write: 'update', table: row.table });
    expect(resealing(core.keyring, { table: 'authorization_flows', row: { ...flow, sealed: null } })).toBeUndefined();
    expect(resealing(core.keyring, { table: 'grants', row: make.grant({ handle: { name: 'x' } }) })).toBeUndefined();
    expect(resealing(core.keyring, { table: 'signal_streams', row: make.signalStream() })).toBeUndefined();
  });

  test('takes nothing back that was set, and revives nothing that was deleted, while boxes are moved', async () => {
    const connections = await Promise.all(
      Array.from({ length: 60 }, (_, i) => connect(`c-${i}`, `sk_first_${i}_0123456789`)),
    );
    const operator = core.state.operators.all()[0];
    if (!operator) throw new Error('there is an admin');
    startRewrapping();
    const [, ...done] = await Promise.all([
      rotateKek(core, caller),
      ...connections.map(async (connection, i) => {
        if (i % 3 === 0) await setSecret(core, connection, { value: `sk_second_${i}_0123456789` }, caller);
        if (i % 3 === 1) await deleteConnection(core, connection, operator, caller);
      }),
    ]);
    expect(done).toHaveLength(60);
    await moved(2);
    for (const [i, connection] of connections.entries()) {
      if (i % 3 === 0) expect(await secretOf(connection)).toBe(`sk_second_${i}_0123456789`);
      if (i % 3 === 1) expect(await core.reader.secret(connection.id, 1)).toBeUndefined();
      if (i % 3 === 2) expect(await secretOf(connection)).toBe(`sk_first_${i}_0123456789`);
    }
  }, 20_000);

  test('leaves a box alone that somebody else sealed after it was read', async () => {
    const connection = await connect('raced', 'sk_old_0123456789');
    const stale = (await core.reader.secret(connection.id, 1)) as SecretVersion;
    await rotateKek(core, caller);
    const context = { purpose: 'connection-secret', connection: connection.id, version: '1' } as const;
    const newer = core.keyring.encrypt(context, Buffer.from('{"value":"sk_newer"}'));
    await write({ write: 'update', table: 'secrets', id: stale.id, set: { sealed: newer } });
    const late = resealing(core.keyring, { table: 'secrets', row: stale });
    expect(late && (await write(late))).toMatchObject({ ok: false, why: 'changed', table: 'secrets' });
    expect((await core.reader.secret(connection.id, 1))?.sealed).toEqual(newer);
  });

  test('of two at once puts one in force, and the other is told', async () => {
    const results = await Promise.allSettled([
      rotateKek(core, caller),
      rotateKek(core, caller),
      rotateKek(core, caller),
    ]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected', 'rejected']);
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ refusal: { code: 'conflict' } });
    }
    expect(states()).toEqual({ 1: 'previous', 2: 'current' });
    expect(await secretOf(await connect('after', 'sk_after_0123456789'))).toBe('sk_after_0123456789');
  });

  test('again and again ends with one key that everything is under', async () => {
    const connection = await connect('one', 'sk_one_0123456789');
    startRewrapping();
    for (let i = 0; i < 4; i += 1) await rotateKek(core, caller);
    await moved(5);
    await eventually('the others are retired', states, (found) =>
      Object.values(found).join().startsWith('retired,retired,retired,retired'),
    );
    expect(await secretOf(connection)).toBe('sk_one_0123456789');
  });

  test('is refused when many before it have not ended', async () => {
    for (let i = 0; i < 8; i += 1) await rotateKek(core, caller);
    await expect(rotateKek(core, caller)).rejects.toMatchObject({ refusal: { code: 'conflict' } });
    startRewrapping();
    await eventually('they end', states, (found) => !Object.values(found).includes('previous'));
    expect((await rotateKek(core, caller)).number).toBe(10);
  });

  test('is refused while sealed, and when the key service is away, and changes nothing then', async () => {
    core.keyring.seal('test');
    await expect(rotateKek(core, caller)).rejects.toMatchObject({ refusal: { code: 'sealed' } });
    await core.keyring.unseal(core.state.keyEncryptionKeys.all());
    const before = core.keyring.makeNext.bind(core.keyring);
    core.keyring.makeNext = async () => {
      throw new KmsUnavailable('it is away');
    };
    const refused = await rotateKek(core, caller).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(Refused);
    expect(refused).toMatchObject({ refusal: { code: 'upstream_unavailable', detail: 'the key service: it is away' } });
    core.keyring.makeNext = before;
    expect(states()).toEqual({ 1: 'current' });
  });

  test('keeps the old key through the grace, and while a box under it does not open', async () => {
    const connection = await connect('one', 'sk_one_0123456789');
    const row = (await core.reader.secret(connection.id, 1)) as SecretVersion;
    startRewrapping(300);
    await rotateKek(core, caller);
    await moved(2);
    expect(states()).toEqual({ 1: 'previous', 2: 'current' });
    await write({ write: 'update', table: 'secrets', id: row.id, set: { sealed: { ...row.sealed, text: 'AAAA' } } });
    await pause(500);
    expect(states()).toEqual({ 1: 'previous', 2: 'current' });
    await write({ write: 'delete', table: 'secrets', id: row.id });
    await eventually('then it goes', states, (found) => found[1] === 'retired');
  });

  test('of long ago, whose boxes are moved only now, still waits for who holds one of them as it was', async () => {
    const connection = await connect('one', 'sk_one_0123456789');
    const held = (await core.reader.secret(connection.id, 1)) as SecretVersion;
    await rotateKek(core, caller);
    await pause(600);
    startRewrapping(500);
    await moved(2);
    await pause(100);
    await write({ write: 'update', table: 'secrets', id: held.id, set: { sealed: held.sealed } });
    await eventually('it is moved again', boxesUnder, (boxes) => boxes[1] === undefined);
    await eventually('then the old key goes', states, (found) => found[1] === 'retired');
    core.keyring.seal('test');
    await core.keyring.unseal(core.state.keyEncryptionKeys.all());
    expect(await secretOf(connection)).toBe('sk_one_0123456789');
  });

  test('does not make tokens look like somebody else’s when nobody knows whether they were recorded', async () => {
    const connection = await connect('one', 'sk_one_0123456789');
    const row = make.authorization(connection);
    const tokens = { accessToken: 'before', refreshToken: 'r1', expiresAt: null };
    row.sealed = sealTokens(core.keyring, row, row.tokens_version, tokens);
    await write({ write: 'insert', table: 'authorizations', row });
    const { commit: committing } = core.ledger;
    core.ledger.commit = async (changeset) => {
      const result = await committing.call(core.ledger, changeset);
      if (!changeset.audit.some(({ type }) => type === 'authorization.refreshed')) return result;
      core.ledger.commit = committing;
      await rotateKek(core, caller);
      startRewrapping();
      await moved(2);
      throw new LedgerUnavailable('nobody knows');
    };
    const done = await core.authorizations.redeem(core, connection.id, null, {
      work: async () => ({
        tokens: { ...tokens, accessToken: 'after', refreshToken: 'r2' },
        result: { result: 'new' },
      }),
    });
    expect(done).toEqual({ result: 'new' });
    const now = core.state.authorizations.get(row.id);
    expect(now && core.authorizations.open(now).accessToken.reveal()).toBe('after');
  });

  test('is not undone by rows that were read before it', async () => {
    const stale = core.state.keyEncryptionKeys.all();
    await rotateKek(core, caller);
    await core.keyring.unseal(stale);
    await connect('after', 'sk_after_0123456789');
    expect(await boxesUnder()).toMatchObject({ 2: 1 });
  });

  test('any order of setting, deleting and rotating keeps what was set last', async () => {
    startRewrapping();
    const names = ['a', 'b', 'c'];
    const step = fc.oneof(
      fc.constant({ do: 'rotate' as const }),
      fc.record({ do: fc.constant('set' as const), name: fc.constantFrom(...names), value: fc.nat(999) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        const run = newId(core, 'req')
          .slice(-10)
          .replace(/^[^a-z0-9]/, 'x');
        const held = new Map<string, { connection: Connection; value: string }>();
        for (const one of steps) {
          if (one.do === 'rotate') {
            await rotateKek(core, caller).catch((error: unknown) => {
              if (!(error instanceof Refused) || error.refusal.code !== 'conflict') throw error;
            });
            continue;
          }
          const value = `sk_${one.value}_0123456789`;
          const known = held.get(one.name);
          if (known)
            await setSecret(core, core.state.connections.get(known.connection.id) as Connection, { value }, caller);
          held.set(one.name, { connection: known?.connection ?? (await connect(`${one.name}-${run}`, value)), value });
        }
        for (const { connection, value } of held.values()) expect(await secretOf(connection)).toBe(value);
      }),
      { numRuns: 15 },
    );
  }, 30_000);
});
