/** The SQL that makes, prolongs and ends roles. Pure; every name and value in it is quoted here and nowhere else. */
import { createHash } from 'node:crypto';
import pg from 'pg';
import { filledIn } from '../database/settings.ts';
import type { PostgresSettings, StatementScope } from './settings.ts';

/** A name in double quotes. */
export const named = pg.escapeIdentifier;
/** A string in single quotes. */
export const quoted = pg.escapeLiteral;

/** The time-sortable and random part of a grant's id: lower-case letters and digits, different for each grant. */
export const roleName = (settings: PostgresSettings, grantId: string): string =>
  `${settings.role_prefix}${grantId.slice(grantId.indexOf('_') + 1)}`;

/** The comment on a role that says which grant it was made for: a role without it was made by somebody else. */
export const roleMark = (grantId: string): string => `Warder made this role for ${grantId}`;

/** Statements in one query; a comment at the end of one must not swallow the next. */
export const batch = (parts: readonly string[]): string => parts.join('\n;\n');

/**
 * Held while a role is made. Whoever finds no role asks for it too, and so waits for a query that was sent by a process
 * that is gone and still runs. A role that exists is never waited for in this way: its owner could hold the lock.
 */
export const roleLock = (role: string): string =>
  `SELECT pg_advisory_xact_lock(${createHash('sha256').update(`warder role ${role}`).digest().readBigInt64BE()})`;

/** `2026-11-22 23:00:00.000+00`: nothing in it has a meaning within quotes. */
export const timestamp = (ms: number): string => new Date(ms).toISOString().replace('T', ' ').replace('Z', '+00');

export interface NewRole {
  role: string;
  grantId: string;
  /** What scram.ts made of the password. */
  verifier: string;
  expiresAt: number;
  /** Roles it becomes a member of. */
  memberOf: readonly string[];
}

const placeholders = (role: string, verifier: string | undefined, expiresAt: number | undefined) => ({
  name: role,
  username: role,
  ...(verifier === undefined ? {} : { password: verifier }),
  ...(expiresAt === undefined ? {} : { expiration: timestamp(expiresAt) }),
});

/** What operators wrote may use names without a schema. */
const operatorsPath = 'SET LOCAL search_path TO pg_catalog, public';

const makesTheRole = /^\s*create\s+(?:role|user)\s/i;

/**
 * Does not wait for the disk: rights in a group are given under a lock on it, and a sync under that lock would let one
 * role in at a time. What a crash of the server takes back within its next half second is a role that lets nobody in.
 *
 * @param version of the server: before 16 a member may always become the role it is a member of
 */
export const creation = (
  settings: PostgresSettings,
  scopes: readonly StatementScope[],
  made: NewRole,
  version: number,
): string => {
  const { role, verifier, expiresAt } = made;
  // Scopes that are granted together may each make the role, in the same words: once is enough.
  const written = [...new Set(scopes.flatMap((scope) => scope.creation_statements))];
  const own = written.some((text) => makesTheRole.test(text))
    ? []
    : [
        `CREATE ROLE ${named(role)} LOGIN CONNECTION LIMIT ${settings.connection_limit} ` +
          `PASSWORD ${quoted(verifier)} VALID UNTIL ${quoted(timestamp(expiresAt))}`,
      ];
  const filled = written.map((text) => filledIn(text, placeholders(role, verifier, expiresAt)));
  return batch([
    'SET LOCAL synchronous_commit TO off',
    roleLock(role),
    ...own,
    ...(filled.length > 0 ? [operatorsPath] : []),
    ...filled,
    `COMMENT ON ROLE ${named(role)} IS ${quoted(roleMark(made.grantId))}`,
    ...made.memberOf.map(
      (group) => `GRANT ${named(group)} TO ${named(role)}${version >= 16 ? ' WITH INHERIT TRUE, SET FALSE' : ''}`,
    ),
  ]);
};

/**
 * Of the role $1 one row when there is one: oid, comment, and the names of the databases that hold something of it.
 * Prepared, because it is asked at every end, and planning it takes longer than running it.
 */
