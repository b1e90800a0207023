import { X509Certificate } from 'node:crypto';
import { rootCertificates } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Connection, Grant } from '../../../src/domain/model.ts';
import { deleteConnection } from '../../../src/services/access/delete-connection.ts';
import { createAgent } from '../../../src/services/access/manage-agents.ts';
import {
  type ConnectionInput,
  createConnection,
  updateConnection,
} from '../../../src/services/access/manage-connections.ts';
import { createEntitlement } from '../../../src/services/access/manage-entitlements.ts';
import { secretIsInForce, setSecret } from '../../../src/services/access/set-secret.ts';
import { issueGrant } from '../../../src/services/issuing/issue-grant.ts';
import { revoke } from '../../../src/services/revocation/revoke.ts';
import { caller, entriesSince, gatewaySettings, type Managed, openManaged, refusalOf, sizeOf } from './manage.ts';

let managed: Managed;
let agent: Awaited<ReturnType<typeof createAgent>>['agent'];
beforeAll(async () => {
  managed = await openManaged();
  const input = { name: 'holder', owner: 'team-a', auth: { method: 'client_secret_basic' as const } };
  ({ agent } = await createAgent(managed.core, input, caller));
});
afterAll(() => managed.close());

let made = 0;
const newConnection = (over: Partial<ConnectionInput> = {}): Promise<Connection> => {
  made += 1;
  return createConnection(
    managed.core,
    {
      name: `con-${made}`,
      provider: 'api-key',
      settings: gatewaySettings,
      secret: { value: `sk_live_${made}` },
      ...over,
    },
    caller,
  );
};
const current = (connection: Connection): Connection => {
  const row = managed.core.state.connections.get(connection.id);
  if (!row) throw new Error('it is gone');
  return row;
};
const secretOf = async (connection: Connection): Promise<string | undefined> =>
  (await managed.core.secrets.open(managed.core.reader, current(connection)))?.fields['value']?.reveal();
const issue = async (connection: Connection, scope: string): Promise<Grant> => {
  await createEntitlement(
    managed.core,
    { agent: 'holder', connection: connection.name, scopes: [scope] },
    managed.admin,
    caller,
  );
  return (await issueGrant(managed.core, { agent, connection: connection.name, scopes: [scope] }, caller)).grant;
};
const alive = (grant: Grant): boolean => {
  const { fences } = managed.core.state;
  const facts = {
    agent: grant.agent_id,
    connection: grant.connection_id,
    provider: grant.provider,
    owners: [grant.owner],
    subject: null,
    issuers: [],
    entitlement: grant.entitlement_id,
    grant: grant.id,
  };
  return fences.fencedBy(grant.seq, facts) === undefined;
};

