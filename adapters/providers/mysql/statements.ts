/** The SQL that makes and ends users. Pure; every name and value in it is quoted here and nowhere else. */
import { createHash } from 'node:crypto';
import { filledIn } from '../database/settings.ts';
import type { MysqlScope, MysqlSettings } from './settings.ts';

/** What differs from server to server. */
export interface Dialect {
  /** MariaDB, not MySQL. */
  mariadb: boolean;
  /** MySQL's `partial_revokes`: then `_` and `%` in the name of a database mean themselves. */
  literalDatabases: boolean;
}

/**
 * How a session reads what is quoted here, and what operators wrote with a server's defaults in mind: backslashes
 * escape within strings, double quotes are strings. Granting makes no users by accident.
 */
export const sqlMode = ({ mariadb }: Dialect): string =>
  `STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION${mariadb ? ',NO_AUTO_CREATE_USER' : ''}`;

/** A name in backticks. */
export const named = (name: string): string => `\`${name.replaceAll('`', '``')}\``;

/** A string in single quotes, as {@link sqlMode} has it read; what comes here is ASCII or was checked. */
export const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;

/** A database in GRANT … ON: a pattern, where one name may mean many. */
export const grantedDatabase = (name: string, { literalDatabases }: Dialect): string =>
  named(literalDatabases ? name : name.replace(/[\\_%]/g, '\\$&'));

/** An account: a name, and from where. */
export interface Account {
  user: string;
  host: string;
}

export const account = ({ user, host }: Account): string => `${quoted(user)}@${quoted(host)}`;

export const userName = (settings: MysqlSettings, grantId: string): string =>
  `${settings.user_prefix}${grantId.slice(grantId.indexOf('_') + 1)}`;

/** `mysql_native_password`: of a random password of 256 bits even this hash gives nothing away. */
export const nativeHash = (password: string): string => {
  const sha1 = (data: string | Buffer): Buffer => createHash('sha1').update(data).digest();
  return `*${sha1(sha1(password)).toString('hex').toUpperCase()}`;
};

/**
 * MariaDB is given the hash, so that its log never sees the password. MySQL's hash takes five thousand rounds in this
 * process; its server replaces the password before it logs a statement
 * (https://dev.mysql.com/doc/refman/8.4/en/password-logging.html).
 */
export const identified = (password: string, { mariadb }: Dialect): string =>
  mariadb
    ? `IDENTIFIED VIA mysql_native_password USING ${quoted(nativeHash(password))}`
    : `IDENTIFIED WITH caching_sha2_password BY ${quoted(password)}`;

const createUser = (settings: MysqlSettings, made: Account, password: string, dialect: Dialect): string =>
  `CREATE USER ${account(made)} ${identified(password, dialect)}` +
  `${settings.tls.mode === 'disable' ? '' : ' REQUIRE SSL'} WITH MAX_USER_CONNECTIONS ${settings.connection_limit}`;

const databaseRights = {
  read: 'SELECT, SHOW VIEW',
  'read-write': 'SELECT, SHOW VIEW, INSERT, UPDATE, DELETE',
} as const;

const presetGrants = (scope: Extract<MysqlScope, { preset: string }>, made: Account, dialect: Dialect): string[] => {
  const rights = databaseRights[scope.preset];
  return [
    ...scope.databases.map((name) => `GRANT ${rights} ON ${grantedDatabase(name, dialect)}.* TO ${account(made)}`),
    // Not a pattern: only what is granted on a whole database is.
    ...scope.tables.map(
      ({ database, table }) => `GRANT ${rights} ON ${named(database)}.${named(table)} TO ${account(made)}`,
    ),
  ];
};

const makesTheUser = /^\s*create\s+user\s/i;

/**
 * What makes the user, and what gives it its rights, to be run one after the other. Scopes that are granted together may
 * say the same: once is enough.
 */
export const creation = (
  settings: MysqlSettings,
  scopes: readonly MysqlScope[],
  made: Account,
  password: string,
  dialect: Dialect,
): { make: string; rest: string[] } => {
  const all = scopes.flatMap((scope) =>
    'creation_statements' in scope
      ? scope.creation_statements.map((text) => filled(text, { ...made, password }))
      : presetGrants(scope, made, dialect),
  );
  const make = all.find((text) => makesTheUser.test(text)) ?? createUser(settings, made, password, dialect);
  return { make, rest: [...new Set(all)].filter((text) => text !== make) };
};

export const revocations = (scopes: readonly MysqlScope[], made: Account): string[] => [
  ...new Set(
    scopes.flatMap((scope) =>
      'creation_statements' in scope ? (scope.revocation_statements ?? []).map((text) => filled(text, made)) : [],
    ),
  ),
];

const filled = (text: string, { user, host, password }: Account & { password?: string }): string =>
  filledIn(text, { name: user, username: user, host, ...(password === undefined ? {} : { password }) });

export const lock = (made: Account): string => `ALTER USER ${account(made)} ACCOUNT LOCK`;
export const drop = (made: Account): string => `DROP USER IF EXISTS ${account(made)}`;

/** Ids of the sessions of a user, whose name is nobody else's from another host; all but the one that asks, if so told. */
export const sessionsOf = ({ user }: Account, { mariadb }: Dialect, butThis = false): string =>
  `SELECT ID FROM ${mariadb ? 'information_schema.PROCESSLIST' : 'performance_schema.processlist'} ` +
  `WHERE USER = ${quoted(user)}${butThis ? ' AND ID <> CONNECTION_ID()' : ''}`;

/** Held while a user is made: who finds none waits for it, and so for a process that is gone and a statement that runs. */
const lockName = ({ user }: Account): string =>
  quoted(createHash('sha256').update(`warder user ${user}`).digest('hex').slice(0, 60));
export const takeLock = (made: Account): string => `SELECT GET_LOCK(${lockName(made)}, 5)`;
export const releaseLock = (made: Account): string => `SELECT RELEASE_LOCK(${lockName(made)})`;
