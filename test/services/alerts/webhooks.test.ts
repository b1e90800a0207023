/** Webhooks over a real log, real sockets, and the library by which receivers verify. */
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { Webhook as Verifier } from 'standardwebhooks';
import { openOutbound } from '../../../adapters/outbound.ts';
import {
  deleteWebhook,
  replayWebhook,
  rotateWebhookSecret,
  updateWebhook,
} from '../../../src/services/alerts/manage-webhooks.ts';
import { removeTemporaryDirs } from '../../support/broker.ts';
import { eventually, pause } from '../../support/eventually.ts';
import { caller, type Endpoint, hurried, openRig, type Received, type Rig, startEndpoint, status } from './rig.ts';

let rig: Rig;
let endpoint: Endpoint;
beforeAll(async () => {
  rig = await openRig();
});
beforeEach(async () => {
  await rig.begin();
  endpoint = await startEndpoint();
});
afterEach(() => endpoint.close());
afterAll(async () => {
  await rig.close();
  removeTemporaryDirs();
});

interface Payload {
  type: string;
  timestamp: string;
  data: { seq: number; facts: Record<string, unknown> } & Record<string, unknown>;
}
const verified = (secret: string, { headers, body }: Received): Payload =>
  new Verifier(secret).verify(body, headers as Record<string, string>) as Payload;
const payload = ({ body }: Received): Payload => JSON.parse(body);
const reasons = (): unknown[] => endpoint.got.map((one) => payload(one).data.facts['reason']);
const arrived = (count: number, at: Endpoint = endpoint): Promise<unknown> =>
  eventually(
    `${count} messages arrived`,
    () => at.got.length,
    (got) => got >= count,
  );
const numbers = (count: number): string[] => Array.from({ length: count }, (_, i) => `number ${i}`);

describe('a message', () => {
  test('is verified by the library of the receivers, and says what happened in words', async () => {
    const { secret } = await rig.webhook(endpoint.url);
    await rig.alert('freeze.created', { freeze: 'frz_1', reason: 'stolen key', selector: { everything: true } });
    await arrived(1);
    const [received] = endpoint.got;
    if (!received) throw new Error('one arrived');
    expect(verified(secret, received)).toMatchObject({
      type: 'freeze.created',
      data: {
        severity: 'critical',
        title: 'Issuing was frozen',
        actor: { kind: 'operator', name: 'ana' },
        request_id: 'req_1',
        facts: { freeze: 'frz_1', reason: 'stolen key', selector: { everything: true } },
      },
    });
    expect(received.headers).toMatchObject({ 'content-type': 'application/json', 'user-agent': 'warder' });
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(() => verified(secret, { ...received, body: `${received.body} ` })).toThrow();
    expect(() => verified(`whsec_${Buffer.alloc(32).toString('base64')}`, received)).toThrow();
  });

  test('holds of the entry what the catalogue names, and nothing else', async () => {
    await rig.webhook(endpoint.url, { events: ['*'] });
    await rig.alert('grant.unrevocable', { failure: 'refused', handle: { role: 'wdr_role' }, status: 'unrevocable' });
    await arrived(1);
    expect(payload(endpoint.got[0] as Received).data.facts).toEqual({ failure: 'refused', status: 'unrevocable' });
    expect(endpoint.got[0]?.body).not.toContain('wdr_role');
  });

  test('cannot be stretched, broken or coloured by what somebody is called', async () => {
    const { secret } = await rig.webhook(endpoint.url);
    const reason = '\u001b[31m"}],{"type":"x"\r\n\u0000\u202e = =cmd|\u2028';
    await rig.alert('freeze.created', {
      reason,
      freeze: 'x'.repeat(60_000),
      selector: { agent: { a: { b: { c: 1 } } } },
    });
    await arrived(1);
    const { data } = verified(secret, endpoint.got[0] as Received);
    expect(data.facts['reason']).toBe(reason);
    expect(String(data.facts['freeze']).length).toBeLessThan(600);
    expect(JSON.stringify(data.facts['selector'])).not.toContain('"c"');
    expect(endpoint.got[0]?.body.split('\n')).toHaveLength(1);
  });

  test('that is not asked for is not sent', async () => {
    await rig.webhook(endpoint.url, { events: ['freeze.lifted', 'rotation.*'] });
    for (const type of ['freeze.created', 'incident.opened', 'rotation.stuck', 'agent.created', 'freeze.lifted']) {
      await rig.alert(type);
    }
    await arrived(2);
    expect(endpoint.got.map((one) => payload(one).type)).toEqual(['rotation.stuck', 'freeze.lifted']);
  });
});

