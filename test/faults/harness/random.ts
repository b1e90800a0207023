/** Chance by seed, so that the plan of a run (kills, what is asked, of whom) can be had again. */
export interface Chance {
  /** From 0 inclusive to 1 exclusive. */
  next(): number;
  /** An integer, both ends included. */
  between(least: number, most: number): number;
  pick<T>(list: readonly T[]): T | undefined;
  /** One of several, each as often as its weight says. */
  weighted<T>(choices: readonly (readonly [weight: number, choice: T])[]): T;
  /** So many of a list, each at most once. */
  sample<T>(list: readonly T[], count: number): T[];
  /** A stream of its own: what one client draws does not move what another one draws. */
  fork(name: string): Chance;
}

/** FNV-1a, to make a number of a name. */
const digest = (text: string): number => {
  let hash = 0x811c9dc5;
  for (const char of text) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193);
  return hash >>> 0;
};

/** Mulberry32: 32 bits of state are plenty for a plan, and nothing here is secret. */
export const chanceOf = (seed: number): Chance => {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const chance: Chance = {
    next,
    between: (least, most) => least + Math.floor(next() * (most - least + 1)),
    pick: (list) => list[Math.floor(next() * list.length)],
    weighted: (choices) => {
      let left = next() * choices.reduce((sum, [weight]) => sum + weight, 0);
      for (const [weight, choice] of choices) {
        left -= weight;
        if (left < 0) return choice;
      }
      const last = choices.at(-1);
      if (!last) throw new Error('nothing to choose from');
      return last[1];
    },
    sample: (list, count) => {
      const pool = [...list];
      const some: (typeof pool)[number][] = [];
      while (some.length < count && pool.length > 0) some.push(...pool.splice(Math.floor(next() * pool.length), 1));
      return some;
    },
    fork: (name) => chanceOf(digest(`${seed} ${name}`)),
  };
  return chance;
};
