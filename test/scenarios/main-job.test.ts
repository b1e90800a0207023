/** The main job, end to end: authenticate, obtain, use, record, take back. */
import { createServer, type Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Broker, startBroker } from '../support/broker.ts';

describe('an agent', () => {
  let broker: Broker;
  let upstream: Server;
  let upstreamUrl: string;
  const seen: string[] = [];

  beforeAll(async () => {
    upstream = createServer((req, res) => {
      seen.push(`${req.method} ${req.url} ${req.headers.authorization}`);
      res.end('{"ok":true}');
    });
    await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
    const address = upstream.address();
    upstreamUrl = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
    broker = await startBroker();
  });
  afterAll(async () => {
    await broker.close();
    upstream.close();
  });

  test('obtains a scoped credential, uses it, and loses it with one call', async () => {
    const agent = await broker.agent('reporter', 'finance@example.com');
    const scopes = { 'charges:read': [{ methods: ['GET'], path: '/v1/charges/**' }] };
    expect((await broker.connection('stripe', upstreamUrl, { scopes, secret: 'sk_live_4242424242' })).status).toBe(201);
    expect((await broker.entitle('reporter', 'stripe', ['charges:read'])).status).toBe(201);

    const token = await broker.agentToken(agent);
    const issued = await broker.grant(token, { connection: 'stripe', scopes: ['charges:read'], ttl_seconds: 300 });
    expect(issued.status).toBe(201);
    expect(issued.body['grant']).toMatchObject({ agent: 'reporter', connection: 'stripe', status: 'active' });
    const credential = issued.body['credential'] as { type: string; token: string; base_url: string };
    expect(credential.type).toBe('gateway');

    const use = (path: string, method = 'GET') =>
      fetch(`${credential.base_url}${path}`, { method, headers: { authorization: `Bearer ${credential.token}` } });
    expect((await use('/v1/charges/ch_1')).status).toBe(200);
    expect(seen).toEqual(['GET /v1/charges/ch_1 Bearer sk_live_4242424242']);
    expect((await use('/v1/charges/ch_1', 'DELETE')).status).toBe(403);
    expect((await use('/v1/refunds')).status).toBe(403);

    const revoked = await broker.admin('POST', '/revocations', {
      selector: { agent: 'reporter' },
      reason: 'incident 7',
    });
    expect(revoked.status).toBe(201);
    expect(revoked.body).toMatchObject({ grants: 1, upstream: { pending: 0 } });
    expect((await use('/v1/charges/ch_1')).status).toBe(401);
    expect(seen).toHaveLength(1);

    const audit = await broker.admin('GET', '/audit?agent=reporter');
    const types = (audit.body['items'] as { type: string }[]).map((entry) => entry.type).reverse();
    expect(types).toEqual([
      'agent.created',
      'entitlement.created',
      'token.issued',
      'grant.issued',
      'gateway.call',
      'gateway.completed',
      'gateway.refused',
      'gateway.refused',
      'revocation.created',
      'gateway.refused',
    ]);
  });
});
