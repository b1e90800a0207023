/** Which signals an entry makes, and how one that makes many is told of to the end. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { decodeJwt } from 'jose';
import type { Selector } from '../../../src/domain/model.ts';
import { signalEvents } from '../../../src/domain/signals.ts';
import { createStream, renewReceiverToken, streamCalled } from '../../../src/services/alerts/manage-streams.ts';
import { closeReceiverStream } from '../../../src/services/alerts/receiver-streams.ts';
import { commit, record } from '../../../src/services/core.ts';
import * as make from '../../conformance/ledger-rows.ts';
import { removeTemporaryDirs } from '../../support/broker.ts';
import { eventually, pause } from '../../support/eventually.ts';
import { caller, type Endpoint, openRig, type Rig, startEndpoint, status } from './rig.ts';

let rig: Rig;
let endpoint: Endpoint;
const agents = Array.from({ length: 120 }, (_, i) =>
  make.agent({ name: `agent-${i}`, owner: i < 3 ? 'few@example.com' : 'many@example.com' }),
);
const connection = make.connection();
const entitled = make.entitlement(agents[5] ?? make.agent(), connection, { on_behalf_of: ['corp:*'] });

beforeAll(async () => {
  rig = await openRig();
  const grants = [5, 6].map((i) =>
    make.grant({
      agent_id: agents[i]?.id ?? '',
      connection_id: connection.id,
      expires_at: Date.now() + 3_600_000,
      max_expires_at: Date.now() + 3_600_000,
      id: make.id('grt', Date.now()),
    }),
  );
  await commit(rig.core, {
    writes: [
      ...agents.map((row) => make.insert('agents', row)),
      make.insert('connections', connection),
      make.insert('entitlements', entitled),
      ...grants.map((row) => make.insert('grants', row)),
    ],
    audit: [make.entry()],
  });
});
beforeEach(async () => {
  await rig.begin();
  endpoint = await startEndpoint();
  await createStream(
    rig.core,
    {
      name: 'rp',
      aud: ['rp'],
      events: [...signalEvents],
      allow_private_network: true,
      share_reasons: false,
      delivery: { method: 'push', endpoint_url: endpoint.url },
    },
    caller,
  );
});
afterEach(() => endpoint.close());
afterAll(async () => {
  await rig.close();
  removeTemporaryDirs();
});

const revoked = (selector: Selector) =>
  commit(rig.core, {
    writes: [],
    audit: [record(rig.core, caller, { type: 'revocation.created', data: { selector } })],
  });
const subjects = (): unknown[] =>
  endpoint.got.map(({ body }) => (decodeJwt(body) as unknown as { sub_id: { sub?: string } }).sub_id.sub);
const named = (...numbers: number[]): string[] => numbers.map((i) => agents[i]?.name ?? '');
const stream = () => streamCalled(rig.core, 'rp');

describe('a revocation', () => {
  test('of everything is told agent by agent, each once, across a restart in the middle', async () => {
    endpoint.answer((received, res) => status(endpoint.got.length === 61 ? 500 : 202)(received, res));
    await revoked({ everything: true });
    await eventually(
      'half of them',
      () => endpoint.got.length,
      (got) => got >= 61,
    );
    await rig.restart();
    expect(stream().cursor_part).toMatch(/^agt_/);
    await eventually(
      'all of them',
      () => new Set(subjects()).size,
      (count) => count === agents.length,
    );
    await pause(30);
    expect(endpoint.got).toHaveLength(agents.length + 1);
    const names = new Set(endpoint.got.map(({ body }) => decodeJwt(body).jti));
    expect(names.size).toBe(agents.length);
    await rig.restart();
    expect(stream()).toMatchObject({ cursor_part: '', delivered: agents.length });
  });

  const selectors: [string, () => Selector, string[]][] = [
    ['an agent', () => ({ agent: agents[7]?.id ?? '' }), named(7)],
    ['an owner', () => ({ owner: 'few@example.com' }), named(0, 1, 2)],
    ['a connection', () => ({ connection: connection.id }), named(5, 6)],
    ['a provider', () => ({ provider: connection.provider }), named(5, 6)],
    ['a provider and an agent', () => ({ provider: connection.provider, agent: agents[6]?.id ?? '' }), named(6)],
    ['an entitlement', () => ({ entitlement: entitled.id }), named(5)],
    ['an issuer', () => ({ issuer: 'iss_1' }), named(5)],
    ['a person', () => ({ subject: 'corp:alice' }), ['corp:alice']],
    ['nobody', () => ({}), []],
  ];
  test.each(selectors)('of %s names whom it reaches', async (_, selector, expected) => {
    await revoked(selector());
    await revoked({ subject: 'corp:last' });
    await eventually('the last one', subjects, (all) => all.includes('corp:last'));
    expect(subjects()).toEqual([...expected, 'corp:last']);
  });
});

test('a revocation by owner names whom that owner owned at the fence, to whom they were given since', async () => {
  const [one, two] = [agents[0] ?? make.agent(), agents[1] ?? make.agent()];
  const selector = { owner: 'few@example.com' };
  const row = make.revocation({ selector, owned_agents: [one.id, two.id] });
  const { version } = rig.core.state.agents.get(one.id) ?? one;
  const given = (owner: string, from: number): Promise<unknown> =>
    commit(rig.core, {
      writes: [
        { write: 'update', table: 'agents', id: one.id, set: { owner, version: from + 1 }, from: { version: from } },
      ],
      audit: [make.entry()],
    });
  await given('many@example.com', version);
  await commit(rig.core, {
    writes: [make.insert('revocations', row)],
    audit: [record(rig.core, caller, { type: 'revocation.created', data: { selector, revocation: row.id } })],
  });
  await revoked({ subject: 'corp:last' });
  await eventually('the last one', subjects, (all) => all.includes('corp:last'));
  expect(subjects()).toEqual([...named(0, 1), 'corp:last']);
  await given('few@example.com', version + 1);
});

test('a rotation that fences is told to whoever holds something of the old secret, then that the secret changed', async () => {
  const data = { rotation: 'rot_1', fence: 'rev_1' };
  const { id, name } = connection;
  const finished = record(rig.core, caller, { type: 'rotation.finished', connection: { id, name }, data });
  await commit(rig.core, { writes: [], audit: [finished] });
  await eventually(
    'three',
    () => endpoint.got.length,
    (got) => got === 3,
  );
  expect(subjects()).toEqual([...named(5, 6), undefined]);
  expect(decodeJwt(endpoint.got[2]?.body ?? '')).toMatchObject({
    sub_id: { format: 'uri', uri: `${rig.core.issuer}/connections/${name}` },
  });
});

test('a stream that its receiver closes while it is told is told no more', async () => {
  endpoint.answer(() => undefined);
  await revoked({ everything: true });
  await eventually(
    'one',
    () => endpoint.got.length,
    (got) => got === 1,
  );
  await closeReceiverStream(rig.core, stream(), caller);
  await rig.restart();
  await pause(50);
  expect(endpoint.got).toHaveLength(1);
  expect(await renewReceiverToken(rig.core, stream(), caller)).toMatch(/^wdr_ssf_/);
});
