/**
 * Freezes, from outside: every selector at every place that issues or prolongs. What is refused under a freeze is shown to
 * be given without it; what was issued before goes on working.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { freezeSelectorFields } from '../../src/domain/incident.ts';
import { withAssertionGrant, workloadAgent } from '../protocol/issuers.ts';
import type { Answer } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { type Facts, grantIn, items, openScene, type Scene, type Side } from './scene.ts';

let scene: Scene;
let side: Side;
let bystander: Side;
beforeAll(async () => {
  scene = await openScene();
  side = await scene.makeSide('target');
  bystander = await scene.makeSide('bystander', 'other-api-key', 'other-account');
});
afterAll(() => scene.close());

const freeze = async (selector: object): Promise<string> => {
  const answer = await scene.broker.admin('POST', '/freezes', { selector, reason: 'a test' });
  if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`);
  return String(answer.body['id']);
};
const lift = async (id: string): Promise<Answer> =>
  scene.broker.admin('POST', `/freezes/${id}/lift`, { reason: 'the test is over' });

/** Something that can be asked for again and again, and what it would be issued with. */
interface Asking {
  facts: Partial<Facts>;
  ask(): Promise<Answer>;
}
const agentFacts = () => ({ agent: side.agent.name, owner: side.owner });
const resource = (connection: string) => `${scene.broker.url}/connections/${connection}`;
const byToken = (more: Record<string, string>) => scene.broker.form('/token', more, side.agent);
const placeFacts = (at: Side['gateway']): Partial<Facts> => {
  const { grant: _none, ...facts } = scene.factsOf(side, at, '');
  return facts;
};

/** Every place that issues or prolongs. */
const points: Record<string, () => Promise<Asking>> = {
  'POST /v1/grants, through the gateway': async () => {
    const token = await scene.broker.agentToken(side.agent);
    const request = { connection: side.gateway.connection, scopes: ['use'] };
    return { facts: placeFacts(side.gateway), ask: () => scene.broker.grant(token, request) };
  },
  'POST /v1/grants, made upstream': async () => {
    const token = await scene.broker.agentToken(side.agent);
    const request = { connection: side.made.connection, scopes: ['use'] };
    return { facts: placeFacts(side.made), ask: () => scene.broker.grant(token, request) };
  },
  'POST /v1/grants, for somebody': async () => {
    const token = await scene.actingToken(side);
    const request = { connection: side.gateway.connection, scopes: ['use'] };
    return {
      facts: { ...placeFacts(side.gateway), ...scene.behalf },
      ask: () => scene.broker.grant(token, request),
    };
  },
  'POST /token for an agent token': async () => ({
    facts: agentFacts(),
    ask: () => byToken({ grant_type: 'client_credentials' }),
  }),
  'POST /token for a grant': async () => ({
    facts: placeFacts(side.jwt),
    ask: () => byToken({ grant_type: 'client_credentials', resource: resource(side.jwt.connection), scope: 'use' }),
  }),
  'token exchange for an agent token': async () => ({
    facts: { ...agentFacts(), ...scene.behalf },
    ask: () => scene.swap(side, scene.issuer.token(scene.broker.url), 'id_token'),
  }),
  'token exchange for a grant': async () => {
    const token = await scene.actingToken(side);
    return {
      facts: { ...placeFacts(side.jwt), ...scene.behalf },
      ask: () => scene.swap(side, token, 'access_token', { resource: resource(side.jwt.connection), scope: 'use' }),
    };
  },
  'jwt-bearer for an agent token': async () => {
    const sub = 'worker-1';
    await workloadAgent(scene.broker, 'worker', 'corp', { sub }, { owner: 'workers@example.com' });
    return {
      facts: { agent: 'worker', owner: 'workers@example.com', issuer: 'corp' },
      ask: () => withAssertionGrant(scene.broker, scene.issuer.token(scene.broker.url, { sub })),
    };
  },
  'POST /v1/grants/:id/renew': async () => {
    const token = await scene.broker.agentToken(side.agent);
    const answer = await scene.broker.grant(token, { connection: side.gateway.connection, scopes: ['use'] });
    const { id } = grantIn(answer);
    return {
      facts: placeFacts(side.gateway),
      ask: () => scene.broker.json('POST', `/v1/grants/${id}/renew`, token, { ttl_seconds: 60 }),
    };
  },
};

