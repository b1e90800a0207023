/** Load from this process: keep-alive connections over undici pools, as many requests at once as told, for a time. */
import { Pool } from 'undici';

export interface Shot {
  method: string;
  path: string;
  headers: Record<string, string>;
  body?: string;
}

export interface Measured {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  errors: number;
  requests: number;
}

/**
 * Fires `next()` again and again from `atOnce` loops for `forMs`, after `warmUpMs` that are not counted.
 * @param check throws when an answer is not what it should be: a fast refusal is not a fast answer
 */
export const load = async (
  origin: string,
  next: () => Shot,
  options: { atOnce: number; forMs: number; warmUpMs: number; expect: number },
): Promise<Measured> => {
  const pool = new Pool(origin, { connections: options.atOnce, pipelining: 1 });
  const times: number[] = [];
  let errors = 0;
  let counting = false;
  let stop = false;
  const loop = async (): Promise<void> => {
    while (!stop) {
      const shot = next();
      const start = performance.now();
      try {
        const response = await pool.request({
          method: shot.method,
          path: shot.path,
          headers: shot.headers,
          body: shot.body ?? null,
        });
        await response.body.dump();
        if (response.statusCode !== options.expect) errors += 1;
      } catch {
        errors += 1;
      }
      if (counting) times.push(performance.now() - start);
    }
  };
  const loops = Array.from({ length: options.atOnce }, loop);
  await new Promise((resolve) => setTimeout(resolve, options.warmUpMs));
  counting = true;
  const start = performance.now();
  await new Promise((resolve) => setTimeout(resolve, options.forMs));
  counting = false;
  const elapsed = performance.now() - start;
  stop = true;
  await Promise.all(loops);
  await pool.close();
  times.sort((a, b) => a - b);
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Number.NaN;
  return {
    perSecond: (times.length / elapsed) * 1000,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    errors,
    requests: times.length,
  };
};
