/**
 * A scene for tests of revocation: a broker, what it stands before, agents who may use all of it, and a way to try each
 * check point. What must die can be shown to live first.
 */
import { createServer, type Server } from 'node:http';
import { expect } from '@jest/globals';
import { apiKeyProvider } from '../../adapters/providers/api-key.ts';
import type { selectorFields } from '../../src/domain/fences.ts';
import type { CheckPoint } from '../../src/domain/liveness.ts';
import type { Provider } from '../../src/ports/provider.ts';
import { grantTypes, startIssuer, tokenType, trust } from '../protocol/issuers.ts';
import { must } from '../protocol/support.ts';
import { type Answer, type BrokerOptions, startBroker } from '../support/broker.ts';
import { startUpstream, upstreamProviders } from '../support/upstream-provider.ts';

type SelectorField = (typeof selectorFields)[number];
/** What a grant is found by. A field that is new in the domain fails to compile here until it is given a value. */
export type Facts = Record<Exclude<SelectorField, 'everything'>, string>;
/** Of what acts for nobody but its agent. */
type OwnFacts = Omit<Facts, 'subject' | 'issuer'>;

export interface Agent {
  id: string;
  name: string;
  clientId: string;
  clientSecret: string;
}

/** Somebody who may use everything of a side; the two sides have nothing in common but the broker. */
export interface Side {
  agent: Agent;
  owner: string;
  /** Connection, provider and entitlement, by what comes of them. */
  gateway: Place;
  jwt: Place;
  made: Place;
}
export interface Place {
  connection: string;
  provider: string;
  entitlement: string;
}

/** Something that is alive, what it is found by, and how to find out whether it still is. */
export interface Living {
  facts: Partial<Facts> & Pick<Facts, 'agent' | 'owner'>;
  /** For what can be tried once only: trying it is what `alive` does. */
  once?: true;
  alive(): Promise<boolean>;
  /** Whatever is left open. */
  end?(): Promise<void>;
}

const renamed = (provider: Provider, type: string): Provider => ({ ...provider, type });
const account = upstreamProviders[0] as Provider;
/** The providers of the bystander: the same ones under other names. */
const otherProviders = [renamed(apiKeyProvider, 'other-api-key'), renamed(account, 'other-account')];
/** What a broker of a scene has beside the registry's. */
export const sceneProviders: readonly Provider[] = [...upstreamProviders, ...otherProviders];

export const grantIn = (answer: Answer): { id: string; status: string; expires_at: string } => {
  if (answer.status !== 201) throw new Error(`no grant: ${answer.status} ${answer.text}`);
  return answer.body['grant'] as { id: string; status: string; expires_at: string };
};
export const credentialIn = (answer: Answer) => answer.body['credential'] as { token: string; base_url: string };
export const items = (answer: Answer) => answer.body['items'] as Record<string, unknown>[];