describe('an outage', () => {
  test('loses nothing and changes no order: what failed comes again under its name, then the rest', async () => {
    await rig.webhook(endpoint.url);
    let left = 2;
    endpoint.answer((received, res) => {
      left -= 1;
      status(left < 0 ? 204 : 500)(received, res);
    });
    await rig.alerts(20);
    await arrived(22);
    expect(reasons()).toEqual(['number 0', 'number 0', ...numbers(20)]);
    const names = endpoint.got.map(({ headers }) => headers['webhook-id']);
    expect(new Set(names).size).toBe(20);
    expect(names[0]).toBe(names[2]);
    for (const name of names) expect(name).toMatch(/^evt_\d+_[A-Za-z0-9_-]{22}$/);
  });

  test('of one endpoint holds up no other, and no revocation', async () => {
    const other = await startEndpoint();
    endpoint.answer(() => undefined);
    await rig.webhook(endpoint.url);
    await rig.webhook(other.url);
    const began = performance.now();
    await rig.alerts(50);
    await arrived(50, other);
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(endpoint.got).toHaveLength(1);
    await other.close();
  });

  test('goes on after a restart where it was, tries and pauses included', async () => {
    const { webhook } = await rig.webhook(endpoint.url);
    endpoint.answer(status(500));
    await rig.restart({ ...hurried, retriesMs: [10, 600_000] });
    await rig.alert();
    await eventually(
      'two tries',
      () => rig.row(webhook.id)?.tries,
      (tries) => tries === 2,
    );
    endpoint.answer(status(200));
    await rig.restart({ ...hurried, retriesMs: [10, 600_000] });
    await pause(50);
    expect(endpoint.got).toHaveLength(2);
    expect(rig.row(webhook.id)?.next_try_at).toBeGreaterThan(Date.now() + 500_000);
    expect((await rig.deliveries.test(rig.row(webhook.id) ?? webhook, caller)).failure).toBeNull();
    await arrived(4);
    expect(endpoint.got[3]?.headers['webhook-id']).toBe(endpoint.got[0]?.headers['webhook-id']);
  });

  test('that does not end costs a message its place, and people hear of both; then of the recovery', async () => {
    const other = await startEndpoint();
    const { webhook } = await rig.webhook(endpoint.url);
    await rig.webhook(other.url, { events: ['webhook.*'] });
    endpoint.answer((received, res) => status(received.body.includes('number 0') ? 500 : 200)(received, res));
    await rig.alerts(2);
    await arrived(4);
    await eventually(
      'all is told',
      () => other.got.length,
      (got) => got >= 3,
    );
    expect(other.got.map((one) => payload(one).type)).toEqual([
      'webhook.failed',
      'webhook.failing',
      'webhook.recovered',
    ]);
    expect(payload(other.got[0] as Received).data.facts).toMatchObject({
      webhook: { id: webhook.id },
      message_type: 'freeze.created',
      failure: 'status_500',
    });
    expect(reasons()).toEqual(['number 0', 'number 0', 'number 0', 'number 1']);
    expect(rig.row(webhook.id)).toMatchObject({ failed: 1, delivered: 1, failing_told: false, tries: 0 });
    await other.close();
  });

  test('of two endpoints at once does not make them tell each other of it for ever', async () => {
    const other = await startEndpoint();
    endpoint.answer(status(500));
    other.answer(status(500));
    const [one, two] = [
      await rig.webhook(endpoint.url, { events: ['*'] }),
      await rig.webhook(other.url, { events: ['*'] }),
    ];
    await rig.alert();
    const quiet = async (): Promise<boolean> => {
      const size = await rig.size();
      await pause(400);
      return size === (await rig.size());
    };
    expect(await eventually('it is quiet', quiet, (is) => is)).toBe(true);
    expect(await rig.entries('webhook.failing')).toHaveLength(2);
    expect((await rig.entries('webhook.failed')).length).toBeLessThanOrEqual(8);
    expect(rig.row(one.webhook.id)?.tries).toBe(0);
    expect(rig.row(two.webhook.id)?.tries).toBe(0);
    await other.close();
  });
});

