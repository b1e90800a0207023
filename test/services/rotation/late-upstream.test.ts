/** An upstream that goes silent while it is asked for a new key, and makes it later all the same. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Broker, hurriedRotation, startBroker } from '../../support/broker.ts';
import { eventually } from '../../support/eventually.ts';
import { keyedProvider } from '../../support/keyed-provider.ts';
import { startUpstream, type Upstream } from '../../support/upstream-provider.ts';

let upstream: Upstream;
let broker: Broker;
beforeAll(async () => {
  upstream = await startUpstream();
  const rotationPace = { ...hurriedRotation, silenceMs: 600, askedAttempts: 1 };
  broker = await startBroker({ extraProviders: [keyedProvider], rotationPace });
});
afterAll(async () => {
  await broker?.close();
  await upstream.stop();
});

test('what it makes then is removed, and is not in the way of the next rotation', async () => {
  const secret = { id: 'first', value: 'made by hand' };
  await upstream.keys(secret);
  const settings = { url: upstream.url, scopes: ['read'] };
  await broker.admin('POST', '/connections', { name: 'cloud', provider: 'test-keyed', settings, secret });
  await broker.admin('PUT', '/connections/cloud/rotation', { grace_seconds: 0 });
  const rotate = async (): Promise<unknown> => {
    const { body } = await broker.admin('POST', '/rotations', { connection: 'cloud', now: true });
    const ended = await eventually(
      'it has ended',
      () => broker.admin('GET', `/rotations/${body['id']}`),
      (answer) => answer.body['ended_at'] !== null,
    );
    return ended.body['status'];
  };
  await upstream.behave('key-create', { kind: 'late', ms: 200 });
  expect(await rotate()).toBe('failed');
  expect(await upstream.keys()).toEqual([secret]);
  await upstream.behave('key-create', { kind: 'ok' });
  expect(await rotate()).toBe('done');
  expect(await upstream.keys()).toHaveLength(1);
});