/** Answers at once, or streams the time every few milliseconds. */
const startTarget = async (): Promise<{ url: string; server: Server }> => {
  const server = createServer((req, res) => {
    if (!req.url?.startsWith('/stream')) {
      res.end('{"ok":true}');
      return;
    }
    res.writeHead(200, { 'Content-Type': 'text/event-stream' });
    const timer = setInterval(() => res.write(`${Date.now()}\n`), 5);
    res.on('close', () => clearInterval(timer));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return { server, url: `http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}` };
};

/** Opens a broker with its upstreams; `close` ends them all. */
export const openScene = async (options: Pick<BrokerOptions, 'dataDir'> = {}) => {
  const [upstream, target] = await Promise.all([startUpstream(), startTarget()]);
  const broker = await startBroker({ ...options, extraProviders: sceneProviders });
  const issuer = await startIssuer();
  await trust(broker, 'corp', issuer, { uses: ['subject', 'workload'] });
  const strangers = { name: 'strangers', issuer: 'https://strangers.example', uses: ['subject'] };
  must(await broker.admin('POST', '/issuers', strangers), 201);
  const open: AbortController[] = [];

  const created = (answer: Answer): Record<string, unknown> => {
    if (answer.status !== 201) throw new Error(`not created: ${answer.status} ${answer.text}`);
    return answer.body;
  };

  const place = async (agent: string, name: string, provider: string, settings: object, secret?: object) => {
    created(
      await broker.admin('POST', '/connections', {
        name,
        provider,
        settings,
        ...(secret === undefined ? {} : { secret }),
      }),
    );
    const entitlement = created(await broker.entitle(agent, name, ['use'], { on_behalf_of: ['corp:*'] }));
    return { connection: name, provider, entitlement: String(entitlement['id']) };
  };

  const makeSide = async (name: string, gateway = 'api-key', made = 'test-account'): Promise<Side> => {
    const owner = `${name}@example.com`;
    const agent = await broker.agent(name, owner);
    const rules = { use: [{ methods: ['*'], path: '/**' }] };
    return {
      agent,
      owner,
      gateway: await place(
        name,
        `${name}-gateway`,
        gateway,
        { base_url: target.url, allow_private_network: true, scopes: rules },
        { value: 'sk_test_0123456789' },
      ),
      jwt: await place(name, `${name}-jwt`, 'internal-jwt', { audience: 'https://orders.example', scopes: ['use'] }),
      made: await place(name, `${name}-made`, made, { url: upstream.url, scopes: ['use'], credential: 'bearer' }),
    };
  };

  const factsOf = (side: Side, at: Place, grant: string): OwnFacts => ({
    agent: side.agent.name,
    owner: side.owner,
    connection: at.connection,
    provider: at.provider,
    entitlement: at.entitlement,
    grant,
  });

  /** Whom tokens are for that {@link actingToken} gives. */
  const behalf = { subject: 'corp:sam', issuer: 'corp' };

  const swap = (side: Side, subjectToken: string, type: string, more: Record<string, string> = {}): Promise<Answer> =>
    broker.form(
      '/token',
      { grant_type: grantTypes.exchange, subject_token: subjectToken, subject_token_type: tokenType(type), ...more },
      side.agent,
    );

  /** An agent token that acts for somebody. */
  const actingToken = async (side: Side): Promise<string> =>
    String(must(await swap(side, issuer.token(broker.url), 'id_token'), 200).body['access_token']);

  /** @param acting for somebody, and not for the agent itself */
  const issue = async (
    side: Side,
    at: Place,
    acting = false,
  ): Promise<{ facts: OwnFacts & Partial<Facts>; token: string; baseUrl: string; id: string }> => {
    const agentToken = acting ? await actingToken(side) : await broker.agentToken(side.agent);
    const answer = await broker.grant(agentToken, { connection: at.connection, scopes: ['use'] });
    const { id } = grantIn(answer);
    const credential = credentialIn(answer);
    const facts = { ...factsOf(side, at, id), ...(acting ? behalf : {}) };
    return { facts, token: credential.token, baseUrl: credential.base_url, id };
  };

  const throughGateway = async (side: Side, acting = false): Promise<Living & { id: string }> => {
    const { facts, token, baseUrl, id } = await issue(side, side.gateway, acting);
    return {
      id,
      facts,
      alive: async () => {
        const response = await fetch(`${baseUrl}/x`, { headers: { authorization: `Bearer ${token}` } });
        await response.arrayBuffer();
        return response.status === 200;
      },
    };
  };

  const introspected = async (side: Side, facts: Living['facts'], token: string): Promise<Living> => ({
    facts,
    alive: async () => (await broker.form('/introspect', { token }, side.agent)).body['active'] === true,
  });

  /** A token of Warder that is exchanged for a grant on the JWT connection. */
  const exchanging = async (side: Side, facts: Living['facts'], token: string): Promise<Living> => ({
    facts,
    alive: async () => {
      const target = { resource: `${broker.url}/connections/${side.jwt.connection}`, scope: 'use' };
      return (await swap(side, token, 'access_token', target)).status === 200;
    },
  });

  const streaming = async (side: Side, acting = false): Promise<Living> => {
    const { facts, token, baseUrl } = await issue(side, side.gateway, acting);
    const stop = new AbortController();
    open.push(stop);
    const response = await fetch(`${baseUrl}/stream`, {
      headers: { authorization: `Bearer ${token}` },
      signal: stop.signal,
    });
    const reader = response.body?.getReader();
    if (!reader) throw new Error('no stream');
    const text = new TextDecoder();
    return {
      facts,
      // Alive when something arrives that was written after it was asked; what was on its way does not count.
      alive: async () => {
        const asked = Date.now();
        try {
          for (;;) {
            const { done, value } = await reader.read();
            if (done) return false;
            const times = text.decode(value).trim().split('\n').map(Number);
            if (times.some((time) => time > asked)) return true;
          }
        } catch {
          return false;
        }
      },
      end: async () => stop.abort(),
    };
  };

  const renewing = async (side: Side, acting = false): Promise<Living> => {
    const { facts, id } = await issue(side, side.gateway, acting);
    return {
      facts,
      // With a new agent token, so that it is the renewal that judges.
      alive: async () => {
        const token = await broker.agentToken(side.agent);
        return (await broker.json('POST', `/v1/grants/${id}/renew`, token, { ttl_seconds: 60 })).status === 200;
      },
    };
  };

  /** An issue that stands between minting and settling: `alive` lets it go on, and says whether it was delivered. */
  const settling = async (side: Side, ask: () => Promise<Answer>, acting = false): Promise<Living> => {
    const before = (await upstream.stats()).held;
    const answer = ask();
    await upstream.held(before + 1);
    const intended = await broker.admin('GET', `/grants?connection=${side.made.connection}&status=intended`);
    const id = String(items(intended)[0]?.['id']);
    return {
      facts: { ...factsOf(side, side.made, id), ...(acting ? behalf : {}) },
      once: true,
      alive: async () => {
        await upstream.release();
        const { status, text } = await answer;
        const delivered = status === 200 || status === 201;
        const accounts = (await upstream.accounts()).filter(({ name }) => name.endsWith(id));
        // Either all of it, or nothing of it: what was made is gone by the time the refusal is told.
        expect([accounts.length, text.includes(`wdr_${id}`)]).toEqual(delivered ? [1, true] : [0, false]);
        return delivered;
      },
    };
  };

  const revoke = async (selector: object, more: object = {}): Promise<Answer> => {
    const answer = await broker.admin('POST', '/revocations', { selector, reason: 'a test', ...more });
    if (answer.status !== 201) throw new Error(`revoking ${JSON.stringify(selector)}: ${answer.status} ${answer.text}`);
    return answer;
  };

  const close = async (): Promise<void> => {
    for (const stream of open) stream.abort();
    await broker.close();
    await issuer.close();
    await upstream.stop();
    target.server.closeAllConnections();
    target.server.close();
  };
  return {
    broker,
    issuer,
    behalf,
    swap,
    actingToken,
    exchanging,
    upstream,
    targetUrl: target.url,
    makeSide,
    factsOf,
    issue,
    throughGateway,
    introspected,
    streaming,
    renewing,
    settling,
    revoke,
    close,
  };
};
export type Scene = Awaited<ReturnType<typeof openScene>>;

/** How each check point is put to the test. A new check point fails to compile until it stands here. */
export const exercises: Record<CheckPoint, Record<string, (scene: Scene, side: Side) => Promise<Living>>> = {
  'agent-api': {
    'a call with an agent token': async (scene, side) => {
      const token = await scene.broker.agentToken(side.agent);
      return {
        facts: { agent: side.agent.name, owner: side.owner },
        alive: async () => (await scene.broker.json('GET', '/v1/connections', token)).status === 200,
      };
    },
    'a call with an agent token that acts for somebody': async (scene, side) => {
      const token = await scene.actingToken(side);
      return {
        facts: { agent: side.agent.name, owner: side.owner, ...scene.behalf },
        alive: async () => (await scene.broker.json('GET', '/v1/connections', token)).status === 200,
      };
    },
  },
  'token-endpoint': {
    'a grant asked for with OAuth': (scene, side) =>
      scene.settling(side, () =>
        scene.broker.form(
          '/token',
          {
            grant_type: 'client_credentials',
            resource: `${scene.broker.url}/connections/${side.made.connection}`,
            scope: 'use',
          },
          side.agent,
        ),
      ),
    'a grant for somebody, by exchange': (scene, side) =>
      scene.settling(
        side,
        () =>
          scene.swap(side, scene.issuer.token(scene.broker.url), 'id_token', {
            resource: `${scene.broker.url}/connections/${side.made.connection}`,
            scope: 'use',
          }),
        true,
      ),
  },
  exchange: {
    'an agent token as the subject token': async (scene, side) =>
      scene.exchanging(side, { agent: side.agent.name, owner: side.owner }, await scene.broker.agentToken(side.agent)),
    'an agent token that acts for somebody': async (scene, side) =>
      scene.exchanging(
        side,
        { agent: side.agent.name, owner: side.owner, ...scene.behalf },
        await scene.actingToken(side),
      ),
    'a JWT for somebody': async (scene, side) => {
      const { facts, token } = await scene.issue(side, side.jwt, true);
      return scene.exchanging(side, facts, token);
    },
    'an agent token as the actor token': async (scene, side) => {
      const actor_token = await scene.broker.agentToken(side.agent);
      return {
        facts: { agent: side.agent.name, owner: side.owner },
        alive: async () => {
          const answer = await scene.broker.form('/token', {
            grant_type: grantTypes.exchange,
            subject_token: scene.issuer.token(scene.broker.url),
            subject_token_type: tokenType('id_token'),
            actor_token,
            actor_token_type: tokenType('access_token'),
          });
          return answer.status === 200;
        },
      };
    },
  },
  introspection: {
    'an agent token': async (scene, side) =>
      scene.introspected(
        side,
        { agent: side.agent.name, owner: side.owner },
        await scene.broker.agentToken(side.agent),
      ),
    'a gateway token': async (scene, side) => {
      const { facts, token } = await scene.issue(side, side.gateway);
      return scene.introspected(side, facts, token);
    },
    'a JWT': async (scene, side) => {
      const { facts, token } = await scene.issue(side, side.jwt);
      return scene.introspected(side, facts, token);
    },
    'an agent token that acts for somebody': async (scene, side) =>
      scene.introspected(
        side,
        { agent: side.agent.name, owner: side.owner, ...scene.behalf },
        await scene.actingToken(side),
      ),
    'a JWT for somebody': async (scene, side) => {
      const { facts, token } = await scene.issue(side, side.jwt, true);
      return scene.introspected(side, facts, token);
    },
  },
  gateway: {
    'a call': (scene, side) => scene.throughGateway(side),
    'a call for somebody': (scene, side) => scene.throughGateway(side, true),
  },
  'gateway-stream': {
    'a call that is running': (scene, side) => scene.streaming(side),
    'a call for somebody that is running': (scene, side) => scene.streaming(side, true),
  },
  renewal: {
    'a renewal': (scene, side) => scene.renewing(side),
    'a renewal of a grant for somebody': (scene, side) => scene.renewing(side, true),
  },
  settle: {
    'a grant between minting and settling': async (scene, side) => {
      const token = await scene.broker.agentToken(side.agent);
      return scene.settling(side, () =>
        scene.broker.grant(token, { connection: side.made.connection, scopes: ['use'] }),
      );
    },
  },
};
