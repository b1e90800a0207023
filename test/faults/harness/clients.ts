/**
 * Those who use a broker until it dies under them: agents, responders, ops, and trouble at the upstream. They write into
 * the memory what was acknowledged to them, and use at once what an acknowledgement says is dead.
 */
import type { Selector } from '../../../src/domain/model.ts';
import { pause } from '../../support/eventually.ts';
import type { Behaviour, UpstreamOperation } from '../../support/upstream-service.ts';
import { takeBackup } from './backups.ts';
import { type Agent, connections, type Held, providersOf, reaches, reachesTokensOf } from './memory.ts';
import { callThroughGateway, noAnswer, type Use, useGrant, useToken } from './probes.ts';
import { rotateKey } from './rotations.ts';
import { count, type Work } from './work.ts';
import type { World } from './world.ts';

/** What is no sign of its death is a mistake of the harness. */
const untilItDies = async (work: Work, act: () => Promise<void>): Promise<void> => {
  while (!work.over.value) {
    try {
      await act();
    } catch (error) {
      if (!noAnswer(error)) throw error;
      work.figures.unanswered += 1;
      return;
    }
  }
};

const mustFail = ({ found, figures }: Work, uses: Use[], whose: string): void => {
  for (const { point, works, answer } of uses) {
    figures.checked.add(`3 at once, ${point}`);
    if (works) found(3, `${whose} went through at ${point}: ${answer}`);
  }
};

const issue = async (work: Work, agent: Agent, token: string): Promise<void> => {
  const { chance, broker, world } = work;
  const connection = chance.pick(connections) ?? 'gate';
  // A few end while the run goes on: by the clock, and through the drain.
  const ttlSeconds = chance.next() < 0.08 ? chance.between(2, 4) : 3600;
  const answer = await broker.grant(token, { connection, scopes: ['all'], ttl_seconds: ttlSeconds });
  if (count(work, `issue ${connection}`, answer)) {
    const grant = answer.body['grant'] as { id: string; expires_at: string };
    world.memory.delivered({
      id: grant.id,
      agent,
      connection,
      credential: answer.body['credential'] as Held['credential'],
      expiresAt: Date.parse(grant.expires_at),
      askedBack: false,
      ended: undefined,
    });
  } else if (answer.status === 401) agent.token = undefined;
};

const giveBack = async (work: Work, held: Held, token: string): Promise<void> => {
  const { world, broker } = work;
  held.askedBack = true;
  const answer = await broker.json('DELETE', `/v1/grants/${held.id}`, token);
  if (!count(work, 'return', answer)) {
    if (answer.status === 401) held.agent.token = undefined;
    return;
  }
  world.memory.end(held, 'returned');
  mustFail(work, await useGrant(world, broker, held), `${held.id}, returned,`);
};

/** An agent: one request after another. */
const agentWorks = (work: Work, agent: Agent): Promise<void> =>
  untilItDies(work, async () => {
    const { chance, broker, world, figures } = work;
    if (agent.token === undefined) {
      const answer = await broker.form('/token', { grant_type: 'client_credentials' }, agent);
      // Suspended: somebody resumes it in a moment.
      if (!count(work, 'token', answer)) return pause(10);
      agent.token = String(answer.body['access_token']);
      world.memory.tokens.add({ token: agent.token, agent });
      return;
    }
    const { token } = agent;
    const mine = chance.pick(newest(world, agent));
    if (!mine || chance.next() < 0.6) return issue(work, agent, token);
    const what = chance.weighted([
      [20, 'call'],
      [8, 'renew'],
      [12, 'return'],
      [4, 'try a dead one'],
    ]);
    if (what === 'return') return giveBack(work, mine, token);
    if (what === 'try a dead one') {
      const dead = chance.pick(world.memory.dead.slice(-200));
      if (dead) mustFail(work, await useGrant(world, broker, dead), `${dead.id}, ${dead.ended},`);
      return;
    }
    if (what === 'call' && mine.connection === 'gate') {
      const { status } = await callThroughGateway(broker, mine.credential.token ?? '');
      if (status === 200) figures.done.add('call through the gateway');
      return;
    }
    if (what === 'call') {
      await useGrant(world, broker, mine);
      figures.done.add('use');
      return;
    }
    const answer = await broker.json('POST', `/v1/grants/${mine.id}/renew`, token, { ttl_seconds: 7200 });
    if (count(work, 'renew', answer)) {
      const { expires_at } = answer.body['grant'] as { expires_at: string };
      mine.expiresAt = Math.max(mine.expiresAt, Date.parse(expires_at));
    } else if (answer.status === 401) agent.token = undefined;
  });

