/** Every mutating route leaves an audit entry: when it did something, when there was nothing to do, and when it refused. */

import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { makeRootKey } from '../../adapters/kms/local.ts';
import { adminTable } from '../../src/http/admin/router.ts';
import type { Broker } from '../support/broker.ts';
import {
  auditOf,
  closeConnections,
  type Entry,
  type Furniture,
  formType,
  furnish,
  jsonType,
  type Received,
  type Sent,
  send,
  startEdgeBroker,
} from './support.ts';

let broker: Broker;
let furniture: Furniture;
let approver: string;

beforeAll(async () => {
  broker = await startEdgeBroker();
  furniture = await furnish(broker);
  const made = await broker.admin('POST', '/operators', { name: 'approver', roles: ['approver'] });
  approver = String(made.body['token']);
});
afterAll(async () => {
  closeConnections();
  await broker.close();
});

const otherRootKey = (): string => {
  const path = join(broker.dataDir, 'other-root.key');
  makeRootKey(path);
  return path;
};

const entriesOf = async ({ headers }: Received): Promise<Entry[]> =>
  (await auditOf(broker)).filter((entry) => entry.request_id === headers['request-id']);

/** Sends a request and holds its record against it. */
const recorded = async (sent: Sent, status: number): Promise<Entry[]> => {
  const size = (await auditOf(broker)).length;
  const received = await send(broker.url, sent);
  expect([sent.method, sent.path, received.status, received.text]).toEqual([
    sent.method,
    sent.path,
    status,
    received.text,
  ]);
  const entries = await entriesOf(received);
  expect([sent.path, entries.length]).not.toEqual([sent.path, 0]);
  expect((await auditOf(broker)).length).toBeGreaterThanOrEqual(size + entries.length);
  for (const entry of entries) expect(entry.outcome).toBe(status < 400 ? 'done' : 'refused');
  return entries;
};

/** A window of an hour that opens in two. */
const closedNow = (): { from: string; to: string } => {
  const clock = (hours: number): string => new Date(Date.now() + hours * 3_600_000).toISOString().slice(11, 16);
  return { from: clock(2), to: clock(3) };
};

const admin = (method: string, path: string, body?: unknown, token = broker.adminToken): Sent => ({
  method,
  path: `/admin/v1${path}`,
  token,
  ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body), headers: jsonType }),
});

