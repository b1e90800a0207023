/**
 * `mysql`: a user with a password for each grant, made and ended in a MySQL or MariaDB server, which knows what it may do.
 *
 * No server of this kind ends a user at a given second: the drain does, at the grant's end as at a revocation.
 */
import { randomBytes } from 'node:crypto';
import type { Connection } from '../../src/domain/model.ts';
import {
  type Handle,
  type MintRequest,
  type Provider,
  type ProviderContext,
  ProviderFailure,
} from '../../src/ports/provider.ts';
import type { Network } from '../network.ts';
import { ClientPool } from './database/client-pool.ts';
import { ConnectionPools } from './database/connection-pools.ts';
import { adminSecret, hostAndPort, requireMadeAt, tlsOf } from './database/settings.ts';
import { errors, failed, serverError } from './mysql/failures.ts';
import { mysqlRotation } from './mysql/rotation.ts';
import { openSession, type Session } from './mysql/session.ts';
import { endSessions } from './mysql/sessions.ts';
import { type MysqlScope, type MysqlSettings, mysqlSettings } from './mysql/settings.ts';
import {
  type Account,
  creation,
  drop,
  lock,
  releaseLock,
  revocations,
  sessionsOf,
  takeLock,
  userName,
} from './mysql/statements.ts';
import { trustIn } from './shared/certificates.ts';
import { checked, jsonSchemaOf, parsedOnce } from './shared/checking.ts';

const maxSessions = 10;
const idleMs = 30_000;

const parsed = parsedOnce<MysqlSettings>(mysqlSettings);

export const openMysqlProvider = (network: Network): Provider => {
  const pools = new ConnectionPools<Session>(
    ({ settings }, login, emptied) =>
      new ClientPool<Session>({
        open: (signal) => openSession(network, parsed(settings), login, signal),
        destroy: (session) => session.destroy(),
        // What a session holds (a lock, a mode) ends with it.
        survives: () => false,
        usable: (session) => !session.broken,
        hold: (session, idle) => session.hold(idle),
        emptied,
        max: maxSessions,
        idleMs,
      }),
  );

  const withSession = async (
    connection: Connection,
    context: ProviderContext,
    work: (session: Session) => Promise<void>,
  ): Promise<void> => {
    await pools.use(connection, context, async ({ pool }) => {
      try {
        await pool.use(context.signal, work);
      } catch (error) {
        failed(error, context.signal);
      }
    });
  };

  const mint = async (request: MintRequest, handle: Handle | null, context: ProviderContext) => {
    const settings = parsed(request.connection.settings);
    const made = accountOf(handle);
    const scopes = scopesNamed(settings, request.scopes);
    const password = randomBytes(32).toString('base64url');
    await withSession(request.connection, context, async (session) => {
      const { make, rest } = creation(settings, scopes, made, password, session.dialect);
      await session.run(takeLock(made));
      try {
        await session.run(make);
      } catch (error) {
        if (serverError(error) !== errors.cannotUser) throw error;
        // Somebody else's: undoing must not end it.
        await context.journal({ ...handle, theirs: true });
        throw new ProviderFailure('refused', 'a user with the name Warder needs belongs to somebody else');
      }
      for (const statement of rest) await session.run(statement);
      await session.run(releaseLock(made));
      if (scopes.some((scope) => 'creation_statements' in scope)) session.broken = true;
    });
    return { credential: credentialOf(settings, made.user, password) };
  };

  const revoke = async (grant: { handle: Handle | null }, connection: Connection, context: ProviderContext) => {
    if (grant.handle?.['theirs'] === true) return;
    const settings = parsed(connection.settings);
    const made = accountOf(grant.handle);
    const written = revocations(scopesNamed(settings, scopesOf(grant.handle)), made);
    await withSession(connection, context, async (session) => {
      if (!(await locked(session, made))) {
        await session.run(takeLock(made));
        await session.run(releaseLock(made));
        if (!(await locked(session, made))) return requireMadeAt(grant.handle, settings);
      }
      await endSessions(session, sessionsOf(made, session.dialect));
      for (const statement of written) await session.run(statement);
      await session.run(drop(made));
      // Who was logging in while the user was locked may be in since.
      await endSessions(session, sessionsOf(made, session.dialect));
      if (written.length > 0) session.broken = true;
    });
  };

  return {
    type: 'mysql',
    enforcement: () => 'upstream',
    settingsSchema: jsonSchemaOf(mysqlSettings),
    checkSettings: (value) => checked<Record<string, unknown>>(mysqlSettings, value, 'settings'),
    checkSecret: (value) => checked<Record<string, string> | undefined>(adminSecret, value, 'secret'),
    secretDestination: (value) => {
      const { tls, ...address } = parsed(value);
      return `mysql://${hostAndPort(address)}?tls=${tls.mode}${trustIn(tls.ca)}`;
    },
    rotation: mysqlRotation(network, parsed),
    scopes: (value) => Object.keys(parsed(value).scopes),
    plan: ({ connection, grantId, scopes }) => {
      const settings = parsed(connection.settings);
      return {
        credentialType: 'mysql',
        handle: { user: userName(settings, grantId), host: settings.user_host, scopes, at: hostAndPort(settings) },
      };
    },
    mint: (request, plan, context) => mint(request, plan.handle, context),
    revoke,
    byHand: ({ handle }) => {
      const made = accountOf(handle);
      return `As an administrator: ${lock(made)}; end its sessions (KILL); ${drop(made)}`;
    },
    // The server knows no end of a user: there is nothing to put off.
    renew: async () => undefined,
  };
};

/** @returns false when there is no such user */
const locked = async (session: Session, made: Account): Promise<boolean> => {
  try {
    await session.run(lock(made));
    return true;
  } catch (error) {
    if (serverError(error) === errors.cannotUser) return false;
    throw error;
  }
};

const scopesNamed = (settings: MysqlSettings, names: readonly string[]): MysqlScope[] => {
  const scopes: Record<string, MysqlScope> = settings.scopes;
  return names.flatMap((name) => {
    const found = Object.hasOwn(scopes, name) ? scopes[name] : undefined;
    return found ? [found] : [];
  });
};

/** What the plan wrote down. */
const accountOf = (handle: Handle | null): Account => {
  const { user, host } = handle ?? {};
  if (typeof user !== 'string' || typeof host !== 'string') {
    throw new ProviderFailure('refused', 'this grant names no user');
  }
  return { user, host };
};
const scopesOf = (handle: Handle | null): string[] => {
  const scopes = handle?.['scopes'];
  return Array.isArray(scopes) ? scopes.map(String) : [];
};

const credentialOf = (settings: MysqlSettings, username: string, password: string) => {
  const { database, host, port } = settings;
  const tls = tlsOf(settings);
  const at = `${hostAndPort(settings)}/${encodeURIComponent(database)}`;
  return { type: 'mysql', host, port, database, username, password, tls, url: `mysql://${username}:${password}@${at}` };
};
