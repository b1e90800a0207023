/** A request whose token dies while its body is still arriving: what it asks for is refused. */
import { once } from 'node:events';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Broker, startBroker } from '../support/broker.ts';

describe('a request that is still arriving', () => {
  let broker: Broker;
  let agent: { clientId: string; clientSecret: string };
  let grant: string;

  beforeAll(async () => {
    broker = await startBroker();
    agent = await broker.agent('reporter');
    await broker.connection('stripe', 'http://127.0.0.1:9');
    await broker.entitle('reporter', 'stripe', ['all']);
  });
  afterAll(() => broker.close());

  /** Sends all but the last byte of a body, lets something happen, and then the last. */
  const slowly = async (token: string, path: string, body: object, meanwhile: () => Promise<unknown>) => {
    const bytes = JSON.stringify(body);
    const req = request(`${broker.url}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'content-length': bytes.length },
    });
    req.write(bytes.slice(0, -1));
    await new Promise((resolve) => setTimeout(resolve, 150));
    await meanwhile();
    req.end(bytes.slice(-1));
    const [res] = await once(req, 'response');
    return { status: res.statusCode, body: JSON.parse(await text(res)) };
  };
  const grants = async () => ((await broker.admin('GET', '/grants?agent=reporter')).body['items'] as unknown[]).length;

  test('goes through when nothing happens', async () => {
    const token = await broker.agentToken(agent);
    const answer = await slowly(token, '/v1/grants', { connection: 'stripe', scopes: ['all'] }, async () => undefined);
    expect(answer.status).toBe(201);
    grant = answer.body.grant.id;
  });

  test.each([
    [
      'its agent was revoked',
      () => broker.admin('POST', '/revocations', { selector: { agent: 'reporter' }, reason: 'x' }),
    ],
    [
      'everything was revoked',
      () => broker.admin('POST', '/revocations', { selector: { everything: true }, reason: 'x' }),
    ],
    [
      'its agent has a new secret',
      async () => {
        const { body } = await broker.admin('POST', '/agents/reporter/secret');
        agent = { ...agent, clientSecret: String(body['client_secret']) };
      },
    ],
  ])('gives nothing when %s meanwhile', async (_what, happens) => {
    const token = await broker.agentToken(agent);
    const before = await grants();
    const asked = await slowly(token, '/v1/grants', { connection: 'stripe', scopes: ['all'] }, happens);
    expect([asked.status, asked.body.code]).toEqual([401, 'revoked']);
    expect(await grants()).toBe(before);
    const renewed = await slowly(await broker.agentToken(agent), `/v1/grants/${grant}/renew`, {}, happens);
    expect(renewed.status).toBe(401);
  });

  test('gives nothing when its client revoked the token meanwhile', async () => {
    const token = await broker.agentToken(agent);
    const happens = () => broker.form('/revoke', { token }, agent);
    const asked = await slowly(token, '/v1/grants', { connection: 'stripe', scopes: ['all'] }, happens);
    expect([asked.status, asked.body.code]).toEqual([401, 'revoked']);
  });

  test.each([
    ['was suspended', { status: 'suspended' }, 401, 'unauthenticated'],
    ['lost the role for it', { roles: ['auditor'] }, 403, 'forbidden'],
  ])('changes nothing when its operator %s meanwhile', async (_what, change, status, code) => {
    const made = await broker.admin('POST', '/operators', { name: `op-${status}`, roles: ['operator'] });
    const sent = { name: `late-${status}`, owner: 'x@example.com' };
    const answer = await slowly(String(made.body['token']), '/admin/v1/agents', sent, () =>
      broker.admin('PATCH', `/operators/op-${status}`, change),
    );
    expect([answer.status, answer.body.code]).toEqual([status, code]);
    expect((await broker.admin('GET', `/agents/late-${status}`)).status).toBe(404);
  });
});
