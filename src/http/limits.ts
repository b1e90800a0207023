/** Rates, before anything is read. */
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { Refused } from '../domain/refusals.ts';

/** Requests that fail to authenticate, an address and second: guessing is hopeless, but it should not cost us either. */
const failuresPerSecond = 20;

export class Limits {
  readonly #requests: RateLimiterMemory;
  readonly #failures: RateLimiterMemory;

  constructor(perSecond: number) {
    this.#requests = new RateLimiterMemory({ points: perSecond, duration: 1 });
    this.#failures = new RateLimiterMemory({ points: failuresPerSecond, duration: 1 });
  }

  /** Counts a request of an address. @throws Refused `rate_limited` */
  async admit(address: string): Promise<void> {
    await consume(this.#requests, address);
  }

  /**
   * Counts a failed authentication, before it is answered or recorded.
   * @throws Refused `rate_limited`: then it is not recorded one by one
   */
  async failed(address: string): Promise<void> {
    await consume(this.#failures, address);
  }
}

const consume = async (limiter: RateLimiterMemory, key: string): Promise<void> => {
  try {
    await limiter.consume(key);
  } catch (rejected) {
    if (rejected instanceof Error) throw rejected;
    throw new Refused('rate_limited', 'too many requests from this address', { retryAfterSeconds: 1 });
  }
};
