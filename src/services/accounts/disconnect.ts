/**
 * Disconnecting an account: dead here first, then revoked at the server, then forgotten. A server that does not answer
 * keeps the row, as `disconnected`, so that the tokens are not lost from sight while they live there.
 */
import type { Authorization, Connection, Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { type Caller, commitOrConflict, record } from '../core.ts';
import { inTime, providerTimeoutMs, refusalOfProvider } from '../issuing/provider-calls.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { accompanyingFence } from '../revocation/revoke.ts';
import { authorizationNames, authorizationServerOf, serverContext } from './authorizations.ts';

/** What became of the tokens: `no_call` when the server has none for revoking. */
export type Disconnected = { revoked: true } | { revoked: false; why: 'no_call' | 'not_reached' };

/** @throws Refused `not_found` */
export const authorizationCalled = (core: CoreWithSecrets, connection: Connection, id: string): Authorization => {
  const row = core.state.authorizations.get(id);
  if (row?.connection_id !== connection.id) throw new Refused('not_found', 'this connection has no such account');
  return row;
};

const overtaken = 'this account changed at this moment; look again and repeat';

/**
 * @param forget delete it also when the server cannot be told
 * @throws Refused `upstream_…` when it could not be told: the account is dead here, and this can be repeated
 */
export const disconnect = async (
  core: CoreWithSecrets,
  connection: Connection,
  id: string,
  options: { forget: boolean },
  operator: Operator,
  caller: Caller,
): Promise<Disconnected> => {
  const dead = await kill(core, connection, authorizationCalled(core, connection, id), operator, caller);
  const outcome = await revokeAtServer(core, connection, dead, options.forget);
  await commitOrConflict(
    core,
    {
      writes: [{ write: 'delete', table: 'authorizations', id, from: { version: dead.version } }],
      audit: [
        record(core, caller, {
          type: 'authorization.deleted',
          ...authorizationNames(core, dead),
          data: { authorization: id, subject: dead.subject, ...outcome },
        }),
      ],
    },
    overtaken,
  );
  return outcome;
};

/** From here on no grant of it works, whatever the server does. */
const kill = async (
  core: CoreWithSecrets,
  connection: Connection,
  row: Authorization,
  operator: Operator,
  caller: Caller,
): Promise<Authorization> => {
  if (row.status === 'disconnected') return row;
  // A selector cannot say "of nobody": the organisation's own takes every grant of the connection along.
  const selector = { connection: connection.id, ...(row.subject === null ? {} : { subject: row.subject }) };
  const fence = accompanyingFence(core, selector, 'account disconnected', operator);
  const set = { status: 'disconnected' as const, version: row.version + 1, updated_at: core.clock.now() };
  await commitOrConflict(
    core,
    {
      writes: [
        { write: 'update', table: 'authorizations', id: row.id, set, from: { version: row.version } },
        ...fence.writes,
      ],
      audit: [
        record(core, caller, {
          type: 'authorization.disconnected',
          ...authorizationNames(core, row),
          data: { authorization: row.id, subject: row.subject, revocation: fence.revocationId },
        }),
      ],
    },
    overtaken,
  );
  return { ...row, ...set };
};

const revokeAtServer = async (
  core: CoreWithSecrets,
  connection: Connection,
  row: Authorization,
  forget: boolean,
): Promise<Disconnected> => {
  const server = authorizationServerOf(core, connection);
  const signal = AbortSignal.timeout(providerTimeoutMs);
  try {
    const held = core.authorizations.open(row);
    const told = await inTime(signal, server.revokeTokens(connection, held, serverContext(core, connection, signal)));
    return told ? { revoked: true } : { revoked: false, why: 'no_call' };
  } catch (error) {
    const refused = refusalOfProvider(error);
    if (refused.refusal.code === 'sealed') throw refused;
    core.log.warn({ err: error, authorization: row.id }, 'tokens could not be revoked at the server');
    if (forget) return { revoked: false, why: 'not_reached' };
    const { code, detail } = refused.refusal;
    throw new Refused(
      code,
      `${detail}; nobody can use this account here any more, but its tokens live on there: repeat this, or add forget`,
      { cause: error },
    );
  }
};
