/** Rates, before anything is read. */
import type { Request } from 'express';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { Refused } from '../domain/refusals.ts';
import { addressOf } from './edge.ts';

/** Requests that fail to authenticate, an address and second: guessing is hopeless, but it should not cost us either. */
const failuresPerSecond = 20;

export class Limits {
  readonly #requests: RateLimiterMemory;
  readonly #failures: RateLimiterMemory;

  constructor(perSecond: number) {
    this.#requests = new RateLimiterMemory({ points: perSecond, duration: 1 });
    this.#failures = new RateLimiterMemory({ points: failuresPerSecond, duration: 1 });
  }

  /** Counts a request of this address. @throws Refused `rate_limited` */
  async admit(req: Request): Promise<void> {
    await consume(this.#requests, addressOf(req));
  }

  /**
   * Counts a failed authentication, before it is answered or recorded.
   * @throws Refused `rate_limited`: then it is not recorded one by one
   */
  async failed(req: Request): Promise<void> {
    await consume(this.#failures, addressOf(req));
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