describe('an endpoint', () => {
  test('that is gone is disabled, and is told the rest when it is enabled again', async () => {
    const { webhook } = await rig.webhook(endpoint.url);
    endpoint.answer(status(410));
    await rig.alerts(3);
    await eventually(
      'it is disabled',
      () => rig.row(webhook.id)?.status,
      (now) => now === 'disabled',
    );
    expect(rig.row(webhook.id)).toMatchObject({ disabled_because: 'gone' });
    expect(await rig.entries('webhook.disabled')).toMatchObject([{ data: { why: 'gone' } }]);
    endpoint.answer(status(200));
    await pause(60);
    expect(endpoint.got).toHaveLength(1);
    await updateWebhook(rig.core, rig.row(webhook.id) ?? webhook, { status: 'active' }, caller);
    await arrived(4);
    expect(reasons()).toEqual(['number 0', ...numbers(3)]);
  });

  test('that takes nothing for days is disabled', async () => {
    const { webhook } = await rig.webhook(endpoint.url);
    endpoint.answer(status(503));
    await rig.restart({ ...hurried, retriesMs: [10, 10, 10, 10, 10], disabledAfterMs: 20 });
    await rig.alert();
    await eventually(
      'it is disabled',
      () => rig.row(webhook.id)?.disabled_because,
      (why) => why === 'failing',
    );
  });

  test('is given the time it asks for', async () => {
    const { webhook } = await rig.webhook(endpoint.url);
    endpoint.answer(status(429, { 'retry-after': '120' }));
    await rig.alert();
    const at = await eventually(
      'it waits',
      () => rig.row(webhook.id)?.next_try_at,
      (next) => typeof next === 'number',
    );
    expect(Number(at) - Date.now()).toBeGreaterThan(110_000);
    await pause(60);
    expect(endpoint.got).toHaveLength(1);
  });

  test.each([
    ['a redirect', (url: string) => status(307, { location: url })],
    [
      'an endless answer',
      () => (_: unknown, res: import('node:http').ServerResponse) => {
        res.writeHead(500);
        const timer = setInterval(() => res.write('x'.repeat(100_000)), 1);
        res.once('close', () => clearInterval(timer));
      },
    ],
    [
      'no HTTP at all',
      () => (_: unknown, res: import('node:http').ServerResponse) => {
        res.socket?.end('hello\r\n\r\n');
      },
    ],
  ])('that answers with %s has failed, and nothing goes anywhere else', async (_, how) => {
    const elsewhere = await startEndpoint();
    endpoint.answer(how(elsewhere.url));
    const { webhook } = await rig.webhook(endpoint.url);
    await rig.alert();
    await eventually(
      'it failed',
      () => rig.row(webhook.id)?.failed,
      (failed) => failed === 1,
    );
    expect(elsewhere.got).toHaveLength(0);
    await elsewhere.close();
  });

  test('is asked with both secrets while one is being replaced, and with the new one alone afterwards', async () => {
    const { webhook, secret: first } = await rig.webhook(endpoint.url);
    await rig.alerts(30);
    const { secret: second } = await rotateWebhookSecret(rig.core, rig.row(webhook.id) ?? webhook, 3600, caller);
    await rig.alerts(1);
    await arrived(31);
    for (const one of endpoint.got) expect(verified(first, one).type).toBe('freeze.created');
    const last = endpoint.got.at(-1) as Received;
    expect(verified(second, last).type).toBe('freeze.created');
    expect(last.headers['webhook-signature']).toMatch(/^v1,\S+ v1,\S+$/);
    const { secret: third } = await rotateWebhookSecret(rig.core, rig.row(webhook.id) ?? webhook, 0, caller);
    await rig.alerts(1);
    await arrived(32);
    const newest = endpoint.got.at(-1) as Received;
    expect(verified(third, newest).type).toBe('freeze.created');
    expect(() => verified(second, newest)).toThrow();
  });

  test('that is deleted while it is being told is told no more, and disturbs nobody', async () => {
    const { webhook } = await rig.webhook(endpoint.url);
    endpoint.answer(() => undefined);
    await rig.alerts(5);
    await arrived(1);
    await deleteWebhook(rig.core, rig.row(webhook.id) ?? webhook, caller);
    await rig.alerts(2);
    await pause(60);
    expect(endpoint.got).toHaveLength(1);
    expect(rig.row(webhook.id)).toBeUndefined();
  });

  test('is told again from any place, under the same names', async () => {
    const { webhook } = await rig.webhook(endpoint.url);
    await rig.alerts(4);
    await arrived(4);
    const from = payload(endpoint.got[2] as Received).data.seq;
    await replayWebhook(rig.core, rig.row(webhook.id) ?? webhook, from, caller);
    await arrived(6);
    await pause(30);
    expect(reasons()).toEqual([...numbers(4), 'number 2', 'number 3']);
    expect(endpoint.got[4]?.headers['webhook-id']).toBe(endpoint.got[2]?.headers['webhook-id']);
  });
});

