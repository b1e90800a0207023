/** What endpoints have that is secret moves with a rotation of keys, and opens nowhere else. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Webhook as Verifier } from 'standardwebhooks';
import { signalEvents } from '../../../src/domain/signals.ts';
import { createStream } from '../../../src/services/alerts/manage-streams.ts';
import { openReceiverStream } from '../../../src/services/alerts/receiver-streams.ts';
import { commit, record } from '../../../src/services/core.ts';
import { Rewrapping, rotateKek } from '../../../src/services/keys/rotate-keys.ts';
import { removeTemporaryDirs } from '../../support/broker.ts';
import { eventually } from '../../support/eventually.ts';
import { caller, type Endpoint, openRig, type Rig, startEndpoint } from './rig.ts';

let rig: Rig;
let endpoint: Endpoint;
beforeAll(async () => {
  rig = await openRig();
  endpoint = await startEndpoint();
});
afterAll(async () => {
  await rig.close();
  await endpoint.close();
  removeTemporaryDirs();
});

const stream = { aud: ['rp'], events: [...signalEvents], allow_private_network: true, share_reasons: false };

test('after a rotation of the key-encryption key messages are signed and authorised as before', async () => {
  const { core } = rig;
  const { secret } = await rig.webhook(endpoint.url);
  const made = await createStream(core, { name: 'rp', ...stream, delivery: undefined }, caller);
  const delivery = { method: 'push' as const, endpoint_url: endpoint.url, authorization_header: 'Bearer rp' };
  await openReceiverStream(core, made.stream, { delivery }, caller);
  const rewrapping = new Rewrapping(core, { everyMs: 20, boxes: 10, graceMs: 0 });
  rewrapping.start();
  const { number } = await rotateKek(core, caller);
  await eventually(
    'the old key is retired',
    () => core.state.keyEncryptionKeys.all(),
    (rows) => rows.every((row) => row.number === number || row.state === 'retired'),
  );
  await rewrapping.stop();
  expect(core.state.webhooks.all()[0]?.sealed.kek).toBe(number);
  expect(core.state.signalStreams.all()[0]?.sealed?.kek).toBe(number);
  await rig.alert();
  const selector = { subject: 'corp:alice' };
  await commit(core, { writes: [], audit: [record(core, caller, { type: 'revocation.created', data: { selector } })] });
  await eventually(
    'both arrived',
    () => endpoint.got.length,
    (got) => got === 2,
  );
  const hooked = endpoint.got.find(({ headers }) => headers['webhook-id'] !== undefined);
  const pushed = endpoint.got.find(({ headers }) => headers.authorization === 'Bearer rp');
  expect(new Verifier(secret).verify(hooked?.body ?? '', hooked?.headers as Record<string, string>)).toMatchObject({
    type: 'freeze.created',
  });
  expect(pushed?.headers['content-type']).toBe('application/secevent+jwt');
});

test('a secret that was put into another row does not open there', async () => {
  const { core } = rig;
  await rig.begin();
  const [one, two] = [
    await rig.webhook(endpoint.url, { name: 'one' }),
    await rig.webhook(endpoint.url, { name: 'two' }),
  ];
  await commit(core, {
    writes: [{ write: 'update', table: 'webhooks', id: two.webhook.id, set: { sealed: one.webhook.sealed } }],
    audit: [record(core, caller, { type: 'test.moved' })],
  });
  const tried = await rig.deliveries.test(core.state.webhooks.get(two.webhook.id) ?? two.webhook, caller);
  expect(tried.failure).toBe('secret_unreadable');
});