describe('a connection', () => {
  test('keeps its secret sealed, and out of everything that shows it', async () => {
    const from = await sizeOf(managed.core);
    const connection = await newConnection({ secret: { value: 'sk_very_secret_1' } });
    const row = await managed.core.reader.secret(connection.id, 1);
    const shown = JSON.stringify([connection, row, await entriesSince(managed.core, from)]);
    expect(shown).not.toContain('sk_very');
    expect(shown).not.toContain(Buffer.from('sk_very_secret_1').toString('base64').slice(0, 12));
    expect(await secretOf(connection)).toBe('sk_very_secret_1');
  });

  test('gets each new secret as a new version, and forgets none half-way', async () => {
    const connection = await newConnection({ secret: { value: 'sk_one' } });
    expect(await setSecret(managed.core, connection, { value: 'sk_two' }, caller)).toBe(2);
    expect(await secretOf(connection)).toBe('sk_two');
    expect(await managed.core.reader.secret(connection.id, 1)).toMatchObject({ state: 'retired' });
    expect(await managed.core.reader.secret(connection.id, 2)).toMatchObject({ state: 'current' });
    const without = await newConnection({ secret: undefined });
    expect(await secretOf(without)).toBeUndefined();
    expect(await setSecret(managed.core, without, { value: 'sk_first' }, caller)).toBe(1);
    expect(await secretOf(without)).toBe('sk_first');
  });

  test('given two secrets at once has one of them, and whoever gave the other is told', async () => {
    const connection = await newConnection();
    const give = (i: number) => refusalOf(setSecret(managed.core, connection, { value: `sk_raced_${i}` }, caller));
    const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => give(i)));
    const winner = answers.indexOf(undefined);
    expect(answers.filter((refusal) => refusal?.code === 'conflict')).toHaveLength(9);
    expect(await secretOf(connection)).toBe(`sk_raced_${winner}`);
  });

  test('knows whether a secret is the one in force', async () => {
    const connection = await newConnection({ secret: { value: 'sk_same' } });
    expect(await secretIsInForce(managed.core, connection, { value: 'sk_same' })).toBe(true);
    expect(await secretIsInForce(managed.core, connection, { value: 'sk_samf' })).toBe(false);
    expect(await secretIsInForce(managed.core, await newConnection({ secret: undefined }), { value: 'sk_none' })).toBe(
      false,
    );
    expect(await refusalOf(secretIsInForce(managed.core, connection, { other: 'sk_same' }))).toMatchObject({
      code: 'invalid_request',
    });
  });

  test('kills what was issued under other settings, and nothing when they are the same', async () => {
    const connection = await newConnection();
    const grant = await issue(connection, 'read');
    await updateConnection(
      managed.core,
      current(connection),
      { settings: structuredClone(gatewaySettings), owner: 'x' },
      managed.admin,
      caller,
    );
    expect(alive(grant)).toBe(true);
    await setSecret(managed.core, current(connection), { value: 'sk_new' }, caller);
    expect(alive(grant)).toBe(true);
    const settings = { ...gatewaySettings, base_url: `${gatewaySettings.base_url}/other` };
    await updateConnection(managed.core, current(connection), { settings }, managed.admin, caller);
    expect(alive(grant)).toBe(false);
  });

  test.each<[string, Partial<ConnectionInput>, string]>([
    ['an unknown provider', { provider: 'nobody' }, 'provider: one of api-key, '],
    ['settings the provider does not take', { settings: { base_url: 'nowhere', scopes: {} } }, 'settings.'],
    ['a secret the provider does not take', { secret: { password: 'x' } }, 'secret.'],
    ['no object as a secret', { secret: 'sk_live' }, 'secret'],
    [
      'a secret where there is none',
      { provider: 'internal-jwt', settings: { audience: 'a', scopes: ['a'] }, secret: { value: 'x' } },
      'secret',
    ],
    [
      'settings with an unseen character',
      { provider: 'internal-jwt', settings: { audience: 'a\u200bb', scopes: ['a'] } },
      'settings.audience: visible characters only, and no token',
    ],
    [
      'settings with a token',
      { provider: 'internal-jwt', settings: { audience: `wdr_op_${'a'.repeat(69)}`, scopes: ['a'] } },
      'settings.audience: visible',
    ],
    [
      'settings longer than an audit entry',
      {
        settings: {
          ...gatewaySettings,
          scopes: Object.fromEntries(
            Array.from({ length: 60 }, (_, i) => [`s${i}`, [{ methods: ['GET'], path: `/${'x'.repeat(900)}` }]]),
          ),
        },
      },
      'settings: at most 49152 bytes of JSON',
    ],
  ])('is refused with %s, and the refusal names the field and not the value', async (_what, over, detail) => {
    const refusal = await refusalOf(newConnection(over));
    expect(refusal?.code).toBe('invalid_request');
    expect(refusal?.detail.startsWith(detail)).toBe(true);
    expect(refusal?.detail).not.toMatch(/sk_live|nowhere|wdr_op_a/);
  });

  test('may have the longest settings there are, and change them', async () => {
    const scopes = (path: string) =>
      Object.fromEntries(
        Array.from({ length: 50 }, (_, i) => [`s${i}`, [{ methods: ['GET'], path: `/${path.repeat(900)}` }]]),
      );
    const connection = await newConnection({ settings: { ...gatewaySettings, scopes: scopes('x') } });
    const changed = await updateConnection(
      managed.core,
      connection,
      { settings: { ...gatewaySettings, scopes: scopes('y') } },
      managed.admin,
      caller,
    );
    expect(changed.version).toBe(2);
  });
});

describe('authorities in PEM, with its line ends', () => {
  // As many as there is room for: of the smallest, some dozens.
  const [smallest = ''] = [...rootCertificates].sort((a, b) => a.length - b.length);
  const pem = Array.from({ length: 50 }, () => smallest);
  const database = { host: 'db.example.com', database: 'app', tls: { ca: pem.join('\n') } };
  const providers: [string, object, (settings: Record<string, unknown>) => unknown][] = [
    ['postgres', database, ({ tls }) => (tls as { ca?: unknown }).ca],
    ['mysql', database, ({ tls }) => (tls as { ca?: unknown }).ca],
    ['vault', { address: 'https://vault.example.com', readable: ['kv/data/x'], ca: pem.join('\n') }, ({ ca }) => ca],
  ];
  test.each(providers)(
    'are taken by %s, and settings that were shown are taken back',
    async (provider, settings, ca) => {
      const connection = await newConnection({ provider, settings, secret: undefined });
      const kept = ca(connection.settings) as string[];
      const read = kept.map((der) => new X509Certificate(Buffer.from(der, 'base64')).fingerprint256);
      expect(read).toEqual(pem.map((text) => new X509Certificate(text).fingerprint256));
      const again = { settings: structuredClone(connection.settings) };
      await updateConnection(managed.core, connection, again, managed.admin, caller);
      expect(current(connection)).toEqual(connection);
    },
  );
});

