/** Grants asked for as authorization_details (RFC 9396). */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { decodeJwt } from 'jose';
import * as oauth from 'oauth4webapi';
import * as client from 'openid-client';
import type { Answer, Broker } from '../support/broker.ts';
import { exchange, type LocalIssuer, startIssuer, trust, withAssertionGrant, workloadAgent } from './issuers.ts';
import { basic, jwtConnection, type Listener, listen, must, post, startProtocolBroker } from './support.ts';

describe('authorization_details', () => {
  let broker: Broker;
  let upstream: Listener;
  let issuer: LocalIssuer;
  let agent: { clientId: string; clientSecret: string };

  beforeAll(async () => {
    upstream = await listen(() => ({ ok: true }));
    issuer = await startIssuer();
    broker = await startProtocolBroker();
    agent = await broker.agent('reporter');
    await trust(broker, 'corp', issuer, { uses: ['subject', 'workload'] });
    await workloadAgent(broker, 'pod', 'corp', { sub: 'pod' });
    must(await broker.connection('echo', upstream.url), 201);
    await jwtConnection(broker, 'orders', { audience: 'https://orders.example', scopes: ['read', 'write'] });
    for (const name of ['reporter', 'pod']) {
      must(
        await broker.entitle(name, 'orders', ['read', 'write'], { on_behalf_of: ['corp:sam'], max_ttl_seconds: 600 }),
        201,
      );
      must(await broker.entitle(name, 'echo', ['all']), 201);
    }
  });
  afterAll(async () => {
    await broker.close();
    await Promise.all([upstream.close(), issuer.close()]);
  });

  const as = () => ({ authorization: basic(agent.clientId, agent.clientSecret) });
  const one = { type: 'warder_connection', connection: 'orders', scopes: ['read'] };
  const ask = (details: unknown, more: Record<string, string> = {}): Promise<Answer> =>
    post(
      `${broker.url}/token`,
      {
        grant_type: 'client_credentials',
        authorization_details: typeof details === 'string' ? details : JSON.stringify(details),
        ...more,
      },
      as(),
    );

  test('are granted, and told in the answer, the JWT and introspection', async () => {
    const { body } = must(await ask([{ ...one, ttl_seconds: 120, reason: 'monthly report' }]), 200);
    const granted = [{ ...one, ttl_seconds: 120 }];
    expect(body).toMatchObject({ token_type: 'Bearer', expires_in: 120, authorization_details: granted });
    expect(decodeJwt(String(body['access_token']))['authorization_details']).toEqual(granted);
    const introspected = await post(`${broker.url}/introspect`, { token: String(body['access_token']) }, as());
    expect(introspected.body['authorization_details']).toEqual(granted);
    const shown = must(await broker.admin('GET', `/grants/${body['grant_id']}`), 200).body;
    expect(shown).toMatchObject({ reason: 'monthly report', scopes: ['read'] });
  });

  test('are told as granted: with the life it has', async () => {
    const { body } = must(await ask([one]), 200);
    expect(body['authorization_details']).toEqual([{ ...one, ttl_seconds: 600 }]);
  });

  test('are in no answer to a request without them', async () => {
    const { body } = must(
      await post(
        `${broker.url}/token`,
        { grant_type: 'client_credentials', resource: `${broker.url}/connections/orders`, scope: 'read' },
        as(),
      ),
      200,
    );
    expect(body).not.toHaveProperty('authorization_details');
    expect(decodeJwt(String(body['access_token']))).not.toHaveProperty('authorization_details');
  });

  test('work with every grant type', async () => {
    const authorization_details = JSON.stringify([one]);
    const granted = [expect.objectContaining(one)];
    const pod = must(
      await withAssertionGrant(broker, issuer.token(broker.url, { sub: 'pod' }), { authorization_details }),
      200,
    );
    expect(pod.body['authorization_details']).toEqual(granted);
    const sam = must(await exchange(broker, issuer.token(broker.url), { authorization_details }, as()), 200);
    expect(sam.body['authorization_details']).toEqual(granted);
    expect(decodeJwt(String(sam.body['access_token'])).sub).toBe('corp:sam');
  });

  test('may stand beside the resource they name, and beside no other way of asking', async () => {
    must(await ask([one], { resource: `${broker.url}/connections/orders` }), 200);
    const errors: [Record<string, string>, string][] = [
      [{ resource: `${broker.url}/connections/echo` }, 'invalid_target'],
      [{ resource: `${broker.url}/v1` }, 'invalid_target'],
      [{ resource: 'https://other.example' }, 'invalid_target'],
      [{ scope: 'read' }, 'invalid_request'],
      [{ scope: 'write', resource: `${broker.url}/connections/orders` }, 'invalid_request'],
    ];
    for (const [more, error] of errors) {
      const { status, body } = await ask([one], more);
      expect([more, status, body['error']]).toEqual([more, 400, error]);
    }
  });

  test.each([
    ['no JSON', '{'],
    ['an object', one],
    ['a text', '"x"'],
    ['null', 'null'],
    ['an empty list', []],
    ['two', [one, { ...one, connection: 'echo', scopes: ['all'] }]],
    ['another type', [{ ...one, type: 'payment_initiation' }]],
    ['no type', [{ connection: 'orders', scopes: ['read'] }]],
    ['an unknown member', [{ ...one, actions: ['read'] }]],
    ['a wrong value', [{ ...one, scopes: 'read' }]],
    ['a missing value', [{ type: one.type, connection: 'orders' }]],
    ['a member twice', `[{"type":"warder_connection","connection":"echo","connection":"orders","scopes":["read"]}]`],
    ['__proto__', `[{"type":"warder_connection","connection":"orders","scopes":["read"],"__proto__":{}}]`],
    ['half a character', `[{"type":"warder_connection","connection":"orders","scopes":["read"],"reason":"\\ud800"}]`],
    ['deep nesting', `${'['.repeat(100)}${']'.repeat(100)}`],
    ['a token as the reason', [{ ...one, reason: `wdr_at_${'a'.repeat(69)}` }]],
  ])('that are %s are invalid_authorization_details', async (_name, details) => {
    const { status, body } = await ask(details);
    expect([status, body['error']]).toEqual([400, 'invalid_authorization_details']);
  });

  test('are decided on as everything else is', async () => {
    const errors: [object, string][] = [
      [{ ...one, scopes: ['read', 'admin'] }, 'invalid_scope'],
      [{ ...one, connection: 'nowhere' }, 'invalid_target'],
      [{ ...one, ttl_seconds: 601 }, 'invalid_request'],
    ];
    for (const [details, error] of errors) expect([(await ask([details])).body['error']]).toEqual([error]);
  });

  test('through openid-client and oauth4webapi', async () => {
    const config = await client.discovery(
      new URL(broker.url),
      agent.clientId,
      undefined,
      client.ClientSecretBasic(agent.clientSecret),
      {
        algorithm: 'oauth2',
        execute: [client.allowInsecureRequests],
      },
    );
    expect(config.serverMetadata()['authorization_details_types_supported']).toEqual(['warder_connection']);
    const tokens = await client.clientCredentialsGrant(config, { authorization_details: JSON.stringify([one]) });
    expect(tokens.authorization_details).toEqual([expect.objectContaining(one)]);

    const insecure = { [oauth.allowInsecureRequests]: true };
    const url = new URL(broker.url);
    const server = await oauth.processDiscoveryResponse(
      url,
      await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure }),
    );
    const who = { client_id: agent.clientId };
    const parameters = { authorization_details: JSON.stringify([one]) };
    const response = await oauth.clientCredentialsGrantRequest(
      server,
      who,
      oauth.ClientSecretBasic(agent.clientSecret),
      parameters,
      insecure,
    );
    expect((await oauth.processClientCredentialsResponse(server, who, response)).authorization_details).toHaveLength(1);
  });
});
