/** Access tokens at the gateway: renewed before they end, one account a user, and a dead account says so everywhere. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { createAgent } from '../../src/services/access/manage-agents.ts';
import { createConnection, updateConnection } from '../../src/services/access/manage-connections.ts';
import { createEntitlement } from '../../src/services/access/manage-entitlements.ts';
import { setSecret } from '../../src/services/access/set-secret.ts';
import { openLink, startFlow } from '../../src/services/accounts/connect-flow.ts';
import { disconnect } from '../../src/services/accounts/disconnect.ts';
import { finishFlow } from '../../src/services/accounts/finish-flow.ts';
import { GatewayCalls } from '../../src/services/gateway/gateway-calls.ts';
import { GatewayCredentials } from '../../src/services/gateway/gateway-credentials.ts';
import { issueGrant } from '../../src/services/issuing/issue-grant.ts';
import type { CoreWithSecrets } from '../../src/services/issuing/provider-context.ts';
import { caller, refusalOf } from '../services/access/manage.ts';
import { removeTemporaryDirs } from '../support/broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { openServices } from '../support/services.ts';
import { type OidcServer, openBrowser, startOidcServer } from '../vendors/oidc/rig.ts';
import { type OauthBroker, oauthSettings, startOauthBroker } from './rig.ts';

describe('in the services', () => {
  let server: OidcServer;
  let opened: Awaited<ReturnType<typeof openServices>>;
  let core: CoreWithSecrets;
  /** How much later than it is the services take it to be. */
  let laterMs = 0;

  const connect = async (subject: string | null): Promise<void> => {
    const [operator] = core.state.operators.all();
    const connection = core.state.connections.named('svc');
    if (!operator || !connection) throw new Error('the test has both');
    const { link } = await startFlow(core, connection, { subject, expiresInSeconds: 600 }, operator, caller);
    const { url, cookie } = await openLink(core, link.split('/').at(-1) ?? '', caller);
    const answer = await openBrowser().follow(url, (at) => new URL(at).pathname === '/oauth/callback');
    await finishFlow(core, new URL(answer.url).searchParams, () => cookie, caller);
  };
  const connection = () => {
    const row = core.state.connections.named('svc');
    if (!row) throw new Error('the test has one');
    return row;
  };
  const asServer = () => {
    const found = core.providers.get('oauth2')?.authorizations;
    if (!found) throw new Error('oauth2 has authorizations');
    return found;
  };
  const tokenOf = async (credentials: GatewayCredentials, subject: string | null = null): Promise<string> =>
    (await credentials.secret(connection(), subject, asServer())).fields['access_token']?.reveal() ?? '';
  const redemptions = async (): Promise<number> => (await server.stats()).redemptions;

  beforeAll(async () => {
    server = await startOidcServer();
    await server.set({ redirect_uris: ['http://127.0.0.1:7300/oauth/callback'] });
  }, 60_000);
  beforeEach(async () => {
    laterMs = 0;
    opened = await openServices();
    const real = opened.core.clock;
    core = { ...opened.core, clock: { now: () => real.now() + laterMs } };
    const settings = oauthSettings(server);
    await createConnection(
      core,
      { name: 'svc', provider: 'oauth2', settings, secret: { client_secret: server.client.secret } },
      caller,
    );
    const [operator] = core.state.operators.all();
    if (!operator) throw new Error('an initialised ledger has an admin');
    await createAgent(
      core,
      { name: 'worker', owner: 'team@example.com', auth: { method: 'client_secret_basic' } },
      caller,
    );
    await createEntitlement(
      core,
      { agent: 'worker', connection: 'svc', scopes: ['read'], on_behalf_of: ['corp:*'] },
      operator,
      caller,
    );
    await server.set({ rotates: true, access_token_seconds: 3600, account: 'ann@example.com' });
  });
  afterEach(async () => {
    await server.trouble.well();
    await opened.close();
  });
  afterAll(() => server.stop());

  test('a fresh token is at hand without waiting', async () => {
    await connect(null);
    const credentials = new GatewayCredentials(core);
    const first = credentials.secret(connection(), null, asServer());
    expect(first).not.toBeInstanceOf(Promise);
    expect(credentials.secret(connection(), null, asServer())).toBe(first);
  });

  test('one that is about to end is used while another is fetched, and the server being down disturbs nobody', async () => {
    await connect(null);
    const credentials = new GatewayCredentials(core);
    const first = await tokenOf(credentials);
    const before = await redemptions();
    laterMs = 3_590_000;
    await server.trouble.down();
    expect(await tokenOf(credentials)).toBe(first);
    await pause(300);
    expect(await tokenOf(credentials)).toBe(first);
    expect(core.state.authorizations.of(connection().id, null)?.status).toBe('connected');
    await server.trouble.well();
    laterMs += 4_000;
    const second = await eventually(
      'it was renewed',
      () => tokenOf(credentials),
      (token) => token !== first,
    );
    expect(second).not.toBe(first);
    expect((await redemptions()) - before).toBe(1);
  });

  test('one that has ended is waited for, and what fails is not asked for again at once', async () => {
    await connect(null);
    const credentials = new GatewayCredentials(core);
    laterMs = 3_601_000;
    await server.trouble.down();
    const asked = (await server.stats()).token_requests;
    await server.trouble.down();
    const outcomes = await Promise.all(Array.from({ length: 20 }, () => tokenOf(credentials).catch(() => 'failed')));
    expect(new Set(outcomes)).toEqual(new Set(['failed']));
    expect(await tokenOf(credentials).catch(() => 'failed')).toBe('failed');
    await server.trouble.well();
    laterMs += 2_000;
    expect(await tokenOf(credentials)).not.toBe('failed');
    expect((await server.stats()).token_requests - asked).toBe(1);
  });

  describe('of client credentials', () => {
    const own = (secret: string) =>
      createConnection(
        core,
        {
          name: 'own',
          provider: 'oauth2',
          settings: oauthSettings(server, { grant: 'client_credentials' }),
          secret: { client_secret: secret },
        },
        caller,
      );
    const ownNow = () => core.state.connections.named('own') ?? connection();

    test('a new secret is tried at once, however often the old one failed', async () => {
      const credentials = new GatewayCredentials(core);
      const asked = async () => credentials.secret(ownNow(), null, asServer());
      await own('not-the-secret-of-warder-0123');
      await expect(asked()).rejects.toMatchObject({ kind: 'refused' });
      await expect(asked()).rejects.toMatchObject({ kind: 'refused' });
      await setSecret(core, ownNow(), { client_secret: server.client.secret }, caller);
      expect((await asked()).fields['access_token']).toBeDefined();
    });

    test('a change of the connection while one is fetched disturbs nobody', async () => {
      const credentials = new GatewayCredentials(core);
      const before = await own(server.client.secret);
      const [operator] = core.state.operators.all();
      if (!operator) throw new Error('an initialised ledger has an admin');
      await server.trouble.slow(200);
      try {
        const first = credentials.secret(before, null, asServer());
        await updateConnection(core, before, { owner: 'ops' }, operator, caller);
        const [one, two] = await Promise.all([first, credentials.secret(ownNow(), null, asServer())]);
        for (const { fields } of [one, two]) expect(fields['access_token']).toBeDefined();
      } finally {
        await server.trouble.well();
      }
    });
  });

  test('one that the upstream does not take is replaced for the next call, unless it is quite new', async () => {
    await connect(null);
    const credentials = new GatewayCredentials(core);
    const secret = await credentials.secret(connection(), null, asServer());
    const first = await tokenOf(credentials);
    credentials.refused(connection(), null, secret);
    expect(await tokenOf(credentials)).toBe(first);
    laterMs = 60_000;
    credentials.refused(connection(), null, secret);
    const second = await tokenOf(credentials);
    expect(second).not.toBe(first);
    // A late 401 to the one before says nothing of this one.
    credentials.refused(connection(), null, secret);
    expect(await tokenOf(credentials)).toBe(second);
  });

  test('a user’s grants act with that user’s account, and with no other', async () => {
    await connect(null);
    await server.set({ account: 'bob@example.com' });
    await connect('corp:bob');
    const calls = new GatewayCalls(core);
    const agent = core.state.agents.named('worker');
    if (!agent) throw new Error('the test has one');
    const whoever = async (subject?: string): Promise<string> => {
      const request = { agent, connection: 'svc', scopes: ['read'], ...(subject === undefined ? {} : { subject }) };
      const { credential } = await issueGrant(core, request, caller);
      const asked = {
        token: String(credential['token']),
        connection: 'svc',
        method: 'GET',
        path: '/api/things',
        query: '',
      };
      const { target } = await calls.open(asked, { requestId: 'req_test' });
      const answer = await fetch(`${target.baseUrl}/api/things`, { headers: { authorization: target.inject.value } });
      return String(((await answer.json()) as { who: string }).who);
    };
    expect([await whoever(), await whoever('corp:bob')]).toEqual(['ann@example.com', 'bob@example.com']);
    expect(await refusalOf(whoever('corp:carol'))).toMatchObject({ code: 'needs_connection' });
    const bobs = core.state.authorizations.of(connection().id, 'corp:bob');
    const [operator] = core.state.operators.all();
    if (!bobs || !operator) throw new Error('both are there');
    await disconnect(core, connection(), bobs.id, { forget: false }, operator, caller);
    expect(await refusalOf(whoever('corp:bob'))).toMatchObject({ code: 'needs_connection' });
    expect(await whoever()).toBe('ann@example.com');
  });
});

