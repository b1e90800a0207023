/**
 * How an account gets connected: the authorization-code flow (RFC 6749 section 4.1) with PKCE, from the link that an
 * operator is given to the place where a person consents. The answer is finish-flow.ts.
 *
 * The link is Warder's own and can be opened once. Opening it puts a cookie into the browser, and only that browser can
 * bring the answer: whoever is sent somebody else's answer, or takes one, connects nothing (RFC 9700 section 4.7).
 * `state` is single use by compare-and-swap. Link, state and cookie are kept as digests.
 */
import { randomBytes } from 'node:crypto';
import type { AuthorizationFlow, Connection, Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { makeToken, sameDigest, tokenDigest, tokenEntropyBytes, tokenRowId } from '../../domain/tokens.ts';
import type { ServerFlow } from '../../ports/authorization.ts';
import { type Caller, commit, commitOrConflict, newId, record } from '../core.ts';
import { inTime, providerTimeoutMs, refusalOfProvider } from '../issuing/provider-calls.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import type { BoxContext } from '../keys/keyring.ts';
import { authorizationNames, consentServerOf, serverContext } from './authorizations.ts';

/** From opening the link to the answer: time to log in and to read what is asked for. */
export const consentMs = 600_000;
/** 256 random bits (RFC 7636 section 4.1 asks for as many). */
const verifierBytes = 32;

export const boxOf = (flow: Pick<AuthorizationFlow, 'id' | 'connection_id'>): BoxContext => ({
  purpose: 'authorization-flow',
  connection: flow.connection_id,
  flow: flow.id,
});

const flowToken = (core: CoreWithSecrets, id: string): string => makeToken('flow', id, core.entropy(tokenEntropyBytes));

export const callbackPath = '/oauth/callback';

/**
 * Makes a link for one person to connect one account.
 * @param subject the user whose account it will be; null for the organisation's own
 * @throws Refused `invalid_request` where nobody has to consent, `sealed`
 */
export const startFlow = async (
  core: CoreWithSecrets,
  connection: Connection,
  asked: { subject: string | null; expiresInSeconds: number },
  operator: Operator,
  caller: Caller,
): Promise<{ flow: AuthorizationFlow; link: string }> => {
  consentServerOf(core, connection);
  core.keyring.requireUnsealed();
  const now = core.clock.now();
  const id = newId(core, 'flw');
  const token = flowToken(core, id);
  const flow: AuthorizationFlow = {
    id,
    connection_id: connection.id,
    subject: asked.subject,
    operator_id: operator.id,
    status: 'offered',
    link_digest: tokenDigest(token),
    state_digest: null,
    cookie_digest: null,
    sealed: null,
    redirect_uri: `${core.issuer}${callbackPath}`,
    failure: null,
    authorization_id: null,
    expires_at: now + asked.expiresInSeconds * 1000,
    version: 1,
    created_at: now,
    updated_at: now,
  };
  await commitOrConflict(
    core,
    {
      writes: [{ write: 'insert', table: 'authorization_flows', row: flow }],
      audit: [
        record(core, caller, {
          type: 'authorization.offered',
          ...authorizationNames(core, flow),
          data: { flow: id, subject: asked.subject },
        }),
      ],
    },
    'this connection was deleted at this moment',
  );
  return { flow, link: `${core.issuer}/connect/${token}` };
};

/** How a flow went, for the operator who started it. @throws Refused `not_found`, also for another operator's */
export const flowOf = async (
  core: CoreWithSecrets,
  connection: Connection,
  id: string,
  operator: Operator,
): Promise<AuthorizationFlow> => {
  const flow = await core.reader.authorizationFlow(id);
  if (flow?.connection_id !== connection.id || flow.operator_id !== operator.id) {
    throw new Refused('not_found', 'this operator started no such flow');
  }
  return flow;
};

export interface Standing {
  flow: AuthorizationFlow;
  connection: Connection;
}

const overdue = (): Refused => new Refused('not_found', 'this link was used already, or its time is over');

/** Whether whoever made the link could still make it: it dies with what its maker may do. */
export const isVouchedFor = (core: CoreWithSecrets, flow: AuthorizationFlow): boolean => {
  const maker = core.state.operators.get(flow.operator_id);
  if (maker?.status !== 'active' || (maker.expires_at ?? Number.POSITIVE_INFINITY) <= core.clock.now()) return false;
  return maker.roles.some((role) => role === 'admin' || role === 'operator');
};

/** The flow of a link that can still be opened; looking at it changes nothing. @throws Refused `not_found` */
export const offeredFlow = async (core: CoreWithSecrets, link: string): Promise<Standing & { host: string }> => {
  const flow = await flowHolding(core, link, 'link_digest');
  const connection = flow && core.state.connections.get(flow.connection_id);
  if (!connection || flow.status !== 'offered' || flow.expires_at <= core.clock.now()) throw overdue();
  if (!isVouchedFor(core, flow)) throw overdue();
  return { flow, connection, host: consentServerOf(core, connection).host(connection.settings) };
};

export const flowHolding = async (
  core: CoreWithSecrets,
  token: string,
  field: 'link_digest' | 'state_digest',
): Promise<AuthorizationFlow | undefined> => {
  const id = tokenRowId('flow', token);
  const flow = id === undefined ? undefined : await core.reader.authorizationFlow(id);
  const digest = flow?.[field];
  return digest && sameDigest(digest, tokenDigest(token)) ? flow : undefined;
};

/**
 * Opens a link, once: what the browser takes along, and where it goes.
 * @throws Refused `not_found`; what the server says when it cannot be reached: then the link can be opened again
 */
export const openLink = async (
  core: CoreWithSecrets,
  link: string,
  caller: Caller,
): Promise<{ flow: AuthorizationFlow; url: string; cookie: string }> => {
  const { flow, connection } = await offeredFlow(core, link);
  const server = consentServerOf(core, connection);
  const [state, cookie] = [flowToken(core, flow.id), flowToken(core, flow.id)];
  const secrets = {
    codeVerifier: randomBytes(verifierBytes).toString('base64url'),
    nonce: randomBytes(verifierBytes).toString('base64url'),
  };
  const going: ServerFlow = { state, redirectUri: flow.redirect_uri, ...secrets };
  const url = await atServer((signal) =>
    server.authorizeUrl(connection, going, serverContext(core, connection, signal)),
  );
  const plain = Buffer.from(JSON.stringify(secrets));
  const now = core.clock.now();
  const result = await commit(core, {
    writes: [
      {
        write: 'update',
        table: 'authorization_flows',
        id: flow.id,
        set: {
          status: 'opened',
          state_digest: tokenDigest(state),
          cookie_digest: tokenDigest(cookie),
          sealed: core.keyring.encrypt(boxOf(flow), plain),
          expires_at: now + consentMs,
          version: flow.version + 1,
          updated_at: now,
        },
        from: { status: 'offered', version: flow.version },
      },
    ],
    audit: [
      record(core, caller, {
        type: 'authorization.opened',
        ...authorizationNames(core, flow),
        data: { flow: flow.id, subject: flow.subject },
      }),
    ],
  });
  plain.fill(0);
  if (!result.ok) throw overdue();
  return { flow, url, cookie };
};

/** One call of the flow to the server, with the deadline of any provider's. */
export const atServer = async <T>(call: (signal: AbortSignal) => Promise<T>): Promise<T> => {
  const signal = AbortSignal.timeout(providerTimeoutMs);
  try {
    return await inTime(signal, call(signal));
  } catch (error) {
    throw refusalOfProvider(error);
  }
};