export const findRole = {
  name: 'warder_find_role',
  text: `SELECT r.oid, c.description,
      (SELECT json_agg(DISTINCT COALESCE(b.datname, current_database()))
       FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
       WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid)
    FROM pg_roles r LEFT JOIN pg_shdescription c ON c.objoid = r.oid AND c.classoid = 'pg_authid'::regclass
    WHERE r.rolname = $1`,
};

/** How statements below fail that divide by what must not be zero. */
export const divisionByZero = '22012';

/**
 * Lets nobody in any more, then ends who is in, waiting for each end for two seconds. A division fails when the role is
 * not of this grant, and before anything was done; another while somebody is left.
 *
 * Two transactions: a role that is shut out and not yet committed is open to everybody else. The first is not worth a
 * sync of its own: that of the transaction which drops the role syncs it too.
 */
const shutOutParts = (role: string, grantId: string): string[] => {
  const oid = `${quoted(named(role))}::regrole`;
  return [
    'BEGIN',
    'SET LOCAL synchronous_commit TO off',
    `SELECT 1 / count(*) FROM pg_shdescription WHERE objoid = ${oid} AND classoid = 'pg_authid'::regclass ` +
      `AND description = ${quoted(roleMark(grantId))}`,
    `ALTER ROLE ${named(role)} NOLOGIN`,
    'COMMIT',
    // Asks each session only whose it is: a row of pg_stat_activity costs the server ten times as much.
    `SELECT 1 / COALESCE(bool_and(pg_terminate_backend(pg_stat_get_backend_pid(b), 2000)), true)::int ` +
      `FROM pg_stat_get_backend_idset() b WHERE pg_stat_get_backend_userid(b) = ${oid}`,
  ];
};
export const shutOut = (role: string, grantId: string): string => batch(shutOutParts(role, grantId));
/** The whole end of a role that owns nothing and holds no rights of its own: in one round trip. */
export const end = (role: string, grantId: string): string => batch([...shutOutParts(role, grantId), dropRole(role)]);

/**
 * Ends the other sessions of a role, the session's own role unless told, waiting for each for two seconds; a division
 * fails while one is left. One that ends by itself meanwhile was not ended here: so what is left is counted.
 * @param which of them, as SQL about a row of pg_stat_activity
 */
export const endSessions = (which: string, role?: string): string => {
  const sessions =
    `pg_stat_get_activity(NULL) WHERE pid <> pg_backend_pid() AND (${which}) AND usesysid = ` +
    `(SELECT oid FROM pg_roles WHERE rolname = ${role === undefined ? 'session_user' : quoted(role)})`;
  return batch([
    `SELECT pg_terminate_backend(pid, 2000) FROM ${sessions}`,
    'SELECT pg_stat_clear_snapshot()',
    `SELECT 1 / (count(*) = 0)::int FROM ${sessions}`,
  ]);
};

/** Revokes what was granted to a role in this database, and passes on or drops what it made there. */
export const disown = (role: string, reassignTo: string | undefined): string =>
  batch([
    // The right to end a role (ADMIN OPTION) is not yet the right to its things.
    `GRANT ${named(role)} TO CURRENT_USER`,
    ...(reassignTo === undefined ? [] : [`REASSIGN OWNED BY ${named(role)} TO ${named(reassignTo)}`]),
    `DROP OWNED BY ${named(role)}`,
  ]);

export const dropRole = (role: string): string => `DROP ROLE IF EXISTS ${named(role)}`;

export const operatorsStatements = (
  written: readonly string[],
  role: string,
  expiresAt?: number,
): string | undefined =>
  written.length === 0
    ? undefined
    : batch([
        operatorsPath,
        ...[...new Set(written)].map((text) => filledIn(text, placeholders(role, undefined, expiresAt))),
      ]);

export const prolong = (role: string, expiresAt: number): string =>
  `ALTER ROLE ${named(role)} VALID UNTIL ${quoted(timestamp(expiresAt))}`;