/** Some of what an agent holds and nobody asked back, the newest first. */
const newest = ({ memory }: World, agent: Agent): Held[] => {
  const some: Held[] = [];
  for (const held of [...memory.living].slice(-300)) if (held.agent === agent && !held.askedBack) some.push(held);
  return some;
};

const someSelector = ({ chance, world }: Work): { kind: string; selector: Selector } => {
  const { memory } = world;
  const agent = chance.pick(memory.agents);
  const connection = chance.pick(connections) ?? 'gate';
  const grant = chance.pick([...memory.living].slice(-100));
  if (!agent) throw new Error('there are no agents');
  const kind = chance.weighted([
    [60, 'grant'],
    [6, 'agent'],
    [5, 'connection'],
    [4, 'provider'],
    [4, 'owner'],
    [8, 'entitlement'],
    [8, 'agent and connection'],
    [3, 'owner and provider'],
    [2, 'everything'],
  ]);
  const selectors: Record<string, Selector> = {
    agent: { agent: agent.name },
    connection: { connection },
    provider: { provider: providersOf[connection] },
    owner: { owner: agent.owner },
    entitlement: { entitlement: agent.entitlements.get(connection) ?? '' },
    'agent and connection': { agent: agent.name, connection },
    'owner and provider': { owner: agent.owner, provider: providersOf[connection] },
    everything: { everything: true },
  };
  if (kind === 'grant' && grant) return { kind, selector: { grant: grant.id } };
  return { kind: kind === 'grant' ? 'agent' : kind, selector: selectors[kind] ?? { agent: agent.name } };
};

const revokeSome = async (work: Work): Promise<void> => {
  const { chance, world, broker } = work;
  const { memory } = world;
  const { kind, selector } = someSelector(work);
  const hit = [...memory.living].filter((held) => reaches(selector, held));
  const tokens = [...memory.tokens].filter(({ agent }) => reachesTokensOf(selector, agent));
  const suspended = chance.next() < 0.05 ? memory.agents.find(({ name }) => name === selector.agent) : undefined;
  const tell = suspended && memory.suspended.get(suspended)?.send(true);
  const sent = { reason: `run ${memory.revocations.length}`, selector, acknowledged: undefined };
  const revocation: (typeof memory.revocations)[number] = sent;
  memory.revocations.push(revocation);
  const rotate = selector.connection === 'keyed' && chance.next() < 0.4;
  const body = { selector, reason: sent.reason, suspend: suspended !== undefined, rotate };
  const answer = await broker.admin('POST', '/revocations', body);
  const fine = count(work, `revoke ${kind}`, answer);
  tell?.(fine);
  if (!fine) return;
  revocation.acknowledged = { id: String(answer.body['id']), fence: Number(answer.body['fence']) };
  memory.unchecked.revocations.push(revocation);
  if (rotate) memory.rotatedBy.push(revocation.acknowledged.id);
  for (const held of hit) memory.end(held, 'revoked');
  for (const one of tokens) {
    memory.tokens.delete(one);
    if (one.agent.token === one.token) one.agent.token = undefined;
  }
  for (const held of chance.sample(hit, 3)) {
    mustFail(work, await useGrant(world, broker, held), `${held.id} (${held.connection}), revoked by ${kind},`);
  }
  for (const one of chance.sample(tokens, 1)) {
    mustFail(work, await useToken(world, broker, one), `a token of ${one.agent.name}, revoked by ${kind},`);
  }
};

