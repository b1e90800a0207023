/** `warder webhook` and `warder stream`: what is sent, what is shown, how they end. */
import { describe, expect, test } from '@jest/globals';
import { runOn } from './harness.ts';

const webhook = {
  name: 'hooks.example.com',
  id: 'whk_1',
  url: 'https://hooks.example.com/warder',
  events: ['rotation.*', 'incident.opened'],
  status: 'active',
};

describe('warder webhook', () => {
  test('adds one under the name of its host, and shows its secret once', async () => {
    const routes = { 'POST webhooks': { status: 201, body: { ...webhook, signing_secret: 'whsec_c2VjcmV0' } } };
    const args = ['webhook', 'add', webhook.url, '--events', 'rotation.*', '--events', 'incident.opened'];
    const { code, out, sent } = await runOn(routes, args);
    expect(code).toBe(0);
    expect(sent[0]?.body).toEqual({ name: 'hooks.example.com', url: webhook.url, events: webhook.events });
    expect(out).toContain('Added webhook hooks.example.com (rotation.* incident.opened).');
    expect(out).toContain('WARDER_WEBHOOK_SECRET=whsec_c2VjcmV0');
  });

  test('says whether a test arrived, and fails when it did not', async () => {
    const answer = (body: object) => ({ 'POST webhooks/a/test': { body } });
    const good = await runOn(answer({ delivered: true, status: 202, ms: 12 }), ['webhook', 'test', 'a']);
    expect(good).toMatchObject({ code: 0, out: 'a took it: status 202, 12 ms.\n' });
    const bad = await runOn(answer({ delivered: false, failure: 'timeout' }), ['webhook', 'test', 'a']);
    expect(bad).toMatchObject({ code: 1, out: '', err: 'error: a did not take it: timeout\n' });
    const json = await runOn(answer({ delivered: false, failure: 'timeout' }), ['webhook', 'test', 'a', '--json']);
    expect(json).toMatchObject({ code: 1, out: '{"delivered":false,"failure":"timeout"}' });
  });

  test('shows the last tries as a table', async () => {
    const tries = [
      { message: 'evt_2_b', type: 'freeze.created', seq: 2, at: '2026-11-22T10:00:01.000Z', ms: 8, status: 200 },
      { message: 'evt_2_b', type: 'freeze.created', seq: 2, at: '2026-11-22T10:00:00.000Z', ms: 9, failure: 'timeout' },
    ];
    const { out } = await runOn({ 'GET webhooks/a/deliveries': { body: { items: tries } } }, [
      'webhook',
      'deliveries',
      'a',
    ]);
    expect(out.split('\n')).toEqual([
      'AT                    EVENT           ENTRY  RESULT       MS  MESSAGE',
      '2026-11-22 10:00:01Z  freeze.created  2      taken (200)  8   evt_2_b',
      '2026-11-22 10:00:00Z  freeze.created  2      timeout      9   evt_2_b',
      '',
    ]);
  });

  test('replays from a number or from now, and takes nothing else for a place', async () => {
    const routes = { 'POST webhooks/a/replay': { body: { ...webhook, cursor: 7 } } };
    const { out, sent } = await runOn(routes, ['webhook', 'replay', 'a', '--from', '7']);
    expect(sent[0]?.body).toEqual({ from: 7 });
    expect(out).toBe('Webhook hooks.example.com goes on with entry 7.\n');
    expect((await runOn(routes, ['webhook', 'replay', 'a', '--from', 'now'])).sent[0]?.body).toEqual({ from: 'now' });
    for (const from of ['-1', '1e3', 'yesterday', '07']) {
      expect(await runOn(routes, ['webhook', 'replay', 'a', '--from', from])).toMatchObject({ code: 2, sent: [] });
    }
  });

  test('asks for no change when none is named, and for no address that is none', async () => {
    expect(await runOn({}, ['webhook', 'update', 'a'])).toMatchObject({ code: 2, sent: [] });
    expect(await runOn({}, ['webhook', 'add', 'hooks'])).toMatchObject({ code: 2, sent: [] });
  });
});

describe('warder stream', () => {
  const stream = { name: 'billing', id: 'ssf_1', aud: ['https://rp.example.com'], token: 'wdr_ssf_x' };
  const routes = { 'POST streams': { status: 201, body: stream } };

  test('adds a receiver that pushes are sent to, with its header from the environment', async () => {
    const args = ['stream', 'add', 'billing', '--aud', 'https://rp.example.com', '--push', 'https://rp.example.com/e'];
    const more = ['--push-authorization', 'env:RP_HEADER', '--events', 'session-revoked', '--share-reasons'];
    const { out, sent } = await runOn(routes, [...args, ...more], { env: { RP_HEADER: 'Bearer abc' } });
    expect(sent[0]?.body).toEqual({
      name: 'billing',
      aud: ['https://rp.example.com'],
      events: ['session-revoked'],
      delivery: { method: 'push', endpoint_url: 'https://rp.example.com/e', authorization_header: 'Bearer abc' },
      share_reasons: true,
    });
    expect(out).toContain('Added receiver billing for https://rp.example.com.');
    expect(out).toContain('WARDER_RECEIVER_TOKEN=wdr_ssf_x');
  });

  test('leaves the stream to the receiver unless it is told how', async () => {
    const add = (...more: string[]) => runOn(routes, ['stream', 'add', 'billing', '--aud', 'a', ...more]);
    expect((await add()).sent[0]?.body).toEqual({ name: 'billing', aud: ['a'] });
    expect((await add('--poll')).sent[0]?.body).toMatchObject({ delivery: { method: 'poll' } });
    for (const wrong of [
      ['--poll', '--push', 'https://x.example'],
      ['--push-authorization', 'env:X'],
    ]) {
      expect(await add(...wrong)).toMatchObject({ code: 2, sent: [] });
    }
    const secret = await add('--push', 'https://x.example', '--push-authorization', 'Bearer typed-by-mistake');
    expect(secret.code).toBe(2);
    expect(secret.err).not.toContain('typed-by-mistake');
  });
});
