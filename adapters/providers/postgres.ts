/**
 * `postgres`: a role with a password for each grant, made and ended in the database, which knows what it may do.
 *
 * The role can log in until the grant's end (`VALID UNTIL`). The server looks at that time only when somebody logs in:
 * sessions that are open then, and at a revocation, are ended by `revoke`.
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
import { ConnectionPools, type Login, type OpenPool } from './database/connection-pools.ts';
import { retrying } from './database/retry.ts';
import { adminSecret, hostAndPort, requireMadeAt, tlsOf } from './database/settings.ts';
import { failed, isUnusual, mayPass, sqlState } from './postgres/failures.ts';
import { GroupKeeper, groupName, keepGroup } from './postgres/groups.ts';
import { postgresRotation } from './postgres/rotation.ts';
import { scramVerifier } from './postgres/scram.ts';
import { openSession, type Session } from './postgres/session.ts';
import { type PostgresSettings, postgresSettings, scopesNamed } from './postgres/settings.ts';
import {
  creation,
  disown,
  dropRole,
  end,
  findRole,
  named,
  operatorsStatements,
  prolong,
  quoted,
  roleLock,
  roleMark,
  roleName,
  shutOut,
} from './postgres/statements.ts';
import { trustIn } from './shared/certificates.ts';
import { checked, jsonSchemaOf, parsedOnce } from './shared/checking.ts';

/** Enough to hide the time of a commit; a server has a hundred for everybody unless told otherwise. */
const maxSessions = 16;
const idleMs = 30_000;

const parsed = parsedOnce<PostgresSettings>(postgresSettings);