const given = ({ status }: Answer): boolean => status === 200 || status === 201;
/** What an agent is told: of nobody and nothing but that issuing is frozen. */
const frozen = (answer: Answer): string => {
  const { error, error_description, code, detail } = answer.body;
  return `${answer.status} ${error ?? code}: ${error_description ?? detail}`;
};
const said = 'issuing is frozen for now; what was issued goes on working';

describe('every selector at every place that issues', () => {
  const fields = freezeSelectorFields.filter(
    (field): field is Exclude<typeof field, 'everything'> => field !== 'everything',
  );
  // Selectors are matched by one function, which has tests of its own (fences.test.ts): a few pairs show that it is asked.
  const pairs = fields.flatMap((one, i) => fields.slice(i + 1, i + 2).map((two) => [one, two]));
  const combinations = [...fields.map((field) => [field]), ...pairs];

  describe.each(Object.entries(points))('%s', (_name, prepare) => {
    test('refuses under a freeze that matches, gives under one that does not, and gives again when it is lifted', async () => {
      const asking = await prepare();
      const all: Partial<Facts> = { ...scene.behalf, ...placeFacts(side.gateway), ...asking.facts };
      const wrong: string[] = [];
      for (const combination of combinations) {
        const id = await freeze(Object.fromEntries(combination.map((field) => [field, all[field]])));
        const matches = combination.every((field) => asking.facts[field] !== undefined);
        const answer = await asking.ask();
        if (given(answer) === matches) wrong.push(`${combination}: ${answer.status} ${answer.text}`);
        if (matches && ![`403 frozen: ${said}`, `400 access_denied: ${said}`].includes(frozen(answer))) {
          wrong.push(frozen(answer));
        }
        await lift(id);
      }
      const everything = await freeze({ everything: true });
      if (given(await asking.ask())) wrong.push('everything');
      await lift(everything);
      if (!given(await asking.ask())) wrong.push('not given when all is lifted');
      expect(wrong).toEqual([]);
    }, 60_000);
  });
});

