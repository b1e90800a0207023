/**
 * How an account gets connected: the authorization-code flow (RFC 6749 section 4.1) with PKCE, from the link that an
 * operator is given to the answer at the redirect URI.
 *
 * The link is Warder's own and can be opened once. Opening it puts a cookie into the browser, and only that browser can
 * bring the answer: whoever is sent somebody else's answer, or takes one, connects nothing (RFC 9700 section 4.7).
 * `state` is single use by compare-and-swap. Link, state and cookie are kept as digests.
 */
import { randomBytes } from 'node:crypto';
import type { Authorization, AuthorizationFlow, Connection, Operator } from '../domain/model.ts';
import { Refused } from '../domain/refusals.ts';
import { makeToken, sameDigest, tokenDigest, tokenEntropyBytes, tokenRowId } from '../domain/tokens.ts';
import type { NewTokens, ServerFlow } from '../ports/authorization.ts';
import type { Committed } from '../ports/ledger.ts';
import { AnswerRefused } from '../ports/provider.ts';
import { sealTokens } from './authorization-tokens.ts';
import { authorizationNames, authorizationServerOf, serverContext } from './authorizations.ts';
import { type Caller, commit, commitOrConflict, newId, record } from './core.ts';
import type { BoxContext } from './keyring.ts';
import { type CoreWithSecrets, inTime, providerTimeoutMs, refusalOfProvider } from './provider-context.ts';

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
  authorizationServerOf(core, connection);
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

interface Standing {
  flow: AuthorizationFlow;
  connection: Connection;
}

const overdue = (): Refused => new Refused('not_found', 'this link was used already, or its time is over');

/** The flow of a link that can still be opened; looking at it changes nothing. @throws Refused `not_found` */
export const offeredFlow = async (core: CoreWithSecrets, link: string): Promise<Standing & { host: string }> => {
  const flow = await flowHolding(core, link, 'link_digest');
  const connection = flow && core.state.connections.get(flow.connection_id);
  if (!connection || flow.status !== 'offered' || flow.expires_at <= core.clock.now()) throw overdue();
  return { flow, connection, host: authorizationServerOf(core, connection).host(connection.settings) };
};

