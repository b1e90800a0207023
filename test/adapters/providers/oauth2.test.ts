/** `oauth2` through the conformance suite, in each way it issues, against a real authorization server. */
import { openNetwork } from '../../../adapters/network.ts';
import { openOauth2Provider } from '../../../adapters/providers/oauth2.ts';
import { SecretText } from '../../../src/domain/secret-text.ts';
import { type ProviderUnderTest, providerConformance } from '../../conformance/provider.ts';
import type { Broker } from '../../support/broker.ts';
import { consent, type OidcServer, startOidcServer } from '../../vendors/oidc/rig.ts';

const settingsFor = (server: OidcServer, more: object) => ({
  issuer: server.url,
  client_id: server.client.id,
  scopes: {
    read: { oauth_scopes: ['read'], rules: [{ methods: ['GET'], path: '/api/**' }] },
    write: { oauth_scopes: ['write'], rules: [{ methods: ['POST'], path: '/api/**' }] },
  },
  longest_token_life_seconds: 3600,
  base_url: server.url,
  allow_private_network: true,
  ...more,
});

/** The resource of the server, called with the very token, or through the gateway where that is what the agent got. */
const use: ProviderUnderTest['use'] = async (credential, scope) => {
  const url = credential['base_url'] ?? credential['resource'];
  try {
    const response = await fetch(`${url}/api/things`, {
      method: scope === 'read' ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${credential['token']}` },
    });
    await response.arrayBuffer();
    return response.status === 200;
  } catch {
    // The gateway breaks off a call whose grant ends while it runs.
    return false;
  }
};

const setUp = async (more: object, rotates: boolean): Promise<ProviderUnderTest> => {
  const server = await startOidcServer();
  // Without families: what the suite revokes must not take the account along.
  await server.set({ rotates, families_part: !rotates });
  const network = openNetwork();
  /** What the account was connected with: nobody's credential. */
  let connected: string[] = [];
  const atGateway = (more as { narrowing?: string }).narrowing === 'gateway';
  const consented = (more as { grant?: string }).grant !== 'client_credentials';
  return {
    provider: openOauth2Provider(network),
    settings: settingsFor(server, more),
    secret: { client_secret: server.client.secret },
    use: (credential, scope, broker) => use({ resource: server.url, ...credential }, scope, broker),
    tokens: async () => ({
      accessToken: new SecretText('an-access-token-0123456789'),
      refreshToken: new SecretText('a-refresh-token-0123456789'),
      expiresAt: null,
      scopes: ['read', 'write'],
    }),
    keep: { access_token: 'an-access-token-0123456789' },
    ...(atGateway
      ? {}
      : {
          upstream: {
            artefacts: async () => (await server.tokens()).filter((id) => !connected.includes(id)),
            elapse: () => server.elapse(),
            trouble: server.trouble,
          },
        }),
    prepare: async (broker: Broker) => {
      if (!consented) return;
      await server.set({ redirect_uris: [`${broker.url}/oauth/callback`] });
      const begun = await broker.admin('POST', '/connections/target/connect', {});
      if (begun.status !== 201) throw new Error(`connecting: ${begun.status} ${begun.text}`);
      const page = await consent(String(begun.body['authorize_url']));
      if (page.status !== 200) throw new Error(`connecting: ${page.status} ${page.text}`);
      connected = await server.tokens();
    },
    close: async () => {
      await network.close();
      await server.stop();
    },
  };
};

providerConformance(
  'oauth2, client credentials narrowed by the server',
  () => setUp({ grant: 'client_credentials' }, true),
  { creates: true, unheard: 'lives_on', crashed: 'undone' },
);
// Without rotation: with it, an answer that is lost takes the account along (authorizations.test.ts).
providerConformance('oauth2, an account narrowed by the server', () => setUp({ revoke_access_tokens: true }, false), {
  creates: true,
  unheard: 'lives_on',
  crashed: 'undone',
});
providerConformance('oauth2, an account narrowed by the gateway', () => setUp({ narrowing: 'gateway' }, true), {
  creates: false,
});
providerConformance(
  'oauth2, client credentials narrowed by the gateway',
  () => setUp({ narrowing: 'gateway', grant: 'client_credentials' }, true),
  { creates: false },
);
