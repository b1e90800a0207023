/** What must be so after a restart, invariant by invariant: what clients remember against what there is. */
import { verifyAuditExport } from '../../../src/services/audit/verify-audit.ts';
import type { BrokerClient } from '../../support/broker.ts';
import { eventually } from '../../support/eventually.ts';
import { grantOf } from '../../support/upstream-provider.ts';
import { restoredIsDead } from './backups.ts';
import { resume } from './clients.ts';
import { type Held, withAccounts } from './memory.ts';
import { callThroughGateway, useGrant } from './probes.ts';
import { rotationsKept, rotationsRight } from './rotations.ts';
import type { Work } from './work.ts';
import type { World } from './world.ts';

/** Whoever ends this soon is not asked. */
const soonMs = 2_500;

const exported = async (broker: BrokerClient, query = ''): Promise<string> => {
  const headers = { authorization: `Bearer ${broker.adminToken}` };
  return (await broker.fetch(`/admin/v1/audit/export${query}`, { headers })).text();
};

/** Reads what is new in the log. */
export const readLog = async ({ world, broker, found }: Work): Promise<void> => {
  const { view } = world;
  // Times are given before entries are ordered; a little from before is read again and skipped.
  const from = new Date(Date.parse(view.newest) - 10_000).toISOString();
  const text = await exported(broker, view.size === 0 ? '' : `?from=${from}`);
  for (const wrong of view.read(text.split('\n').filter((line) => line !== ''))) found(2, wrong);
};

/** The whole log against its own checkpoint, and against those shown before. */
export const verifyLog = async ({ world, broker, figures, found }: Work, at: string): Promise<void> => {
  const bytes = Buffer.from(await exported(broker));
  const source = (async function* () {
    yield bytes;
  })();
  const verdict = await verifyAuditExport(source, { checkpoints: world.checkpoints });
  figures.checked.add('1 audit verify');
  if (!verdict.ok) return found(1, `the audit log does not verify: ${JSON.stringify(verdict.fault)}`);
  if (verdict.entries < world.view.size) found(2, `the log has ${verdict.entries} entries and had ${world.view.size}`);
  const { body } = await broker.admin('GET', '/audit/checkpoint');
  world.checkpoints.push({ source: at, note: String(body['checkpoint']) });
  if (world.checkpoints.length > 5) world.checkpoints.shift();
};

/** 1: what was delivered, and what was called, is recorded. */
const recorded = ({ world, figures, found }: Work, reached: readonly string[]): void => {
  const { memory, view } = world;
  figures.checked.add('1 delivered and recorded', memory.unchecked.grants.length);
  for (const { id } of memory.unchecked.grants.splice(0)) {
    if (!view.issued.has(id)) found(1, `${id} was delivered without an entry`);
  }
  figures.checked.add('1 called and recorded', reached.length);
  for (const word of reached) if (!view.calls.has(word)) found(1, `call ${word} reached the upstream without an entry`);
};

/** 2: what was acknowledged is there. */
const kept = async (work: Work): Promise<void> => {
  const { world, broker, figures, found, chance } = work;
  const { memory, view } = world;
  for (const { reason, acknowledged } of memory.unchecked.revocations.splice(0)) {
    figures.checked.add('2 revocations');
    const there = view.revocations.get(reason);
    if (!there || there.id !== acknowledged?.id || there.seq !== acknowledged.fence)
      found(2, `revocation “${reason}” is lost`);
  }
  for (const { reason, acknowledged } of chance.sample(memory.revocations.slice(-20), 4)) {
    if (!acknowledged) continue;
    const { status, body } = await broker.admin('GET', `/revocations/${acknowledged.id}`);
    if (status !== 200 || body['fence'] !== acknowledged.fence)
      found(2, `revocation “${reason}” is not shown: ${status}`);
  }
  for (const held of memory.held.values()) {
    const how = view.ended.get(held.id);
    if (how === 'returned' && !held.askedBack) found(2, `${held.id} is returned, and nobody asked for that`);
    // An end that was acknowledged, and the log knows of none.
    if (held.ended && !how && view.living.has(held.id)) found(2, `${held.id} was ${held.ended}, and that is lost`);
    if (how) memory.end(held, how);
  }
  const keys = (await broker.admin('GET', '/keys')).body;
  const there = {
    'key-encryption': new Set(
      (keys['key_encryption_keys'] as { number: number }[]).map(({ number }) => String(number)),
    ),
    signing: new Set((keys['signing_keys'] as { id: string }[]).map(({ id }) => id)),
  };
  for (const key of memory.keys) {
    figures.checked.add('2 keys');
    // A signing key that was replaced goes when nothing it signed is alive; that is hours away.
    if (!there[key.kind].has(key.id)) found(2, `the ${key.kind} key ${key.id} is lost`);
  }
  for (const [agent, register] of memory.suspended) {
    const { body } = await broker.admin('GET', `/agents/${agent.name}`);
    if (!register.settle(body['status'] === 'suspended')) found(2, `${register.what} is lost: ${body['status']}`);
    if (body['status'] === 'suspended') await resume(work, agent);
    agent.token = undefined;
  }
};

/** Half of them the newest. */
const some = ({ chance, tried }: Work, list: readonly Held[]): Held[] => [
  ...new Set([...list.slice(-tried / 2), ...chance.sample(list, tried / 2)]),
];

