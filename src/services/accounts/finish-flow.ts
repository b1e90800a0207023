/**
 * The end of a flow: the answer at the redirect URI, judged, exchanged once, and the account kept. What does not belong
 * to a flow that this browser began connects nothing.
 */
import type { Authorization, AuthorizationFlow, Connection } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { sameDigest, tokenDigest } from '../../domain/tokens.ts';
import type { NewTokens, ServerFlow } from '../../ports/authorization.ts';
import type { Committed } from '../../ports/ledger.ts';
import { AnswerRefused } from '../../ports/provider.ts';
import { type Caller, commit, newId, record } from '../core.ts';
import { refusalOfProvider } from '../issuing/provider-calls.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { heldOf, sealTokens } from './authorization-tokens.ts';
import { authorizationNames, consentServerOf, serverContext } from './authorizations.ts';
import { atServer, boxOf, flowHolding, isVouchedFor, type Standing } from './connect-flow.ts';

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
  const server = consentServerOf(core, connection);
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
  let connected: Awaited<ReturnType<typeof connect>>;
  try {
    connected = await connect(core, flow, connection, brought, caller);
  } catch (error) {
    // Nobody will know these tokens.
    await core.authorizations.discard(core, connection, heldOf(brought.tokens));
    const refused = refusalOfProvider(error);
    if (refused.refusal.code === 'ledger_unavailable') throw refused;
    return fail(refused.refusal.code, refused);
  }
  const { row, before } = connected;
  // Tokens of the same account may be one family with the new ones, at some servers; another account's are not.
  if (before?.account && row.account && before.account !== row.account) {
    await core.authorizations.discard(core, connection, core.authorizations.open(before));
  }
  return { connection, authorization: row };
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
  const open = flow?.status === 'opened' && flow.expires_at > core.clock.now() && isVouchedFor(core, flow);
  if (!connection || !open) {
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

/** A request that belongs to a flow, and does not go on with it. */
export const recordRefusal = async (core: CoreWithSecrets, flow: AuthorizationFlow, caller: Caller, why: string) => {
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
): Promise<{ row: Authorization; before: Authorization | undefined }> => {
  for (let attempt = 1; attempt <= connectTries; attempt += 1) {
    const current = core.state.connections.get(connection.id);
    if (!current || JSON.stringify(current.settings) !== JSON.stringify(connection.settings)) {
      throw new Refused('conflict', 'the settings of this connection changed meanwhile; open a new link');
    }
    if (!isVouchedFor(core, flow)) throw new Refused('forbidden', 'whoever made this link may do so no more');
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
    if (result.ok) return { row, before };
  }
  throw new Refused('conflict', 'this connection is being changed at this moment; open a new link');
};
