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
let auditor: string;

beforeAll(async () => {
  broker = await startEdgeBroker();
  furniture = await furnish(broker);
  const made = await broker.admin('POST', '/operators', { name: 'auditor', roles: ['auditor'] });
  auditor = String(made.body['token']);
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
    ['POST', '/revocations', () => ({ selector: { agent: 'a-1' }, reason: 'x' }), 201, 201],
    ['POST', '/keys/rotate', () => undefined, 201, 201],
    ['POST', '/keys/migrate', () => ({ to: `local:${otherRootKey()}`, dry_run: true }), 200, 200],
    ['POST', '/keys/signing/rotate', () => undefined, 201, 201],
    ['POST', '/apply', () => ({ connections: [{ name: 'c-2', provider: 'internal-jwt', settings }] }), 200, 200],
    ['DELETE', '/entitlements/:id', () => undefined, 204, 404],
    ['DELETE', '/connections/:name', () => undefined, 204, 404],
    ['DELETE', '/agents/:name', () => undefined, 204, 404],
    ['DELETE', '/issuers/:name', () => undefined, 204, 404],
    ['DELETE', '/operators/:name', () => undefined, 204, 404],
  ];
  /** Done, these need an authorization server: test/connections/connect-flow.test.ts. Refused, they are here too. */
  const withAccounts = ['POST /connections/:name/connect', 'DELETE /connections/:name/authorizations/:id'];
  const names: Record<string, string> = { agents: 'a-1', connections: 'c-1', issuers: 'i-1', operators: 'o-1' };
  const address = (path: string): string =>
    path.replace(/:[a-z]+/, path.startsWith('/entitlements') ? entitlement : (names[path.split('/')[1] ?? ''] ?? ''));

  test('has a good request here for every mutating route', () => {
    const mutating = adminTable.filter(({ method }) => method !== 'GET').map(({ method, path }) => `${method} ${path}`);
    expect([...good.map(([method, path]) => `${method} ${path}`), ...withAccounts].sort()).toEqual(mutating.sort());
  });

  test('is recorded when it is refused: by the door, for its body, for its query, for what it names', async () => {
    for (const { method, path, body } of adminTable) {
      if (method === 'GET') continue;
      const route = { method, route: `/admin/v1${path}` };
      const at = path.replace(/:[a-z]+/, 'nothing-here');
      const refusals: [Sent, number, string][] = [
        [admin(method, at, '{}', 'wdr_op_x'), 401, 'unauthenticated'],
        [{ method, path: `/admin/v1${at}` }, 401, 'unauthenticated'],
        [admin(method, at, '{}', auditor), 403, 'forbidden'],
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
      'revocation.created | revocation.created',
      'key.rotated | key.rotated',
      'key.migration_tried | key.migration_tried',
      'signing_key.rotated | signing_key.rotated',
      'connection.created | access.unchanged',
      'entitlement.deleted | request.refused',
      'connection.deleted | request.refused',
      'agent.deleted | request.refused',
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
