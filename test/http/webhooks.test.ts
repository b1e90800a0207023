/** What operators can do with webhooks and streams over the API, and what each role sees. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { alertTypes } from '../../src/domain/alert-events.ts';
import { type Broker, removeTemporaryDirs, startBroker } from '../support/broker.ts';

let broker: Broker;
let auditor: string;
beforeAll(async () => {
  broker = await startBroker();
  const made = await broker.admin('POST', '/operators', { name: 'auditor', roles: ['auditor'] });
  auditor = String(made.body['token']);
});
afterAll(async () => {
  await broker.close();
  removeTemporaryDirs();
});

const url = 'https://hooks.example.com/services/T0/B1/x-of-the-service?key=y';

describe('a webhook', () => {
  test('shows its secret once, and its address to those who may change it', async () => {
    const made = await broker.admin('POST', '/webhooks', { name: 'chat', url, events: ['rotation.*', 'key.rotated'] });
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe('/admin/v1/webhooks/chat');
    expect(made.body).toMatchObject({
      url,
      events: ['rotation.*', 'key.rotated'],
      status: 'active',
      secret: { number: 1, previous_until: null },
      signing_secret: expect.stringMatching(/^whsec_/),
    });
    const { body: mine } = await broker.admin('GET', '/webhooks/chat');
    expect(mine).not.toHaveProperty('signing_secret');
    expect(mine['url']).toBe(url);
    for (const path of ['/webhooks/chat', '/webhooks', `/webhooks/${String(made.body['id'])}`]) {
      const theirs = await broker.admin('GET', path, undefined, auditor);
      expect(theirs.text).toContain('https://hooks.example.com/…');
      expect(theirs.text).not.toContain('x-of-the-service');
    }
    const log = await broker.admin('GET', '/audit?type=webhook.created');
    expect(log.text).toContain('"origin":"https://hooks.example.com"');
    expect(log.text).not.toContain('x-of-the-service');
  });

  test('is told of what there is, by names that are there', async () => {
    const { body } = await broker.admin('GET', '/alerts', undefined, auditor);
    const items = body['items'] as { type: string; severity: string; facts: string[] }[];
    expect(items.map(({ type }) => type)).toEqual([...alertTypes]);
    for (const events of [[], ['nothing.*'], ['grant.issued'], ['*', '*'], '*', [1]]) {
      expect((await broker.admin('POST', '/webhooks', { name: 'x', url, events })).status).toBe(400);
    }
  });

  test('cannot be put behind the end of the log, or to no place', async () => {
    for (const from of [1e9, -1, 1.5, '0', null, 'then']) {
      expect((await broker.admin('POST', '/webhooks/chat/replay', { from })).status).toBe(400);
    }
    expect((await broker.admin('POST', '/webhooks/chat/replay', { from: 0 })).body).toMatchObject({ cursor: 0 });
  });

  test('keeps its old secret for a grace, of a week at most', async () => {
    const rotate = (grace_seconds: unknown) => broker.admin('POST', '/webhooks/chat/secret', { grace_seconds });
    for (const wrong of [-1, 604_801, '60', 1.5]) expect((await rotate(wrong)).status).toBe(400);
    const { body } = await rotate(60);
    expect(body).toMatchObject({ secret: { number: 2 } });
    const until = Date.parse((body['secret'] as { previous_until: string }).previous_until);
    expect(Math.abs(until - Date.now() - 60_000)).toBeLessThan(10_000);
    expect((await rotate(0)).body).toMatchObject({ secret: { number: 3, previous_until: null } });
  });

  test('is one of fifty, and so is a receiver', async () => {
    const add = (i: number) => broker.admin('POST', '/webhooks', { name: `w-${i}`, url, events: ['key.rotated'] });
    const receive = (i: number) => broker.admin('POST', '/streams', { name: `s-${i}`, aud: ['rp'] });
    const webhooks = await Promise.all(Array.from({ length: 49 }, (_, i) => add(i)));
    const streams = await Promise.all(Array.from({ length: 50 }, (_, i) => receive(i)));
    for (const { status } of [...webhooks, ...streams]) expect(status).toBe(201);
    expect(await add(50)).toMatchObject({ status: 409, body: { code: 'conflict' } });
    expect(await receive(50)).toMatchObject({ status: 409, body: { code: 'conflict' } });
  });
});

test('how far each has been told is among the metrics', async () => {
  const metrics = await (
    await broker.fetch('/metrics', { headers: { authorization: `Bearer ${broker.adminToken}` } })
  ).text();
  expect(metrics).toMatch(/^warder_delivery_lag_seconds\{kind="webhook",name="chat"\} [\d.]+$/m);
  expect(metrics).toContain('warder_delivery_failing{kind="stream",name="s-0"} 0');
  expect(metrics).toContain('warder_delivery_taken_total{kind="webhook",name="chat"} 0');
});
