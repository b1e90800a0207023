/** A session at a PostgreSQL, over a socket of the guarded network. */
import { once } from 'node:events';
import { isIP, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import pg from 'pg';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import type { Network } from '../../network.ts';
import type { Login } from '../database/connection-pools.ts';
import { tlsOf } from '../database/settings.ts';
import { guardParser, whileOpen } from '../database/sockets.ts';
import { Powerless, sqlState } from './failures.ts';
import { wholeMessages } from './messages.ts';
import { iterationsOf, usualIterations } from './scram.ts';
import type { PostgresSettings } from './settings.ts';
import { named } from './statements.ts';

export interface Session {
  /** Set when the connection is over, whoever ended it. */
  broken: boolean;
  /** Set by who used it last, when nobody else should. */
  spent: boolean;
  /** The major version: 18. */
  version: number;
  /** Of the verifiers of passwords, as the server would make them for this login. */
  iterations: number;
  /**
   * Runs statements as one simple query: one round trip, one transaction (unless they say otherwise).
   * @returns the rows of each statement, as text
   */
  run(text: string): Promise<(string | null)[][][]>;
  /** Runs one statement that is prepared at its first use. @returns its rows, as text */
  ask(statement: { name: string; text: string }, values: readonly string[]): Promise<(string | null)[][]>;
  /** Lets the process end although this session is open. */
  hold(idle: boolean): void;
  destroy(): void;
}

/** Below the ten seconds that a call may take: what is given up here must not go on for long over there. */
const sessionOptions = [
  '-c search_path=pg_catalog',
  '-c statement_timeout=8000',
  '-c lock_timeout=4000',
  '-c idle_in_transaction_session_timeout=10000',
  '-c client_min_messages=error',
  '-c standard_conforming_strings=on',
].join(' ');

/** Section 54.2.10 of the manual: SSLRequest, and one byte back; more would be somebody else's (CVE-2021-23222). */
const secured = async (socket: Socket, settings: PostgresSettings, signal: AbortSignal): Promise<Socket> => {
  const { mode, ca } = tlsOf(settings);
  if (mode === 'disable') return socket;
  socket.write(Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]));
  const [answer] = (await whileOpen(socket, once(socket, 'data', { signal }))) as [Buffer];
  if (!answer.equals(Buffer.from('S'))) throw new ProviderFailure('unavailable', 'the database does not speak TLS');
  const secure = tlsConnect({
    socket,
    host: settings.host,
    ...(isIP(settings.host) === 0 ? { servername: settings.host } : {}),
    ...(ca === undefined ? {} : { ca }),
    rejectUnauthorized: mode === 'verify-full',
    minVersion: 'TLSv1.2',
  });
  try {
    await whileOpen(secure, once(secure, 'secureConnect', { signal }));
  } catch (error) {
    secure.destroy();
    throw error;
  }
  return secure;
};

/** pg calls `connect` on what it is given and waits for the event: this one is connected already. */
const alreadyConnected = (socket: Socket): Socket =>
  Object.assign(socket, {
    connect: () => {
      process.nextTick(() => socket.emit('connect'));
      return socket;
    },
  });

const textual = { getTypeParser: () => (text: string | Buffer) => text.toString() };

export interface SessionOptions {
  /** Another than the connection's own. */
  database?: string;
  /** The role to become; as the settings say unless given, undefined for none. */
  actAs?: string | undefined;
  /** What others see it is called. */
  name?: string;
}

/** @throws Powerless when this login may not be that role, or there is none */
export const actAs = async (session: Session, role: string): Promise<void> => {
  try {
    await session.run(`SET ROLE ${named(role)}`);
  } catch (error) {
    // insufficient_privilege, and invalid_parameter_value: no such role
    if (!['42501', '22023'].includes(sqlState(error) ?? '')) throw error;
    throw new Powerless('refused', 'Warder’s login may not act as the role of act_as');
  }
};

/** @throws what the network, TLS or the server say, and Powerless */
export const openSession = async (
  network: Network,
  settings: PostgresSettings,
  login: Login,
  signal: AbortSignal,
  options: SessionOptions = {},
): Promise<Session> => {
  const { database = settings.database, name = 'warder' } = options;
  const role = 'actAs' in options ? options.actAs : settings.act_as;
  const { host, port, allow_private_network } = settings;
  const socket = await network.connect({ host, port, allowPrivateNetwork: allow_private_network }, signal);
  const stop = (): void => void socket.destroy();
  signal.addEventListener('abort', stop, { once: true });
  // Each wait below has its own listener; between two of them an error must not be nobody's.
  socket.on('error', () => undefined);
  try {
    const stream = guardParser(await secured(socket, settings, signal), wholeMessages());
    stream.on('error', () => undefined);
    const client = new pg.Client({
      host,
      port,
      database,
      user: login.username,
      password: login.password,
      // All of it is said here: what is left out, pg looks for in the environment.
      ssl: false,
      application_name: name,
      options: sessionOptions,
      client_encoding: 'UTF8',
      stream: () => alreadyConnected(stream),
    });
    const session: Session = {
      broken: false,
      spent: false,
      version: 0,
      iterations: usualIterations,
      run: async (text) => {
        let answered: unknown;
        try {
          answered = await whileOpen(stream, client.query({ text, rowMode: 'array', types: textual }));
        } catch (error) {
          // Statements that say BEGIN leave their transaction open when one of them fails.
          if (!session.broken) await client.query('ROLLBACK').catch(session.destroy);
          throw error;
        }
        const results: unknown[] = Array.isArray(answered) ? answered : [answered];
        return results.map((result) => (result as { rows: (string | null)[][] }).rows);
      },
      ask: async (statement, values) => {
        const asked = client.query({ ...statement, values: [...values], rowMode: 'array', types: textual });
        return (await whileOpen(stream, asked)).rows;
      },
      hold: (idle) => void (idle ? socket.unref() : socket.ref()),
      destroy: () => {
        session.broken = true;
        stream.destroy();
        socket.destroy();
      },
    };
    const over = (): void => session.destroy();
    client.on('error', over).on('end', over);
    if (settings.tls.mode !== 'verify-full') {
      // Nobody knows who is at the other end: the password itself is not for him, a proof of it (SCRAM) may be.
      client.connection.prependListener('authenticationCleartextPassword', () => socket.destroy());
    }
    await whileOpen(stream, client.connect());
    const [[[version, iterations] = []] = []] = await session.run(
      "SELECT current_setting('server_version_num'), current_setting('scram_iterations', true)",
    );
    session.version = Math.floor(Number(version) / 10_000);
    session.iterations = iterationsOf(iterations);
    if (role !== undefined) await actAs(session, role);
    return session;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
};
