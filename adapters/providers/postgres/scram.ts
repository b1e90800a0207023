/**
 * The verifier PostgreSQL stores instead of a password, made here as libpq's `\password` does: the server takes it as it
 * is, and its log never sees the password (RFC 5802 section 3, RFC 7677; format: src/common/scram-common.c).
 */
import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';

const derive = promisify(pbkdf2);

/** RFC 7677's least and the server's own default. A random password needs none, but some clients refuse fewer. */
export const usualIterations = 4096;
/** As much as clients take, and as much time as a server may cost us. */
const mostIterations = 100_000;

/** @param asked `scram_iterations` of a session, as text; servers before 16 have no such setting */
export const iterationsOf = (asked: string | null | undefined): number => {
  const iterations = Number(asked ?? usualIterations);
  return Number.isSafeInteger(iterations) && iterations > 0 ? Math.min(iterations, mostIterations) : usualIterations;
};

/**
 * @param password in the form that SASLprep (RFC 4013) leaves as it is: ASCII, or what has logged in by `pg` before
 * @returns `SCRAM-SHA-256$4096:<salt>$<stored key>:<server key>`
 */
export const scramVerifier = async (
  password: string,
  iterations = usualIterations,
  salt: Uint8Array = randomBytes(16),
): Promise<string> => {
  const salted = await derive(password, salt, iterations, 32, 'sha256');
  const keyed = (text: string): Buffer => createHmac('sha256', salted).update(text).digest();
  const stored = createHash('sha256').update(keyed('Client Key')).digest('base64');
  const server = keyed('Server Key').toString('base64');
  return `SCRAM-SHA-256$${iterations}:${Buffer.from(salt).toString('base64')}$${stored}:${server}`;
};