/** Lets an agent work again. */
export const resume = async (work: Work, agent: Agent): Promise<void> => {
  const tell = work.world.memory.suspended.get(agent)?.send(false);
  const answer = await work.broker.admin('PATCH', `/agents/${agent.name}`, { status: 'active' });
  tell?.(count(work, 'resume', answer));
};

const respond = (work: Work): Promise<void> =>
  untilItDies(work, async () => {
    await pause(work.chance.between(0, 12));
    await revokeSome(work);
    for (const [agent, register] of work.world.memory.suspended) {
      if (register.possible.includes(true)) await resume(work, agent);
    }
  });

let secrets = 0;

/** A new secret for the gateway; from the acknowledgement on calls carry it. */
const setSecret = async (work: Work): Promise<void> => {
  const { chance, broker, world, figures, found } = work;
  const { memory, target } = world;
  secrets += 1;
  const value = `sk_${secrets}_0123456789abcdef`;
  const tell = memory.secret.send(value);
  const fine = count(work, 'rotate secret', await broker.admin('PUT', '/connections/gate/secret', { value }));
  tell(fine);
  const caller = chance.pick([...memory.living].slice(-100).filter(({ connection }) => connection === 'gate'));
  if (!fine || !caller) return;
  const { word } = await callThroughGateway(broker, caller.credential.token ?? '');
  const carried = target.arrived.get(word);
  if (carried === undefined) return;
  figures.checked.add('2 at once, the new secret is in force');
  if (carried !== `Bearer ${value}`) found(2, `a call after ${value} was acknowledged carried ${carried}`);
};

/** What ops change: the secret behind the gateway, and the broker's own keys. */
const operate = (work: Work): Promise<void> =>
  untilItDies(work, async () => {
    const { chance, broker, world } = work;
    const { memory } = world;
    await pause(chance.between(5, 60));
    const what = chance.weighted<'secret' | 'rotation' | 'backup' | 'key-encryption' | 'signing'>([
      [50, 'secret'],
      [25, 'rotation'],
      [12, 'backup'],
      [2, 'key-encryption'],
      [2, 'signing'],
    ]);
    if (what === 'secret') return setSecret(work);
    if (what === 'rotation') return rotateKey(work);
    if (what === 'backup') return takeBackup(work);
    const path = what === 'signing' ? '/keys/signing/rotate' : '/keys/rotate';
    const answer = await broker.admin('POST', path);
    if (!count(work, `rotate ${what} key`, answer)) return;
    memory.keys.push({ kind: what, id: String(answer.body[what === 'signing' ? 'to' : 'number']) });
  });

const troubles: readonly (readonly [number, Behaviour])[] = [
  [4, { kind: 'slow', ms: 40 }],
  [3, { kind: 'fail-before' }],
  [3, { kind: 'fail-after' }],
  [3, { kind: 'late', ms: 60 }],
  [2, { kind: 'nonsense' }],
  [1, { kind: 'refuse' }],
  [1, { kind: 'hang' }],
];
const troubled: readonly UpstreamOperation[] = [
  'create',
  'create',
  'delete',
  'renew',
  'key-create',
  'key-test',
  'key-delete',
];

/** Now and then the upstream is down, slow, or does what it is asked and its answer is lost; never for long. */
const makeTrouble = async ({ world, chance, over }: Work): Promise<void> => {
  while (!over.value) {
    await pause(chance.between(20, 150));
    const operation = chance.pick(troubled) ?? 'create';
    await world.upstream.behave(operation, chance.weighted(troubles));
    await pause(chance.between(10, 80));
    await world.upstream.behave(operation, { kind: 'ok' });
  }
};

/** Everybody at work, until the broker is gone and all of them have seen it. */
export const allWork = async (work: Work): Promise<void> => {
  const as = (name: string): Work => ({ ...work, chance: work.chance.fork(name) });
  const { agents } = work.world.memory;
  const trouble = makeTrouble(as('trouble'));
  await Promise.all([
    ...agents.flatMap((agent) => [0, 1].map((i) => agentWorks(as(`${agent.name} ${i}`), agent))),
    respond(as('responder')),
    operate(as('ops')),
  ]);
  work.over.value = true;
  await trouble;
};
