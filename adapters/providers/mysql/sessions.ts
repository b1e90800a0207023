/** Ending the sessions of somebody at a MySQL or MariaDB. */
import { setTimeout as pause } from 'node:timers/promises';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import { errors, serverError } from './failures.ts';
import type { Session } from './session.ts';

/** A session that was killed rolls back what it did: that may take a moment. */
const killPatienceMs = 2_000;

/** @throws what the driver throws, except that the session has ended by itself */
export const kill = async (session: Session, id: string): Promise<void> => {
  await session.run(`KILL CONNECTION ${Number(id)}`).catch((error: unknown) => {
    if (serverError(error) !== errors.noSuchThread) throw error;
  });
};

/**
 * @param sessions a query for their ids
 * @throws ProviderFailure when some do not end in time
 */
export const endSessions = async (session: Session, sessions: string): Promise<void> => {
  for (const began = performance.now(); ; await pause(20)) {
    const rows = await session.run(sessions);
    if (rows.length === 0) return;
    if (performance.now() - began > killPatienceMs) {
      throw new ProviderFailure('unavailable', 'sessions of this user do not end');
    }
    for (const [id = ''] of rows) await kill(session, String(id));
  }
};