describe('a freeze', () => {
  test('leaves alone what is out: tokens, calls, streams and introspection', async () => {
    const [call, stream] = await Promise.all([scene.throughGateway(side), scene.streaming(side)]);
    const jwt = await scene.issue(side, side.jwt);
    const introspected = await scene.introspected(side, jwt.facts, jwt.token);
    const id = await freeze({ everything: true });
    expect(await Promise.all([call.alive(), stream.alive(), introspected.alive()])).toEqual([true, true, true]);
    await Promise.all([stream.end?.(), lift(id)]);
  });

  test('of somebody else is not felt', async () => {
    const ids = await Promise.all(
      [{ agent: bystander.agent.name }, { owner: bystander.owner }, { connection: bystander.gateway.connection }].map(
        freeze,
      ),
    );
    const token = await scene.broker.agentToken(side.agent);
    expect((await scene.broker.grant(token, { connection: side.gateway.connection, scopes: ['use'] })).status).toBe(
      201,
    );
    await Promise.all(ids.map(lift));
  });

  test('tells whoever is not entitled nothing: the answer is that for a connection that does not exist', async () => {
    const token = await scene.broker.agentToken(side.agent);
    const id = await freeze({ connection: bystander.gateway.connection });
    const ask = async (connection: string) => {
      const { status, body } = await scene.broker.grant(token, { connection, scopes: ['use'] });
      return { status, code: body['code'], detail: body['detail'] };
    };
    expect(await ask(bystander.gateway.connection)).toEqual(await ask('no-such-connection'));
    await lift(id);
  });

  test('that comes between minting and settling has what was made taken back', async () => {
    await scene.upstream.behave('create', { kind: 'hold' });
    const token = await scene.broker.agentToken(side.agent);
    const living = await scene.settling(side, () =>
      scene.broker.grant(token, { connection: side.made.connection, scopes: ['use'] }),
    );
    const id = await freeze({ agent: side.agent.name });
    expect(await living.alive()).toBe(false);
    await scene.upstream.behave('create', { kind: 'ok' });
    await lift(id);
  });

  test.each(['jwt', 'made'] as const)(
    'that is acknowledged while a hundred are asked for lets none settle after it (%s)',
    async (place) => {
      const token = await scene.broker.agentToken(side.agent);
      let asking = true;
      const answers: Promise<Answer>[] = [];
      const ask = async (): Promise<void> => {
        while (asking) {
          const answer = scene.broker.grant(token, { connection: side[place].connection, scopes: ['use'] });
          answers.push(answer);
          await answer;
        }
      };
      const loops = Array.from({ length: 20 }, ask);
      await eventually(
        'a hundred were asked for',
        async () => answers.length,
        (count) => count >= 100,
      );
      const id = await freeze({ agent: side.agent.name });
      const shown = await scene.broker.admin('GET', `/audit?type=freeze.created&limit=1`);
      const fence = Number(items(shown)[0]?.['seq']);
      asking = false;
      await Promise.all(loops);
      const statuses = (await Promise.all(answers)).map(({ status }) => status);
      expect(statuses.every((status) => status === 201 || status === 403)).toBe(true);
      const issued = await scene.broker.admin('GET', `/audit?type=grant.issued&agent=${side.agent.name}&limit=1`);
      expect(Number(items(issued)[0]?.['seq'])).toBeLessThan(fence);
      await lift(id);
    },
  );

  test('stands after a restart of the broker’s memory: it is read with everything else', async () => {
    const id = await freeze({ agent: bystander.agent.name });
    const listed = await scene.broker.admin('GET', '/freezes?standing=true');
    expect(items(listed)).toMatchObject([{ id, selector: { agent: bystander.agent.name }, standing: true }]);
    expect((await lift(id)).body).toMatchObject({ id, standing: false, lift_reason: 'the test is over' });
    expect((await lift(id)).status).toBe(409);
    expect(items(await scene.broker.admin('GET', '/freezes?standing=true'))).toEqual([]);
  });

  test('is not for one grant, nor for nothing, nor for what does not exist', async () => {
    const { id } = await scene.throughGateway(side);
    const asked = [
      { grant: id },
      {},
      { agent: 'nobody' },
      { everything: true, agent: side.agent.name },
      { entitlement: 'ent_00000000000000000000000000' },
      { issuer: 'iss_00000000000000000000000000' },
    ];
    const answers = await Promise.all(
      asked.map((selector) => scene.broker.admin('POST', '/freezes', { selector, reason: 'x' })),
    );
    expect(answers.map(({ status }) => status)).toEqual([400, 400, 404, 400, 404, 404]);
  });

  test('is refused and recorded as any other', async () => {
    await scene.broker.grant(await scene.broker.agentToken(side.agent), {
      connection: side.gateway.connection,
      scopes: ['use'],
    });
    const token = await scene.broker.agentToken(side.agent);
    const id = await freeze({ agent: side.agent.name });
    await scene.broker.grant(token, { connection: side.gateway.connection, scopes: ['use'] });
    await byToken({ grant_type: 'client_credentials' });
    await lift(id);
    const codes = await Promise.all(
      ['grant.refused', 'token.refused'].map(async (type) =>
        items(await scene.broker.admin('GET', `/audit?type=${type}&agent=${side.agent.name}&limit=1`)),
      ),
    );
    expect(codes.map(([entry]) => entry?.['data'])).toMatchObject([{ code: 'frozen' }, { code: 'access_denied' }]);
  });
});
