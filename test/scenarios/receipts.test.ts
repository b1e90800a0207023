/** Receipts: what is dead, since when, and what is not; checked by somebody who does not ask the broker. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Listed, listedLine } from '../../src/domain/receipt.ts';
import type { ReceiptPayload } from '../../src/domain/receipt-file.ts';
import { type TrustedKey, verifyReceipt } from '../../src/domain/verify-receipt.ts';
import type { Provider } from '../../src/ports/provider.ts';
import { type Answer, type Broker, removeTemporaryDirs, startBroker } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { startUpstream, type Upstream, upstreamProviders } from '../support/upstream-provider.ts';

/** What it makes cannot be taken back. */
const stubborn: Provider = {
  type: 'test-stubborn',
  enforcement: () => 'upstream',
  settingsSchema: {},
  checkSettings: () => ({ ok: true, value: {} }),
  checkSecret: () => ({ ok: true, value: undefined }),
  scopes: () => ['use'],
  plan: ({ expiresAt }) => ({ credentialType: 'token', handle: { endsBy: expiresAt } }),
  mint: async () => ({ credential: { type: 'token' } }),
  revoke: async ({ handle }) => ({ endsBy: Number(handle?.['endsBy']) }),
};

interface File {
  text: string;
  grants: Listed[];
  names: { id: string; name: string }[];
  payload: ReceiptPayload;
  header: Record<string, unknown>;
}

let broker: Broker;
let upstream: Upstream;
let jwks: TrustedKey;
const agents = new Map<string, { id: string; token: string; secret: { clientId: string; clientSecret: string } }>();

const part = (jws: string, index: number) =>
  JSON.parse(Buffer.from(jws.split('.')[index] ?? '', 'base64url').toString('utf8'));
