/** Client secrets, replaced by a recipe at a real authorization server (test/vendors/oidc) whose clients have several. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openNetwork } from '../../../adapters/network.ts';
import { openOauth2Provider } from '../../../adapters/providers/oauth2.ts';
import { rotationConformance } from '../../conformance/rotation.ts';
import { type Attempt, beginAttempt, type Fields, rotationOf } from '../../conformance/rotation-attempt.ts';
import { type OidcServer, startOidcServer } from '../../vendors/oidc/rig.ts';

const settingsOf = (url: string, clientId: string, more: object = {}) => ({
  issuer: url,
  client_id: clientId,
  grant: 'client_credentials',
  narrowing: 'gateway',
  base_url: `${url}/api`,
  scopes: { read: { oauth_scopes: ['read'], rules: [{ methods: ['GET'], path: '/things' }] } },
  allow_private_network: true,
  ...more,
});

const recipeAt = (url: string) => ({
  recipe: {
    base_url: `${url}/manage`,
    oauth_scopes: ['admin'],
    create: {
      path: '/secrets',
      json: { displayName: 'warder {{rotation_id}}' },
      secret: '/secretText',
      id: '/keyId',
    },
    list: { path: '/secrets', items: '/secrets', id: '/keyId', name: '/displayName' },
    revoke: { path: '/secrets/{{id}}' },
  },
});

rotationConformance(
  'oauth2, client secrets by a recipe',
  async () => {
    const server = await startOidcServer();
    const network = openNetwork();
    return {
      provider: openOauth2Provider(network, undefined, 0),
      account: async () => {
        const { id, secret, key_id } = await server.addClient();
        return {
          settings: settingsOf(server.url, id),
          method: recipeAt(server.url),
          secret: { client_secret: secret, id: key_id },
          wrong: { client_secret: 'nobody-has-this-secret', id: key_id },
          accepts: async (fields) => (await server.clientSecrets(id, fields['client_secret'])).accepted,
          count: async () => (await server.clientSecrets(id)).count,
        };
      },
      trouble: server.trouble,
      close: async () => {
        await network.close();
        await server.stop();
      },
    };
  },
  { overlaps: true, publicFields: ['id'] },
);

describe('a client secret', () => {
  let server: OidcServer;
  const network = openNetwork();
  const provider = openOauth2Provider(network, undefined, 0);
  beforeAll(async () => {
    server = await startOidcServer();
  });
  afterAll(async () => {
    await network.close();
    await server.stop();
  });

  const begin = (settings: object, secret: Fields, method: unknown = recipeAt(server.url)): Attempt =>
    beginAttempt({
      provider,
      account: { settings, method, secret, wrong: {}, accepts: async () => false },
      current: secret,
      spoken: () => undefined,
    });

  test('of a client that people consent to is tested without anybody consenting', async () => {
    const { id, secret } = server.client;
    const attempt = begin(settingsOf(server.url, id, { grant: 'authorization_code' }), { client_secret: secret });
    await attempt.test({ client_secret: secret });
    await expect(attempt.test({ client_secret: 'nobody-has-this-secret' })).rejects.toMatchObject({
      kind: 'refused',
      message: 'the authorization server does not accept the client secret',
    });
  });

  test('is told from what a server refuses for other reasons', async () => {
    const { id, secret } = server.client;
    const scopes = { read: { oauth_scopes: ['no-such-scope'], rules: [{ methods: ['GET'], path: '/x' }] } };
    await begin(settingsOf(server.url, id, { scopes }), { client_secret: secret }).test({ client_secret: secret });
    await server.trouble.nonsense();
    await expect(
      begin(settingsOf(server.url, id), { client_secret: secret }).test({ client_secret: secret }),
    ).rejects.toMatchObject({ kind: 'unavailable' });
    await server.trouble.well();
  });

  test.each([
    ['unauthorized_client', 401, 'refused'],
    ['invalid_client', 400, 'refused'],
    ['unauthorized_client', 400, undefined],
    ['invalid_grant', 400, undefined],
    ['invalid_grant', 429, 'unavailable'],
    ['invalid_scope', 503, 'unavailable'],
    ['invalid_client', 500, 'unavailable'],
  ])('%s with %i is understood for what it says about the client', async (error, status, kind) => {
    const talker = createServer((_req, res) => {
      res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ error }));
    }).listen(0, '127.0.0.1');
    await once(talker, 'listening');
    const url = `http://127.0.0.1:${(talker.address() as AddressInfo).port}`;
    const settings = settingsOf(url, 'warder', { issuer: undefined, token_endpoint: `${url}/token` });
    const tested = begin(settings, { client_secret: 'some-client-secret' }).test({
      client_secret: 'some-client-secret',
    });
    await (kind ? expect(tested).rejects.toMatchObject({ kind }) : expect(tested).resolves.toBeUndefined());
    talker.closeAllConnections();
    talker.close();
  });

  test('is replaced only where there is one, and by a method that says how', () => {
    const rotation = rotationOf(provider);
    const settings = (more: object): Record<string, unknown> => {
      const checked = provider.checkSettings(settingsOf(server.url, 'x', more));
      if (!checked.ok) throw new Error(checked.problems.join());
      return checked.value;
    };
    const problems = (method: unknown, more: object = {}): string[] => {
      const checked = rotation.checkMethod(method, settings(more));
      return checked.ok ? [] : checked.problems;
    };
    expect(problems(undefined)).toEqual(['method: one of recipe, webhook and script']);
    expect(problems(recipeAt(server.url))).toEqual([]);
    expect(problems(recipeAt(server.url), { client_auth: 'private_key_jwt' }).join()).toContain(
      'no client secret to replace',
    );
    const { base_url: _, ...withoutBase } = recipeAt(server.url).recipe;
    const upstream = { narrowing: 'upstream', base_url: undefined };
    expect(problems({ recipe: withoutBase }, upstream).join()).toContain('base_url: needed');
    expect(problems(recipeAt(server.url), upstream)).toEqual([]);
  });

  test('names where its access token goes', () => {
    const rotation = rotationOf(provider);
    const checkedSettings = provider.checkSettings(settingsOf(server.url, 'x'));
    if (!checkedSettings.ok) throw new Error(checkedSettings.problems.join());
    const checked = rotation.checkMethod(
      { recipe: { ...recipeAt(server.url).recipe, base_url: 'https://graph.example.com/v1.0' } },
      checkedSettings.value,
    );
    if (!checked.ok) throw new Error(checked.problems.join());
    expect(rotation.destinations(checked.value, checkedSettings.value)).toEqual(['https://graph.example.com']);
  });
});
