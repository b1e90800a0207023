/** Flows whose time is over, and a broker that seals at the worst moment. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { createConnection } from '../../src/services/access/manage-connections.ts';
import { offeredFlow, openLink, startFlow } from '../../src/services/accounts/connect-flow.ts';
import { finishFlow } from '../../src/services/accounts/finish-flow.ts';
import { caller, refusalOf } from '../services/access/manage.ts';
import { removeTemporaryDirs } from '../support/broker.ts';
import { openServices } from '../support/services.ts';
import { type OidcServer, openBrowser, startOidcServer } from '../vendors/oidc/rig.ts';
import { oauthSettings } from './rig.ts';

let server: OidcServer;
let opened: Awaited<ReturnType<typeof openServices>>;
let core: Awaited<ReturnType<typeof openServices>>['core'];
let laterMs = 0;

beforeAll(async () => {
  server = await startOidcServer();
  await server.set({ redirect_uris: ['http://127.0.0.1:7300/oauth/callback'] });
}, 60_000);
beforeEach(async () => {
  laterMs = 0;
  opened = await openServices();
  const real = opened.core.clock;
  core = { ...opened.core, clock: { now: () => real.now() + laterMs } };
  const secret = { client_secret: server.client.secret };
  await createConnection(core, { name: 'svc', provider: 'oauth2', settings: oauthSettings(server), secret }, caller);
});
afterEach(() => opened.close());
afterAll(async () => {
  await server.stop();
  removeTemporaryDirs();
});

const connection = () => {
  const row = core.state.connections.named('svc');
  if (!row) throw new Error('the test has one');
  return row;
};
const begin = async (): Promise<string> => {
  const [operator] = core.state.operators.all();
  if (!operator) throw new Error('an initialised ledger has an admin');
  const asked = { subject: null, expiresInSeconds: 600 };
  const { link } = await startFlow(core, connection(), asked, operator, caller);
  return link.split('/').at(-1) ?? '';
};
/** As far as the answer. */
const answered = async () => {
  const { url, cookie } = await openLink(core, await begin(), caller);
  const answer = await openBrowser().follow(url, (at) => new URL(at).pathname === '/oauth/callback');
  return { answer: new URL(answer.url).searchParams, cookie };
};
const finish = ({ answer, cookie }: Awaited<ReturnType<typeof answered>>) =>
  finishFlow(core, answer, () => cookie, caller);

describe('time', () => {
  test('ends a link', async () => {
    const link = await begin();
    laterMs = 599_000;
    await offeredFlow(core, link);
    laterMs = 600_001;
    expect(await refusalOf(offeredFlow(core, link))).toMatchObject({ code: 'not_found' });
    expect(await refusalOf(openLink(core, link, caller))).toMatchObject({ code: 'not_found' });
  });

  test('ends what was opened and not answered', async () => {
    const late = await answered();
    laterMs = 600_001;
    expect(await refusalOf(finish(late))).toMatchObject({ code: 'not_found' });
    expect(core.state.authorizations.ofConnection(connection().id)).toEqual([]);
  });

  test('lets flows be swept', async () => {
    await begin();
    const rows = async (now: number) =>
      (await core.reader.expiredRows(now, 10)).filter(({ table }) => table === 'authorization_flows');
    expect(await rows(core.clock.now())).toEqual([]);
    expect(await rows(core.clock.now() + 600_001)).toHaveLength(1);
  });
});

test('settings that changed while somebody consented connect nothing, and the tokens are revoked', async () => {
  const pending = await answered();
  const before = (await server.refreshTokens()).length;
  const row = connection();
  const exchange = core.providers.get('oauth2')?.authorizations;
  if (!exchange) throw new Error('oauth2 has authorizations');
  // The operator is quicker than the answer: after the code was exchanged, before it was recorded.
  const real = exchange.exchange;
  exchange.exchange = async (...given) => {
    const brought = await real(...given);
    await core.ledger.commit({
      writes: [
        {
          write: 'update',
          table: 'connections',
          id: row.id,
          set: { settings: oauthSettings(server, { base_url: 'http://127.0.0.1:9' }), version: row.version + 1 },
        },
      ],
      audit: [{ type: 'test.done', at: 0, agent_id: null, connection_id: null, grant_id: null, body: '{}' }],
    });
    return brought;
  };
  expect(await refusalOf(finish(pending))).toMatchObject({ code: 'conflict' });
  expect(core.state.authorizations.ofConnection(row.id)).toEqual([]);
  expect(await server.refreshTokens()).toHaveLength(before);
});

test('tokens that came when Warder sealed are not lost: they are kept when it opens again', async () => {
  await finish(await answered());
  const redeem = () =>
    core.authorizations.redeem(core, connection().id, null, {
      work: async (held, signal) => {
        const flow = {
          now: () => core.clock.now(),
          signal,
          secret: () => core.secrets.open(core.reader, connection()),
        };
        const tokens = await core.providers.get('oauth2')?.authorizations?.refresh(connection(), held, flow);
        if (!tokens) throw new Error('oauth2 has authorizations');
        if (first) core.keyring.seal('in the test');
        first = false;
        return { tokens, result: 'redeemed' };
      },
    });
  let first = true;
  const before = (await server.stats()).families_revoked;
  expect(await refusalOf(redeem())).toMatchObject({ code: 'sealed' });
  await core.keyring.unseal(core.state.keyEncryptionKeys.all());
  expect(await redeem()).toBe('redeemed');
  expect(core.state.authorizations.of(connection().id, null)).toMatchObject({ status: 'connected', tokens_version: 3 });
  expect((await server.stats()).families_revoked).toBe(before);
});

test('whoever gives up in line does not keep the others waiting', async () => {
  await finish(await answered());
  let wanted = true;
  const work = async () => ({
    tokens: { accessToken: 'x'.repeat(20), refreshToken: 'y'.repeat(20), expiresAt: null },
    result: 1,
  });
  const first = core.authorizations.redeem(core, connection().id, null, { work });
  const second = core.authorizations.redeem(core, connection().id, null, { wanted: () => wanted, work });
  wanted = false;
  expect(await first).toBe(1);
  await expect(second).rejects.toThrow('kept others waiting');
  expect(core.state.authorizations.of(connection().id, null)?.redeeming).toBeNull();
});
