/**
 * Revocation, from outside: every selector at every check point, and everything else that takes access away. What must
 * die is shown to live first; what must live is asked afterwards.
 */
import { createServer, type Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { apiKeyProvider } from '../../adapters/providers/api-key.ts';
import { selectorFields } from '../../src/domain/fences.ts';
import { type CheckPoint, checkPoints } from '../../src/domain/liveness.ts';
import type { Provider } from '../../src/ports/provider.ts';
import { type Answer, type Broker, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { startUpstream, type Upstream, upstreamProviders } from '../support/upstream-provider.ts';

type SelectorField = (typeof selectorFields)[number];
/**
 * What a grant over HTTP is found by. A field that is new in the domain fails to compile here until it is given a
 * value; nobody can ask for a `subject` over HTTP yet, so that one is tried in test/services/subject.test.ts.
 */
type Facts = Record<Exclude<SelectorField, 'everything' | 'subject'>, string>;

interface Agent {
  id: string;
  name: string;
  clientId: string;
  clientSecret: string;
}

/** Somebody who may use everything of a side; the two sides have nothing in common but the broker. */
interface Side {
  agent: Agent;
  owner: string;
  /** Connection, provider and entitlement, by what comes of them. */
  gateway: Place;
  jwt: Place;
  made: Place;
}
interface Place {
  connection: string;
  provider: string;
  entitlement: string;
}

/** Something that is alive, what it is found by, and how to find out whether it still is. */
interface Living {
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

const grantIn = (answer: Answer): { id: string; status: string; expires_at: string } => {
  if (answer.status !== 201) throw new Error(`no grant: ${answer.status} ${answer.text}`);
  return answer.body['grant'] as { id: string; status: string; expires_at: string };
};
const credentialIn = (answer: Answer) => answer.body['credential'] as { token: string; base_url: string };
const items = (answer: Answer) => answer.body['items'] as Record<string, unknown>[];

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

let broker: Broker;
let upstream: Upstream;
let target: { url: string; server: Server };

beforeAll(async () => {
  [upstream, target] = await Promise.all([startUpstream(), startTarget()]);
  broker = await startBroker({ extraProviders: [...upstreamProviders, ...otherProviders] });
});
afterAll(async () => {
  await broker.close();
  await upstream.stop();
  target.server.closeAllConnections();
  target.server.close();
});

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
  const entitlement = created(await broker.entitle(agent, name, ['use']));
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

const factsOf = (side: Side, at: Place, grant: string): Facts => ({
  agent: side.agent.name,
  owner: side.owner,
  connection: at.connection,
  provider: at.provider,
  entitlement: at.entitlement,
  grant,
});

const issue = async (side: Side, at: Place): Promise<{ facts: Facts; token: string; baseUrl: string; id: string }> => {
  const answer = await broker.grant(await broker.agentToken(side.agent), {
    connection: at.connection,
    scopes: ['use'],
  });
  const { id } = grantIn(answer);
  const credential = credentialIn(answer);
  return { facts: factsOf(side, at, id), token: credential.token, baseUrl: credential.base_url, id };
};

const throughGateway = async (side: Side): Promise<Living & { id: string }> => {
  const { facts, token, baseUrl, id } = await issue(side, side.gateway);
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

const streaming = async (side: Side): Promise<Living> => {
  const { facts, token, baseUrl } = await issue(side, side.gateway);
  const stop = new AbortController();
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

const renewing = async (side: Side): Promise<Living> => {
  const { facts, id } = await issue(side, side.gateway);
  return {
    facts,
    // With a new agent token, so that it is the renewal that judges.
    alive: async () => {
      const token = await broker.agentToken(side.agent);
      return (await broker.json('POST', `/v1/grants/${id}/renew`, token, { ttl_seconds: 1200 })).status === 200;
    },
  };
};

/** An issue that stands between minting and settling: `alive` lets it go on, and says whether it was delivered. */
const settling = async (side: Side, ask: () => Promise<Answer>): Promise<Living> => {
  const before = (await upstream.stats()).held;
  const answer = ask();
  await upstream.held(before + 1);
  const intended = await broker.admin('GET', `/grants?connection=${side.made.connection}&status=intended`);
  const id = String(items(intended)[0]?.['id']);
  return {
    facts: factsOf(side, side.made, id),
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

/** How each check point is put to the test. A new check point fails to compile until it stands here. */
const exercises: Record<CheckPoint, Record<string, (side: Side) => Promise<Living>>> = {
  'agent-api': {
    'a call with an agent token': async (side) => {
      const token = await broker.agentToken(side.agent);
      return {
        facts: { agent: side.agent.name, owner: side.owner },
        alive: async () => (await broker.json('GET', '/v1/connections', token)).status === 200,
      };
    },
  },
  'token-endpoint': {
    'a grant asked for with OAuth': (side) =>
      settling(side, () =>
        broker.form(
          '/token',
          {
            grant_type: 'client_credentials',
            resource: `${broker.url}/connections/${side.made.connection}`,
            scope: 'use',
          },
          side.agent,
        ),
      ),
  },
  introspection: {
    'an agent token': async (side) =>
      introspected(side, { agent: side.agent.name, owner: side.owner }, await broker.agentToken(side.agent)),
    'a gateway token': async (side) => {
      const { facts, token } = await issue(side, side.gateway);
      return introspected(side, facts, token);
    },
    'a JWT': async (side) => {
      const { facts, token } = await issue(side, side.jwt);
      return introspected(side, facts, token);
    },
  },
  gateway: { 'a call': throughGateway },
  'gateway-stream': { 'a call that is running': streaming },
  renewal: { 'a renewal': renewing },
  settle: {
    'a grant between minting and settling': async (side) => {
      const token = await broker.agentToken(side.agent);
      return settling(side, () => broker.grant(token, { connection: side.made.connection, scopes: ['use'] }));
    },
  },
};

/** Every field alone and every pair; `everything` stands alone. */
const fields = selectorFields.filter((field): field is keyof Facts => field !== 'everything' && field !== 'subject');
const pairs = fields.flatMap((one, i) => fields.slice(i + 1).map((two) => [one, two]));
const combinations: (keyof Facts)[][] = [...fields.map((field) => [field]), ...pairs];

const revoke = async (selector: object, more: object = {}): Promise<Answer> => {
  const answer = await broker.admin('POST', '/revocations', { selector, reason: 'a test', ...more });
  if (answer.status !== 201) throw new Error(`revoking ${JSON.stringify(selector)}: ${answer.status} ${answer.text}`);
  return answer;
};

describe('every selector at every check point', () => {
  let side: Side;
  let bystander: Side;
  beforeAll(async () => {
    side = await makeSide('target');
    bystander = await makeSide('bystander', 'other-api-key', 'other-account');
  });

  test('the table of this test has every check point there is', () => {
    expect(Object.keys(exercises).sort()).toEqual(Object.keys(checkPoints).sort());
    expect(selectorFields.length).toBe(fields.length + 2);
  });

  const all = Object.entries(exercises).flatMap(([point, ways]) =>
    Object.entries(ways).map(([way, prepare]) => ({ point, way, prepare })),
  );
  describe.each(all)('$point: $way', ({ way, prepare }) => {
    beforeAll(async () => upstream.behave('create', { kind: 'hold' }));
    afterAll(async () => {
      await upstream.behave('create', { kind: 'ok' });
      await upstream.release();
    });

    test('lives while nothing is revoked', async () => {
      const living = await prepare(side);
      expect(await living.alive()).toBe(true);
      if (!living.once) expect(await living.alive()).toBe(true);
      await living.end?.();
    });

    test('is dead after a revocation whose every field matches, and lives after one that does not', async () => {
      const wrong: string[] = [];
      for (const combination of combinations) {
        const living = await prepare(side);
        if (!living.once && !(await living.alive())) wrong.push(`${way} was not alive before ${combination}`);
        // An agent token has no connection: a selector that names one is given what the agent's grants have.
        const given: Facts = { ...factsOf(side, side.gateway, 'unused'), ...living.facts };
        if (given.grant === 'unused') given.grant = (await throughGateway(side)).facts.grant as string;
        await revoke(Object.fromEntries(combination.map((field) => [field, given[field]])));
        const matches = combination.every((field) => field in living.facts);
        if ((await living.alive()) === matches) wrong.push(`${combination} left it ${matches ? 'alive' : 'dead'}`);
        await living.end?.();
      }
      expect(wrong).toEqual([]);
    }, 60_000);

    test('is dead after everything is revoked', async () => {
      const living = await prepare(side);
      await revoke({ everything: true });
      expect(await living.alive()).toBe(false);
      await living.end?.();
    });

    test('lives on when somebody else is revoked, or only some of the fields match', async () => {
      const other = await throughGateway(bystander);
      const living = await prepare(side);
      const mine = { ...factsOf(side, side.gateway, 'unused'), ...living.facts };
      if (mine.grant === 'unused') mine.grant = (await throughGateway(side)).facts.grant as string;
      const theirs = other.facts as Facts;
      const mixed = combinations.flatMap((combination) =>
        combination.map((differs) =>
          Object.fromEntries(combination.map((field) => [field, (field === differs ? theirs : mine)[field]])),
        ),
      );
      await Promise.all(mixed.map((selector) => revoke(selector)));
      expect(await living.alive()).toBe(true);
      await living.end?.();
    });
  });
});

describe('what takes access away', () => {
  const shortOf = (answer: Answer): [number, unknown] => [answer.status, answer.body['code']];
  const useCode = async (token: string, baseUrl: string): Promise<unknown> => {
    const response = await fetch(`${baseUrl}/x`, { headers: { authorization: `Bearer ${token}` } });
    const text = await response.text();
    return response.status === 200 ? 200 : (JSON.parse(text) as { code: unknown }).code;
  };

  test('a suspended agent can do nothing, and again all it could when it is resumed', async () => {
    const side = await makeSide('suspended');
    const [token, grant, stream] = [
      await broker.agentToken(side.agent),
      await issue(side, side.gateway),
      await streaming(side),
    ];
    await broker.admin('PATCH', '/agents/suspended', { status: 'suspended' });
    expect(shortOf(await broker.json('GET', '/v1/connections', token))).toEqual([403, 'agent_suspended']);
    expect(shortOf(await broker.json('POST', `/v1/grants/${grant.id}/renew`, token, {}))).toEqual([
      403,
      'agent_suspended',
    ]);
    expect(await useCode(grant.token, grant.baseUrl)).toBe('agent_suspended');
    expect(await stream.alive()).toBe(false);
    const refused = await broker.form('/token', { grant_type: 'client_credentials' }, side.agent);
    expect([refused.status, refused.body['error']]).toEqual([400, 'unauthorized_client']);
    await broker.admin('PATCH', '/agents/suspended', { status: 'active' });
    expect((await broker.json('GET', '/v1/connections', token)).status).toBe(200);
    expect(await useCode(grant.token, grant.baseUrl)).toBe(200);
  });

  test('a revocation that suspends leaves dead what it killed when the agent is resumed', async () => {
    const side = await makeSide('stopped');
    const [token, grant] = [await broker.agentToken(side.agent), await issue(side, side.gateway)];
    await revoke({ agent: 'stopped' }, { suspend: true });
    expect(shortOf(await broker.json('GET', '/v1/connections', token))).toEqual([401, 'revoked']);
    expect((await broker.admin('GET', '/agents/stopped')).body['status']).toBe('suspended');
    await broker.admin('PATCH', '/agents/stopped', { status: 'active' });
    expect(shortOf(await broker.json('GET', '/v1/connections', token))).toEqual([401, 'revoked']);
    expect(await useCode(grant.token, grant.baseUrl)).toBe('revoked');
    const again = await issue(side, side.gateway);
    expect(await useCode(again.token, again.baseUrl)).toBe(200);
  });

  test('a suspended connection is not used, and is again when it is resumed', async () => {
    const side = await makeSide('paused');
    const grant = await issue(side, side.gateway);
    await broker.admin('PATCH', '/connections/paused-gateway', { status: 'suspended' });
    expect(await useCode(grant.token, grant.baseUrl)).toBe('not_entitled');
    const asked = await broker.grant(await broker.agentToken(side.agent), {
      connection: 'paused-gateway',
      scopes: ['use'],
    });
    expect(shortOf(asked)).toEqual([403, 'not_entitled']);
    await broker.admin('PATCH', '/connections/paused-gateway', { status: 'active' });
    expect(await useCode(grant.token, grant.baseUrl)).toBe(200);
  });

  test('a deleted agent is gone with all it holds, and another of its name inherits nothing', async () => {
    const side = await makeSide('deleted');
    const [token, grant, stream] = [
      await broker.agentToken(side.agent),
      await issue(side, side.gateway),
      await streaming(side),
    ];
    const made = await issue(side, side.made);
    expect((await broker.admin('DELETE', '/agents/deleted')).status).toBe(204);
    expect((await broker.json('GET', '/v1/connections', token)).status).toBe(401);
    expect(await useCode(grant.token, grant.baseUrl)).toBe('revoked');
    expect(await stream.alive()).toBe(false);
    await eventually(
      'the account is gone',
      () => upstream.accounts(),
      (accounts) => !accounts.some(({ name }) => name.endsWith(made.id)),
    );
    await broker.agent('deleted', side.owner);
    expect((await broker.json('GET', '/v1/connections', token)).status).toBe(401);
    expect(await useCode(grant.token, grant.baseUrl)).toBe('revoked');
    const secret = await broker.form('/token', { grant_type: 'client_credentials' }, side.agent);
    expect([secret.status, secret.body['error']]).toEqual([401, 'invalid_client']);
  });

  test('a deleted connection, and a deleted or narrowed entitlement, kill what came of them', async () => {
    const side = await makeSide('lessened');
    const connection = await issue(side, side.gateway);
    expect((await broker.admin('DELETE', '/connections/lessened-gateway')).status).toBe(204);
    expect(await useCode(connection.token, connection.baseUrl)).toBe('revoked');

    const second = await makeSide('narrowed');
    const deleted = await issue(second, second.gateway);
    expect((await broker.admin('DELETE', `/entitlements/${second.gateway.entitlement}`)).status).toBe(204);
    expect(await useCode(deleted.token, deleted.baseUrl)).toBe('revoked');

    const third = await makeSide('shortened');
    const shortened = await issue(third, third.gateway);
    const patch = await broker.admin('PATCH', `/entitlements/${third.gateway.entitlement}`, { max_ttl_seconds: 60 });
    expect(patch.status).toBe(200);
    expect(await useCode(shortened.token, shortened.baseUrl)).toBe('revoked');
  });

  test('a new client secret kills what the old one obtained', async () => {
    const side = await makeSide('renewed');
    const [token, grant] = [await broker.agentToken(side.agent), await issue(side, side.gateway)];
    const renewed = await broker.admin('POST', '/agents/renewed/secret');
    expect(renewed.status).toBe(201);
    expect(shortOf(await broker.json('GET', '/v1/connections', token))).toEqual([401, 'revoked']);
    expect(await useCode(grant.token, grant.baseUrl)).toBe('revoked');
    const clientSecret = String(renewed.body['client_secret']);
    expect(await broker.agentToken({ clientId: 'renewed', clientSecret })).toMatch(/^wdr_at_/);
  });

  test('after a change of owner, revoking the old owner and revoking the new one both kill', async () => {
    for (const [name, revoked] of [
      ['moved-one', 'old'],
      ['moved-two', 'new'],
    ] as const) {
      const side = await makeSide(name);
      const [token, before] = [await broker.agentToken(side.agent), await issue(side, side.gateway)];
      await broker.admin('PATCH', `/agents/${name}`, { owner: `new-${name}@example.com` });
      const after = await issue(side, side.gateway);
      expect(await useCode(before.token, before.baseUrl)).toBe(200);
      const owner = revoked === 'old' ? side.owner : `new-${name}@example.com`;
      const answer = await revoke({ owner });
      expect(await useCode(before.token, before.baseUrl)).toBe('revoked');
      expect(shortOf(await broker.json('GET', '/v1/connections', token))).toEqual([401, 'revoked']);
      // What was issued under the new owner has nothing to do with the old one.
      expect(await useCode(after.token, after.baseUrl)).toBe(revoked === 'old' ? 200 : 'revoked');
      expect(await countOf(answer)).toBe(revoked === 'old' ? 1 : 2);
    }
  });

  const countOf = async (answer: Answer): Promise<unknown> => {
    const id = String(answer.body['id']);
    const { body } = await eventually(
      'it is counted',
      () => broker.admin('GET', `/revocations/${id}`),
      ({ body }) => body['grants'] !== null,
    );
    return body['grants'];
  };

  test('revoking again counts nothing, and a dry run counts right and changes nothing', async () => {
    const side = await makeSide('counted');
    const grants = [await issue(side, side.gateway), await issue(side, side.jwt), await issue(side, side.made)];
    const plan = { selector: { agent: 'counted' }, reason: 'a plan', suspend: true, dry_run: true };
    const dry = await broker.admin('POST', '/revocations', plan);
    expect(dry.status).toBe(200);
    expect(dry.body).toMatchObject({
      dry_run: true,
      grants: 3,
      upstream: { pending: 1 },
      agents: [{ name: 'counted', would_suspend: true }],
    });
    expect(await useCode(grants[0]?.token ?? '', grants[0]?.baseUrl ?? '')).toBe(200);
    expect((await broker.admin('GET', '/agents/counted')).body['status']).toBe('active');
    expect((await upstream.accounts()).some(({ name }) => name.endsWith(grants[2]?.id ?? ''))).toBe(true);

    expect(await countOf(await revoke({ agent: 'counted' }))).toBe(3);
    expect(await countOf(await revoke({ agent: 'counted' }))).toBe(0);
    const again = await broker.admin('POST', '/revocations', { ...plan, suspend: false });
    expect(again.body).toMatchObject({ grants: 0, upstream: { pending: 0 } });
  });

  test('a grant that is taken back while it is made is recorded as aborted, never as issued', async () => {
    const side = await makeSide('barrier');
    await upstream.behave('create', { kind: 'hold' });
    const living = await exercises.settle['a grant between minting and settling']?.(side);
    await upstream.behave('create', { kind: 'ok' });
    await revoke({ agent: 'barrier' });
    expect(await living?.alive()).toBe(false);
    const log = items(await broker.admin('GET', `/audit?grant=${living?.facts.grant}`));
    expect(log.map(({ type }) => type).reverse()).toEqual(['grant.intended', 'grant.aborted']);
    const grant = await broker.admin('GET', `/grants/${living?.facts.grant}`);
    expect(grant.body).toMatchObject({ status: 'aborted', upstream: 'gone' });
  });

  test('what was revoked stays so for whoever returns or renews it, and the agent is told so', async () => {
    const side = await makeSide('stubborn');
    const { id } = await issue(side, side.made);
    await revoke({ grant: id });
    const token = await broker.agentToken(side.agent);
    expect(shortOf(await broker.json('POST', `/v1/grants/${id}/renew`, token, {}))).toEqual([401, 'revoked']);
    expect((await broker.json('DELETE', `/v1/grants/${id}`, token)).status).toBe(204);
    const seen = await eventually(
      'it is cleaned up',
      () => broker.admin('GET', `/grants/${id}`),
      ({ body }) => body['upstream'] === 'gone',
    );
    expect(seen.body['status']).toBe('revoked');
  });
});

describe('a restart', () => {
  test('revives nothing: revoked, returned, suspended and deleted things stay dead', async () => {
    const dataDir = temporaryDir();
    const first = await startBroker({ dataDir });
    const agents = [];
    for (const name of ['kept', 'fenced', 'suspended', 'deleted', 'returned']) {
      const agent = await first.agent(name, `${name}@example.com`);
      await first.connection(`${name}-gateway`, target.url);
      await first.entitle(name, `${name}-gateway`, ['all']);
      const token = await first.agentToken(agent);
      const answer = await first.grant(token, { connection: `${name}-gateway`, scopes: ['all'] });
      agents.push({ name, token, id: grantIn(answer).id, gateway: credentialIn(answer).token });
    }
    const returned = agents.find(({ name }) => name === 'returned');
    await first.admin('POST', '/revocations', { selector: { owner: 'fenced@example.com' }, reason: 'a test' });
    await first.admin('PATCH', '/agents/suspended', { status: 'suspended' });
    await first.admin('DELETE', '/agents/deleted');
    await first.json('DELETE', `/v1/grants/${returned?.id}`, returned?.token ?? '');
    await first.close();

    const second = await startBroker({ dataDir });
    const now = await Promise.all(
      agents.map(async ({ name, token, gateway }) => {
        const headers = { authorization: `Bearer ${gateway}` };
        const use = await second.fetch(`/gateway/${name}-gateway/x`, { headers });
        await use.arrayBuffer();
        return [name, use.status, (await second.json('GET', '/v1/connections', token)).status];
      }),
    );
    expect(now).toEqual([
      ['kept', 200, 200],
      ['fenced', 401, 401],
      ['suspended', 403, 403],
      ['deleted', 401, 401],
      ['returned', 401, 200],
    ]);
    await second.close();
  });
});
