/** An incident from outside: opened, contained, looked at, remediated, recovered and closed, and what must not be possible. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { apiKeyProvider } from '../../adapters/providers/api-key.ts';
import type { Provider } from '../../src/ports/provider.ts';
import { must } from '../protocol/support.ts';
import { type Answer, startBroker } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { items, openScene, type Scene, type Side } from './scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await openScene();
});
afterAll(() => scene.close());

const admin = (method: string, path: string, body?: unknown, token?: string): Promise<Answer> =>
  scene.broker.admin(method, path, body, token);
const open = async (selector: object, more: object = {}): Promise<string> => {
  const body = { title: 'Something happened', selector, reason: 'a test', ...more };
  return String(must(await admin('POST', '/incidents', body), 201).body['id']);
};
const step = (id: string, verb: string, body: object = {}): Promise<Answer> => {
  const reason = verb === 'close' ? { summary: 'a test' } : verb === 'remediate' ? {} : { reason: 'a test' };
  return admin('POST', `/incidents/${id}/${verb}`, { ...reason, ...body });
};
const show = async (id: string): Promise<Record<string, unknown>> =>
  must(await admin('GET', `/incidents/${id}`), 200).body;
const report = async (id: string) => must(await admin('GET', `/incidents/${id}/report`), 200).body;
const itemsOf = (incident: unknown) =>
  (incident as { items: { number: number; kind: string; text: string; status: string }[] }).items;
const waiveAll = async (id: string): Promise<void> => {
  for (const item of itemsOf(await show(id)).filter((one) => one.status === 'open')) {
    must(await admin('PATCH', `/incidents/${id}/items/${item.number}`, { status: 'waived', note: 'a test' }), 200);
  }
};
const ask = async (side: Side, connection = side.gateway.connection): Promise<Answer> =>
  scene.broker.grant(await scene.broker.agentToken(side.agent), { connection, scopes: ['use'] });

let made = 0;
const newSide = (): Promise<Side> => {
  made += 1;
  return scene.makeSide(`side-${made}`);
};

describe('an incident', () => {
  test('goes from open to closed, and what it is about is dead, still, and then works with less', async () => {
    const side = await newSide();
    const [call, jwt] = [await scene.throughGateway(side), await scene.issue(side, side.jwt)];
    expect(await call.alive()).toBe(true);
    const id = await open({ agent: side.agent.name }, { severity: 'critical' });
    expect(await show(id)).toMatchObject({
      status: 'open',
      severity: 'critical',
      selector: { agent: side.agent.name },
    });

    const contained = must(await step(id, 'contain', { suspend: true }), 200).body;
    expect(contained).toMatchObject({
      incident: { id, status: 'contained' },
      revocation: { id: expect.stringMatching(/^rev_/), suspend: true },
      freeze: { id: expect.stringMatching(/^frz_/), incident: id, standing: true },
      suspended: [side.agent.name],
    });
    expect(await call.alive()).toBe(false);
    expect((await scene.broker.form('/token', { grant_type: 'client_credentials' }, side.agent)).status).toBe(400);
    const introspected = await scene.introspected(await newSide(), jwt.facts, jwt.token);
    expect(await introspected.alive()).toBe(false);

    const seen = await report(id);
    expect(seen).toMatchObject({
      obtained: { grants: 2, agent_tokens: 2 },
      did: {
        calls: 1,
        systems: { items: [{ connection: side.gateway.connection, methods: { GET: 1 }, bytes_received: 11 }] },
      },
      live_now: { grants: 0 },
      contained: { suspended: [side.agent.name] },
    });

    const remediated = must(await step(id, 'remediate'), 200).body;
    expect(itemsOf(remediated['incident']).map((item) => item.kind)).toContain('tell');
    expect((await step(id, 'close')).status).toBe(409);
    const jwtEntitlement = side.jwt.entitlement;
    const recovered = await step(id, 'recover', { narrow: [{ entitlement: jwtEntitlement, max_ttl_seconds: 60 }] });
    expect(must(recovered, 200).body).toMatchObject({
      status: 'recovered',
      measures: { suspended: [side.agent.name], resumed: [side.agent.name] },
      changes: [{ entitlement: jwtEntitlement, before: { max_ttl_seconds: 3600 }, after: { max_ttl_seconds: 60 } }],
    });
    expect((await ask(side)).status).toBe(201);
    expect(await call.alive()).toBe(false);
    await waiveAll(id);
    expect(must(await step(id, 'close'), 200).body).toMatchObject({ status: 'closed' });
    for (const verb of ['contain', 'remediate', 'recover', 'close']) expect((await step(id, verb)).status).toBe(409);
    expect((await admin('POST', `/incidents/${id}/notes`, { note: 'learnt later' })).status).toBe(200);
  });

  test('has fence, suspensions and freeze in one commit, the fence first', async () => {
    const side = await newSide();
    const id = await open({ agent: side.agent.name });
    must(await step(id, 'contain', { suspend: true }), 200);
    const entries = items(await admin('GET', `/audit?agent=${side.agent.name}&limit=20`)).reverse();
    const from = entries.findIndex((entry) => entry['type'] === 'revocation.created');
    const commit = entries.slice(from, from + 3);
    expect(commit.map((entry) => entry['type'])).toEqual(['revocation.created', 'agent.suspended', 'freeze.created']);
    expect(commit.map((entry) => Number(entry['seq']) - Number(commit[0]?.['seq']))).toEqual([0, 1, 2]);
    expect(commit[0]).toMatchObject({ data: { incident: id } });
  });

  test('that is contained twenty times at once has every fence noted and one freeze', async () => {
    const side = await newSide();
    const id = await open({ agent: side.agent.name });
    const answers = await Promise.all(Array.from({ length: 20 }, () => step(id, 'contain')));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    const revocations = answers.map(({ body }) => (body['revocation'] as { id: string }).id);
    const measures = (await show(id))['measures'] as { revocations: string[]; freezes: string[] };
    expect([...measures.revocations].sort()).toEqual(revocations.sort());
    must(await step(id, 'recover'), 200);
    const standing = items(await admin('GET', '/freezes?standing=true')).filter((freeze) => freeze['incident'] === id);
    expect(standing).toEqual([]);
    expect((await ask(side)).status).toBe(201);
  });

  test('keeps its freeze: it is not lifted by hand, nor is the incident closed over it', async () => {
    const side = await newSide();
    const id = await open({ agent: side.agent.name });
    const contained = must(await step(id, 'contain'), 200).body;
    const freeze = (contained['freeze'] as { id: string }).id;
    const lifted = await admin('POST', `/freezes/${freeze}/lift`, { reason: 'please' });
    expect([lifted.status, lifted.body['code']]).toEqual([409, 'conflict']);
    expect((await step(id, 'close')).text).toContain(freeze);
    must(await step(id, 'recover', { lift: false }), 200);
    expect((await step(id, 'close')).status).toBe(409);
    must(await admin('POST', `/freezes/${freeze}/lift`, { reason: 'recovered' }), 200);
    must(await step(id, 'close'), 200);
  });

  test('can be contained without a fence: frozen and suspended, what is out dies with the suspension only', async () => {
    const side = await newSide();
    const call = await scene.throughGateway(side);
    const id = await open({ owner: side.owner });
    const frozen = must(await step(id, 'contain', { revoke: false }), 200).body;
    expect(frozen).toMatchObject({ revocation: null, suspended: [] });
    expect(await call.alive()).toBe(true);
    const suspended = must(await step(id, 'contain', { revoke: false, freeze: false, suspend: true }), 200).body;
    expect(suspended).toMatchObject({ freeze: null, suspended: [side.agent.name] });
    expect(await call.alive()).toBe(false);
    expect((await step(id, 'contain', { revoke: false, freeze: false })).status).toBe(400);
    expect((await step(id, 'contain', { revoke: false, rotate: true })).status).toBe(400);
  });
});

describe('recovering', () => {
  test('gives nobody more than before', async () => {
    const side = await newSide();
    const id = await open({ agent: side.agent.name });
    must(await step(id, 'contain', { suspend: true }), 200);
    const { entitlement } = side.gateway;
    const wider = [
      { entitlement, scopes: ['use', 'more'] },
      { entitlement, max_ttl_seconds: 7200 },
      { entitlement, approval: 'none' },
      { entitlement, remove: true, scopes: ['use'] },
      { entitlement: 'ent_none' },
    ];
    const answers = await Promise.all(wider.map((one) => step(id, 'recover', { narrow: [one] })));
    expect(answers.map(({ status }) => status)).toEqual([400, 400, 400, 400, 404]);
    expect((await show(id))['status']).toBe('contained');
    // Nothing of a recovery that is refused takes place.
    expect((await admin('GET', `/agents/${side.agent.name}`)).body['status']).toBe('suspended');
  });

  test('takes away what was not in use, and says so', async () => {
    const side = await newSide();
    expect((await ask(side)).status).toBe(201);
    const id = await open({ agent: side.agent.name });
    must(await step(id, 'contain'), 200);
    const { changes } = must(await step(id, 'recover', { narrow_unused: true }), 200).body as { changes: object[] };
    expect(changes).toHaveLength(2);
    expect(changes).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ entitlement: side.jwt.entitlement, after: null }),
        expect.objectContaining({ entitlement: side.made.entitlement, after: null }),
      ]),
    );
    expect((await ask(side)).status).toBe(201);
    expect((await ask(side, side.jwt.connection)).status).toBe(403);
    // What an agent did for one person says nothing of what it does for others.
    const partly = await open({ agent: side.agent.name, subject: 'corp:sam' });
    must(await step(partly, 'contain'), 200);
    expect((await step(partly, 'recover', { narrow_unused: true })).status).toBe(409);
    const page = await admin('GET', `/incidents/${id}/report?format=md`);
    expect(page.text).toContain('removed');
    // About a connection: whoever may use it and never did.
    const idle = await newSide();
    const ofConnection = await open({ connection: idle.jwt.connection });
    must(await step(ofConnection, 'contain'), 200);
    const planned = itemsOf(must(await step(ofConnection, 'remediate'), 200).body['incident']);
    expect(planned.filter((item) => item.kind === 'narrow')).toHaveLength(1);
    const left = must(await step(ofConnection, 'recover', { narrow_unused: true }), 200).body;
    expect(left).toMatchObject({ changes: [{ entitlement: idle.jwt.entitlement, after: null }] });
  });

  test('leaves suspended whom another incident holds, and resumes nobody it did not suspend', async () => {
    const side = await newSide();
    const other = await open({ owner: side.owner });
    const id = await open({ agent: side.agent.name });
    must(await step(id, 'contain', { suspend: true }), 200);
    must(await step(other, 'contain', { suspend: true }), 200);
    const status = async () => (await admin('GET', `/agents/${side.agent.name}`)).body['status'];
    expect(must(await step(id, 'recover'), 200).body).toMatchObject({ measures: { resumed: [] } });
    expect(await status()).toBe('suspended');
    must(await step(other, 'recover'), 200);
    expect(await status()).toBe('suspended');
    must(await step(id, 'recover'), 200);
    expect(await status()).toBe('active');
    // Suspended for some other reason since: that is not this incident's to undo.
    must(await admin('PATCH', `/agents/${side.agent.name}`, { status: 'suspended' }), 200);
    must(await step(id, 'recover'), 200);
    expect(await status()).toBe('suspended');
  });

  test('leaves suspended whom somebody resumed and suspended again since', async () => {
    const side = await newSide();
    const id = await open({ agent: side.agent.name });
    must(await step(id, 'contain', { suspend: true }), 200);
    for (const status of ['active', 'suspended']) {
      must(await admin('PATCH', `/agents/${side.agent.name}`, { status }), 200);
    }
    expect(must(await step(id, 'recover'), 200).body).toMatchObject({ measures: { resumed: [] } });
    expect((await admin('GET', `/agents/${side.agent.name}`)).body['status']).toBe('suspended');
  });

  test('comes after every containing, however often it is back', async () => {
    const side = await newSide();
    const id = await open({ agent: side.agent.name });
    for (const revoke of [true, false, true]) {
      must(await step(id, 'contain', { suspend: true, revoke }), 200);
      expect((await admin('GET', `/agents/${side.agent.name}`)).body['status']).toBe('suspended');
      must(await step(id, 'recover'), 200);
      expect((await admin('GET', `/agents/${side.agent.name}`)).body['status']).toBe('active');
    }
  });

  test('at the moment another incident suspends the same agent leaves it suspended', async () => {
    const side = await newSide();
    for (const revoke of [true, false, true, false, true, false]) {
      const [id, other] = [await open({ agent: side.agent.name }), await open({ owner: side.owner })];
      must(await step(id, 'contain', { suspend: true }), 200);
      const both = await Promise.all([step(id, 'recover'), step(other, 'contain', { suspend: true, revoke })]);
      expect(both.map(({ status }) => status)).toEqual([200, 200]);
      expect((await admin('GET', `/agents/${side.agent.name}`)).body['status']).toBe('suspended');
      must(await step(other, 'recover'), 200);
      must(await step(id, 'recover'), 200);
    }
  });
});

describe('the check list', () => {
  test('names secrets to rotate, rights nobody used and people to tell; made again it adds what is new only', async () => {
    const side = await newSide();
    const token = await scene.actingToken(side);
    for (const at of [side.made, side.gateway]) {
      must(await scene.broker.grant(token, { connection: at.connection, scopes: ['use'] }), 201);
    }
    const id = await open({ agent: side.agent.name });
    must(await step(id, 'contain'), 200);
    const list = itemsOf(must(await step(id, 'remediate'), 200).body['incident']);
    const texts = (kind: string) => list.filter((item) => item.kind === kind).map((item) => item.text);
    expect(texts('narrow')).toHaveLength(1);
    expect(texts('narrow')[0]).toContain(side.jwt.connection);
    expect(texts('tell')).toEqual([
      `tell ${side.owner}, who owns ${side.agent.name}`,
      'tell corp:sam, for whom it acted',
    ]);
    // What went through the gateway never left Warder.
    expect(texts('rotate').join()).not.toContain(side.gateway.connection);
    expect(must(await step(id, 'remediate'), 200).body['added']).toBe(0);

    const about = await open({ connection: side.gateway.connection });
    const [first] = itemsOf(must(await step(about, 'remediate'), 200).body['incident']);
    expect(first).toMatchObject({ number: 1, kind: 'rotate', status: 'open' });
    expect(first?.text).toContain(`rotate the secret of ${side.gateway.connection} (the incident names it)`);
    // It has no way to be rotated that anybody has told: the item says what to do.
    expect((await admin('POST', `/incidents/${about}/items/1/rotate`)).status).toBe(409);
  });

  test('starts the rotation of a secret that Warder can rotate', async () => {
    const rotation: Provider['rotation'] = {
      methodSchema: {},
      checkMethod: () => ({ ok: true, value: {} }),
      destinations: () => [],
      overlaps: () => true,
      create: async ({ rotationId }) => ({ value: `sk_${rotationId}` }),
      set: async () => undefined,
      test: async () => undefined,
      undo: async () => undefined,
      retire: async () => undefined,
    };
    const rotating = await startBroker({
      extraProviders: [{ ...apiKeyProvider, type: 'test-rotating-key', rotation }],
    });
    const settings = { base_url: 'https://api.example.com', scopes: { use: [{ methods: ['GET'], path: '/**' }] } };
    const kept = { name: 'kept', provider: 'test-rotating-key', settings, secret: { value: 'sk_test_0123456789' } };
    must(await rotating.admin('POST', '/connections', kept), 201);
    const body = { title: 'x', selector: { provider: 'test-rotating-key' }, reason: 'x' };
    const id = String(must(await rotating.admin('POST', '/incidents', body), 201).body['id']);
    const made = must(await rotating.admin('POST', `/incidents/${id}/remediate`), 200).body;
    expect(itemsOf(made['incident'])).toMatchObject([{ number: 1, kind: 'rotate', status: 'open' }]);
    const item = must(await rotating.admin('POST', `/incidents/${id}/items/1/rotate`), 200).body;
    expect(item).toMatchObject({ status: 'open', note: expect.stringMatching(/^rotation rot_\w+ was asked for$/) });
    const version = async () => (await rotating.admin('GET', '/connections/kept')).body['secret'];
    await eventually('the new secret is in force', version, (secret) => (secret as { version: number }).version === 2);
    const timeline = items(await rotating.admin('GET', `/incidents/${id}/timeline?limit=500`)).map(
      (one) => one['type'],
    );
    expect(timeline).toEqual(expect.arrayContaining(['incident.item_updated', 'rotation.asked', 'rotation.finished']));
    const { contained } = must(await rotating.admin('GET', `/incidents/${id}/report`), 200).body;
    expect(contained).toMatchObject({ rotations: [{ connection: 'kept' }] });
    await rotating.close();
  });

  test('is worked on: assigned, done with a note, waived with a reason, opened again', async () => {
    const id = await open({ agent: (await newSide()).agent.name });
    const added = must(await admin('POST', `/incidents/${id}/items`, { text: 'call the bank' }), 201).body;
    expect(added).toMatchObject({ number: 1, kind: 'other', status: 'open' });
    const patch = (body: object, number: number | string = 1) =>
      admin('PATCH', `/incidents/${id}/items/${number}`, body);
    expect((await patch({ status: 'done' })).status).toBe(400);
    expect((await patch({ status: 'waived' })).status).toBe(400);
    expect((await patch({})).status).toBe(400);
    expect((await patch({ assigned_to: 'ann' }, 2)).status).toBe(404);
    expect((await patch({ assigned_to: 'ann' }, '0x1')).status).toBe(404);
    expect(must(await patch({ assigned_to: 'ann' }), 200).body).toMatchObject({ assigned_to: 'ann', status: 'open' });
    expect((await step(id, 'close')).status).toBe(409);
    expect(must(await patch({ status: 'done', note: 'called' }), 200).body).toMatchObject({
      status: 'done',
      closed_by: 'admin',
    });
    must(await patch({ status: 'open' }), 200);
    expect((await step(id, 'close')).status).toBe(409);
    must(await patch({ status: 'waived', note: 'it is closed today' }), 200);
    expect((await admin('POST', `/incidents/${id}/items/1/rotate`)).status).toBe(409);
    must(await step(id, 'close'), 200);
  });

  test('grows by every item of twenty that are added at once, each under a number of its own', async () => {
    const id = await open({ agent: (await newSide()).agent.name });
    const add = (i: number) => admin('POST', `/incidents/${id}/items`, { text: `item ${i}` });
    await Promise.all(Array.from({ length: 20 }, (_, i) => add(i)));
    const list = itemsOf(await show(id));
    expect(list.map((item) => item.number)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(new Set(list.map((item) => item.text)).size).toBe(20);
  });
});

describe('the report', () => {
  test('counts the same for every selector that means the same', async () => {
    const side = await newSide();
    const token = await scene.actingToken(side);
    const granted = must(
      await scene.broker.grant(token, { connection: side.gateway.connection, scopes: ['use'] }),
      201,
    );
    const credential = granted.body['credential'] as { token: string; base_url: string };
    const call = await fetch(`${credential.base_url}/v1/customers/12345`, {
      method: 'POST',
      headers: { authorization: `Bearer ${credential.token}` },
      body: 'ten bytes.',
    });
    await call.arrayBuffer();
    await eventually(
      'the end of the call is recorded',
      async () => items(await admin('GET', `/audit?connection=${side.gateway.connection}&type=gateway.completed`)),
      (ended) => ended.length === 1,
    );
    const facts = scene.factsOf(side, side.gateway, '');
    const selectors = [
      { agent: facts.agent },
      { owner: facts.owner },
      { connection: facts.connection },
      { entitlement: facts.entitlement },
      { agent: facts.agent, subject: 'corp:sam' },
      { agent: facts.agent, issuer: 'corp' },
      { agent: facts.agent, provider: 'api-key' },
    ];
    for (const selector of selectors) {
      expect(await report(await open(selector))).toMatchObject({
        obtained: {
          grants: 1,
          by_connection: { items: [{ agent: facts.agent, connection: facts.connection, scopes: ['use'] }] },
        },
        did: {
          calls: 1,
          bytes_sent: 10,
          bytes_received: 11,
          systems: { items: [{ methods: { POST: 1 }, statuses: { '2xx': 1 } }] },
          paths: { items: [{ method: 'POST', path: '/v1/customers/*' }] },
        },
        people: { items: [{ subject: 'corp:sam' }] },
        live_now: { grants: 1 },
      });
    }
    const nothing = await report(await open({ agent: facts.agent, subject: 'corp:ann' }));
    expect(nothing).toMatchObject({ obtained: { grants: 0 }, did: { calls: 0 }, read: { matched: 0 } });
  });

  test('tells what is new from what was done before the window', async () => {
    const side = await newSide();
    const old = await scene.throughGateway(side);
    await old.alive();
    const from = new Date().toISOString();
    expect((await ask(side)).status).toBe(201);
    expect((await ask(side, side.jwt.connection)).status).toBe(201);
    const id = await open({ agent: side.agent.name }, { window: { from } });
    const { first_time, read } = (await report(id)) as {
      first_time: { items: { kind: string; what: string }[] };
      read: object;
    };
    expect(
      first_time.items.map(({ kind, what }) => `${kind} ${what}`).filter((one) => !one.startsWith('hour')),
    ).toEqual([`connection ${side.jwt.connection}`, `scope ${side.jwt.connection} use`]);
    expect(read).toMatchObject({ cut_at: null, history: { whole: true } });
    const addressed = await report(await open({ agent: side.agent.name }));
    expect(JSON.stringify(addressed['first_time'])).toContain('127.0.0.1');
  });

  test('can still be read when agent and connection are deleted, with the names they had', async () => {
    const side = await newSide();
    expect((await ask(side, side.jwt.connection)).status).toBe(201);
    const id = await open({ agent: side.agent.name, connection: side.jwt.connection });
    must(await step(id, 'contain', { suspend: true }), 200);
    must(await admin('DELETE', `/agents/${side.agent.name}`), 204);
    must(await admin('DELETE', `/connections/${side.jwt.connection}`), 204);
    expect(await report(id)).toMatchObject({
      incident: { selector: { agent: side.agent.name, connection: side.jwt.connection } },
      obtained: { grants: 1, by_connection: { items: [{ agent: side.agent.name, connection: side.jwt.connection }] } },
      contained: { suspended: [side.agent.name] },
    });
    must(await step(id, 'remediate'), 200);
    must(await step(id, 'recover', { narrow_unused: true }), 200);
    await waiveAll(id);
    must(await step(id, 'close'), 200);
  });

  test('is a file in three formats, none of which a browser runs', async () => {
    const id = await open({ everything: true }, { title: '<script>alert(1)</script> | `x`' });
    const formats = { json: 'application/json', md: 'text/markdown', html: 'text/html' };
    for (const [format, type] of Object.entries(formats)) {
      const answer = must(await admin('GET', `/incidents/${id}/report?format=${format}`), 200);
      expect(answer.headers.get('content-type')).toContain(type);
      expect(answer.headers.get('content-disposition')).toBe(`attachment; filename="${id}.${format}"`);
      expect(answer.headers.get('content-security-policy')).toContain("default-src 'none'");
      expect(answer.headers.get('cache-control')).toBe('no-store');
      if (format === 'html') expect(answer.text).not.toContain('<script');
    }
    expect((await admin('GET', `/incidents/${id}/report?format=pdf`)).status).toBe(400);
  });
});

describe('the timeline', () => {
  test('has in one order what it did and what was done about it, and is the same in pages of any size', async () => {
    const [side, bystander] = [await newSide(), await newSide()];
    expect([(await ask(side)).status, (await ask(bystander)).status]).toEqual([201, 201]);
    const id = await open({ agent: side.agent.name });
    const stranger = await open({ agent: bystander.agent.name });
    must(await step(id, 'contain', { suspend: true }), 200);
    must(await step(stranger, 'contain'), 200);
    must(await admin('POST', `/incidents/${id}/notes`, { note: 'it was the intern' }), 200);
    must(await step(id, 'remediate'), 200);
    must(await step(id, 'recover'), 200);
    await eventually(
      'the revocation is complete',
      async () => items(await admin('GET', '/revocations')),
      (revocations) => revocations.every((one) => one['completed_at'] !== null),
    );
    const pages = async (limit: number): Promise<Record<string, unknown>[]> => {
      const all: Record<string, unknown>[] = [];
      for (let cursor = ''; ; ) {
        const answer = must(await admin('GET', `/incidents/${id}/timeline?limit=${limit}${cursor}`), 200);
        all.push(...items(answer));
        if (answer.body['next_cursor'] === null) return all;
        cursor = `&cursor=${answer.body['next_cursor']}`;
      }
    };
    const whole = await pages(500);
    const seqs = whole.map((entry) => Number(entry['seq']));
    expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
    const types = whole.map((entry) => entry['type']);
    const expected = [
      'agent.created',
      'token.issued',
      'grant.issued',
      'incident.opened',
      'revocation.created',
      'agent.suspended',
      'freeze.created',
      'incident.contained',
      'incident.noted',
      'incident.remediating',
      'incident.recovered',
      'freeze.lifted',
      'agent.resumed',
    ];
    let at = -1;
    for (const type of expected) {
      const found = types.indexOf(type, at + 1);
      expect([type, found > at]).toEqual([type, true]);
      at = found;
    }
    expect(JSON.stringify(whole)).not.toContain(bystander.agent.id);
    for (const limit of [1, 3, 7]) expect(await pages(limit)).toEqual(whole);
  });
});

describe('who may what', () => {
  test('responders act, auditors read, approvers do neither', async () => {
    const side = await newSide();
    const id = await open({ agent: side.agent.name });
    const tokens = await Promise.all(
      ['responder', 'auditor', 'approver'].map(async (role) =>
        String(must(await admin('POST', '/operators', { name: `in-${role}`, roles: [role] }), 201).body['token']),
      ),
    );
    const statuses = async (method: string, path: string, body?: object) =>
      Promise.all(tokens.map(async (token) => (await admin(method, path, body, token)).status));
    expect(await statuses('POST', `/incidents/${id}/contain`, { reason: 'x', suspend: true })).toEqual([200, 403, 403]);
    expect(await statuses('GET', `/incidents/${id}/report`)).toEqual([200, 200, 403]);
    expect(await statuses('GET', `/incidents/${id}/timeline`)).toEqual([200, 200, 403]);
    expect(await statuses('POST', `/incidents/${id}/recover`, { reason: 'x' })).toEqual([200, 403, 403]);
    expect(await statuses('POST', '/freezes', { selector: { agent: side.agent.name }, reason: 'x' })).toEqual([
      201, 403, 403,
    ]);
  });

  test.each([
    [{ window: { from: '2999-01-01T00:00:00Z' } }, 400],
    [{ window: { from: '2026-01-02T00:00:00Z', to: '2026-01-01T00:00:00Z' } }, 400],
    [{ selector: { grant: 'grt_1' } }, 400],
    [{ selector: {} }, 400],
    [{ severity: 'catastrophic' }, 400],
    [{ title: 'two\nlines' }, 400],
  ])('an incident is not opened with %j', async (more, status) => {
    const body = { title: 'x', selector: { everything: true }, reason: 'x', ...more };
    expect((await admin('POST', '/incidents', body)).status).toBe(status);
  });
});
