/**
 * What a small MySQL 8 knows: accounts, their rights, locks, sessions. It understands the statements that `mysql`
 * connections and their tests use, checks the rights of who sends them, and answers everything else with a syntax error.
 */
import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { type Reply, SqlError } from './wire.ts';

interface Known {
  /** SHA256(SHA256(password)). */
  verifier: Buffer;
  locked: boolean;
  /** It logged in since its password was set: only then the quick way of `caching_sha2_password` is open. */
  cached: boolean;
  maxConnections: number;
  /** Right on target, e.g. `SELECT shop\_eu.*`; with ` !` at the end, it may be granted on. */
  rights: Set<string>;
}

export interface SqlSession {
  id: number;
  user: string;
  end(): void;
}

const sha256 = (data: string | Buffer): Buffer => createHash('sha256').update(data).digest();
const text = String.raw`'((?:[^'\\]|''|\\.)*)'`;
const account = `(?:${text}|(\\w+))@${text}`;
const unquoted = (value: string): string => value.replaceAll("''", "'").replace(/\\(.)/g, '$1');
const denied = (): SqlError => new SqlError(1227, '42000', 'Access denied; you need more privileges');

export class Accounts {
  readonly #known = new Map<string, Known>();
  readonly #sessions = new Map<number, SqlSession>();
  readonly #locks = new Map<string, number>();

  add(user: string, password: string, rights: string[]): void {
    const verifier = sha256(sha256(password));
    this.#known.set(user, { verifier, locked: false, cached: false, maxConnections: 0, rights: new Set(rights) });
  }

  opened(session: SqlSession): void {
    this.#sessions.set(session.id, session);
  }

  closed(id: number): void {
    this.#sessions.delete(id);
    for (const [name, holder] of this.#locks) if (holder === id) this.#locks.delete(name);
  }

  /** @returns whether the token of the quick way fits; undefined when it is not open */
  quickLogin(user: string, token: Buffer, nonce: Buffer): boolean | undefined {
    const known = this.#known.get(user);
    if (!known?.cached) return undefined;
    const mask = sha256(Buffer.concat([known.verifier, nonce]));
    return (
      token.length === 32 && sha256(token.map((byte, at) => byte ^ (mask[at] ?? 0)) as Buffer).equals(known.verifier)
    );
  }

  fullLogin(user: string, password: string): boolean {
    const known = this.#known.get(user);
    if (!known?.verifier.equals(sha256(sha256(password)))) return false;
    known.cached = true;
    return true;
  }

  /** @throws SqlError for somebody who is who he says and may not come in */
  admit(user: string): void {
    const known = this.#known.get(user);
    if (known?.locked) throw new SqlError(3118, 'HY000', `Access denied for user '${user}'. Account is locked.`);
    const open = [...this.#sessions.values()].filter((session) => session.user === user).length;
    if (known && known.maxConnections > 0 && open >= known.maxConnections) {
      throw new SqlError(1226, '42000', `User '${user}' has exceeded the 'max_user_connections' resource`);
    }
  }

  async query(session: SqlSession, statement: string): Promise<Reply> {
    for (const [pattern, run] of this.#statements) {
      const found = new RegExp(`^\\s*${pattern}\\s*;?\\s*$`, 's').exec(statement);
      if (found) return (await run(session, found.slice(1))) ?? {};
    }
    throw new SqlError(1064, '42000', 'You have an error in your SQL syntax');
  }

  #may(session: SqlSession, right: string): undefined {
    const rights = this.#known.get(session.user)?.rights;
    if (!rights?.has('ALL') && !rights?.has(right)) throw denied();
  }

  #named(quoted: string | undefined, plain: string | undefined): string {
    return quoted === undefined ? (plain ?? '') : unquoted(quoted);
  }

