/**
 * Rotations of the key that `keyed` signs in to the upstream with. The upstream says which keys it accepts; whatever a
 * broker was doing when it died, one of them is the secret in force, and in the end it is the only one.
 */
import type { Answer } from '../../support/broker.ts';
import { eventually } from '../../support/eventually.ts';
import { count, type Work } from './work.ts';

/** How long a key that was replaced is accepted: long enough to be killed in, short enough to be waited for. */
export const graceSeconds = 1;

export const rotateKey = async (work: Work): Promise<void> => {
  const { broker, world, chance } = work;
  // Mostly the key of the upstream; now and then one of the broker's own, which takes the same way.
  const subject = chance.next() < 0.95 ? { connection: 'keyed' } : { key: 'signing' };
  const body = { ...subject, now: chance.next() < 0.5, reason: 'a run' };
  const answer = await broker.admin('POST', '/rotations', body);
  if (count(work, 'key' in subject ? 'rotate signing key, by a rotation' : 'rotate key upstream', answer))
    world.memory.rotations.push(String(answer.body['id']));
};

/** 2: rotations that were acknowledged are there. */
export const rotationsKept = async ({ broker, world, figures, found, chance }: Work): Promise<void> => {
  for (const id of chance.sample(world.memory.rotations.slice(-30), 6)) {
    figures.checked.add('2 rotations');
    const { status, text } = await broker.admin('GET', `/rotations/${id}`);
    if (status !== 200) found(2, `rotation ${id} was acknowledged, and is answered ${status} ${text}`);
  }
};

/** 11: the secret in force is one that the upstream accepts: with it something can be made there. */
const secretWorks = async ({ broker, world, figures, found }: Work): Promise<void> => {
  const [agent] = world.memory.agents;
  if (!agent) throw new Error('there are no agents');
  figures.checked.add('11 the key in force is accepted');
  let answer: Answer | undefined;
  // One that was replaced between being read and being used is refused, once.
  for (let tries = 0; tries < 3; tries += 1) {
    agent.token ??= await broker.agentToken(agent);
    answer = await broker.grant(agent.token, { connection: 'keyed', scopes: ['all'], ttl_seconds: 60 });
    if (answer.status === 201) return;
  }
  const keys = (await world.upstream.keys()).map(({ id }) => id);
  found(11, `with the key in force nothing can be made: ${answer?.text}; the upstream accepts ${keys.join(', ')}`);
};

interface Shown {
  connection: string | null;
  current: { id: string; status: string; step: string; failure: string | null } | null;
}

/**
 * @param whole waits until nothing is under way any more: then the upstream accepts one key
 */
export const rotationsRight = async (work: Work, whole: boolean): Promise<void> => {
  const { broker, world, figures, found } = work;
  await secretWorks(work);
  if (!whole) return;
  const underWay = async () => {
    const items = (await broker.admin('GET', '/rotations')).body['items'] as Shown[];
    return items.filter(({ connection, current }) => connection === 'keyed' && current).map(({ current }) => current);
  };
  try {
    await eventually('no rotation is under way', underWay, (left) => left.length === 0, 30_000);
  } catch (error) {
    found(11, String(error));
    return;
  }
  const { body } = await broker.admin('GET', '/rotations/history?connection=keyed&limit=500');
  const followed = new Set((body['items'] as { revocation: string | null }[]).map(({ revocation }) => revocation));
  for (const id of world.memory.rotatedBy.slice(-10)) {
    figures.checked.add('2 rotations that revocations asked for');
    if (!followed.has(id)) found(2, `revocation ${id} was to rotate the key, and no rotation is its`);
  }
  const keys = (await world.upstream.keys()).map(({ id }) => id);
  figures.checked.add('11 exactly one key is accepted');
  if (keys.length !== 1) {
    const newest = (body['items'] as Shown['current'][]).slice(0, 5).map((one) => JSON.stringify(one));
    const accepted = keys.join(', ') || 'no key';
    found(11, `no rotation is under way, and the upstream accepts ${accepted}; the newest were ${newest.join(' ')}`);
  }
  await secretWorks(work);
  for (const id of world.memory.rotations.slice(-5)) {
    const { status } = (await broker.admin('GET', `/rotations/${id}`)).body;
    figures.done.add(`rotation that ended ${status}`);
  }
};
