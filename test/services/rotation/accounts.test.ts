/** A policy that redeems the refresh token of every connected account, at a real authorization server. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type OauthBroker, startOauthBroker } from '../../connections/rig.ts';
import { removeTemporaryDirs } from '../../support/broker.ts';
import { eventually } from '../../support/eventually.ts';

let rig: OauthBroker;
beforeAll(async () => {
  rig = await startOauthBroker();
}, 60_000);
afterAll(async () => {
  await rig.close();
  removeTemporaryDirs();
});

const rotated = async () => {
  const asked = await rig.broker.admin('POST', '/rotations', { connection: 'svc', now: true });
  expect([asked.status, asked.text]).toEqual([201, asked.text]);
  const over = await eventually(
    'it has ended',
    () => rig.broker.admin('GET', `/rotations/${asked.body['id']}`),
    ({ body }) => ['done', 'failed'].includes(String(body['status'])),
  );
  return over.body;
};

test('rotates the refresh token of each, and says how many', async () => {
  const method = { accounts: 'refresh' };
  const put = await rig.broker.admin('PUT', '/connections/svc/rotation', { every_seconds: 86_400, method });
  expect([put.status, put.text]).toEqual([200, put.text]);
  expect((await rotated())['accounts']).toEqual({ accounts: 0, refreshed: 0, needs_reconnect: 0, failed: 0 });

  await rig.connect();
  await rig.connect({ subject: 'alice' });
  const before = await rig.accounts();
  expect(await rotated()).toMatchObject({
    status: 'done',
    to_version: null,
    accounts: { accounts: 2, refreshed: 2, needs_reconnect: 0, failed: 0 },
  });
  const after = await rig.accounts();
  for (const account of after) {
    const old = before.find(({ id }) => id === account['id']);
    expect(account['last_refreshed_at']).not.toBe(old?.['last_refreshed_at']);
  }
  expect(await rig.audit('authorization.refreshed')).toHaveLength(2);
  const refused = await rig.broker.admin('PUT', '/connections/svc/rotation', { method: { accounts: 'refresh', x: 1 } });
  expect(refused.body['detail']).toContain('accounts stands alone');
});

test('counts those that could not be, and tries them again', async () => {
  await rig.server.stop();
  const failed = await rotated();
  expect(failed).toMatchObject({ status: 'failed', failure: '2 of 2 accounts could not be refreshed' });
});