describe('deleting a connection', () => {
  test('takes its secret and entitlements along, and kills its grants', async () => {
    const connection = await newConnection();
    const grant = await issue(connection, 'read');
    await deleteConnection(managed.core, current(connection), managed.admin, caller);
    expect(alive(grant)).toBe(false);
    expect(await managed.core.reader.secret(connection.id, 1)).toBeUndefined();
    expect(managed.core.state.entitlementsOf(agent.id, connection.id)).toEqual([]);
  });

  const finished = (grant: Grant) =>
    managed.core.ledger.commit({
      writes: [{ write: 'update', table: 'grants', id: grant.id, set: { upstream: 'gone', version: 9 } }],
      audit: [{ type: 'test', at: 0, agent_id: null, connection_id: null, grant_id: null, body: '{}' }],
    });

  test('waits for what exists upstream: alive, or dead here and not yet cleaned up there', async () => {
    const connection = await newConnection({ provider: 'upstream', settings: {}, secret: undefined });
    const grant = await issue(connection, 'use');
    expect(grant.upstream).toBe('live');
    const deletion = () => refusalOf(deleteConnection(managed.core, current(connection), managed.admin, caller));
    expect(await deletion()).toMatchObject({
      code: 'conflict',
      detail: expect.stringContaining('still exist upstream'),
    });
    // Fenced: every check point refuses it, and the account is still there.
    await revoke(managed.core, { selector: { connection: connection.id }, reason: 'x', suspend: false }, caller);
    expect(alive(grant)).toBe(false);
    expect(await deletion()).toMatchObject({ code: 'conflict' });
    await finished(grant);
    expect(await deletion()).toBeUndefined();
  });

  test('waits for what is being made upstream at this moment', async () => {
    const connection = await newConnection({ provider: 'upstream', settings: {}, secret: undefined });
    const grant = await issue(connection, 'use');
    await managed.core.ledger.commit({
      writes: [{ write: 'update', table: 'grants', id: grant.id, set: { status: 'intended' } }],
      audit: [{ type: 'test', at: 0, agent_id: null, connection_id: null, grant_id: null, body: '{}' }],
    });
    const deletion = () => refusalOf(deleteConnection(managed.core, current(connection), managed.admin, caller));
    expect(await deletion()).toMatchObject({ code: 'conflict' });
    await managed.core.ledger.commit({
      writes: [{ write: 'update', table: 'grants', id: grant.id, set: { status: 'aborted', upstream: 'gone' } }],
      audit: [{ type: 'test', at: 0, agent_id: null, connection_id: null, grant_id: null, body: '{}' }],
    });
    expect(await deletion()).toBeUndefined();
  });

  test('is not held up by what other connections have upstream', async () => {
    const other = await newConnection({ provider: 'upstream', settings: {}, secret: undefined });
    await issue(other, 'use');
    const connection = await newConnection();
    expect(await refusalOf(deleteConnection(managed.core, connection, managed.admin, caller))).toBeUndefined();
  });
});

describe('the secret of a connection', () => {
  const elsewhere = { ...gatewaySettings, base_url: 'https://elsewhere.example' };

  test('does not follow its connection to another host unasked', async () => {
    const connection = await newConnection();
    const moving = updateConnection(managed.core, connection, { settings: elsewhere }, managed.admin, caller);
    expect(await refusalOf(moving)).toMatchObject({ code: 'conflict' });
    expect(current(connection)).toEqual(connection);
  });

  test.each([
    ['postgres', (ca: string) => ({ host: 'db.example.com', database: 'app', tls: { ca } })],
    ['mysql', (ca: string) => ({ host: 'db.example.com', database: 'app', tls: { ca } })],
    ['vault', (ca: string) => ({ address: 'https://vault.example.com', readable: ['kv/data/x'], ca })],
  ])('does not go to a %s that other authorities vouch for', async (provider, settings) => {
    const [one = '', other = ''] = rootCertificates;
    const secret =
      provider === 'vault' ? { token: 'hvs.0123456789' } : { username: 'warder', password: 'x'.repeat(12) };
    const connection = await newConnection({ provider, settings: settings(`${one}\n${other}`), secret });
    const patch = (ca: string, more: object = {}) =>
      refusalOf(
        updateConnection(managed.core, current(connection), { settings: settings(ca), ...more }, managed.admin, caller),
      );
    expect(await patch(other)).toMatchObject({ code: 'conflict' });
    expect(await patch(`${other}\n${one}`)).toBeUndefined();
    expect(await patch(other, { secret })).toBeUndefined();
  });

  test('is replaced in the same change that moves the connection', async () => {
    const connection = await newConnection();
    const patch = { settings: elsewhere, secret: { value: 'sk_for_elsewhere' } };
    await updateConnection(managed.core, connection, patch, managed.admin, caller);
    expect(current(connection)).toMatchObject({ secret_version: 2, version: 3 });
    expect(await secretOf(connection)).toBe('sk_for_elsewhere');
  });

  test('stays where only the path or the rules change', async () => {
    const connection = await newConnection();
    const settings = { ...gatewaySettings, base_url: `${gatewaySettings.base_url}/v2` };
    await updateConnection(managed.core, connection, { settings }, managed.admin, caller);
    expect(current(connection).secret_version).toBe(1);
  });
});
