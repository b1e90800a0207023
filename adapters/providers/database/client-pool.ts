/**
 * A few clients of one database, open between calls. Opening one costs a handshake, and the password's key derivation
 * on both sides: many times what the work itself costs.
 */

export interface PoolOptions<C> {
  open(signal: AbortSignal): Promise<C>;
  /** Ends a client at once, whatever it is doing; what waits for it rejects. */
  destroy(client: C): void;
  /** Whether a client may be used again after its work failed in this way. */
  survives(error: unknown, client: C): boolean;
  /** Whether a client that waited is still open. */
  usable(client: C): boolean;
  /** Idle clients must not keep the process alive. */
  hold(client: C, idle: boolean): void;
  /** Hears of it when the last client ended. */
  emptied?(): void;
  max: number;
  idleMs: number;
}

interface Waiting<C> {
  take(client: C | undefined): void;
  fail(error: unknown): void;
}

export class ClientPool<C> {
  readonly #options: PoolOptions<C>;
  /** The one used last is taken first, so that the others grow old. */
  readonly #idle: { client: C; timer: NodeJS.Timeout }[] = [];
  readonly #waiting = new Set<Waiting<C>>();
  #count = 0;
  #retired = false;

  constructor(options: PoolOptions<C>) {
    this.#options = options;
  }

  /** Clients that are open or being opened. */
  get size(): number {
    return this.#count;
  }

  /**
   * Runs `work` with a client that nobody else uses meanwhile. When the signal is aborted the client is destroyed, so
   * that `work` rejects.
   * @throws the signal's reason while it waits for a client; otherwise what `open` and `work` throw
   */
  async use<T>(signal: AbortSignal, work: (client: C) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    const client = await this.#take(signal);
    if (signal.aborted) {
      this.#giveBack(client, true);
      throw signal.reason;
    }
    const stop = (): void => this.#options.destroy(client);
    signal.addEventListener('abort', stop, { once: true });
    let fit = false;
    try {
      const result = await work(client);
      fit = true;
      return result;
    } catch (error) {
      fit = this.#options.survives(error, client);
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
      this.#giveBack(client, fit && !signal.aborted);
    }
  }

  /** Ends idle clients now and the others when their work is done. The pool can be used on. */
  retire(): void {
    this.#retired = true;
    for (const { client, timer } of this.#idle.splice(0)) {
      clearTimeout(timer);
      this.#end(client);
    }
  }

  #grownOld(client: C): void {
    const at = this.#idle.findIndex((one) => one.client === client);
    if (at === -1) return;
    for (const { timer } of this.#idle.splice(at, 1)) clearTimeout(timer);
    this.#end(client);
  }

  async #take(signal: AbortSignal): Promise<C> {
    for (let ready = this.#idle.pop(); ready; ready = this.#idle.pop()) {
      clearTimeout(ready.timer);
      if (this.#options.usable(ready.client)) {
        this.#options.hold(ready.client, false);
        return ready.client;
      }
      this.#end(ready.client);
    }
    if (this.#count >= this.#options.max) {
      const handed = await this.#wait(signal);
      if (handed !== undefined) return handed;
    } else {
      this.#count += 1;
    }
    try {
      return await this.#options.open(signal);
    } catch (error) {
      this.#free();
      throw error;
    }
  }

  /** @returns a client, or undefined: then its place is ours, to open one */
  #wait(signal: AbortSignal): Promise<C | undefined> {
    return new Promise((resolve, reject) => {
      const over = (): void => waiting.fail(signal.reason);
      const leave = (): void => {
        this.#waiting.delete(waiting);
        signal.removeEventListener('abort', over);
      };
      const waiting: Waiting<C> = {
        take: (client) => {
          leave();
          resolve(client);
        },
        fail: (error) => {
          leave();
          reject(error);
        },
      };
      this.#waiting.add(waiting);
      signal.addEventListener('abort', over, { once: true });
    });
  }

  #giveBack(client: C, fit: boolean): void {
    const [next] = this.#waiting;
    if (!fit || !this.#options.usable(client) || (this.#retired && !next)) {
      this.#end(client);
      return;
    }
    if (next) {
      next.take(client);
      return;
    }
    this.#options.hold(client, true);
    const timer = setTimeout(() => this.#grownOld(client), this.#options.idleMs);
    timer.unref();
    this.#idle.push({ client, timer });
  }

  #end(client: C): void {
    this.#options.destroy(client);
    this.#free();
  }

  #free(): void {
    const [next] = this.#waiting;
    if (next) {
      next.take(undefined);
      return;
    }
    this.#count -= 1;
    if (this.#count === 0) this.#options.emptied?.();
  }
}