const parsed = (text: string): File => {
  const { grants, names, receipt } = JSON.parse(text) as { grants: Listed[]; names: []; receipt: string };
  return { text, grants, names, payload: part(receipt, 1), header: part(receipt, 0) };
};
async function* whole(text: string | Buffer): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}
const verified = (text: string | Buffer, trusted: TrustedKey = jwks) => verifyReceipt(whole(text), { trusted });
const receiptOf = async (id: string): Promise<File> => {
  const answer = await broker.admin('GET', `/revocations/${id}/receipt`);
  expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/json']);
  expect(await verified(answer.text)).toMatchObject({ ok: true });
  return parsed(answer.text);
};
const newAgent = async (name: string): Promise<void> => {
  const secret = await broker.agent(name);
  for (const connection of ['made', 'wall', 'gateway', 'jwt']) await broker.entitle(name, connection, ['use']);
  agents.set(name, { id: secret.id, token: await broker.agentToken(secret), secret });
};
const issue = async (agent: string, connection: string): Promise<string> => {
  const answer = await broker.grant(agents.get(agent)?.token ?? '', { connection, scopes: ['use'] });
  if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`);
  return (answer.body['grant'] as { id: string }).id;
};
const revoke = async (selector: object, more: object = {}): Promise<string> => {
  const { status, body } = await broker.admin('POST', '/revocations', { selector, reason: 'INC-7', ...more });
  expect(status).toBe(201);
  return String(body['id']);
};
const shown = async (id: string) => (await broker.admin('GET', `/revocations/${id}`)).body;
const completed = (id: string) =>
  eventually(
    `${id} is complete`,
    () => shown(id),
    (body) => body['completed_at'] !== null,
  );
const stateOf = (file: File, id: string) => file.grants.find((one) => one.id === id);
const codeOf = (answer: Answer) => [answer.status, answer.body['code']];

beforeAll(async () => {
  upstream = await startUpstream();
  broker = await startBroker({ extraProviders: [...upstreamProviders, stubborn] });
  await broker.connection('gateway', 'https://upstream.example', {
    scopes: { use: [{ methods: ['*'], path: '/**' }] },
  });
  const settings = { url: upstream.url, scopes: ['use'] };
  await broker.admin('POST', '/connections', { name: 'made', provider: 'test-account', settings });
  await broker.admin('POST', '/connections', { name: 'wall', provider: 'test-stubborn', settings: {} });
  const own = { audience: 'https://service.example', scopes: ['use'] };
  expect(
    (await broker.admin('POST', '/connections', { name: 'jwt', provider: 'internal-jwt', settings: own })).status,
  ).toBe(201);
  jwks = { jwks: ((await (await broker.fetch('/jwks')).json()) as { keys: [] }).keys };
});
afterAll(async () => {
  await broker.close();
  await upstream.stop();
  removeTemporaryDirs();
});

describe('a receipt', () => {
  test('says of each grant what became of it, also of those that had ended and live on', async () => {
    await newAgent('reporter');
    const [made, gateway, jwt, returned, gone] = [
      await issue('reporter', 'made'),
      await issue('reporter', 'gateway'),
      await issue('reporter', 'jwt'),
      await issue('reporter', 'wall'),
      await issue('reporter', 'made'),
    ];
    const token = agents.get('reporter')?.token ?? '';
    for (const id of [returned, gone]) await broker.json('DELETE', `/v1/grants/${id}`, token);
    for (const [id, upstreamState] of [
      [returned, 'live'],
      [gone, 'gone'],
    ] as const) {
      await eventually(
        'it was cleaned up',
        async () => (await broker.admin('GET', `/grants/${id}`)).body,
        (body) => body['upstream'] === upstreamState && (upstreamState === 'gone' || body['upstream_ends_by'] !== null),
      );
    }
    const id = await revoke({ agent: 'reporter' }, { suspend: true });
    const done = await completed(id);
    const file = await receiptOf(id);
    const fencedAt = done['fenced_at'];
    expect(file.grants.map((one) => one.id).sort()).toEqual([made, gateway, jwt, returned].sort());
    expect(stateOf(file, made)).toMatchObject({
      agent: agents.get('reporter')?.id,
      provider: 'test-account',
      scopes: ['use'],
      fenced_at: fencedAt,
      ended_before: null,
      upstream: { state: 'revoked', at: expect.any(String) },
    });
    expect(stateOf(file, gateway)).toMatchObject({ fenced_at: fencedAt, upstream: { state: 'none' } });
    const { expires_at: until } = stateOf(file, jwt) ?? {};
    expect(stateOf(file, jwt)).toMatchObject({ fenced_at: fencedAt, upstream: { state: 'offline', until } });
    expect(stateOf(file, returned)).toMatchObject({
      fenced_at: null,
      ended_before: 'returned',
      upstream: { state: 'ends_by_itself', until: stateOf(file, returned)?.expires_at },
    });
    const nothing = { none: 0, revoked: 0, ended_by_itself: 0, lives_on: 0, pending: 0, unrevocable: 0 };
    expect(file.payload).toMatchObject({
      iss: broker.url,
      final: true,
      revocation: {
        id,
        reason: 'INC-7',
        requested_by: 'admin',
        suspend: true,
        fence: done['fence'],
        fenced_at: fencedAt,
      },
      suspended: [{ id: agents.get('reporter')?.id, name: 'reporter' }],
      rotations: [],
      rotate_by_hand: [],
      counts: {
        killed: { ...nothing, none: 1, revoked: 1, lives_on: 1 },
        left_over: { ...nothing, lives_on: 1 },
      },
    });
    expect(file.names.map(({ name }) => name).sort()).toEqual(['gateway', 'jwt', 'made', 'reporter', 'wall']);
    expect(file.header).toMatchObject({ alg: 'EdDSA', typ: 'warder-revocation-receipt+jwt' });
    // Its lines are what is hashed, as they stand.
    for (const one of file.grants) expect(file.text).toContain(listedLine(one));
  });

  test('is the same list whenever it is made, after what it lists was revoked again and deleted', async () => {
    await newAgent('leaver');
    await issue('leaver', 'made');
    await issue('leaver', 'gateway');
    const id = await revoke({ agent: 'leaver' });
    await completed(id);
    const first = await receiptOf(id);
    await revoke({ everything: true });
    expect((await broker.admin('DELETE', '/agents/leaver')).status).toBe(204);
    const second = await receiptOf(id);
    expect([second.payload.final, second.payload.grants, second.grants]).toEqual([
      true,
      first.payload.grants,
      first.grants,
    ]);
    expect(first.payload.grants.count).toBe(2);
  });

  test('says that it is not the final one while something is pending', async () => {
    await newAgent('slow');
    const grant = await issue('slow', 'made');
    await upstream.behave('delete', { kind: 'hold' });
    const id = await revoke({ agent: 'slow' });
    const early = await receiptOf(id);
    expect([early.payload.final, stateOf(early, grant)?.upstream]).toEqual([false, { state: 'pending' }]);
    await upstream.held(1);
    await upstream.behave('delete', { kind: 'ok' });
    await upstream.release();
    await completed(id);
    expect((await receiptOf(id)).payload).toMatchObject({
      final: true,
      counts: { killed: { revoked: 1, pending: 0 } },
    });
  });

  test('says why something could not be taken back, and what it was when that was tried again', async () => {
    await newAgent('stuck');
    const grant = await issue('stuck', 'made');
    await upstream.behave('delete', { kind: 'fail-before' });
    const id = await revoke({ agent: 'stuck' });
    await completed(id);
    const late = await receiptOf(id);
    expect(late.payload).toMatchObject({ final: true, counts: { killed: { unrevocable: 1, pending: 0 } } });
    expect(stateOf(late, grant)?.upstream).toMatchObject({
      state: 'unrevocable',
      at: expect.any(String),
      why: expect.stringContaining('the test upstream answered 500'),
      by_hand: expect.stringContaining(`wdr_${grant}`),
    });

    // Somebody mends the upstream and has it tried again: then it is a receipt of that.
    await upstream.behave('delete', { kind: 'ok' });
    const retried = await broker.admin('POST', `/revocations/${id}/retry`);
    expect([retried.status, retried.body['retried'], retried.body['completed_at']]).toEqual([200, 1, null]);
    await completed(id);
    const last = await receiptOf(id);
    expect(stateOf(last, grant)?.upstream).toMatchObject({ state: 'revoked', at: expect.any(String) });
    expect(last.payload).toMatchObject({ final: true, counts: { killed: { unrevocable: 0, revoked: 1 } } });
    expect(await upstream.accounts()).toEqual([]);
    expect((await shown(id))['upstream']).toMatchObject({ pending: 0, revoked: 1, unrevocable: 0 });
  });

  test('is not the final one while something it lists is tried again for another revocation’s sake', async () => {
    await newAgent('twice');
    await issue('twice', 'made');
    await upstream.behave('delete', { kind: 'fail-before' });
    const [first, second] = [await revoke({ agent: 'twice' }), await revoke({ agent: 'twice' })];
    await completed(first);
    await completed(second);
    expect((await receiptOf(second)).payload.final).toBe(true);
    await upstream.behave('delete', { kind: 'hold' });
    await broker.admin('POST', `/revocations/${first}/retry`);
    const between = await receiptOf(second);
    expect(between.payload).toMatchObject({ final: false, counts: { left_over: { pending: 1 } } });
    await upstream.behave('delete', { kind: 'ok' });
    await upstream.release();
    await completed(first);
    expect((await receiptOf(second)).payload).toMatchObject({ final: true, counts: { left_over: { revoked: 1 } } });
  });

  test('of nothing is a receipt, too; of a revocation that is not there is none', async () => {
    const id = await revoke({ subject: 'nobody' });
    await completed(id);
    const file = await receiptOf(id);
    expect([file.grants, file.payload.final, file.payload.grants.count]).toEqual([[], true, 0]);
    expect(codeOf(await broker.admin('GET', '/revocations/rev_0/receipt'))).toEqual([404, 'not_found']);
  });
});

describe('one grant', () => {
  test('that could not be revoked is tried again by hand; nothing else is', async () => {
    await newAgent('single');
    const grant = await issue('single', 'made');
    expect(codeOf(await broker.admin('POST', `/grants/${grant}/retry`))).toEqual([409, 'conflict']);
    await upstream.behave('delete', { kind: 'refuse' });
    await broker.json('DELETE', `/v1/grants/${grant}`, agents.get('single')?.token ?? '');
    const grantRow = async () => (await broker.admin('GET', `/grants/${grant}`)).body;
    const given = await eventually('it is unrevocable', grantRow, (body) => body['status'] === 'unrevocable');
    expect(given).toMatchObject({
      upstream: 'unrevocable',
      failure: expect.stringContaining('400'),
      by_hand: expect.stringContaining('connection made'),
    });
    await upstream.behave('delete', { kind: 'ok' });
    expect((await broker.admin('POST', `/grants/${grant}/retry`)).body).toMatchObject({
      status: 'returned',
      upstream: 'live',
      failure: null,
      by_hand: null,
    });
    expect(await eventually('it is gone', grantRow, (body) => body['upstream'] === 'gone')).toMatchObject({
      status: 'returned',
    });
    expect(codeOf(await broker.admin('POST', '/grants/grt_0/retry'))).toEqual([404, 'not_found']);
  });
});

describe('whoever checks a receipt', () => {
  let file: File;
  beforeAll(async () => {
    await newAgent('checked');
    for (let i = 0; i < 12; i += 1) await issue('checked', i % 2 ? 'made' : 'gateway');
    const id = await revoke({ agent: 'checked' }, { suspend: true });
    await completed(id);
    file = await receiptOf(id);
  });

  test('finds each of a thousand edits of its bytes', async () => {
    const bytes = Buffer.from(file.text);
    const lines = file.text.split('\n');
    // A generator of its own, so that a failure can be looked at again.
    let seed = 4;
    const pick = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % below;
    };
    const edits: (() => Buffer)[] = [
      () => {
        const edited = Buffer.from(bytes);
        const at = pick(bytes.length);
        edited[at] = (edited[at] ?? 0) ^ (1 << pick(8));
        return edited;
      },
      () => {
        const at = pick(bytes.length);
        return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + pick(20))]);
      },
      () => {
        const at = pick(bytes.length + 1);
        return Buffer.concat([bytes.subarray(0, at), Buffer.of(32 + pick(95)), bytes.subarray(at)]);
      },
      () => bytes.subarray(0, pick(bytes.length)),
      () => {
        const [from, to] = [pick(lines.length), pick(lines.length)];
        const moved = [...lines];
        moved.splice(to, 0, ...moved.splice(from, 1));
        return Buffer.from(moved.join('\n'));
      },
      () => {
        const doubled = [...lines];
        doubled.splice(pick(lines.length), 0, lines[pick(lines.length)] ?? '');
        return Buffer.from(doubled.join('\n'));
      },
    ];
    let tried = 0;
    while (tried < 1_000) {
      const edited = edits[tried % edits.length]?.() ?? bytes;
      if (edited.equals(bytes)) {
        seed += 1;
        continue;
      }
      tried += 1;
      const verdict = await verified(edited);
      if (verdict.ok) throw new Error(`not found: ${edited.toString('latin1')}`);
    }
    expect(await verified(bytes)).toMatchObject({ ok: true, entryType: 'revocation.created' });
  });

  test('takes the key from a kept /jwks, or by its thumbprint, and no other', async () => {
    const kid = String(file.header['kid']);
    expect(await verified(file.text, { thumbprint: kid })).toMatchObject({ ok: true, kid });
    expect(await verified(file.text, { thumbprint: 'A'.repeat(43) })).toEqual({ ok: false, fault: 'unknown_key', kid });
    expect(await verified(file.text, { jwks: [] })).toEqual({ ok: false, fault: 'unknown_key', kid });
  });

  test('still finds the key after it was rotated', async () => {
    const rotated = await broker.admin('POST', '/keys/receipts/rotate');
    expect([rotated.status, rotated.body['from']]).toEqual([201, file.header['kid']]);
    const { keys } = (await (await broker.fetch('/jwks')).json()) as { keys: Record<string, unknown>[] };
    expect(await verified(file.text, { jwks: keys })).toMatchObject({ ok: true });
    const id = String(file.payload.revocation.id);
    const anew = parsed((await broker.admin('GET', `/revocations/${id}/receipt`)).text);
    expect([anew.header['kid'], anew.payload.grants]).toEqual([rotated.body['to'], file.payload.grants]);
    expect(await verified(anew.text, { jwks: keys })).toMatchObject({ ok: true });
    jwks = { jwks: keys };
  });

  test('is told that a receipt is no access token', async () => {
    const { receipt } = JSON.parse(file.text) as { receipt: string };
    const agent = agents.get('stuck');
    const asked = await broker.form('/introspect', { token: receipt }, agent?.secret);
    expect([asked.status, asked.body]).toEqual([200, { active: false }]);
    expect((await broker.json('GET', '/v1/connections', receipt)).status).toBe(401);
    expect((await broker.admin('GET', '/grants', undefined, receipt)).status).toBe(401);
  });
});

describe('the events of a revocation', () => {
  const listen = async (id: string, headers: Record<string, string> = {}, token = broker.adminToken) => {
    const ended = new AbortController();
    const response = await broker.fetch(`/admin/v1/revocations/${id}/events`, {
      headers: { authorization: `Bearer ${token}`, ...headers },
      signal: ended.signal,
    });
    const events: { event: string; id: string; data: Record<string, unknown> }[] = [];
    const over = (async () => {
      let text = '';
      const decoder = new TextDecoder();
      for await (const chunk of response.body ?? []) {
        text += decoder.decode(chunk, { stream: true });
        for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
          const fields = text
            .slice(0, end)
            .split('\n')
            .map((line) => line.split(/: ?(.*)/s));
          const field = (name: string) => fields.find(([key]) => key === name)?.[1] ?? '';
          text = text.slice(end + 2);
          if (field('event')) events.push({ event: field('event'), id: field('id'), data: JSON.parse(field('data')) });
        }
      }
    })();
    over.catch(() => undefined);
    return { response, events, over, stop: () => ended.abort() };
  };

  test('tell how it goes on and end with its end; who comes back is told nothing twice', async () => {
    await newAgent('watched');
    for (let i = 0; i < 3; i += 1) await issue('watched', 'made');
    await upstream.behave('delete', { kind: 'hold' });
    const id = await revoke({ agent: 'watched' });
    const first = await listen(id);
    expect(first.response.headers.get('content-type')).toBe('text/event-stream');
    await upstream.held(3);
    await eventually(
      'it is told',
      () => first.events.at(-1),
      (last) => last?.data['grants'] === 3,
    );
    const last = first.events.at(-1);
    const again = await listen(id, { 'last-event-id': last?.id ?? '' });
    await upstream.behave('delete', { kind: 'ok' });
    await upstream.release();
    await first.over;
    await again.over;
    expect(first.events.at(-1)).toMatchObject({
      event: 'completed',
      data: { id, upstream: { revoked: 3, pending: 0 } },
    });
    expect(again.events.every((one) => one.id !== last?.id)).toBe(true);
    expect(again.events.at(-1)?.event).toBe('completed');
  });

  test('end when the broker stops, which does not wait for them', async () => {
    const own = await startBroker({ extraProviders: [stubborn] });
    const agent = await own.agent('climber');
    await own.admin('POST', '/connections', { name: 'wall', provider: 'test-stubborn', settings: {} });
    await own.entitle('climber', 'wall', ['use']);
    await own.grant(await own.agentToken(agent), { connection: 'wall', scopes: ['use'] });
    const made = await own.admin('POST', '/revocations', { selector: { agent: 'climber' }, reason: 'x' });
    const path = `/admin/v1/revocations/${String(made.body['id'])}/events`;
    const open = await own.fetch(path, { headers: { authorization: `Bearer ${own.adminToken}` } });
    const reader = open.body?.getReader();
    const first = Buffer.from((await reader?.read())?.value ?? []).toString();
    expect(first).toMatch(/^event: progress\n/);
    const began = performance.now();
    const stopped = own.close();
    for (let piece = await reader?.read(); !piece?.done; piece = await reader?.read()) {
      expect(Buffer.from(piece?.value ?? []).toString()).not.toContain('event: completed');
    }
    await stopped;
    // A stop gives requests under way ten seconds.
    expect(performance.now() - began).toBeLessThan(8_000);
  });

  test('are for so many at once, and end when their operator is suspended', async () => {
    await newAgent('overheard');
    await issue('overheard', 'made');
    await upstream.behave('delete', { kind: 'hold' });
    const id = await revoke({ agent: 'overheard' });
    const made = await broker.admin('POST', '/operators', { name: 'listener', roles: ['auditor'] });
    const token = String(made.body['token']);
    const listeners = await Promise.all(Array.from({ length: 8 }, () => listen(id, {}, token)));
    expect(listeners.map(({ response }) => response.status)).toEqual(Array(8).fill(200));
    const ninth = await listen(id, {}, token);
    expect(ninth.response.status).toBe(429);
    listeners[0]?.stop();
    const room = await eventually(
      'there is room',
      async () => await listen(id, {}, token),
      ({ response }) => response.status === 200,
    );
    await broker.admin('PATCH', '/operators/listener', { status: 'suspended' });
    await Promise.all([...listeners.slice(1), room].map(({ over }) => over));
    await upstream.behave('delete', { kind: 'ok' });
    await upstream.release();
    await completed(id);
  });
});
