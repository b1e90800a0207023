/** The logins of Warder's own that `postgres` rotates: in SQL, and as an operator writes how. */
import { z } from 'zod';
import type { SecretRotation } from '../../../src/ports/rotation.ts';
import type { Network } from '../../network.ts';
import { loginRotation, type RotatedLogins } from '../database/rotation.ts';
import { checked, jsonSchemaOf, parsedOnce } from '../shared/checking.ts';
import { failed, loginVerdict } from './failures.ts';
import { scramVerifier } from './scram.ts';
import { actAs, openSession, type Session } from './session.ts';
import { type PostgresSettings, sqlName } from './settings.ts';
import { batch, endSessions, named, quoted } from './statements.ts';

const alternating = z.strictObject({
  alternate: z
    .array(sqlName)
    .length(2, 'two roles')
    .refine(([one, other]) => one !== other, 'two different roles'),
  /** What changes the other role, where Warder's own role may not: it is called with a name and a verifier or null. */
  function: z
    .string()
    .regex(/^[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}$/, 'schema.name, in lower-case letters, digits and "_"')
    .optional(),
});
const ownPassword = z.strictObject({ password: z.literal(true) });
const method = z.union([alternating, ownPassword], {
  error: 'one of {alternate: [one role, another], function} or {password: true}',
});
type Method = z.infer<typeof method>;

const parsedMethod = parsedOnce<Method>(method);

/** Gives a role that is not the session's own this verifier and lets it in, or takes its password and shuts it out. */
const alter = async (session: Session, role: string, verifier: string | null, how: Method): Promise<void> => {
  const call = 'alternate' in how ? how.function : undefined;
  const text = verifier === null ? 'NULL' : quoted(verifier);
  await session.run(
    call === undefined
      ? `ALTER ROLE ${named(role)} ${verifier === null ? 'NOLOGIN' : 'LOGIN'} PASSWORD ${text}`
      : `SELECT ${call}(${quoted(role)}, ${text})`,
  );
};

/** @param parsed the connection's settings */
export const postgresRotation = (network: Network, parsed: (settings: object) => PostgresSettings): SecretRotation => ({
  methodSchema: jsonSchemaOf(method),
  checkMethod: (value, settings) => {
    // Without a word: what needs nothing set up at the server.
    const result = checked<Method>(method, value === undefined ? { password: true } : value, 'method');
    if (!result.ok || !('alternate' in result.value)) return result;
    const { act_as: owner } = parsed(settings);
    const problems: string[] = [];
    if (owner === undefined) {
      problems.push('method.alternate: needs settings.act_as, or one could not end what the other made');
    } else if (result.value.alternate.includes(owner)) {
      problems.push('method.alternate: the role of settings.act_as is not one of the two that are its members');
    }
    return problems.length > 0 ? { ok: false, problems } : result;
  },
  destinations: () => [],
  overlaps: (value) => 'alternate' in parsedMethod(value),
  ...loginRotation(rotatedLogins(network, parsed), parsedMethod),
});

/** By this name a session is known to be of a rotation, and of which connection's. */
const calledAs = (connectionId: string): string => `warder rotates ${connectionId}`;

const rotatedLogins = (
  network: Network,
  parsed: (settings: object) => PostgresSettings,
): RotatedLogins<Method, Session> => ({
  open: (login, how, { connection, signal }) => {
    const settings = parsed(connection.settings);
    const role = 'alternate' in how ? settings.act_as : undefined;
    return openSession(network, settings, login, signal, { actAs: role, name: calledAs(connection.id) });
  },
  endEarlier: async (session, how, { connection }) => {
    const role = 'alternate' in how ? parsed(connection.settings).act_as : undefined;
    // As the login itself: what others are called it does not see.
    await session.run(batch(['SET ROLE NONE', endSessions(`application_name = ${quoted(calledAs(connection.id))}`)]));
    if (role !== undefined) await actAs(session, role);
  },
  judge: loginVerdict,
  fail: (error, signal) => failed(error, signal, 'the database does not let Warder’s login change this login'),
  change: async (session, { password }) => {
    await session.run(`ALTER ROLE SESSION_USER PASSWORD ${quoted(await scramVerifier(password))}`);
    await session.run(endSessions('true'));
  },
  admit: async (session, { username, password }, how) => alter(session, username, await scramVerifier(password), how),
  state: async (session, username) => {
    const [[[can] = []] = []] = await session.run(
      `SELECT rolcanlogin FROM pg_roles WHERE rolname = ${quoted(username)}`,
    );
    return can === undefined ? 'gone' : can === 't' ? 'open' : 'shut';
  },
  shutOut: async (session, username, state, how) => {
    if (state === 'open') await alter(session, username, null, how);
    // Who was let in a moment before it was shut out shows up a moment after.
    const theirs = endSessions('true', username);
    await session.run(theirs);
    await session.run(`SELECT pg_sleep(0.05); ${theirs}`);
  },
});