const flowHolding = async (
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
  const server = authorizationServerOf(core, connection);
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
const atServer = async <T>(call: (signal: AbortSignal) => Promise<T>): Promise<T> => {
  const signal = AbortSignal.timeout(providerTimeoutMs);
  try {
    return await inTime(signal, call(signal));
  } catch (error) {
    throw refusalOfProvider(error);
  }
};

/**
 * What came to the redirect URI. Connects the account when the answer is to a flow that this browser began.
 * @param cookieOf the browser's cookie for a flow
 * @throws Refused `not_found` for a state that stands for nothing (any more), `forbidden` for another browser,
 * `upstream_…` for what the server said
 */
export const finishFlow = async (
  core: CoreWithSecrets,
  answer: URLSearchParams,
  cookieOf: (flowId: string) => string | undefined,
  caller: Caller,
): Promise<{ connection: Connection; authorization: Authorization }> => {
  const { flow, connection } = await claim(core, answer, cookieOf, caller);
  const fail = async (failure: string, error: Refused): Promise<never> => {
    await ended(core, flow, caller, failure);
    throw error;
  };
  let brought: { tokens: NewTokens; scopes: string[]; account: string | null };
  const server = authorizationServerOf(core, connection);
  try {
    const going = goingOf(core, flow, answer);
    brought = await atServer((signal) =>
      server.exchange(connection, going, answer, serverContext(core, connection, signal)),
    );
  } catch (error) {
    const refused = refusalOfProvider(error);
    const { cause } = refused;
    return fail(cause instanceof AnswerRefused ? cause.code : refused.refusal.code, refused);
  }
  try {
    return { connection, authorization: await connect(core, flow, connection, brought, caller) };
  } catch (error) {
    // Nobody will know these tokens.
    await core.authorizations.discard(core, connection, brought.tokens);
    const refused = refusalOfProvider(error);
    if (refused.refusal.code === 'ledger_unavailable') throw refused;
    return fail(refused.refusal.code, refused);
  }
};

/** The flow this answer is to, taken so that nobody takes it again. */
const claim = async (
  core: CoreWithSecrets,
  answer: URLSearchParams,
  cookieOf: (flowId: string) => string | undefined,
  caller: Caller,
): Promise<Standing> => {
  const [state, ...more] = answer.getAll('state');
  const flow = state === undefined || more.length > 0 ? undefined : await flowHolding(core, state, 'state_digest');
  const connection = flow && core.state.connections.get(flow.connection_id);
  if (!connection || flow.status !== 'opened' || flow.expires_at <= core.clock.now()) {
    throw new Refused('not_found', 'this answer belongs to nothing that was begun here, or came too late, or twice');
  }
  const cookie = cookieOf(flow.id);
  if (cookie === undefined || !flow.cookie_digest || !sameDigest(flow.cookie_digest, tokenDigest(cookie))) {
    // Not ended: otherwise whoever sees the address of an answer could spoil it.
    await recordRefusal(core, flow, caller, 'another_browser');
    throw new Refused('forbidden', 'this must be finished in the browser it was begun in; open a new link');
  }
  core.keyring.requireUnsealed();
  const result = await commit(core, {
    writes: [
      {
        write: 'update',
        table: 'authorization_flows',
        id: flow.id,
        set: { status: 'redeeming', version: flow.version + 1, updated_at: core.clock.now() },
        from: { status: 'opened', version: flow.version },
      },
    ],
    audit: [
      record(core, caller, {
        type: 'authorization.answered',
        ...authorizationNames(core, flow),
        data: { flow: flow.id, subject: flow.subject },
      }),
    ],
  });
  if (!result.ok) throw new Refused('not_found', 'this answer was used already');
  return { flow: { ...flow, status: 'redeeming', version: flow.version + 1 }, connection };
};

const goingOf = (core: CoreWithSecrets, flow: AuthorizationFlow, answer: URLSearchParams): ServerFlow => {
  if (!flow.sealed) throw new Error('unreachable: a flow that was opened has its verifier');
  const plain = core.keyring.decrypt(boxOf(flow), flow.sealed);
  try {
    const { codeVerifier, nonce }: Pick<ServerFlow, 'codeVerifier' | 'nonce'> = JSON.parse(plain.toString());
    return { codeVerifier, nonce, state: answer.get('state') ?? '', redirectUri: flow.redirect_uri };
  } finally {
    plain.fill(0);
  }
};

const recordRefusal = async (core: CoreWithSecrets, flow: AuthorizationFlow, caller: Caller, why: string) => {
  await commit(core, {
    writes: [],
    audit: [
      record(core, caller, {
        type: 'authorization.refused',
        outcome: 'refused',
        ...authorizationNames(core, flow),
        data: { flow: flow.id, subject: flow.subject, why },
      }),
    ],
  });
};

const ended = async (core: CoreWithSecrets, flow: AuthorizationFlow, caller: Caller, failure: string) => {
  await commit(core, {
    writes: [
      {
        write: 'update',
        table: 'authorization_flows',
        id: flow.id,
        set: { status: 'failed', failure, sealed: null, version: flow.version + 1, updated_at: core.clock.now() },
        from: { version: flow.version },
      },
    ],
    audit: [
      record(core, caller, {
        type: 'authorization.refused',
        outcome: 'refused',
        ...authorizationNames(core, flow),
        data: { flow: flow.id, subject: flow.subject, why: failure },
      }),
    ],
  });
};

/** How often a commit that another change overtook is tried anew. */
const connectTries = 5;

/** Keeps the tokens in place of those before. The connection's row is touched, so that its settings cannot change beside. */
const connect = async (
  core: CoreWithSecrets,
  flow: AuthorizationFlow,
  connection: Connection,
  brought: { tokens: NewTokens; scopes: string[]; account: string | null },
  caller: Caller,
): Promise<Authorization> => {
  for (let attempt = 1; attempt <= connectTries; attempt += 1) {
    const current = core.state.connections.get(connection.id);
    if (!current || JSON.stringify(current.settings) !== JSON.stringify(connection.settings)) {
      throw new Refused('conflict', 'the settings of this connection changed meanwhile; open a new link');
    }
    const before = core.state.authorizations.of(connection.id, flow.subject);
    const now = core.clock.now();
    const whose = { id: before?.id ?? newId(core, 'aut'), connection_id: connection.id };
    const tokensVersion = (before?.tokens_version ?? 0) + 1;
    const row: Authorization = {
      ...whose,
      subject: flow.subject,
      status: 'connected',
      sealed: sealTokens(core.keyring, whose, tokensVersion, brought.tokens),
      tokens_version: tokensVersion,
      scopes: brought.scopes,
      account: brought.account,
      connected_by: flow.operator_id,
      redeeming: null,
      last_refreshed_at: now,
      failure: null,
      version: (before?.version ?? 0) + 1,
      created_at: before?.created_at ?? now,
      updated_at: now,
    };
    const result: Committed = await commit(core, {
      writes: [
        before
          ? { write: 'update', table: 'authorizations', id: row.id, set: row, from: { version: before.version } }
          : { write: 'insert', table: 'authorizations', row },
        {
          write: 'update',
          table: 'connections',
          id: connection.id,
          set: { version: current.version + 1 },
          from: { version: current.version },
        },
        {
          write: 'update',
          table: 'authorization_flows',
          id: flow.id,
          set: {
            status: 'connected',
            sealed: null,
            authorization_id: row.id,
            version: flow.version + 1,
            updated_at: now,
          },
          from: { version: flow.version },
        },
      ],
      audit: [
        record(core, caller, {
          type: 'authorization.connected',
          ...authorizationNames(core, row),
          data: {
            authorization: row.id,
            flow: flow.id,
            subject: row.subject,
            account: row.account,
            scopes: row.scopes,
            connected_by: core.state.operators.get(flow.operator_id)?.name ?? flow.operator_id,
            again: before ? true : undefined,
          },
        }),
      ],
    });
    if (result.ok) return row;
  }
  throw new Refused('conflict', 'this connection is being changed at this moment; open a new link');
};
