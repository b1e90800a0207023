/** A session at a MySQL or MariaDB, over a socket of the guarded network. */
import type { Network } from '../../network.ts';
import type { Login } from '../database/connection-pools.ts';
import { tlsOf } from '../database/settings.ts';
import { guardParser, whileOpen } from '../database/sockets.ts';
import type { MysqlSettings } from './settings.ts';
import { type Dialect, quoted, sqlMode } from './statements.ts';

export interface Session {
  /** Set when the connection is over, or must not be used again. */
  broken: boolean;
  dialect: Dialect;
  /** Runs one statement. @returns its rows, as text */
  run(text: string): Promise<(string | null)[][]>;
  /** Lets the process end although this session is open. */
  hold(idle: boolean): void;
  destroy(): void;
}

/** At first use: it is 24 MB of memory that a broker without MySQL has a better use for. */
const loadDriver = () => import('mysql2/promise');

/** @throws what the network, TLS or the server say */
export const openSession = async (
  network: Network,
  settings: MysqlSettings,
  login: Login,
  signal: AbortSignal,
): Promise<Session> => {
  const { host, port, allow_private_network } = settings;
  const socket = await network.connect({ host, port, allowPrivateNetwork: allow_private_network }, signal);
  const stop = (): void => void socket.destroy();
  signal.addEventListener('abort', stop, { once: true });
  // Each wait below has its own listener; between two of them an error must not be nobody's.
  socket.on('error', () => undefined);
  try {
    const { mode, ca } = tlsOf(settings);
    const verified = mode === 'verify-full';
    const { createConnection } = await loadDriver();
    const opening = createConnection({
      host,
      port,
      user: login.username,
      password: login.password,
      stream: guardParser(socket),
      ...(mode === 'disable'
        ? {}
        : {
            ssl: {
              ...(ca === undefined ? {} : { ca }),
              rejectUnauthorized: verified,
              verifyIdentity: verified,
              minVersion: 'TLSv1.2',
            },
          }),
      charset: 'utf8mb4',
      multipleStatements: false,
      // A server may ask a client for its files (LOAD DATA LOCAL).
      flags: ['-LOCAL_FILES'],
      connectTimeout: 8_000,
      rowsAsArray: true,
      typeCast: (field) => field.string('utf8'),
      connectAttributes: { program_name: 'warder' },
    });
    const connection = await whileOpen(socket, opening);
    const session: Session = {
      broken: false,
      dialect: { mariadb: false, literalDatabases: false },
      run: async (text) => {
        const [rows]: unknown[] = await whileOpen(socket, connection.query(text));
        return Array.isArray(rows) ? rows : [];
      },
      hold: (idle) => void (idle ? socket.unref() : socket.ref()),
      destroy: () => {
        session.broken = true;
        connection.destroy();
        socket.destroy();
      },
    };
    connection.on('error', session.destroy).on('end', session.destroy);
    socket.on('close', session.destroy);
    const [[version] = []] = await session.run('SELECT VERSION()');
    const mariadb = /mariadb/i.test(version ?? '');
    const [[, partial] = []] = mariadb ? [] : await session.run("SHOW VARIABLES LIKE 'partial\\_revokes'");
    session.dialect = { mariadb, literalDatabases: partial === 'ON' };
    await session.run(
      `SET SESSION sql_mode = ${quoted(sqlMode(session.dialect))}, SESSION lock_wait_timeout = 4` +
        (mariadb ? ', SESSION max_statement_time = 8' : ''),
    );
    return session;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
};
