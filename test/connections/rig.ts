/** A broker with an OAuth connection at a real authorization server, for tests of what happens around it. */
import { type Answer, type Broker, type BrokerOptions, startBroker } from '../support/broker.ts';
import { consent, type OidcServer, openBrowser, startOidcServer } from '../vendors/oidc/rig.ts';

/** Settings of a connection at this server; both ways of narrowing find what they need in it. */
export const oauthSettings = (server: OidcServer, more: object = {}) => ({
  issuer: server.url,
  client_id: server.client.id,
  scopes: {
    read: { oauth_scopes: ['read'], rules: [{ methods: ['GET'], path: '/api/**' }] },
    write: { oauth_scopes: ['write'], rules: [{ methods: ['POST'], path: '/api/**' }] },
  },
  narrowing: 'gateway',
  base_url: server.url,
  allow_private_network: true,
  ...more,
});

export interface OauthBroker {
  broker: Broker;
  server: OidcServer;
  /** An agent token of an agent that may have all scopes of the connection `svc`. */
  token: string;
  /** Begins a flow. @returns the link and where to ask how it went */
  begin(more?: object, connection?: string): Promise<{ link: string; id: string; answer: Answer }>;
  /** How a flow went, as whoever began it is told. */
  flow(id: string, connection?: string): Promise<Record<string, unknown>>;
  /** Begins one and consents. */
  connect(more?: object, connection?: string): Promise<void>;
  accounts(connection?: string): Promise<Record<string, unknown>[]>;
  /** Types of the audit entries about connections, oldest first. */
  audit(type?: string): Promise<Record<string, unknown>[]>;
  /** One call through the gateway with a new grant. */
  call(credential: Record<string, unknown>, method?: string): Promise<number>;
  close(): Promise<void>;
}

export const startOauthBroker = async (settings: object = {}, options: BrokerOptions = {}): Promise<OauthBroker> => {
  const server = await startOidcServer();
  const broker = await startBroker(options);
  await server.set({ redirect_uris: [`${broker.url}/oauth/callback`] });
  const made = await broker.admin('POST', '/connections', {
    name: 'svc',
    provider: 'oauth2',
    settings: oauthSettings(server, settings),
    secret: { client_secret: server.client.secret },
  });
  if (made.status !== 201) throw new Error(made.text);
  const agent = await broker.agent('worker');
  await broker.entitle('worker', 'svc', ['read', 'write']);
  const rig: OauthBroker = {
    broker,
    server,
    token: await broker.agentToken(agent),
    begin: async (more = {}, connection = 'svc') => {
      const answer = await broker.admin('POST', `/connections/${connection}/connect`, more);
      return { link: String(answer.body['authorize_url']), id: String(answer.body['id']), answer };
    },
    flow: async (id, connection = 'svc') =>
      (await broker.admin('GET', `/connections/${connection}/connect/${id}`)).body,
    connect: async (more = {}, connection = 'svc') => {
      const { link } = await rig.begin(more, connection);
      const page = await consent(link, openBrowser());
      if (page.status !== 200) throw new Error(`${page.status} ${page.text}`);
    },
    accounts: async (connection = 'svc') =>
      (await broker.admin('GET', `/connections/${connection}/authorizations`)).body['items'] as Record<
        string,
        unknown
      >[],
    audit: async (type) => {
      const { body } = await broker.admin('GET', `/audit?limit=500${type === undefined ? '' : `&type=${type}`}`);
      return (body['items'] as Record<string, unknown>[]).reverse();
    },
    call: async (credential, method = 'GET') => {
      const response = await fetch(`${credential['base_url']}/api/things`, {
        method,
        headers: { authorization: `Bearer ${credential['token']}` },
      });
      await response.arrayBuffer();
      return response.status;
    },
    close: async () => {
      await broker.close();
      await server.stop();
    },
  };
  return rig;
};
