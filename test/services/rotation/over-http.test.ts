/** Rotation as operators and agents see it: over HTTP, against a broker, with an upstream that keeps keys. */
import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { apiKeyProvider } from '../../../adapters/providers/api-key.ts';
import { type Provider, ProviderFailure } from '../../../src/ports/provider.ts';
import type { SecretFields } from '../../../src/ports/rotation.ts';
import { type Answer, type Broker, removeTemporaryDirs, startBroker } from '../../support/broker.ts';
import { eventually } from '../../support/eventually.ts';
import { type KeyHouse, openKeyHouse } from './key-house.ts';

/** An API that takes the keys it knows; `/slow` answers when it is let go. */
const openApi = async () => {
  const keys = new Set<string>();
  const seen: string[] = [];
  let letGo = (): void => undefined;
  const gone = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const server: Server = createServer(async (req, res) => {
    const key = (req.headers.authorization ?? '').replace('Bearer ', '');
    const good = keys.has(key);
    if (good) seen.push(key);
    if (req.url === '/slow') {
      res.writeHead(good ? 200 : 401);
      res.write('first half, ');
      await gone;
      res.end('second half');
      return;
    }
    res.writeHead(good ? 200 : 401).end('done');
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  return { url, keys, seen, letGo, close: () => new Promise((closed) => server.close(closed)) };
};
type Api = Awaited<ReturnType<typeof openApi>>;

/** `api-key`, with a way to rotate at this API. */
const gatewayProvider = (api: Api): Provider => {
  const keyIn = (secret: SecretFields | undefined): string => secret?.['value']?.reveal() ?? '';
  const made = new Map<string, string>();
  return {
    ...apiKeyProvider,
    type: 'test-gateway',
    rotation: {
      methodSchema: {},
      checkMethod: () => ({ ok: true, value: {} }),
      destinations: () => [api.url],
      overlaps: () => true,
      create: async ({ rotationId }) => {
        const value = `sk_${randomBytes(8).toString('hex')}`;
        made.set(rotationId, value);
        api.keys.add(value);
        return { value };
      },
      set: async () => undefined,
      test: async (secret) => {
        if (!api.keys.has(keyIn(secret))) throw new ProviderFailure('refused', 'the API does not take this key');
      },
      undo: async (_next, { rotationId }) => void api.keys.delete(made.get(rotationId) ?? ''),
      retire: async (previous) => void api.keys.delete(keyIn(previous)),
    },
  };
};

let api: Api;
let house: KeyHouse;
let broker: Broker;
let operator: string;
beforeAll(async () => {
  api = await openApi();
  house = openKeyHouse('keys');
  broker = await startBroker({ extraProviders: [house.provider, gatewayProvider(api)] });
  operator = String((await broker.admin('POST', '/operators', { name: 'olga', roles: ['operator'] })).body['token']);
});
afterAll(async () => {
  await broker.close();
  await api.close();
  removeTemporaryDirs();
});

const must = async (answer: Promise<Answer>, status: number): Promise<Record<string, unknown>> => {
  const { text, body, ...rest } = await answer;
  expect([rest.status, text]).toEqual([status, text]);
  return body;
};
const connectionTo = async (name: string): Promise<Record<string, string>> => {
  const secret = house.newSecret();
  const body = { name, provider: 'test-keys', settings: { url: 'https://keys.example' }, secret };
  await must(broker.admin('POST', '/connections', body), 201);
  return secret;
};
const ended = (id: unknown, ...statuses: string[]) =>
  eventually(
    `the rotation is ${statuses}`,
    async () => (await broker.admin('GET', `/rotations/${id}`)).body,
    (row) => statuses.includes(String(row['status'])),
  );
const listed = async (name: string): Promise<Record<string, Record<string, unknown>>> => {
  const { items } = (await broker.admin('GET', '/rotations')).body as { items: Record<string, never>[] };
  return items.find((item) => item['connection'] === name || item['key'] === name) ?? {};
};

test('one that is asked for behind a stuck one says what it waits for', async () => {
  await connectionTo('in-the-way');
  house.before = (call) => {
    if (call === 'set') house.accepted.clear();
  };
  const first = await must(broker.admin('POST', '/rotations', { connection: 'in-the-way', now: true }), 201);
  await ended(first['id'], 'stuck');
  const second = await must(broker.admin('POST', '/rotations', { connection: 'in-the-way', now: true }), 201);
  await eventually(
    'it says so',
    async () => (await broker.admin('GET', `/rotations/${second['id']}`)).body,
    (row) => row['waits_for'] === first['id'],
  );
  house.before = () => undefined;
  await must(broker.admin('PUT', '/connections/in-the-way/secret', house.newSecret()), 200);
  expect(await ended(first['id'], 'failed')).toMatchObject({ waits_for: null });
  await ended(second['id'], 'grace', 'done');
});

describe('an agent behind the gateway', () => {
  test('does not notice: a call that is running ends well, and the next one has the new key', async () => {
    api.keys.add('sk_the_first');
    const settings = {
      base_url: api.url,
      allow_private_network: true,
      scopes: { all: [{ methods: ['*'], path: '/**' }] },
    };
    const secret = { value: 'sk_the_first' };
    await must(broker.admin('POST', '/connections', { name: 'api', provider: 'test-gateway', settings, secret }), 201);
    const agent = await broker.agent('caller');
    await broker.entitle('caller', 'api', ['all']);
    const granted = await broker.grant(await broker.agentToken(agent), { connection: 'api', scopes: ['all'] });
    const { token, base_url } = granted.body['credential'] as { token: string; base_url: string };
    const call = (path: string) => fetch(`${base_url}${path}`, { headers: { authorization: `Bearer ${token}` } });
    expect((await call('/now')).status).toBe(200);

    const running = await call('/slow');
    const asked = await must(
      broker.admin('POST', '/rotations', { connection: 'api', now: true, reason: 'a drill' }),
      201,
    );
    await ended(asked['id'], 'grace');
    expect((await call('/now')).status).toBe(200);
    expect(new Set(api.seen).size).toBe(2);
    const again = await must(broker.admin('POST', '/rotations', { connection: 'api', now: true }), 201);
    await ended(again['id'], 'grace');
    expect(api.keys.has('sk_the_first')).toBe(false);
    expect((await call('/now')).status).toBe(200);
    api.letGo();
    expect([running.status, await running.text()]).toEqual([200, 'first half, second half']);
  });

  test('loses what it holds when the rotation fences, and is told so', async () => {
    const agent = await broker.agent('fenced');
    await broker.entitle('fenced', 'api', ['all']);
    const agentToken = await broker.agentToken(agent);
    const credentialOf = (answer: Answer) => answer.body['credential'] as { token: string; base_url: string };
    const call = async ({ token, base_url }: { token: string; base_url: string }): Promise<number> =>
      (await fetch(`${base_url}/now`, { headers: { authorization: `Bearer ${token}` } })).status;
    const before = credentialOf(await broker.grant(agentToken, { connection: 'api', scopes: ['all'] }));
    const asked = await must(broker.admin('POST', '/rotations', { connection: 'api', now: true, fence: true }), 201);
    await ended(asked['id'], 'grace');
    expect(await call(before)).toBe(401);
    expect(await call(credentialOf(await broker.grant(agentToken, { connection: 'api', scopes: ['all'] })))).toBe(200);
  });
});

describe('a policy', () => {
  test('is set, shown with when it is due, and removed', async () => {
    await connectionTo('planned');
    const policy = {
      every_seconds: 86_400,
      window: { from: '22:00', to: '04:00', days: ['mon', 'fri'] },
      grace_seconds: 60,
    };
    const set = await must(broker.admin('PUT', '/connections/planned/rotation', policy, operator), 200);
    expect(set).toMatchObject({ ...policy, connection: 'planned', fence: false, overdue: false, rotated_at: null });
    const { policy: shown } = await listed('planned');
    expect(shown).toEqual(set);
    expect(Date.parse(String(set['due_at']))).toBeGreaterThan(Date.now() + 86_000_000);
    expect((await broker.json('GET', '/metrics', broker.adminToken)).text).toMatch(
      /warder_rotation_due_seconds\{of="planned"\} \d{5,}/,
    );
    await must(broker.admin('DELETE', '/connections/planned/rotation', undefined, operator), 204);
    expect(await listed('planned')).toEqual({});
  });

  test.each([
    [{ every_seconds: 60, cron: '0 3 * * *' }, 'one of every_seconds and cron'],
    [{ time_zone: 'UTC' }, 'only with cron'],
    [{ cron: '61 3 * * *' }, 'not a cron pattern'],
    [{ every_seconds: 3600, grace_seconds: 3600 }, 'less than the time between two rotations'],
    [{ window: { from: '22:00', to: '22:00' } }, 'never open'],
    [{ method: { also_to: 7 } }, 'method.also_to'],
    [{ method: { also_to: `wdr_op_${'a'.repeat(60)}` } }, 'no token'],
  ])('%j is refused', async (policy, why) => {
    if (!house.accepted.has('checked')) {
      house.accepted.set('checked', 'x');
      const secret = { id: 'checked', value: 'x' };
      await broker.admin('POST', '/connections', { name: 'checked', provider: 'test-keys', secret });
    }
    const refused = await broker.admin('PUT', '/connections/checked/rotation', policy);
    expect([refused.status, refused.text]).toEqual([400, expect.stringContaining(why)]);
  });

  test('of a connection that only people can rotate says how', async () => {
    const settings = { audience: 'https://x.example.com', scopes: ['a'] };
    await must(broker.admin('POST', '/connections', { name: 'jwt', provider: 'internal-jwt', settings }), 201);
    for (const [path, body] of [
      ['/rotations', { connection: 'jwt' }],
      ['/rotations', { connection: 'jwt', now: true }],
    ] as const) {
      expect((await must(broker.admin('POST', path, body), 409))['detail']).toContain('replaced by hand');
    }
    const tried = await must(broker.admin('POST', '/rotations', { connection: 'jwt', dry_run: true }), 200);
    expect(tried).toMatchObject({
      can_rotate: false,
      problem: expect.stringContaining('warder connection set-secret jwt'),
    });
  });

  test('counts from when somebody sets the secret by hand', async () => {
    await connectionTo('by-hand');
    await must(broker.admin('PUT', '/connections/by-hand/rotation', { every_seconds: 86_400 }), 200);
    await must(broker.admin('PUT', '/connections/by-hand/secret', house.newSecret()), 200);
    expect((await listed('by-hand'))['policy']?.['rotated_at']).not.toBeNull();
  });
});

describe('an operator who does not know the secret', () => {
  const elsewhere = { method: { also_to: 'https://evil.example' } };

  test('cannot have it sent anywhere new by a method', async () => {
    await connectionTo('guarded');
    const refused = await broker.admin('PUT', '/connections/guarded/rotation', elsewhere, operator);
    expect([refused.status, refused.body['detail']]).toEqual([409, expect.stringContaining('https://evil.example')]);
    expect(await listed('guarded')).toEqual({});
    // Nor in two steps.
    await must(broker.admin('PUT', '/connections/guarded/rotation', {}, operator), 200);
    await must(broker.admin('PUT', '/connections/guarded/rotation', elsewhere, operator), 409);
    // Where it leads already is no news.
    await must(
      broker.admin('PUT', '/connections/guarded/rotation', { method: { also_to: 'https://keys.example' } }, operator),
      200,
    );
  });

  test('gives it anew, and then only that one goes there', async () => {
    const before = await connectionTo('renewed');
    const secret = { id: 'mine', value: 'mine' };
    house.accepted.set('mine', 'mine');
    const answer = await must(
      broker.admin('PUT', '/connections/renewed/rotation', { ...elsewhere, secret }, operator),
      200,
    );
    expect(answer['method']).toEqual(elsewhere.method);
    expect(JSON.stringify(answer)).not.toContain(before['value']);
    expect((await broker.admin('GET', '/connections/renewed')).body['secret']).toMatchObject({ version: 2 });
    const again = { ...elsewhere, fence: true, secret: { id: 'mine', value: 'mine again' } };
    expect(await must(broker.admin('PUT', '/connections/renewed/rotation', again, operator), 200)).toMatchObject({
      fence: true,
    });
  });

  test('may be an admin, who is recorded', async () => {
    await connectionTo('adminned');
    await must(broker.admin('PUT', '/connections/adminned/rotation', elsewhere), 200);
    const { items } = (await broker.admin('GET', '/audit?type=rotation.policy_set&connection=adminned')).body as {
      items: { data: object }[];
    };
    expect(items[0]?.data).toMatchObject({ sends_to: ['https://evil.example'] });
  });

  test('cannot break or redirect a rotation by settings either', async () => {
    await connectionTo('settled');
    await must(broker.admin('PUT', '/connections/settled/rotation', {}), 200);
    await must(
      broker.admin('PATCH', '/connections/settled', { settings: { url: 'https://evil.example' } }, operator),
      409,
    );
  });
});

describe('asking for rotations', () => {
  test('tries the secret in force without changing anything', async () => {
    await connectionTo('tried');
    const size = house.accepted.size;
    const preview = await must(
      broker.admin('POST', '/rotations', { connection: 'tried', dry_run: true, fence: true }),
      200,
    );
    expect(preview).toMatchObject({
      dry_run: true,
      can_rotate: true,
      overlaps: true,
      fence: true,
      grants: 0,
      test: { ok: true },
    });
    expect([house.accepted.size, (await listed('tried'))['current']]).toEqual([size, undefined]);
    house.faults.push({ call: 'test', fault: 'refused' });
    const failing = await must(broker.admin('POST', '/rotations', { connection: 'tried', dry_run: true }), 200);
    expect(failing['test']).toEqual({ ok: false, why: 'the key house refuses to test' });
  });

  test('waits for the window unless it is to be now, and can be taken back', async () => {
    await connectionTo('windowed');
    const clock = (hours: number): string => new Date(Date.now() + hours * 3_600_000).toISOString().slice(11, 16);
    await must(
      broker.admin('PUT', '/connections/windowed/rotation', { window: { from: clock(3), to: clock(4) } }),
      200,
    );
    const waiting = await must(broker.admin('POST', '/rotations', { connection: 'windowed' }), 201);
    expect(Date.parse(String(waiting['next_at']))).toBeGreaterThan(Date.now() + 3_600_000);
    expect(await must(broker.admin('DELETE', `/rotations/${waiting['id']}`), 200)).toMatchObject({
      status: 'cancelled',
      failure: 'cancelled by admin',
    });
    const now = await must(broker.admin('POST', '/rotations', { connection: 'windowed', now: true }), 201);
    await ended(now['id'], 'grace');
    await must(broker.admin('DELETE', `/rotations/${now['id']}`), 409);
    const { items } = (await broker.admin('GET', '/rotations/history?connection=windowed')).body as {
      items: Record<string, unknown>[];
    };
    expect(items.map(({ status, why, requested_by }) => [status, why, requested_by])).toEqual([
      ['grace', 'asked', 'admin'],
      ['cancelled', 'asked', 'admin'],
    ]);
  });

  test('for all that is due asks for nothing that is not', async () => {
    expect(await must(broker.admin('POST', '/rotations', { all: true, due: true, now: true }), 201)).toEqual({
      items: [],
      skipped: [],
    });
  });

  test('is for responders, too, but not for reviewers', async () => {
    const tokenOf = async (role: string) =>
      String((await broker.admin('POST', '/operators', { name: role, roles: [role] })).body['token']);
    await connectionTo('responded');
    const asked = await must(
      broker.admin('POST', '/rotations', { connection: 'responded', now: true }, await tokenOf('responder')),
      201,
    );
    await ended(asked['id'], 'grace');
    await must(broker.admin('POST', '/rotations', { connection: 'responded' }, await tokenOf('reviewer')), 403);
  });
});

describe('a file that was written before a rotation', () => {
  test('does not bring back the secret that was rotated away, and sends the one in force nowhere new', async () => {
    const before = await connectionTo('filed');
    const asked = await must(broker.admin('POST', '/rotations', { connection: 'filed', now: true }), 201);
    await ended(asked['id'], 'grace');
    const file = (settings: object, secret = before) => ({
      connections: [
        { name: 'filed', provider: 'test-keys', settings: { url: 'https://keys.example', ...settings }, secret },
      ],
    });
    expect((await must(broker.admin('POST', '/apply', file({})), 200))['changes']).toEqual([]);
    expect((await must(broker.admin('POST', '/apply', file({ note: 'x' })), 200))['changes']).toHaveLength(1);
    expect((await broker.admin('GET', '/connections/filed')).body['secret']).toMatchObject({ version: 2 });
    const moved = await must(broker.admin('POST', '/apply', file({ url: 'https://evil.example' }), operator), 409);
    expect(moved['detail']).toContain('would send the secret to https://evil.example');
    expect(
      (await must(broker.admin('POST', '/apply', file({ note: 'x' }, house.newSecret())), 200))['changes'],
    ).toHaveLength(1);
  });
});

describe('a file of connections', () => {
  const connection = { name: 'whole', provider: 'test-keys', settings: { url: 'https://keys.example' } };
  const apply = async (rotation: unknown, more: object = {}, token?: string): Promise<unknown[]> => {
    const body = { connections: [{ ...connection, ...more, rotation }] };
    const { changes } = await must(broker.admin('POST', '/apply', body, token), 200);
    return (changes as { action: string; kind: string }[]).map(({ action, kind }) => `${action} ${kind}`);
  };

  test('may have their policies, with the secret and its way in one step', async () => {
    const policy = { every_seconds: 86_400, method: { also_to: 'https://hook.example' } };
    expect(await apply(policy, { secret: house.newSecret() }, operator)).toEqual([
      'create connection',
      'create rotation',
    ]);
    expect(await apply(policy, {}, operator)).toEqual([]);
    expect((await listed('whole'))['policy']).toMatchObject(policy);
    const other = { every_seconds: 86_400, method: { also_to: 'https://other.example' } };
    const body = { connections: [{ ...connection, rotation: other }] };
    expect((await must(broker.admin('POST', '/apply', body, operator), 409))['detail']).toContain(
      'https://other.example',
    );
    // A new secret and a new policy at once.
    expect(await apply(other, { secret: house.newSecret() }, operator)).toEqual(['update secret', 'update rotation']);
    expect(await apply(undefined)).toEqual([]);
    expect(await apply(null)).toEqual(['delete rotation']);
    expect(await listed('whole')).toEqual({});
  });
});

describe('a connection whose secret is being rotated', () => {
  test('is not deleted, and is once that is over', async () => {
    await connectionTo('going');
    await must(broker.admin('PUT', '/connections/going/rotation', { grace_seconds: 0 }), 200);
    let refused: Answer | undefined;
    house.before = async (call) => {
      if (call === 'test') refused ??= await broker.admin('DELETE', '/connections/going');
    };
    const asked = await must(broker.admin('POST', '/rotations', { connection: 'going', now: true }), 201);
    await ended(asked['id'], 'done');
    house.before = () => undefined;
    expect([refused?.status, refused?.body['detail']]).toEqual([409, expect.stringContaining('is under way')]);
    await must(broker.admin('DELETE', '/connections/going'), 204);
    expect((await ended(asked['id'], 'done'))['status']).toBe('done');
  });

  test('and whose settings are changed keeps the secret before, and is tried again', async () => {
    const before = await connectionTo('moving');
    let changed = false;
    house.before = async (call) => {
      if (call !== 'set' || changed) return;
      changed = true;
      await broker.admin('PATCH', '/connections/moving', { settings: { url: 'https://keys.example', more: 1 } });
    };
    const asked = await must(broker.admin('POST', '/rotations', { connection: 'moving', now: true }), 201);
    const failed = await ended(asked['id'], 'failed');
    expect(failed['failure']).toBe('overtaken: the settings of the connection were changed meanwhile');
    expect(house.accepts(before)).toBe(true);
    expect(house.accepted.has(String(asked['id']))).toBe(false);
    const next = await eventually(
      'the next attempt is in force',
      async () => (await listed('moving'))['last'],
      (last) => last !== undefined && last !== null,
    );
    expect(next).toMatchObject({ attempt: 2, to_version: 3 });
  });
});

describe('keys of Warder’s own', () => {
  test('rotate when they are asked for, and the key-encryption key is the admins’', async () => {
    const policy = { cron: '0 3 1 * *' };
    await must(broker.admin('PUT', '/keys/rotation/key-encryption', policy, operator), 403);
    await must(broker.admin('POST', '/rotations', { key: 'key-encryption', now: true }, operator), 403);
    await must(broker.admin('PUT', '/keys/rotation/key-encryption', policy), 200);
    await must(broker.admin('PUT', '/keys/rotation/signing', { every_seconds: 300 }), 400);
    await must(broker.admin('PUT', '/keys/rotation/other', policy), 404);
    await must(broker.admin('PUT', '/keys/rotation/signing', { every_seconds: 86_400 }, operator), 200);
    for (const key of ['key-encryption', 'signing']) {
      const asked = await must(broker.admin('POST', '/rotations', { key, now: true, reason: 'a drill' }), 201);
      expect(await ended(asked['id'], 'done')).toMatchObject({ connection: null, key });
      expect((await listed(key))['policy']?.['rotated_at']).not.toBeNull();
    }
    const { key_encryption_keys: keks, signing_keys: signing } = (await broker.admin('GET', '/keys')).body as {
      key_encryption_keys: { state: string; number: number }[];
      signing_keys: { purpose: string; state: string }[];
    };
    expect(keks.find(({ state }) => state === 'current')?.number).toBe(2);
    expect(
      signing
        .filter(({ purpose }) => purpose === 'jwt')
        .map(({ state }) => state)
        .sort(),
    ).toEqual(['current', 'next', 'previous']);
  });

  test('have their rotations cancelled by those who may ask for them', async () => {
    const hour = (new Date().getUTCHours() + 2) % 24;
    const clock = (at: number): string => `${String(at % 24).padStart(2, '0')}:00`;
    const window = { from: clock(hour), to: clock(hour + 1) };
    await must(broker.admin('PUT', '/keys/rotation/key-encryption', { window }), 200);
    const asked = await must(broker.admin('POST', '/rotations', { key: 'key-encryption' }), 201);
    await must(broker.admin('DELETE', `/rotations/${asked['id']}`, undefined, operator), 403);
    await must(broker.admin('DELETE', `/rotations/${asked['id']}`), 200);
  });

  test('that sign JWTs do not rotate to a key that verifiers may not have seen yet', async () => {
    const refused = await broker.admin('POST', '/keys/signing/rotate');
    expect([refused.status, refused.body['detail']]).toEqual([
      409,
      expect.stringContaining('verifiers may not have seen it'),
    ]);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(250);
    const asked = await must(broker.admin('POST', '/rotations', { key: 'signing', now: true }), 201);
    expect((await ended(asked['id'], 'failed'))['failure']).toContain('verifiers may not have seen it');
  });
});
