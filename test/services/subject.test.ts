/**
 * Revocation by subject, on the services: together with any other field, and while something is minted. Over HTTP, at
 * every check point, it is in test/scenarios/revocation.test.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { apiKeyProvider } from '../../adapters/providers/api-key.ts';
import type { CheckPoint } from '../../src/domain/liveness.ts';
import type { Operator, Selector } from '../../src/domain/model.ts';
import type { Provider } from '../../src/ports/provider.ts';
import { createAgent } from '../../src/services/access/manage-agents.ts';
import { createConnection } from '../../src/services/access/manage-connections.ts';
import { createEntitlement } from '../../src/services/access/manage-entitlements.ts';
import { GatewayCalls } from '../../src/services/gateway/gateway-calls.ts';
import { introspect } from '../../src/services/issuing/introspect.ts';
import { issueGrant } from '../../src/services/issuing/issue-grant.ts';
import type { CoreWithSecrets } from '../../src/services/issuing/provider-context.ts';
import { renewGrant } from '../../src/services/issuing/use-grant.ts';
import { revoke } from '../../src/services/revocation/revoke.ts';
import { openServices } from '../support/services.ts';

describe('a subject, whom a grant acts for', () => {
  const caller = { actor: { kind: 'system', name: 'test' } as const, requestId: 'req_test' };
  const subject = 'sam@example.com';
  let services: Awaited<ReturnType<typeof openServices>>;
  let core: CoreWithSecrets;
  let calls: GatewayCalls;
  let agent: Awaited<ReturnType<typeof createAgent>>['agent'];
  /** Set, minting waits for it. */
  let held: { reached: () => void; release: Promise<void> } | undefined;

  beforeAll(async () => {
    const waiting: Provider = {
      ...apiKeyProvider,
      type: 'waiting',
      mint: async (...given) => {
        held?.reached();
        await held?.release;
        return apiKeyProvider.mint(...given);
      },
    };
    services = await openServices([waiting]);
    core = services.core;
    calls = new GatewayCalls(core);
    ({ agent } = await createAgent(
      core,
      { name: 'helper', owner: 'owner@example.com', auth: { method: 'client_secret_basic' } },
      caller,
    ));
    const operator = core.state.operators.all()[0] as Operator;
    for (const provider of ['api-key', 'waiting']) {
      const settings = { base_url: 'https://example.com', scopes: { use: [{ methods: ['*'], path: '/**' }] } };
      await createConnection(core, { name: provider, provider, settings, secret: { value: 'sk_test' } }, caller);
      await createEntitlement(
        core,
        { agent: 'helper', connection: provider, scopes: ['use'], on_behalf_of: ['*@example.com'] },
        operator,
        caller,
      );
    }
  });
  afterAll(() => services.close());

  const issueFor = (connection: string, actsFor: string | undefined) =>
    issueGrant(core, { agent, connection, scopes: ['use'], subject: actsFor }, caller);
  const works = (work: Promise<unknown>): Promise<boolean> =>
    work.then(
      () => true,
      () => false,
    );
  const calling = (token: string) => ({ token, connection: 'api-key', method: 'GET', path: '/x', query: '' });

  /** As {@link exercises}, for what a grant can be at. */
  const ways: Record<
    Exclude<CheckPoint, 'agent-api' | 'exchange'>,
    (actsFor: string | undefined) => Promise<() => Promise<boolean>>
  > = {
    introspection: async (actsFor) => {
      const { credential } = await issueFor('api-key', actsFor);
      return async () => (await introspect(core, agent, String(credential['token'])))['active'] === true;
    },
    gateway: async (actsFor) => {
      const { credential } = await issueFor('api-key', actsFor);
      return () => works(calls.open(calling(String(credential['token'])), caller));
    },
    'gateway-stream': async (actsFor) => {
      const { credential } = await issueFor('api-key', actsFor);
      const call = await calls.open(calling(String(credential['token'])), caller);
      let running = true;
      calls.run(call, () => {
        running = false;
      });
      return async () => running;
    },
    renewal: async (actsFor) => {
      const { grant } = await issueFor('api-key', actsFor);
      return () => works(renewGrant(core, agent, grant.id, undefined, caller));
    },
    'token-endpoint': async (actsFor) => issuing(actsFor, true),
    settle: async (actsFor) => issuing(actsFor, false),
  };
  const issuing = async (actsFor: string | undefined, bearerOnly: boolean): Promise<() => Promise<boolean>> => {
    const [reached, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    held = { reached: reached.resolve, release: release.promise };
    const request = { agent, connection: 'waiting', scopes: ['use'], subject: actsFor, bearerOnly };
    const issued = works(issueGrant(core, request, caller));
    await reached.promise;
    held = undefined;
    return () => {
      release.resolve();
      return issued;
    };
  };

  const take = (selector: Selector) => revoke(core, { selector, reason: 'a test', suspend: false }, caller);

  test.each(Object.entries(ways))('is what a revocation finds at the check point %s', async (_point, prepare) => {
    const [his, hers, nobodys] = [await prepare(subject), await prepare('ann@example.com'), await prepare(undefined)];
    const row = await take({ subject });
    expect([await his(), await hers(), await nobodys()]).toEqual([false, true, true]);
    expect(row.seq).toBeGreaterThan(0);
  });

  test.each(['agent', 'connection', 'provider', 'owner', 'entitlement', 'grant'] as const)(
    'together with another field (%s) it kills only what both match',
    async (field) => {
      const { grant, credential } = await issueFor('api-key', subject);
      const value = {
        agent: grant.agent_id,
        connection: grant.connection_id,
        provider: grant.provider,
        owner: grant.owner,
        entitlement: grant.entitlement_id,
        grant: grant.id,
      }[field];
      const open = () => works(calls.open(calling(String(credential['token'])), caller));
      await take({ subject, [field]: `not ${value}` });
      await take({ subject: `not ${subject}`, [field]: value });
      expect(await open()).toBe(true);
      await take({ subject, [field]: value });
      expect(await open()).toBe(false);
    },
  );
});
