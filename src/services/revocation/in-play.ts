/** The grants a drain has in hand: in a lane, or resting after a failure; and whether there is room for more. */

/** Grants of one connection in hand; more are fetched when half are through. */
const roomOfOne = 1_000;

export class InPlay {
  /** In a lane, waiting or running. */
  readonly #queued = new Set<string>();
  readonly #failed = new Map<string, { tries: number; restUntil: number }>();
  /** How many of each connection are queued or rest. */
  readonly #load = new Map<string, number>();
  /** Connections that had no room for all there is. */
  readonly #crowded = new Set<string>();

  /** Whether there is anything that was left for want of room. */
  get crowded(): boolean {
    return this.#crowded.size > 0;
  }

  isQueued(id: string): boolean {
    return this.#queued.has(id);
  }

  rests(id: string, now: number): boolean {
    return (this.#failed.get(id)?.restUntil ?? 0) > now;
  }

  /** How often it has failed so far. */
  triesOf(id: string): number {
    return this.#failed.get(id)?.tries ?? 0;
  }

  /** Connections that have enough in hand; what they have beyond is left. */
  full(): string[] {
    const full = [...this.#load].flatMap(([id, load]) => (load >= roomOfOne ? [id] : []));
    for (const id of full) this.#crowded.add(id);
    return full;
  }

  /** @returns whether there is room for it; what has failed before has its place */
  hasRoom(id: string, connection: string): boolean {
    if (this.#failed.has(id) || (this.#load.get(connection) ?? 0) < roomOfOne) return true;
    this.#crowded.add(connection);
    return false;
  }

  queue(id: string, connection: string): void {
    if (!this.#failed.has(id)) this.#load.set(connection, (this.#load.get(connection) ?? 0) + 1);
    this.#queued.add(id);
  }

  fail(id: string, tries: number, restUntil: number): void {
    this.#failed.set(id, { tries, restUntil });
  }

  /** It was tried to its end. */
  succeed(id: string): void {
    this.#failed.delete(id);
  }

  /**
   * Its task has ended.
   * @returns `rests` when it will be tried again; else whether its connection has room again for what it had left
   */
  end(id: string, connection: string): 'rests' | 'room' | 'out' {
    this.#queued.delete(id);
    if (this.#failed.has(id)) return 'rests';
    const load = (this.#load.get(connection) ?? 1) - 1;
    if (load > 0) this.#load.set(connection, load);
    else this.#load.delete(connection);
    return load <= roomOfOne / 2 && this.#crowded.delete(connection) ? 'room' : 'out';
  }

  /** Those whose rest is over. */
  rested(now: number): string[] {
    return [...this.#failed].flatMap(([id, { restUntil }]) => (restUntil > now || this.#queued.has(id) ? [] : [id]));
  }

  /** When the next rest is over; infinity when nothing rests. */
  nextRested(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const [id, { restUntil }] of this.#failed) if (!this.#queued.has(id)) next = Math.min(next, restUntil);
    return next;
  }
}