describe('at the broker', () => {
  let rig: OauthBroker;
  beforeAll(async () => {
    rig = await startOauthBroker();
  }, 60_000);
  afterAll(async () => {
    await rig.close();
    removeTemporaryDirs();
  });

  test('a dead account says so to agents, to operators, in the metrics, the log and the audit log', async () => {
    await rig.server.set({ access_token_seconds: 1 });
    await rig.connect();
    const { body } = await rig.broker.grant(rig.token, { connection: 'svc', scopes: ['read'] });
    const credential = body['credential'] as Record<string, unknown>;
    expect(await rig.call(credential)).toBe(200);
    // As a person does who removes Warder in the settings of the account.
    await rig.server.forget();
    await eventually(
      'a call needed a new token',
      () => rig.call(credential),
      (status) => status === 409,
    );
    expect(await rig.call(credential)).toBe(409);
    const refused = await rig.broker.grant(rig.token, { connection: 'svc', scopes: ['read'] });
    expect([refused.status, refused.body['code']]).toEqual([409, 'needs_connection']);
    const shown = await rig.broker.admin('GET', '/connections/svc');
    expect(shown.body['authorization']).toMatchObject({ status: 'needs_reconnect', failure: 'invalid_grant' });
    const listed = await rig.broker.admin('GET', '/connections');
    expect((listed.body['items'] as Record<string, unknown>[])[0]?.['authorization']).toMatchObject({
      status: 'needs_reconnect',
    });
    const metrics = await (
      await rig.broker.fetch('/metrics', { headers: { authorization: `Bearer ${rig.broker.adminToken}` } })
    ).text();
    expect(metrics).toContain('warder_authorizations{status="needs_reconnect"} 1');
    expect(metrics).toContain('warder_audit_entries_total{type="authorization.needs_reconnect"} 1');
    expect(rig.broker.log()).toContain('an account must be connected anew');
    expect(await rig.audit('authorization.needs_reconnect')).toHaveLength(1);
    // It stays so, whatever is tried, until somebody consents again.
    expect(await rig.call(credential)).toBe(409);
    await rig.server.set({ access_token_seconds: 3600 });
    await rig.connect();
    expect(await rig.call(credential)).toBe(200);
    expect((await rig.accounts())[0]).toMatchObject({ status: 'connected', failure: null });
  }, 20_000);
});
