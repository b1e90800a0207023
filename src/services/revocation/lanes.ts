/** Work in lanes: tasks of one lane wait for each other, not for those of another. */

interface Lane {
  waiting: (() => Promise<void>)[];
  running: number;
}

export interface LaneLimits {
  /** Tasks of one lane at once. */
  perLane: number;
  /** Tasks of all lanes at once. */
  inAll: number;
  /** Tasks that may wait in one lane. */
  waiting: number;
}

export class Lanes {
  readonly #limits: LaneLimits;
  readonly #onIdle: () => void;
  readonly #lanes = new Map<string, Lane>();
  #running = 0;
  #idle: (() => void)[] = [];

  /** @param onIdle called whenever the last task ended */
  constructor(limits: LaneLimits, onIdle: () => void) {
    this.#limits = limits;
    this.#onIdle = onIdle;
  }

  /** @param task must not reject; @returns false when the lane is full */
  add(name: string, task: () => Promise<void>): boolean {
    let lane = this.#lanes.get(name);
    if (!lane) {
      lane = { waiting: [], running: 0 };
      this.#lanes.set(name, lane);
    }
    if (lane.waiting.length >= this.#limits.waiting) return false;
    lane.waiting.push(task);
    this.#pump();
    return true;
  }

  /** Forgets what waits; what runs goes on. */
  clear(): void {
    for (const lane of this.#lanes.values()) lane.waiting = [];
  }

  /** Resolves when nothing runs. */
  async idle(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Starts what may start; the lane with the least running is next, so that many slow ones leave room for a quick one. */
  #pump(): void {
    while (this.#running < this.#limits.inAll) {
      let next: Lane | undefined;
      for (const lane of this.#lanes.values()) {
        const may = lane.waiting.length > 0 && lane.running < this.#limits.perLane;
        if (may && (!next || lane.running < next.running)) next = lane;
      }
      const task = next?.waiting.shift();
      if (!next || !task) return;
      const lane = next;
      lane.running += 1;
      this.#running += 1;
      void task().finally(() => this.#ended(lane));
    }
  }

  #ended(lane: Lane): void {
    lane.running -= 1;
    this.#running -= 1;
    this.#pump();
    if (this.#running > 0) return;
    this.#lanes.clear();
    for (const idle of this.#idle.splice(0)) idle();
    this.#onIdle();
  }
}
