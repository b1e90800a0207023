/** Rotation by a webhook: the conformance suite, and what a webhook that errs or lies can do. */

import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { rotationConformance } from '../../conformance/rotation.ts';
import { type Attempt, beginAttempt, type Fields, rotationOf } from '../../conformance/rotation-attempt.ts';
import { startTroubledServer } from '../../support/troubled-http.ts';
import { KeyService } from '../../vendors/keys/service.ts';
import { receiver, webhookSecret } from './receiver.ts';
import { setUpKeys, wrongValue } from './rig.ts';

rotationConformance(
  'a webhook',
  async () => {
    const under = await setUpKeys(
      () => ({ webhook: { url: `${hook.url}/rotate`, allow_private_network: true } }),
      ({ id, secret }) => ({ value: secret, id, webhook_secret: webhookSecret }),
    );
    const hook = await startTroubledServer(receiver(under.rig.service).handler);
    return {
      ...under,
      trouble: hook.trouble,
      close: async () => {
        await under.close();
        await hook.close();
      },
    };
  },
  { overlaps: true, publicFields: ['id'] },
);

describe('a webhook', () => {
  let server: Server;
  let answer: RequestListener;
  let under: Awaited<ReturnType<typeof setUpKeys>>;
  let spoken: string[] = [];

  beforeAll(async () => {
    server = createServer((req, res) => answer(req, res)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    under = await setUpKeys(() => undefined);
  });
  afterAll(async () => {
    await under.close();
    server.closeAllConnections();
    server.close();
  });

  const secret: Fields = { value: 'sk_in_force_0123456789', webhook_secret: webhookSecret };
  const url = (): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  const settings = { base_url: 'https://api.example.com', scopes: { read: [{ methods: ['GET'], path: '/**' }] } };
  const begin = (more: { method?: unknown; current?: Fields } = {}): Attempt => {
    spoken = [];
    const current = more.current ?? secret;
    const method = more.method ?? { webhook: { url: url(), allow_private_network: true } };
    const accepts = async (): Promise<boolean> => false;
    return beginAttempt({
      provider: under.provider,
      account: { settings, method, secret: current, wrong: {}, accepts },
      current,
      spoken: (text) => spoken.push(text),
    });
  };
  const reply =
    (status: number, body: string, headers: Record<string, string> = {}): RequestListener =>
    (req, res) => {
      req.resume();
      res.writeHead(status, headers).end(body);
    };
  const failure = async (work: Promise<unknown>): Promise<{ kind?: string; message: string; all: string }> =>
    work.then(
      () => ({ message: 'no failure', all: '' }),
      (error) => ({ kind: error.kind, message: error.message, all: inspect(error, { depth: 9, showHidden: true }) }),
    );

  test('is asked again under the same id, and signs each time anew', async () => {
    const service = new KeyService();
    const { key } = service.addAccount();
    const known = receiver(service);
    answer = known.handler;
    const attempt = begin({ current: { ...secret, value: key.secret } });
    await attempt.create();
    await attempt.set();
    await attempt.set();
    await attempt.test();
    await attempt.test();
    const [create, ...rest] = known.ids;
    expect(create).toMatch(/^rot_\w+\.create$/);
    expect(rest[0]).toBe(rest[1]);
    expect(rest[2]).not.toBe(rest[3]);
    // With another secret nobody is believed.
    const stranger = begin({
      current: { value: key.secret, webhook_secret: `whsec_${Buffer.alloc(24, 1).toString('base64')}` },
    });
    expect(await failure(stranger.create())).toMatchObject({ kind: 'unavailable' });
    expect(known.refused).toBe(1);
  });

  test('is told what a step needs, and never its own signing secret', async () => {
    let told = '';
    answer = (req, res) => {
      req.on('data', (chunk) => {
        told += String(chunk);
      });
      req.on('end', () => res.end('{"secret": {"value": "sk_next_0123456789"}}'));
    };
    const attempt = begin();
    expect(await attempt.create()).toEqual({ value: 'sk_next_0123456789', webhook_secret: webhookSecret });
    expect(told).toContain(secret['value']);
    expect(told).not.toContain(webhookSecret);
  });

  test('without a signing secret nothing is sent, and there is nothing to undo', async () => {
    let asked = 0;
    answer = (req, res) => {
      asked += 1;
      reply(500, '')(req, res);
    };
    const attempt = begin({ current: { value: 'sk_in_force_0123456789' } });
    expect(await failure(attempt.create())).toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('no webhook_secret'),
    });
    await attempt.undo(true);
    expect(asked).toBe(0);
  });

  test('that refused to make a secret is not asked to undo it; one whose answer was lost is', async () => {
    const asked: string[] = [];
    let status = 422;
    answer = (req, res) => {
      asked.push(String(req.headers['webhook-id']).replace(/^.*\./, ''));
      reply(status, '{}')(req, res);
    };
    const refused = begin();
    await failure(refused.create());
    await refused.undo(true);
    expect(asked).toEqual(['create']);
    status = 500;
    const lost = begin();
    await failure(lost.create());
    await failure(lost.undo(true));
    expect(asked).toEqual(['create', 'create', 'undo']);
  });

  test('its redirects are not followed', async () => {
    let asked = 0;
    answer = (req, res) => {
      asked += 1;
      reply(307, '', { location: 'http://169.254.169.254/latest/meta-data' })(req, res);
    };
    expect(await failure(begin().create())).toMatchObject({ kind: 'unavailable' });
    expect(asked).toBe(1);
  });

  test.each([
    ['nothing', ''],
    ['no JSON', '<<<'],
    ['a list', '[]'],
    ['no secret', '{}'],
    ['a secret that is none', '{"secret": "sk_next_0123456789"}'],
    ['a secret with a line break', '{"secret": {"value": "sk_next\\r\\nX-Evil: 1"}}'],
    ['the secret in force', `{"secret": {"value": "${secret['value']}"}}`],
    ['fields nobody knows', '{"secret": {"value": "sk_next_0123456789", "__proto__x": "1"}}'],
    ['an id that is no text', '{"secret": {"value": "sk_next_0123456789", "id": {}}}'],
  ])('that answers create with %s made nothing that is used', async (_, body) => {
    answer = reply(200, body);
    expect(await failure(begin().create())).toMatchObject({ kind: 'unavailable' });
  });

  test('cannot replace what proves who asks', async () => {
    answer = reply(
      200,
      JSON.stringify({ secret: { value: 'sk_next_0123456789', webhook_secret: `whsec_${'A'.repeat(44)}` } }),
    );
    expect(await begin().create()).toMatchObject({ webhook_secret: webhookSecret });
  });

  test('that echoes secrets in its reason has them masked', async () => {
    const next = 'sk_unknown_yet_9f8e7d6c5b4a';
    const reason = `no:\u0000 ${secret['value']} ${Buffer.from(String(secret['value'])).toString('base64')} ${next}\n\u001b[31mred`;
    answer = reply(422, JSON.stringify({ reason }));
    const found = await failure(begin().create());
    expect(found.kind).toBe('refused');
    expect(found.message).toContain('the webhook refused create: no:');
    for (const told of [secret['value'], next, '\u001b', '\n', '\u0000']) {
      expect(found.message).not.toContain(told);
      if (told && told.length > 1) expect(found.all).not.toContain(told);
    }
  });

  test('that answers without end, or drips, costs no more than the time and the memory there is', async () => {
    answer = (req, res) => {
      req.resume();
      const more = (): void => {
        if (res.destroyed) return;
        res.write('x'.repeat(64 * 1024));
        setImmediate(more);
      };
      more();
    };
    expect(await failure(begin().create())).toMatchObject({ kind: 'unavailable' });
    answer = (req, res) => {
      req.resume();
      const timer = setInterval(() => res.write(' '), 20);
      res.once('close', () => clearInterval(timer));
    };
    const began = performance.now();
    expect(await failure(begin().create(AbortSignal.timeout(300)))).toMatchObject({ kind: 'timeout' });
    expect(performance.now() - began).toBeLessThan(2_000);
  });

  test.each([
    ['http://169.254.169.254/hook', 'hands out credentials'],
    ['http://127.0.0.1/hook', 'not on the public internet'],
    ['http://hooks.example.com/hook', 'https only'],
    ['https://user:pass@hooks.example.com/', 'no credentials in a URL'],
    ['https://hooks.example.com/#x', 'not a URL|no query and no fragment'],
    ['file:///etc/passwd', 'http or https only|not a host'],
    ['https://0x7f.1/', 'not a host|not on the public internet'],
  ])('may not be at %s', (address, why) => {
    const checked = rotationOf(under.provider).checkMethod({ webhook: { url: address } }, settings);
    expect(checked).toMatchObject({ ok: false, problems: expect.arrayContaining([expect.stringMatching(why)]) });
  });

  test('metadata addresses are refused when they are connected to, also where private ones are allowed', async () => {
    const rotation = rotationOf(under.provider);
    const method = { webhook: { url: 'http://169.254.169.254/hook', allow_private_network: true, overlaps: true } };
    expect(rotation.checkMethod(method, settings).ok).toBe(false);
  });

  test('names its whole address as where secrets go', () => {
    const rotation = rotationOf(under.provider);
    const checked = rotation.checkMethod({ webhook: { url: 'https://hooks.example.com/a?b=c' } }, settings);
    if (!checked.ok) throw new Error(checked.problems.join());
    expect(rotation.destinations(checked.value, settings)).toEqual(['https://hooks.example.com/a?b=c']);
    // Not to be taken for the origin that agents' requests go to.
    const root = { webhook: { url: 'https://hooks.example.com', overlaps: true, allow_private_network: false } };
    expect(rotation.destinations(root, settings)).toEqual(['https://hooks.example.com/']);
  });

  test('a test declared beside it is made by Warder itself', async () => {
    const { service, url: keys, account } = under.rig;
    const made = service.addAccount();
    const method = { webhook: { url: url(), allow_private_network: true }, test: { path: '/v1/me' } };
    answer = () => {
      throw new Error('asked');
    };
    const rotated = account(made.key, made.account, method);
    expect(rotated.settings).toMatchObject({ base_url: keys });
    const attempt = beginAttempt({
      provider: under.provider,
      account: rotated,
      current: rotated.secret,
      spoken: () => undefined,
    });
    await attempt.test(rotated.secret);
    expect(await failure(attempt.test({ value: wrongValue }))).toMatchObject({ kind: 'refused' });
  });
});