export const openPostgresProvider = (network: Network): Provider => {
  const pools = new ConnectionPools<Session>((connection, login, emptied) =>
    sessionPool(network, parsed(connection.settings), login, emptied),
  );
  const groups = new GroupKeeper();

  /** With a session of the secret in force. */
  const inForce = <T>(
    connection: Connection,
    context: ProviderContext,
    work: (session: Session, login: Login) => Promise<T>,
  ): Promise<T> => pools.use(connection, context, (at) => withSession(at, context.signal, work));

  /** Runs `work` with a session; a race that was lost is tried again, and what fails in the end is a ProviderFailure. */
  const withSession = async <T>(
    { pool, login }: OpenPool<Session>,
    signal: AbortSignal,
    work: (session: Session, login: Login) => Promise<T>,
  ): Promise<T> => {
    try {
      return await retrying(signal, mayPass, () => pool.use(signal, (session) => work(session, login)));
    } catch (error) {
      return failed(error, signal);
    }
  };

  const mint = async (request: MintRequest, handle: Handle | null, context: ProviderContext) => {
    const { connection } = request;
    const settings = parsed(connection.settings);
    const role = roleOf(handle);
    const password = randomBytes(32).toString('base64url');
    await pools.use(connection, context, (at) => makeRole(at, request, { role, password }, context.signal));
    return { credential: credentialOf(settings, role, password) };
  };

  const makeRole = async (
    at: OpenPool<Session>,
    { connection, grantId, expiresAt, scopes: names }: MintRequest,
    { role, password }: { role: string; password: string },
    signal: AbortSignal,
  ): Promise<void> => {
    const settings = parsed(connection.settings);
    const scopes = scopesNamed(settings, names);
    const memberOf = new Set<string>();
    for (const scope of scopes) {
      if ('member_of' in scope) for (const group of scope.member_of) memberOf.add(group);
      if (!('preset' in scope)) continue;
      const group = groupName(settings.role_prefix, connection.id, settings.database, scope);
      memberOf.add(group);
      await groups.fresh(at.pool, group, signal, (looking) =>
        withSession(at, looking, (session) => keepGroup(session, connection.id, group, scope)),
      );
    }
    const written = scopes.filter((scope) => 'creation_statements' in scope);
    await withSession(at, signal, async (session, login) => {
      const heir = settings.reassign_owned_to;
      if (heir !== undefined && [settings.act_as, login.username].includes(heir)) {
        // What an agent left behind would act with the rights of the role that makes roles.
        throw new ProviderFailure('refused', 'reassign_owned_to must be another role than Warder’s own');
      }
      const verifier = await scramVerifier(password, session.iterations);
      const made = { role, grantId, verifier, expiresAt, memberOf: [...memberOf] };
      const statements = creation(settings, written, made, session.version);
      await (written.length > 0 ? runOperators(session, statements) : session.run(statements));
    });
  };

  const revoke = async (
    grant: { id: string; handle: Handle | null },
    connection: Connection,
    context: ProviderContext,
  ) => {
    const settings = parsed(connection.settings);
    const role = roleOf(grant.handle);
    const written = scopesNamed(settings, scopesOf(grant.handle)).flatMap((scope) =>
      'creation_statements' in scope ? (scope.revocation_statements ?? []) : [],
    );
    await inForce(connection, context, async (session, login) => {
      if (written.length === 0 && (await endsAtOnce(session, role, grant.id))) return;
      const found = (await findOurs(session, role, grant.id)) ?? (await findOurs(session, role, grant.id, true));
      if (!found) return requireMadeAt(grant.handle, settings);
      await session.run(shutOut(role, grant.id));
      const theirs = operatorsStatements(written, role);
      if (theirs !== undefined) await runOperators(session, theirs);
      for (const database of (await findOurs(session, role, grant.id))?.databases ?? []) {
        await inDatabase(session, database, settings, login, context.signal, (there) =>
          there.run(disown(role, settings.reassign_owned_to)),
        );
      }
      await session.run(dropRole(role));
    });
  };

  /** In another database than the pool's, a session just for this. */
  const inDatabase = async (
    session: Session,
    database: string,
    settings: PostgresSettings,
    login: Login,
    signal: AbortSignal,
    work: (session: Session) => Promise<unknown>,
  ): Promise<void> => {
    if (database === settings.database) return void (await work(session));
    const there = await openSession(network, settings, login, signal, { database });
    const stop = (): void => there.destroy();
    signal.addEventListener('abort', stop, { once: true });
    try {
      await work(there);
    } finally {
      signal.removeEventListener('abort', stop);
      there.destroy();
    }
  };

  return {
    type: 'postgres',
    enforcement: () => 'upstream',
    settingsSchema: jsonSchemaOf(postgresSettings),
    checkSettings: (value) => checked<Record<string, unknown>>(postgresSettings, value, 'settings'),
    checkSecret: (value) => checked<Record<string, string> | undefined>(adminSecret, value, 'secret'),
    secretDestination: (value) => {
      const { tls, ...address } = parsed(value);
      return `postgresql://${hostAndPort(address)}?tls=${tls.mode}${trustIn(tls.ca)}`;
    },
    rotation: postgresRotation(network, parsed),
    scopes: (value) => Object.keys(parsed(value).scopes),
    plan: ({ connection, grantId, scopes }) => ({
      credentialType: 'postgres',
      handle: {
        role: roleName(parsed(connection.settings), grantId),
        scopes,
        at: hostAndPort(parsed(connection.settings)),
      },
    }),
    mint: (request, plan, context) => mint(request, plan.handle, context),
    revoke,
    byHand: (grant, connection) => {
      const role = roleOf(grant.handle);
      const { database } = parsed(connection.settings);
      const sessions = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ${quoted(role)}`;
      return `In database ${database}, as an administrator: ALTER ROLE ${named(role)} NOLOGIN; ${sessions}; REASSIGN or DROP OWNED BY ${named(role)}; DROP ROLE ${named(role)}`;
    },
    renew: async (grant, connection, expiresAt, context) => {
      const settings = parsed(connection.settings);
      const role = roleOf(grant.handle);
      const written = scopesNamed(settings, grant.scopes).flatMap((scope) =>
        'creation_statements' in scope ? (scope.renew_statements ?? []) : [],
      );
      await inForce(connection, context, async (session) => {
        if (!(await findOurs(session, role, grant.id))) {
          throw new ProviderFailure('refused', 'the role of this grant is gone');
        }
        await session.run(prolong(role, expiresAt));
        const theirs = operatorsStatements(written, role, expiresAt);
        if (theirs !== undefined) await runOperators(session, theirs);
      });
    },
  };
};

const sessionPool = (
  network: Network,
  settings: PostgresSettings,
  login: Login,
  emptied: () => void,
): ClientPool<Session> =>
  new ClientPool<Session>({
    open: (signal) => openSession(network, settings, login, signal),
    destroy: (session) => session.destroy(),
    survives: (error, session) => !session.broken && sqlState(error) !== undefined,
    usable: (session) => !session.broken && !session.spent,
    hold: (session, idle) => session.hold(idle),
    emptied,
    max: maxSessions,
    idleMs,
  });

/** What the plan wrote down. */
const roleOf = (handle: Handle | null): string => {
  const role = handle?.['role'];
  if (typeof role !== 'string') throw new ProviderFailure('refused', 'this grant names no role');
  return role;
};
const scopesOf = (handle: Handle | null): string[] => {
  const scopes = handle?.['scopes'];
  return Array.isArray(scopes) ? scopes.map(String) : [];
};

/** Most roles have nothing but their membership, and end in one query. @returns false when this one must be looked at */
const endsAtOnce = async (session: Session, role: string, grantId: string): Promise<boolean> => {
  try {
    await session.run(end(role, grantId));
    return true;
  } catch (error) {
    if (isUnusual(error)) return false;
    throw error;
  }
};

/** What operators wrote may change the session it runs in: nobody uses it afterwards. */
const runOperators = async (session: Session, statements: string): Promise<void> => {
  await session.run(statements);
  session.spent = true;
};

/** @returns undefined when there is no such role, or when it was not made for this grant: then it is none of our business */
const findOurs = async (
  session: Session,
  role: string,
  grantId: string,
  afterTheLock = false,
): Promise<{ oid: string; databases: string[] } | undefined> => {
  if (afterTheLock) await session.run(roleLock(role));
  const [[oid, mark, databases] = []] = await session.ask(findRole, [role]);
  if (typeof oid !== 'string' || mark !== roleMark(grantId)) return undefined;
  const names: unknown = JSON.parse(databases ?? '[]');
  return { oid, databases: Array.isArray(names) ? names.map(String) : [] };
};

const credentialOf = (settings: PostgresSettings, username: string, password: string) => {
  const { database, host, port } = settings;
  const tls = tlsOf(settings);
  const at = `${hostAndPort(settings)}/${encodeURIComponent(database)}`;
  return {
    type: 'postgres',
    host,
    port,
    database,
    username,
    password,
    tls,
    url: `postgresql://${username}:${password}@${at}?sslmode=${tls.mode}`,
  };
};
