/** Limits that act before anything is parsed: rates, sizes, depth. */
import express, { type Request, type RequestHandler } from 'express';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { dangerousKey, isShallow } from '../domain/json-limits.ts';
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

/** JSON bodies: at most `limitBytes`, uncompressed, shallow, without keys that reach a prototype. */
export const jsonBody = (limitBytes: number): RequestHandler[] => [
  (req, _res, next) => {
    const hasBody =
      req.headers['content-length'] !== '0' && ('content-length' in req.headers || 'transfer-encoding' in req.headers);
    if (hasBody && !req.is('application/json')) {
      next(new Refused('unsupported_media_type', 'the body must be application/json'));
      return;
    }
    next();
  },
  express.json({
    limit: limitBytes,
    inflate: false,
    strict: true,
    verify: (_req, _res, bytes) => {
      if (!isShallow(bytes)) throw new Error('nested too deeply');
    },
  }),
  (req, _res, next) => {
    const key = dangerousKey(req.body);
    next(key === undefined ? undefined : new Refused('invalid_request', `the key ${key} is not allowed`));
  },
];

/** Forms of the OAuth endpoints, kept as text: repeated parameters must be seen (RFC 6749 section 3.2). */
export const formBody = (limitBytes: number): RequestHandler =>
  express.text({
    limit: limitBytes,
    inflate: false,
    type: 'application/x-www-form-urlencoded',
    defaultCharset: 'utf-8',
  });