  #one(operation: string, name: string): Known {
    const known = this.#known.get(name);
    if (!known) throw new SqlError(1396, 'HY000', `Operation ${operation} failed for '${name}'`);
    return known;
  }

  readonly #statements: readonly [
    string,
    (session: SqlSession, parts: (string | undefined)[]) => Reply | undefined | Promise<Reply>,
  ][] = [
    ['SELECT VERSION\\(\\)(?: AS (\\w+))?', (_, [name]) => ({ columns: [name ?? 'VERSION()'], rows: [['8.4.7']] })],
    [
      "SHOW VARIABLES LIKE 'partial\\\\_revokes'",
      () => ({ columns: ['Variable_name', 'Value'], rows: [['partial_revokes', 'OFF']] }),
    ],
    ["SET SESSION sql_mode = '[A-Z_,]*', SESSION lock_wait_timeout = \\d+", () => undefined],
    [
      `SELECT GET_LOCK\\(${text}, (\\d+)\\)`,
      (session, [name, seconds]) => this.#lock(session, name ?? '', Number(seconds)),
    ],
    [
      `SELECT IS_USED_LOCK\\(${text}\\)`,
      (_, [name = '']) => {
        const holder = this.#locks.get(name);
        return { columns: ['holder'], rows: [[holder === undefined ? null : String(holder)]] };
      },
    ],
    ['SELECT CURRENT_USER\\(\\)', (session) => ({ columns: ['CURRENT_USER()'], rows: [[`${session.user}@%`]] })],
    ['DO SLEEP\\(([0-9.]+)\\)', (_, [seconds]) => pause(Number(seconds) * 1000, {})],
    [
      `SELECT RELEASE_LOCK\\(${text}\\)`,
      (session, [name = '']) => {
        const held = this.#locks.get(name) === session.id;
        if (held) this.#locks.delete(name);
        return { columns: ['released'], rows: [[held ? '1' : '0']] };
      },
    ],
    ['(?:CREATE|DROP) DATABASE (?:IF EXISTS )?\\w+', (session) => this.#may(session, 'ALL')],
    ['CREATE TABLE \\w+\\.\\w+ \\(.*\\)', (session) => this.#may(session, 'ALL')],
    [
      `CREATE USER ${account} IDENTIFIED (?:WITH caching_sha2_password )?BY ${text}(?: WITH MAX_USER_CONNECTIONS (\\d+))?`,
      (session, [quoted, plain, , password = '', most = '0']) => {
        this.#may(session, 'CREATE USER');
        const name = this.#named(quoted, plain);
        if (name.length > 32) throw new SqlError(1470, 'HY000', 'String is too long for user name');
        if (this.#known.has(name)) throw new SqlError(1396, 'HY000', `Operation CREATE USER failed for '${name}'`);
        this.add(name, unquoted(password), []);
        this.#one('CREATE USER', name).maxConnections = Number(most);
      },
    ],
    [
      `ALTER USER ${account} ACCOUNT (LOCK|UNLOCK)`,
      (session, [quoted, plain, , how]) => {
        this.#may(session, 'CREATE USER');
        this.#one('ALTER USER', this.#named(quoted, plain)).locked = how === 'LOCK';
      },
    ],
    [
      `ALTER USER ${account} IDENTIFIED WITH caching_sha2_password BY ${text}`,
      (session, [quoted, plain, , password = '']) => {
        const name = this.#named(quoted, plain);
        if (name !== session.user) this.#may(session, 'CREATE USER');
        const known = this.#one('ALTER USER', name);
        known.verifier = sha256(sha256(unquoted(password)));
        known.cached = false;
      },
    ],
    [
      `DROP USER IF EXISTS ${account}`,
      (session, [quoted, plain]) => {
        this.#may(session, 'CREATE USER');
        this.#known.delete(this.#named(quoted, plain));
      },
    ],
    [
      `GRANT ([A-Z_, ]+) ON ([^ ]+) TO ${account}(?: (WITH GRANT OPTION))?`,
      (session, [rights = '', target, quoted, plain, , option]) => {
        const to = this.#one('GRANT', this.#named(quoted, plain)).rights;
        for (const right of rights.split(', ')) {
          const what = target === '*.*' ? right : `${right} ${target?.replaceAll('`', '')}`;
          this.#may(session, `${what} !`);
          to.add(what);
          if (option) to.add(`${what} !`);
        }
      },
    ],
    [
      "SELECT User AS name FROM mysql\\.user WHERE User LIKE 'wdr\\\\_%'",
      (session) => {
        this.#may(session, 'ALL');
        return {
          columns: ['name'],
          rows: [...this.#known.keys()].filter((name) => name.startsWith('wdr_')).map((name) => [name]),
        };
      },
    ],
    [
      `SELECT ID FROM performance_schema\\.processlist WHERE USER = ${text}( AND ID <> CONNECTION_ID\\(\\))?`,
      (session, [name = '', butThis]) => {
        if (unquoted(name) !== session.user) this.#may(session, 'PROCESS');
        const theirs = [...this.#sessions.values()].filter(
          ({ id, user }) => user === unquoted(name) && (butThis === undefined || id !== session.id),
        );
        return { columns: ['ID'], rows: theirs.map(({ id }) => [String(id)]) };
      },
    ],
    [
      'KILL CONNECTION (\\d+)',
      (session, [id]) => {
        this.#may(session, 'CONNECTION_ADMIN');
        const found = this.#sessions.get(Number(id));
        if (!found) throw new SqlError(1094, 'HY000', `Unknown thread id: ${id}`);
        found.end();
      },
    ],
    [
      '(SELECT) \\* FROM (\\w+)\\.\\w+|(INSERT) INTO (\\w+)\\..*',
      (session, [select, from = '', insert, into = '']) => {
        const right = `${select ?? insert} ${(from || into).replaceAll('_', '\\_')}.*`;
        const rights = this.#known.get(session.user)?.rights;
        if (!rights?.has('ALL') && !rights?.has(right)) throw new SqlError(1142, '42000', 'command denied');
        return select === undefined ? {} : { columns: ['id'], rows: [] };
      },
    ],
  ];

  async #lock(session: SqlSession, name: string, seconds: number): Promise<Reply> {
    for (let waited = 0; (this.#locks.get(name) ?? session.id) !== session.id; waited += 10) {
      if (waited > seconds * 1000) return { columns: ['got'], rows: [['0']] };
      await pause(10);
    }
    this.#locks.set(name, session.id);
    return { columns: ['got'], rows: [['1']] };
  }
}