describe('an operator’s change', () => {
  const settings = { audience: 'https://x.example.com', scopes: ['a', 'b'] };
  const rules = { base_url: 'https://api.example.com', scopes: { a: [{ methods: ['GET'], path: '/**' }] } };
  let entitlement: string;
  let kept: string;
  beforeAll(async () => {
    kept = String((await broker.admin('GET', '/audit/checkpoint')).body['checkpoint']);
  });

  /** One good request for each mutating route, in an order in which they work; then the same again. */
  const good: [string, string, () => unknown, number, number | undefined][] = [
    ['POST', '/agents', () => ({ name: 'a-1', owner: 'x@example.com' }), 201, 409],
    ['PATCH', '/agents/:name', () => ({ owner: 'y@example.com' }), 200, 200],
    ['POST', '/agents/:name/secret', () => undefined, 201, 201],
    ['POST', '/connections', () => ({ name: 'c-1', provider: 'api-key', settings: rules }), 201, 409],
    ['PATCH', '/connections/:name', () => ({ owner: 'y@example.com' }), 200, 200],
    ['PUT', '/connections/:name/secret', () => ({ value: 'sk_0123456789' }), 200, 200],
    ['POST', '/entitlements', () => ({ agent: 'a-1', connection: 'c-1', scopes: ['a'] }), 201, undefined],
    ['PATCH', '/entitlements/:id', () => ({ max_ttl_seconds: 60 }), 200, 200],
    ['POST', '/issuers', () => ({ name: 'i-1', issuer: 'https://a.example', uses: ['subject'] }), 201, 409],
    ['PATCH', '/issuers/:name', () => ({ status: 'suspended' }), 200, 200],
    ['POST', '/operators', () => ({ name: 'o-1', roles: ['auditor'] }), 201, 409],
    ['PATCH', '/operators/:name', () => ({ roles: ['reviewer'] }), 200, 200],
    ['POST', '/operators/:name/token', () => undefined, 201, 201],
    ['POST', '/webhooks', () => ({ name: 'w-1', url: 'https://127.0.0.1:9/', allow_private_network: true }), 201, 409],
    ['PATCH', '/webhooks/:name', () => ({ events: ['freeze.*'] }), 200, 200],
    ['POST', '/webhooks/:name/secret', () => ({}), 201, 201],
    ['POST', '/webhooks/:name/test', () => undefined, 200, 200],
    ['POST', '/webhooks/:name/replay', () => ({ from: 'now' }), 200, 200],
    ['POST', '/streams', () => ({ name: 's-1', aud: ['rp'], delivery: { method: 'poll' } }), 201, 409],
    ['POST', '/streams/:name/token', () => undefined, 201, 201],
    ['POST', '/streams/:name/verify', () => undefined, 204, 204],
    ['POST', '/streams/:name/resume', () => undefined, 200, 200],
    ['POST', '/streams/:name/replay', () => ({ from: 'now' }), 200, 200],
    ['POST', '/revocations', () => ({ selector: { agent: 'a-1' }, reason: 'x' }), 201, 201],
    ['POST', '/revocations/:id/retry', () => undefined, 200, 200],
    ['POST', '/freezes', () => ({ selector: { agent: 'a-1' }, reason: 'x' }), 201, undefined],
    ['POST', '/freezes/:id/lift', () => ({ reason: 'x' }), 200, 409],
    ['POST', '/incidents', () => ({ title: 'x', selector: { subject: 'corp:nobody' }, reason: 'x' }), 201, undefined],
    ['POST', '/incidents/:id/contain', () => ({ reason: 'x' }), 200, 200],
    ['POST', '/incidents/:id/items', () => ({ text: 'x' }), 201, undefined],
    ['PATCH', '/incidents/:id/items/:number', () => ({ status: 'done', note: 'x' }), 200, 200],
    ['POST', '/incidents/:id/remediate', () => undefined, 200, 200],
    ['POST', '/incidents/:id/recover', () => ({ reason: 'x' }), 200, 200],
    ['POST', '/incidents/:id/notes', () => ({ note: 'x' }), 200, 200],
    ['POST', '/incidents/:id/close', () => ({ summary: 'x' }), 200, 409],
    ['POST', '/keys/rotate', () => undefined, 201, 201],
    ['POST', '/keys/receipts/rotate', () => undefined, 201, 201],
    ['POST', '/keys/migrate', () => ({ to: `local:${otherRootKey()}`, dry_run: true }), 200, 200],
    ['POST', '/keys/signing/rotate', () => undefined, 201, 409],
    ['PUT', '/keys/rotation/:which', () => ({ every_seconds: 86_400, window: closedNow() }), 200, 200],
    ['POST', '/rotations', () => ({ key: 'signing' }), 201, 201],
    ['DELETE', '/rotations/:id', () => undefined, 200, 409],
    ['DELETE', '/keys/rotation/:which', () => undefined, 204, 404],
    ['PUT', '/connections/:name/rotation', () => ({ method: { webhook: { url: 'https://x.example' } } }), 200, 200],
    ['DELETE', '/connections/:name/rotation', () => undefined, 204, 404],
    ['POST', '/audit/witness', () => ({ checkpoint: kept }), 200, 200],
    ['POST', '/backups', () => undefined, 200, 200],
    ['POST', '/apply', () => ({ connections: [{ name: 'c-2', provider: 'internal-jwt', settings }] }), 200, 200],
    ['DELETE', '/entitlements/:id', () => undefined, 204, 404],
    ['DELETE', '/connections/:name', () => undefined, 204, 404],
    ['DELETE', '/agents/:name', () => undefined, 204, 404],
    ['DELETE', '/webhooks/:name', () => undefined, 204, 404],
    ['DELETE', '/streams/:name', () => undefined, 204, 404],
    ['DELETE', '/issuers/:name', () => undefined, 204, 404],
    ['DELETE', '/operators/:name', () => undefined, 204, 404],
  ];
  /** Done, these need an authorization server: test/connections/connect-flow.test.ts. Refused, they are here too. */
  const withAccounts = ['POST /connections/:name/connect', 'DELETE /connections/:name/authorizations/:id'];
  /** And this one something that could not be revoked upstream: test/scenarios/receipts.test.ts. */
  const withFailures = ['POST /grants/:id/retry'];
  /** And this one a secret that can be rotated: test/scenarios/incident.test.ts. */
  const withRotations = ['POST /incidents/:id/items/:number/rotate'];
  const names: Record<string, string> = {
    agents: 'a-1',
    connections: 'c-1',
    issuers: 'i-1',
    operators: 'o-1',
    webhooks: 'w-1',
    streams: 's-1',
    keys: 'signing',
  };
  const address = (path: string): string =>
    path
      .replace(/:[a-z]+/, path.startsWith('/entitlements') ? entitlement : (names[path.split('/')[1] ?? ''] ?? ''))
      .replace(':number', '1');

  test('has a good request here for every mutating route', () => {
    const mutating = adminTable.filter(({ method }) => method !== 'GET').map(({ method, path }) => `${method} ${path}`);
    const here = good.map(([method, path]) => `${method} ${path}`);
    expect([...here, ...withAccounts, ...withFailures, ...withRotations].sort()).toEqual(mutating.sort());
  });

  test('is recorded when it is refused: by the door, for its body, for its query, for what it names', async () => {
    for (const { method, path, body } of adminTable) {
      if (method === 'GET') continue;
      const route = { method, route: `/admin/v1${path}` };
      const at = path.replace(/:[a-z]+/, 'nothing-here');
      const refusals: [Sent, number, string][] = [
        [admin(method, at, '{}', 'wdr_op_x'), 401, 'unauthenticated'],
        [{ method, path: `/admin/v1${at}` }, 401, 'unauthenticated'],
        [admin(method, at, '{}', approver), 403, 'forbidden'],
        [admin(method, at, '{'), 400, 'invalid_request'],
        [admin(method, at, { nobody_knows: 1 }), path.endsWith('/secret') && method === 'PUT' ? 404 : 400, ''],
        [admin(method, `${at}?x=1`, body ? '{}' : undefined), 400, 'invalid_request'],
        [admin(method, at, `"${'x'.repeat(5_000_000)}"`), 413, 'too_large'],
        [{ ...admin(method, at, '{}'), headers: { 'content-type': 'text/plain' } }, 415, 'unsupported_media_type'],
      ];
      for (const [sent, status, code] of refusals) {
        const [entry, ...more] = await recorded(sent, status);
        expect(more).toEqual([]);
        expect(entry).toMatchObject({ type: 'request.refused', data: { ...route, ...(code === '' ? {} : { code }) } });
        expect(entry?.actor.kind).toBe(status === 401 ? 'anonymous' : 'operator');
      }
    }
  });

  test('of accounts is recorded when it is refused for what it names', async () => {
    const account = 'aut_00000000000000000000000000';
    const refusals: [Sent, number, string, string][] = [
      [admin('POST', '/connections/nobodys/connect', {}), 404, 'not_found', 'POST'],
      [admin('POST', '/connections/stripe/connect', {}), 400, 'invalid_request', 'POST'],
      [admin('DELETE', `/connections/nobodys/authorizations/${account}`), 404, 'not_found', 'DELETE'],
      [admin('DELETE', `/connections/stripe/authorizations/${account}?forget=true`), 404, 'not_found', 'DELETE'],
    ];
    for (const [sent, status, code, method] of refusals) {
      const [entry, ...more] = await recorded(sent, status);
      expect(more).toEqual([]);
      expect(entry).toMatchObject({ type: 'request.refused', actor: { name: 'admin' }, data: { code, method } });
    }
  });

  test('is recorded when it is done, and when the same is asked for again', async () => {
    const types: string[] = [];
    for (const [method, path, body, status, again] of good) {
      const sent = () => admin(method, address(path), body());
      const entries = await recorded(sent(), status);
      if (path === '/entitlements') {
        const { body: list } = await broker.admin('GET', '/entitlements?agent=a-1');
        entitlement = (list['items'] as { id: string }[])[0]?.id ?? '';
      }
      if (path === '/revocations') {
        const { body: list } = await broker.admin('GET', '/revocations?limit=1');
        names['revocations'] = (list['items'] as { id: string }[])[0]?.id ?? '';
      }
      if (path === '/freezes' || path === '/incidents') {
        const { body: list } = await broker.admin('GET', `${path}?limit=1`);
        names[path.slice(1)] = (list['items'] as { id: string }[])[0]?.id ?? '';
      }
      if (path === '/rotations') {
        const { body: list } = await broker.admin('GET', '/rotations/history');
        names['rotations'] = (list['items'] as { id: string }[])[0]?.id ?? '';
      }
      const repeated = again === undefined ? [] : await recorded(sent(), again);
      types.push(`${entries.map(({ type }) => type)} | ${repeated.map(({ type }) => type)}`);
      for (const { actor } of [...entries, ...repeated])
        expect(actor).toMatchObject({ kind: 'operator', name: 'admin' });
    }
    expect(types).toEqual([
      'agent.created | request.refused',
      'agent.updated | agent.unchanged',
      'agent.updated | agent.updated',
      'connection.created | request.refused',
      'connection.updated | connection.unchanged',
      'secret.set | secret.set',
      'entitlement.created | ',
      'entitlement.updated | entitlement.unchanged',
      'issuer.created | request.refused',
      'issuer.updated | issuer.unchanged',
      'operator.created | request.refused',
      'operator.updated | operator.unchanged',
      'operator.token_renewed | operator.token_renewed',
      'webhook.created | request.refused',
      'webhook.updated | webhook.unchanged',
      'webhook.secret_rotated | webhook.secret_rotated',
      'webhook.tested | webhook.tested',
      'webhook.replayed | webhook.replayed',
      'stream.created | request.refused',
      'stream.token_renewed | stream.token_renewed',
      'stream.verification_requested | stream.verification_requested',
      'stream.resumed | stream.resumed',
      'stream.replayed | stream.replayed',
      'revocation.created | revocation.created',
      'revocation.retried | revocation.retried',
      'freeze.created | ',
      'freeze.lifted | request.refused',
      'incident.opened | ',
      'revocation.created,freeze.created,incident.contained | revocation.created,incident.contained',
      'incident.item_added | ',
      'incident.item_updated | incident.item_updated',
      'incident.remediating | incident.remediating',
      'incident.recovered,freeze.lifted | incident.recovered',
      'incident.noted | incident.noted',
      'incident.closed | request.refused',
      'key.rotated | key.rotated',
      'signing_key.rotated | signing_key.rotated',
      'key.migration_tried | key.migration_tried',
      'signing_key.rotated | request.refused',
      'rotation.policy_set | rotation.policy_unchanged',
      'rotation.asked | rotation.asked',
      'rotation.cancelled | request.refused',
      'rotation.policy_unset | request.refused',
      'rotation.policy_set | rotation.policy_unchanged',
      'rotation.policy_unset | request.refused',
      'audit.witnessed | audit.witnessed',
      'backup.started,backup.created | backup.started,backup.created',
      'connection.created | access.unchanged',
      'entitlement.deleted | request.refused',
      'connection.deleted | request.refused',
      'agent.deleted | request.refused',
      'webhook.deleted | request.refused',
      'stream.deleted | request.refused',
      'issuer.deleted | request.refused',
      'operator.deleted | request.refused',
    ]);
  });

  test('is recorded when it was only planned', async () => {
    const revocation = { selector: { everything: true }, reason: 'drill', dry_run: true };
    expect(await recorded(admin('POST', '/revocations', revocation), 200)).toMatchObject([
      { type: 'revocation.planned' },
    ]);
    const document = { agents: [{ name: 'planned', owner: 'x@example.com' }], plan: true };
    expect(await recorded(admin('POST', '/apply', document), 200)).toMatchObject([{ type: 'access.planned' }]);
  });
});

