/** Trusted issuers and the agents bound to them, as operators manage them. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { makeKey } from '../protocol/support.ts';
import { type Answer, type Broker, startBroker } from '../support/broker.ts';

const key = makeKey('ES256', 'one');
const jwks = { keys: [key.publicJwk] };

describe('trusted issuers', () => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker();
  });
  afterAll(() => broker.close());

  let made = 0;
  const add = (body: object): Promise<Answer> => {
    made += 1;
    return broker.admin('POST', '/issuers', {
      name: `issuer-${made}`,
      issuer: `https://issuer-${made}.example`,
      uses: ['workload'],
      ...body,
    });
  };
  const nameOf = ({ body }: Answer): string => String(body['name']);
  const newest = async (): Promise<string> => (await broker.admin('GET', '/audit?type=issuer.updated&limit=1')).text;

  test('are shown as they were added, with what was left open filled in', async () => {
    const { status, body, headers } = await add({
      name: 'github',
      issuer: 'https://token.actions.githubusercontent.com',
    });
    expect([status, headers.get('location')]).toEqual([201, '/admin/v1/issuers/github']);
    expect(body).toMatchObject({
      id: expect.stringMatching(/^iss_/),
      keys: 'discovery',
      audiences: [],
      algorithms: ['RS256', 'PS256', 'ES256', 'ES384', 'Ed25519', 'EdDSA'],
      uses: ['workload'],
      subject_claim: 'sub',
      claims: {},
      max_token_age_seconds: 3600,
      single_use: true,
      status: 'active',
    });
    expect((await broker.admin('GET', '/issuers/github')).body).toEqual(body);
    const { body: list } = await broker.admin('GET', '/issuers');
    expect((list['items'] as object[]).length).toBe(1);
  });

  test('have one name and one URL each', async () => {
    expect((await add({ name: 'github' })).status).toBe(409);
    expect((await add({ issuer: 'https://token.actions.githubusercontent.com' })).status).toBe(409);
    const second = nameOf(await add({}));
    const taken = { issuer: 'https://token.actions.githubusercontent.com' };
    expect((await broker.admin('PATCH', `/issuers/${second}`, taken)).status).toBe(409);
  });

  test.each([
    ['the URL of this broker', () => ({ issuer: broker.url, jwks })],
    ['no URL', () => ({ issuer: 'github' })],
    ['a query', () => ({ issuer: 'https://a.example?x=1' })],
    ['a fragment', () => ({ issuer: 'https://a.example#x' })],
    ['credentials', () => ({ issuer: 'https://user:secret@a.example' })],
    ['http without leave', () => ({ issuer: 'http://a.example' })],
    ['keys over http without leave', () => ({ jwks_uri: 'http://a.example/jwks' })],
    ['keys from a URL with credentials', () => ({ jwks_uri: 'https://user:secret@a.example/jwks' })],
    ['keys from a file', () => ({ jwks_uri: 'file:///etc/passwd' })],
    ['keys from two places', () => ({ jwks, jwks_uri: 'https://a.example/jwks' })],
    ['a private key', () => ({ jwks: { keys: [key.privateJwk] } })],
    ['a symmetric key', () => ({ jwks: { keys: [{ kty: 'oct', k: 'AAAA' }] } })],
    ['one kid twice', () => ({ jwks: { keys: [key.publicJwk, key.publicJwk] } })],
    ['no keys', () => ({ jwks: { keys: [] } })],
    ['HMAC', () => ({ algorithms: ['HS256'] })],
    ['alg none', () => ({ algorithms: ['none'] })],
    ['no algorithm', () => ({ algorithms: [] })],
    ['no use', () => ({ uses: [] })],
    ['a use nobody knows', () => ({ uses: ['admin'] })],
    ['an age of a week', () => ({ max_token_age_seconds: 604_800 })],
    ['a rule that lets all through', () => ({ claims: { sub: '*' } })],
    ['a SPIFFE trust domain without keys', () => ({ issuer: 'spiffe://example.org' })],
    ['a SPIFFE id for a trust domain', () => ({ issuer: 'spiffe://example.org/ns/a', jwks })],
    ['a SPIFFE trust domain in capitals', () => ({ issuer: 'spiffe://Example.org', jwks })],
  ])('are refused with %s', async (_what, body) => {
    const { status, body: answer } = await add(body());
    expect([status, answer['code']]).toEqual([400, 'invalid_request']);
  });

  test('take their keys from another place when told so', async () => {
    const name = nameOf(await add({ jwks }));
    const patch = async (body: object) => (await broker.admin('PATCH', `/issuers/${name}`, body)).body;
    expect(await patch({ jwks_uri: 'https://a.example/jwks' })).toMatchObject({
      keys: 'jwks_uri',
      jwks_uri: 'https://a.example/jwks',
    });
    expect(await patch({ allow_private_network: true })).toMatchObject({
      keys: 'jwks_uri',
      allow_private_network: true,
    });
    expect(await patch({ jwks_uri: null })).toMatchObject({ keys: 'discovery', allow_private_network: true });
    expect(await patch({ jwks })).toMatchObject({ keys: 'jwks', jwks });
    expect(await patch({ jwks_uri: 'http://a.example/jwks' })).toMatchObject({ code: 'invalid_request' });
  });

  test.each([
    [{ status: 'suspended' }, true],
    [{ claims: { sub: 'x' } }, true],
    [{ subject_claim: 'email' }, true],
    [{ uses: ['subject'] }, true],
    [{ audiences: ['https://a.example'] }, true],
    [{ algorithms: ['ES256'] }, true],
    [{ issuer: 'https://moved.example' }, true],
    [{ jwks }, true],
    [{ max_token_age_seconds: 60 }, false],
    [{ single_use: false }, false],
  ])('bring a fence with a change that trusts them less or otherwise: %j %j', async (change, fenced) => {
    const name = nameOf(await add({}));
    expect((await broker.admin('PATCH', `/issuers/${name}`, change)).status).toBe(200);
    const text = await newest();
    expect(text).toContain(name);
    expect(/"revocation":"rev_/.test(text)).toBe(fenced);
  });

  test('are not deleted while an agent proves itself with their tokens', async () => {
    const name = nameOf(await add({}));
    const auth = { method: 'workload', issuer: name, claims: { sub: 'pod' } };
    const agent = { name: `agent-of-${name}`, owner: 'x@example.com', auth };
    const { status, body } = await broker.admin('POST', '/agents', agent);
    expect([status, body['auth'], body['client_secret']]).toEqual([201, auth, undefined]);
    expect((await broker.admin('DELETE', `/issuers/${name}`)).status).toBe(409);
    expect((await broker.admin('POST', `/agents/agent-of-${name}/secret`)).status).toBe(409);
    expect((await broker.admin('DELETE', `/agents/agent-of-${name}`)).status).toBe(204);
    expect((await broker.admin('DELETE', `/issuers/${name}`)).status).toBe(204);
    expect((await broker.admin('GET', `/issuers/${name}`)).status).toBe(404);
  });

  test.each([
    [{ issuer: 'github', claims: {} }],
    [{ issuer: 'github', claims: { environment: 'prod' } }],
    [{ issuer: 'github', claims: { sub: '**' } }],
    [{ issuer: 'github', claims: { '/sub': 'x' } }],
    [{ issuer: 'nobody', claims: { sub: 'x' } }],
    [{ issuer: 'github' }],
    [{ claims: { sub: 'x' } }],
  ])('bind no agent by %j', async (auth) => {
    const agent = { name: 'unbound', owner: 'x@example.com', auth: { method: 'workload', ...auth } };
    expect((await broker.admin('POST', '/agents', agent)).status).toBe(400);
  });

  test('that are trusted for people only bind no agent', async () => {
    const name = nameOf(await add({ uses: ['subject'] }));
    const agent = {
      name: 'unbound',
      owner: 'x@example.com',
      auth: { method: 'workload', issuer: name, claims: { sub: 'x' } },
    };
    expect((await broker.admin('POST', '/agents', agent)).status).toBe(400);
  });

  test('can be named by whoever revokes, also when they are gone', async () => {
    const { body } = await add({});
    const revoke = (issuer: string) => broker.admin('POST', '/revocations', { selector: { issuer }, reason: 'test' });
    expect((await revoke(String(body['name']))).body['selector']).toEqual({ issuer: body['name'] });
    await broker.admin('DELETE', `/issuers/${body['name']}`);
    expect((await revoke(String(body['name']))).status).toBe(404);
    expect((await revoke(String(body['id']))).status).toBe(201);
  });

  test('are used by an access document, which changes nothing when it is applied again', async () => {
    const document = {
      agents: [
        {
          name: 'applied',
          owner: 'x@example.com',
          dpop: 'required',
          auth: { method: 'workload', issuer: 'github', claims: { sub: 'repo:acme/app:*', environment: ['a', 'b'] } },
        },
      ],
      connections: [{ name: 'orders', provider: 'internal-jwt', settings: { audience: 'x', scopes: ['read'] } }],
      entitlements: [{ agent: 'applied', connection: 'orders', scopes: ['read'], on_behalf_of: ['corp:*'] }],
    };
    expect((await broker.admin('POST', '/apply', document)).body).toMatchObject({ applied: true });
    expect((await broker.admin('POST', '/apply', document)).body).toMatchObject({ applied: false, changes: [] });
    const { agents, ...rest } = document;
    const narrowed = { ...rest, agents, entitlements: [{ ...document.entitlements[0], on_behalf_of: null }] };
    const { body } = await broker.admin('POST', '/apply', narrowed);
    expect(body['changes']).toEqual([expect.objectContaining({ kind: 'entitlement', fields: ['on_behalf_of'] })]);
    expect((await broker.admin('GET', '/audit?type=entitlement.updated&limit=1')).text).toContain('"revocation":"rev_');
  });
});