/** 2 and 3: who lives by the log is let through everywhere, and who does not, nowhere. */
const judged = async (work: Work): Promise<void> => {
  const { world, broker, figures, found } = work;
  const { memory, view, upstream } = world;
  const now = Date.now();
  const alive = [...memory.living].filter((held) => {
    const expiresAt = view.living.get(held.id)?.expiresAt ?? 0;
    return expiresAt > now + soonMs;
  });
  for (const held of some(work, alive)) {
    const shown = await broker.admin('GET', `/grants/${held.id}`);
    const { status, expires_at } = shown.body;
    figures.checked.add('2 alive and let through');
    if (status !== 'active') found(2, `${held.id} (${held.connection}) was delivered and is ${shown.status} ${status}`);
    if (Date.parse(String(expires_at)) < held.expiresAt) found(2, `${held.id} lost its renewal`);
    for (const { point, works, answer } of await useGrant(world, broker, held)) {
      if (!works) found(2, `${held.id} (${held.connection}) is not let through at ${point}: ${answer}`);
    }
    if (!withAccounts.includes(held.connection)) continue;
    const used = await upstream.use(held.credential, 'all');
    if (used !== 200) found(2, `the account of ${held.id} (${held.connection}) does not work: ${used}`);
  }
  for (const held of some(work, memory.dead)) {
    const { body } = await broker.admin('GET', `/grants/${held.id}`);
    if (body['status'] === 'active') found(3, `${held.id}, ${held.ended}, is shown as active`);
    for (const { point, works, answer } of await useGrant(world, broker, held)) {
      figures.checked.add(`3 after a restart, ${point}`);
      if (works) found(3, `${held.id} (${held.connection}), ${held.ended}, is let through at ${point}: ${answer}`);
    }
  }
  // By the log, which has every renewal: what was not heard of may have prolonged it.
  const over = [...memory.living].filter((held) => (view.living.get(held.id)?.expiresAt ?? now) < now);
  for (const held of work.chance.sample(over, 4)) {
    for (const { point, works, answer } of await useGrant(world, broker, held)) {
      figures.checked.add(`6 ${point}`);
      if (works) found(6, `${held.id} (${held.connection}), expired, is let through at ${point}: ${answer}`);
    }
  }
};

/** 2: the secret that calls carry is one that may be in force. */
const secretInForce = async ({ world, broker, found, figures }: Work): Promise<void> => {
  const { memory, target } = world;
  const [agent] = memory.agents;
  if (!agent) throw new Error('there are no agents');
  agent.token ??= await broker.agentToken(agent);
  const answer = await broker.grant(agent.token, { connection: 'gate', scopes: ['all'], ttl_seconds: 60 });
  if (answer.status !== 201) return found(2, `after a restart nothing is issued: ${answer.status} ${answer.text}`);
  const { token = '' } = answer.body['credential'] as { token?: string };
  const { word } = await callThroughGateway(broker, token);
  const carried = (target.arrived.get(word) ?? '').replace(/^Bearer /, '');
  const { possible } = memory.secret;
  figures.checked.add('2 the secret in force');
  if (!memory.secret.settle(carried))
    found(2, `the secret in force is “${carried}”, not one of ${possible.join(', ')}`);
};

/** 11: accounts upstream are those of grants that live, and nothing is left half-made. @returns what is not so */
const orphans = async ({ upstream, view }: World, broker: BrokerClient): Promise<string[]> => {
  const accounts = new Set((await upstream.accounts()).map(grantOf));
  const half = (await broker.admin('GET', '/grants?status=intended&limit=10')).body['items'] as { id: string }[];
  const wrong = half.map(({ id }) => `${id} is left half-made`);
  const now = Date.now();
  for (const id of accounts) {
    const expiresAt = view.living.get(id)?.expiresAt ?? 0;
    if (expiresAt <= now && !view.unrevocable.has(id)) wrong.push(`an account of ${id} is left upstream`);
  }
  for (const { id, connectionName, expiresAt } of view.living.values()) {
    if (!withAccounts.some((name) => name === connectionName) || expiresAt <= now + soonMs) continue;
    if (!accounts.has(id)) wrong.push(`${id} lives and has no account upstream`);
  }
  return wrong;
};

/** Everything upstream as the log says; waits for the drain. @returns after how many milliseconds */
const upstreamIsRight = async (work: Work): Promise<number> => {
  const { world, broker, figures, found } = work;
  const began = performance.now();
  figures.checked.add('11 accounts upstream', world.view.living.size);
  try {
    await eventually(
      'everything upstream is as it must be',
      async () => {
        const wrong = await orphans(world, broker);
        // What could not be revoked is recorded while this waits.
        if (wrong.length > 0) await readLog(work);
        return wrong;
      },
      (wrong) => wrong.length === 0,
      20_000,
    );
  } catch (error) {
    found(11, String(error));
  }
  return performance.now() - began;
};

/** All of it, of a broker that was just started and that nobody else uses. @param whole: the whole log, too */
export const checkAll = async (work: Work, at: string, whole: boolean): Promise<void> => {
  const { world, figures } = work;
  // What reached the target before the log is read must be in it.
  const reached = [...world.target.arrived.keys()];
  await readLog(work);
  recorded(work, reached);
  for (const word of reached) world.target.arrived.delete(word);
  await kept(work);
  await judged(work);
  await secretInForce(work);
  await rotationsKept(work);
  await rotationsRight(work, whole);
  await readLog(work);
  figures.quietMs.push(await upstreamIsRight(work));
  if (!whole) return;
  await verifyLog(work, at);
  await restoredIsDead(work);
};