describe('what an agent does', () => {
  const call = (method: string, path: string, body?: unknown, token = furniture.agentToken): Sent => ({
    ...admin(method, '', body, token),
    path: `/v1${path}`,
  });

  test('is recorded when it is done', async () => {
    const types = async (sent: Sent, status: number) => (await recorded(sent, status)).map(({ type }) => type);
    const asked = { connection: 'stripe', scopes: ['read'], ttl_seconds: 60 };
    expect(await types(call('POST', '/grants', asked), 201)).toEqual(['grant.issued']);
    expect(await types(call('POST', `/grants/${furniture.grantId}/renew`, { ttl_seconds: 60 }), 200)).toEqual([
      'grant.renewed',
    ]);
    expect(await types(call('DELETE', `/grants/${furniture.grantId}`), 204)).toEqual(['grant.returned']);
    expect(await types(call('DELETE', `/grants/${furniture.grantId}`), 204)).toEqual(['grant.return_ignored']);
  });

  test('is recorded once when it is refused', async () => {
    const asked = { connection: 'stripe', scopes: ['read'] };
    const unknown = 'grt_00000000000000000000000000';
    const refusals: [Sent, number, string, string][] = [
      [call('POST', '/grants', asked, 'x'), 401, 'request.refused', 'unauthenticated'],
      [{ method: 'POST', path: '/v1/grants' }, 401, 'request.refused', 'unauthenticated'],
      [call('POST', '/grants', asked, broker.adminToken), 401, 'request.refused', 'unauthenticated'],
      [call('POST', '/grants', '{'), 400, 'request.refused', 'invalid_request'],
      [call('POST', '/grants', {}), 400, 'request.refused', 'invalid_request'],
      [call('POST', '/grants?x=1', asked), 400, 'request.refused', 'invalid_request'],
      [call('POST', '/grants', `"${'x'.repeat(50_000)}"`), 413, 'request.refused', 'too_large'],
      [call('POST', '/grants', { ...asked, connection: 'nobodys' }), 403, 'grant.refused', 'not_entitled'],
      [call('POST', '/grants', { ...asked, scopes: ['write'] }), 403, 'grant.refused', 'scope_not_allowed'],
      [call('POST', '/grants', { ...asked, ttl_seconds: 86_401 }), 400, 'grant.refused', 'ttl_too_long'],
      [call('POST', `/grants/${unknown}/renew`), 404, 'request.refused', 'not_found'],
      [call('POST', `/grants/${unknown}/renew`, '{'), 400, 'request.refused', 'invalid_request'],
      [call('POST', `/grants/${unknown}/renew`, undefined, 'x'), 401, 'request.refused', 'unauthenticated'],
      [call('POST', `/grants/${furniture.grantId}/renew`), 401, 'request.refused', 'revoked'],
      [call('DELETE', `/grants/${unknown}`), 404, 'request.refused', 'not_found'],
      [call('DELETE', `/grants/${unknown}`, undefined, 'x'), 401, 'request.refused', 'unauthenticated'],
      [call('DELETE', `/grants/${unknown}?x=1`), 400, 'request.refused', 'invalid_request'],
    ];
    for (const [sent, status, type, code] of refusals) {
      const entries = await recorded(sent, status);
      expect([sent.path, entries]).toMatchObject([sent.path, [{ type, data: { code } }]]);
      expect(entries).toHaveLength(1);
    }
  });

  test('is recorded when it is too much for the budget', async () => {
    await broker.admin('POST', '/entitlements', {
      agent: 'reporter',
      connection: 'stripe',
      scopes: ['all'],
      budget: { grants: 1, per_seconds: 31_536_000 },
    });
    await broker.admin('DELETE', `/entitlements/${furniture.entitlementId}`);
    const sent = call('POST', '/grants', { connection: 'stripe', scopes: ['all'] });
    await recorded(sent, 201);
    expect(await recorded(sent, 429)).toMatchObject([{ type: 'grant.refused', data: { code: 'budget_exhausted' } }]);
  });
});