describe('addresses', () => {
  test('are judged as the gateway judges them: when they are written down, and where they lead', async () => {
    const bad = [
      'http://example.com/x',
      'https://127.0.0.1/x',
      'https://[::1]/x',
      'https://localhost/',
      'ftp://a.example/',
    ];
    for (const url of [...bad, 'https://u:p@a.example/', 'https://169.254.169.254/', 'https://0x7f.1/', 'nothing']) {
      await expect(rig.webhook(url, { name: 'bad', allow_private_network: false })).rejects.toThrow('invalid_request');
    }
    await expect(rig.webhook('http://169.254.169.254/', { name: 'meta' })).rejects.toThrow('invalid_request');
    const outbound = openOutbound((_host, _options, done) => done(null, [{ address: '127.0.0.1', family: 4 }]));
    const post = (url: string) =>
      outbound.post({
        url,
        headers: {},
        body: 'x',
        allowPrivateNetwork: false,
        timeoutMs: 2_000,
        signal: new AbortController().signal,
      });
    const { port } = new URL(endpoint.url);
    for (const url of [`http://rebound.example:${port}/`, endpoint.url, `http://[::ffff:127.0.0.1]:${port}/`]) {
      expect(await post(url)).toEqual({ answered: false, failure: 'address_refused' });
    }
    expect(endpoint.got).toHaveLength(0);
    await outbound.close();
  });

  test('that answer drop by drop, or not at all, take no more than their time', async () => {
    const outbound = openOutbound();
    const post = () =>
      outbound.post({
        url: endpoint.url,
        headers: {},
        body: 'x',
        allowPrivateNetwork: true,
        timeoutMs: 250,
        signal: new AbortController().signal,
      });
    const began = performance.now();
    endpoint.answer(() => undefined);
    expect(await post()).toEqual({ answered: false, failure: 'timeout' });
    endpoint.answer((_, res) => {
      const timer = setInterval(() => res.write('x'), 10);
      res.once('close', () => clearInterval(timer));
    });
    expect(await post()).toEqual({ answered: false, failure: 'timeout' });
    expect(performance.now() - began).toBeLessThan(3_000);
    await outbound.close();
  });
});

describe('the log', () => {
  test('of a flood is told in order with bounded memory, and hardly grows by it', async () => {
    await rig.webhook(endpoint.url);
    const before = await rig.size();
    await rig.alerts(1_000);
    await eventually(
      'all arrived',
      () => endpoint.got.length,
      (got) => got >= 1_000,
      20_000,
    );
    expect(reasons()).toEqual(numbers(1_000));
    await rig.restart();
    expect((await rig.size()) - before - 1_000).toBeLessThanOrEqual(25);
    await pause(30);
    expect(endpoint.got).toHaveLength(1_000);
  });

  test('whose bodies were dropped is passed over, and that is said', async () => {
    const { webhook } = await rig.webhook(endpoint.url);
    await updateWebhook(rig.core, rig.row(webhook.id) ?? webhook, { status: 'disabled' }, caller);
    await rig.alerts(3);
    const [, second] = await rig.entries('freeze.created');
    const db = new Database(join(rig.folder, 'warder.db'));
    db.prepare('UPDATE audit SET body = NULL WHERE seq = ?').run(second?.seq);
    db.close();
    await updateWebhook(rig.core, rig.row(webhook.id) ?? webhook, { status: 'active' }, caller);
    await arrived(2);
    await rig.restart();
    expect(reasons()).toEqual(['number 0', 'number 2']);
    expect(rig.row(webhook.id)).toMatchObject({ delivered: 2, skipped: 1 });
    expect(await rig.entries('webhook.delivered')).toMatchObject([{ data: { messages: 2, skipped: 1 } }]);
  });
});

test('while Warder is sealed messages wait, and none is lost', async () => {
  await rig.webhook(endpoint.url);
  rig.core.keyring.seal('test');
  await rig.alerts(3);
  await pause(60);
  expect(endpoint.got).toHaveLength(0);
  await rig.core.keyring.unseal(rig.core.state.keyEncryptionKeys.all());
  rig.deliveries.wake();
  await arrived(3);
  expect(reasons()).toEqual(numbers(3));
  expect(await rig.entries('webhook.try_failed')).toEqual([]);
});
