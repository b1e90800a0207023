/** The logins of Warder's own that `mysql` rotates: in SQL, and as an operator writes how. */
import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import type { SecretRotation } from '../../../src/ports/rotation.ts';
import type { Network } from '../../network.ts';
import { loginRotation, type RotatedLogins } from '../database/rotation.ts';
import { noNul } from '../database/settings.ts';
import { checked, jsonSchemaOf, parsedOnce } from '../shared/checking.ts';
import { failed, loginVerdict } from './failures.ts';
import { openSession, type Session } from './session.ts';
import { endSessions, kill } from './sessions.ts';
import type { MysqlSettings } from './settings.ts';
import { type Account, account, identified, lock, quoted, sessionsOf } from './statements.ts';

/** https://dev.mysql.com/doc/refman/8.4/en/user-names.html: MySQL's limit, MariaDB's is longer. */
const userName = z.string().min(1).max(32).refine(noNul, 'no NUL');
const alternating = z.strictObject({
  alternate: z
    .array(userName)
    .length(2, 'two users')
    .refine(([one, other]) => one !== other, 'two different users'),
});
const ownPassword = z.strictObject({ password: z.literal(true) });
const method = z.union([alternating, ownPassword], {
  error: 'one of {alternate: [one user, another]} or {password: true}',
});
type Method = z.infer<typeof method>;

const parsedMethod = parsedOnce<Method>(method);

/** @param parsed the connection's settings */
export const mysqlRotation = (network: Network, parsed: (settings: object) => MysqlSettings): SecretRotation => ({
  methodSchema: jsonSchemaOf(method),
  // Without a word: what needs nothing set up at the server.
  checkMethod: (value) => checked<Method>(method, value === undefined ? { password: true } : value, 'method'),
  destinations: () => [],
  overlaps: (value) => 'alternate' in parsedMethod(value),
  ...loginRotation(rotatedLogins(network, parsed), parsedMethod),
});

/** How long a call waits for what was killed: it rolls back first. */
const patienceSeconds = 4;

/** Held by each call of a connection's rotation as long as it has a session. */
const callLock = (connectionId: string): string =>
  quoted(createHash('sha256').update(`warder rotates ${connectionId}`).digest('hex').slice(0, 60));

const rotatedLogins = (
  network: Network,
  parsed: (settings: object) => MysqlSettings,
): RotatedLogins<Method, Session> => ({
  open: (login, _, { connection, signal }) => openSession(network, parsed(connection.settings), login, signal),
  endEarlier: async (session, _, { connection }) => {
    const name = callLock(connection.id);
    const [[holder] = []] = await session.run(`SELECT IS_USED_LOCK(${name})`);
    if (typeof holder === 'string') await kill(session, holder);
    const [[got] = []] = await session.run(`SELECT GET_LOCK(${name}, ${patienceSeconds})`);
    if (got !== '1') throw new ProviderFailure('unavailable', 'an earlier call of this rotation does not end');
  },
  judge: loginVerdict,
  fail: (error, signal) => failed(error, signal, 'the database does not let Warder’s login change this login'),
  change: async (session, { password }) => {
    const own = await ownAccount(session);
    await session.run(`ALTER USER ${account(own)} ${identified(password, session.dialect)}`);
    await endSessions(session, sessionsOf(own, session.dialect, true));
  },
  admit: async (session, { username, password }) => {
    const other = { ...(await ownAccount(session)), user: username };
    await session.run(`ALTER USER ${account(other)} ${identified(password, session.dialect)}`);
    await session.run(`ALTER USER ${account(other)} ACCOUNT UNLOCK`);
  },
  // Nobody may look it up without rights on the server's own tables.
  state: async () => 'open',
  shutOut: async (session, username) => {
    const other = { ...(await ownAccount(session)), user: username };
    const sessions = sessionsOf(other, session.dialect);
    // The password goes last: as long as it is there a call that comes again sees that it has work to do.
    await session.run(lock(other));
    await endSessions(session, sessions);
    const nobodys = randomBytes(32).toString('base64url');
    await session.run(`ALTER USER ${account(other)} ${identified(nobodys, session.dialect)}`);
    // Who was let in a moment before it was locked shows up a moment after.
    await session.run('DO SLEEP(0.05)');
    await endSessions(session, sessions);
  },
});

/** The account that a session was let in as: both that alternate are from the same host. */
const ownAccount = async (session: Session): Promise<Account> => {
  const [[whole] = []] = await session.run('SELECT CURRENT_USER()');
  const at = whole?.lastIndexOf('@') ?? -1;
  if (typeof whole !== 'string' || at < 1)
    throw new ProviderFailure('refused', 'the database does not say who this is');
  return { user: whole.slice(0, at), host: whole.slice(at + 1) };
};
