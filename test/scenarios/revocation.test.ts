/**
 * Revocation, from outside: every selector at every check point. What must die is shown to live first; what must live is
 * asked afterwards.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { selectorFields } from '../../src/domain/fences.ts';
import { checkPoints } from '../../src/domain/liveness.ts';
import { exercises, type Facts, openScene, type Scene, type Side } from './scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await openScene();
});
afterAll(() => scene.close());

/** Every field alone and every pair; `everything` stands alone. */
const fields = selectorFields.filter((field): field is keyof Facts => field !== 'everything');
const pairs = fields.flatMap((one, i) => fields.slice(i + 1).map((two) => [one, two]));
const combinations: (keyof Facts)[][] = [...fields.map((field) => [field]), ...pairs];

describe('every selector at every check point', () => {
  let side: Side;
  let bystander: Side;
  beforeAll(async () => {
    side = await scene.makeSide('target');
    bystander = await scene.makeSide('bystander', 'other-api-key', 'other-account');
  });

  test('the table of this test has every check point there is', () => {
    expect(Object.keys(exercises).sort()).toEqual(Object.keys(checkPoints).sort());
    expect(selectorFields.length).toBe(fields.length + 1);
  });

  const all = Object.entries(exercises).flatMap(([point, ways]) =>
    Object.entries(ways).map(([way, prepare]) => ({ point, way, prepare })),
  );
  describe.each(all)('$point: $way', ({ way, prepare }) => {
    beforeAll(async () => scene.upstream.behave('create', { kind: 'hold' }));
    afterAll(async () => {
      await scene.upstream.behave('create', { kind: 'ok' });
      await scene.upstream.release();
    });

    test('lives while nothing is revoked', async () => {
      const living = await prepare(scene, side);
      expect(await living.alive()).toBe(true);
      if (!living.once) expect(await living.alive()).toBe(true);
      await living.end?.();
    });

    test('is dead after a revocation whose every field matches, and lives after one that does not', async () => {
      const wrong: string[] = [];
      for (const combination of combinations) {
        const living = await prepare(scene, side);
        if (!living.once && !(await living.alive())) wrong.push(`${way} was not alive before ${combination}`);
        // An agent token has no connection: a selector that names one is given what the agent's grants have.
        const given: Facts = { ...scene.behalf, ...scene.factsOf(side, side.gateway, 'unused'), ...living.facts };
        if (given.grant === 'unused') given.grant = (await scene.throughGateway(side)).facts.grant as string;
        await scene.revoke(Object.fromEntries(combination.map((field) => [field, given[field]])));
        const matches = combination.every((field) => field in living.facts);
        if ((await living.alive()) === matches) wrong.push(`${combination} left it ${matches ? 'alive' : 'dead'}`);
        await living.end?.();
      }
      expect(wrong).toEqual([]);
    }, 60_000);

    test('is dead after everything is revoked', async () => {
      const living = await prepare(scene, side);
      await scene.revoke({ everything: true });
      expect(await living.alive()).toBe(false);
      await living.end?.();
    });

    test('lives on when somebody else is revoked, or only some of the fields match', async () => {
      const other = await scene.throughGateway(bystander);
      const living = await prepare(scene, side);
      const mine: Facts = { ...scene.behalf, ...scene.factsOf(side, side.gateway, 'unused'), ...living.facts };
      if (mine.grant === 'unused') mine.grant = (await scene.throughGateway(side)).facts.grant as string;
      const theirs = { subject: 'strangers:ann', issuer: 'strangers', ...other.facts } as Facts;
      const mixed = combinations.flatMap((combination) =>
        combination.map((differs) =>
          Object.fromEntries(combination.map((field) => [field, (field === differs ? theirs : mine)[field]])),
        ),
      );
      await Promise.all(mixed.map((selector) => scene.revoke(selector)));
      expect(await living.alive()).toBe(true);
      await living.end?.();
    });
  });
});