describe('what a client does at an OAuth endpoint', () => {
  const basic = (secret = furniture.agent.clientSecret) => ({
    authorization: `Basic ${Buffer.from(`reporter:${secret}`).toString('base64')}`,
  });
  const form = (
    path: string,
    fields: Record<string, string> | string,
    headers: Record<string, string> = basic(),
  ): Sent => ({
    method: 'POST',
    path,
    body: typeof fields === 'string' ? fields : new URLSearchParams(fields).toString(),
    headers: { ...formType, ...headers },
  });
  const grantType = { grant_type: 'client_credentials' };

  test('is recorded when it is done', async () => {
    const resource = `${broker.url}/connections/orders`;
    expect(await recorded(form('/token', grantType), 200)).toMatchObject([{ type: 'token.issued' }]);
    const granted = form('/token', { ...grantType, scope: 'orders:read', resource });
    expect(await recorded(granted, 200)).toMatchObject([{ type: 'grant.issued' }]);
    const token = await broker.agentToken(furniture.agent);
    expect(await recorded(form('/revoke', { token }), 200)).toMatchObject([{ type: 'token.revoked' }]);
    for (const unknown of [token, 'nothing', broker.adminToken]) {
      expect(await recorded(form('/revoke', { token: unknown }), 200)).toHaveLength(1);
    }
  });

  test('is recorded when it is refused', async () => {
    const resource = `${broker.url}/connections/orders`;
    const refusals: [Sent, number][] = [
      [form('/token', grantType, {}), 401],
      [form('/token', grantType, basic('wrong')), 401],
      [form('/token', { ...grantType, client_id: 'nobody', client_secret: 'x' }, {}), 401],
      [form('/token', { ...grantType, scope: 'nothing', resource }), 400],
      [form('/token', { ...grantType, scope: 'a', resource: `${broker.url}/connections/nobodys` }), 400],
      [form('/revoke', { token: 'x' }, {}), 401],
      [form('/revoke', { token: 'x' }, basic('wrong')), 401],
      [form('/introspect', { token: 'x' }, basic('wrong')), 401],
    ];
    for (const [sent, status] of refusals) expect(await recorded(sent, status)).toHaveLength(1);
  });

  test('is recorded when it asks for what there is not', async () => {
    for (const fields of [
      {},
      { grant_type: 'password' },
      { ...grantType, scope: 'a' },
      { ...grantType, scope: 'a', resource: 'https://elsewhere.example.com' },
      { ...grantType, resource: `${broker.url}/connections/orders` },
    ]) {
      expect(await recorded(form('/token', fields), 400)).toMatchObject([{ type: 'token.refused' }]);
    }
  });
});
