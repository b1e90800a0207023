/** What `vault` makes at a Vault and ends there: the token of a grant, and the lease that is made with it. */
import { longestGrantSeconds } from '../../../src/domain/decide.ts';
import {
  type Handle,
  type LivesOn,
  type MintRequest,
  type ProviderContext,
  ProviderFailure,
} from '../../../src/ports/provider.ts';
import type { VaultReply } from '../../vault/client.ts';
import { VaultFailure } from '../../vault/failure.ts';
import type { VaultSession } from '../../vault/session.ts';

/** The life of a grant's token until its accessor is recorded: one whose answer is lost holds nothing and ends so soon. */
const unheardSeconds = 6;

/**
 * A request that nobody waits for any more may go on at Vault: for 90 seconds unless `default_max_request_duration` says
 * otherwise, and some for the rest. A lease that is made after its token was ended lives on, so that a token under which
 * something may be on its way is ended when that must be over.
 * @see https://developer.hashicorp.com/vault/docs/configuration#default_max_request_duration
 */
export const longestRequestMs = 100_000;
/** A grant's token lives at least so long while the secret is asked for: longer than a provider's call may take. */
export const patientSeconds = 20;
/** Vault ends what is over a moment later. */
const slackMs = 5_000;

/** What undo needs. `lease_id` names a lease and opens nothing; neither does an accessor without a token beside it. */
export interface VaultHandle extends Handle {
  /** The Vault it is at: another one would say of anything that it is gone. */
  at: string;
  accessor?: string;
  lease_id?: string;
  /** When the secret was asked for, while the answer is not known; ms since the epoch. */
  asking_since?: number;
}

export const handleOf = (handle: Handle | null): VaultHandle => ({
  at: String(handle?.['at']),
  ...(typeof handle?.['accessor'] === 'string' ? { accessor: handle['accessor'] } : {}),
  ...(typeof handle?.['lease_id'] === 'string' ? { lease_id: handle['lease_id'] } : {}),
  ...(typeof handle?.['asking_since'] === 'number' ? { asking_since: handle['asking_since'] } : {}),
});

export const secondsUntil = (end: number, now: number): number => Math.max(1, Math.ceil((end - now) / 1000));

/** What it was asked for, in public words: `Vault: it said no (status 403) when it was asked for a secret`. */
const asProviderFailure = (error: unknown, doing: string): unknown =>
  error instanceof VaultFailure
    ? new ProviderFailure(error.kind, `Vault: ${error.message} when it was asked ${doing}`, { cause: error })
    : error;

export const asking = async <T>(doing: string, work: Promise<T>): Promise<T> => {
  try {
    return await work;
  } catch (error) {
    throw asProviderFailure(error, doing);
  }
};

export interface Lease {
  id: string;
  /** When Vault ends it, as it said; ms since the epoch. */
  endsAt: number;
  renewable: boolean;
}

export const leaseIn = (reply: VaultReply, now: number): Lease | undefined =>
  reply.lease_id
    ? {
        id: reply.lease_id,
        endsAt: now + (reply.lease_duration ?? 0) * 1000,
        renewable: reply.renewable === true,
      }
    : undefined;

/** @param seconds from now, also fewer than are left */
export const renewLease = async (
  session: VaultSession,
  lease: Pick<Lease, 'id'>,
  seconds: number,
  context: ProviderContext,
): Promise<Lease> => {
  const body = { lease_id: lease.id, increment: seconds };
  const reply = await asking(
    'to renew a lease',
    session.call({ method: 'POST', path: 'sys/leases/renew', body }, context.signal),
  );
  const renewed = leaseIn(reply, context.now());
  if (!renewed) throw new ProviderFailure('unavailable', 'Vault: its answer to the renewal names no lease');
  return renewed;
};

/** A token for this grant alone. It has no parent: Warder's own token may end before it. */
export const makeToken = async (
  session: VaultSession,
  request: MintRequest,
  policies: readonly string[] | undefined,
  context: ProviderContext,
): Promise<{ text: string; accessor: string }> => {
  const { auth } = await asking(
    'for a token of the grant',
    session.call(
      {
        method: 'POST',
        path: 'auth/token/create-orphan',
        body: {
          ...(policies ? { policies } : {}),
          no_default_policy: true,
          display_name: 'warder',
          meta: { warder_grant: request.grantId, warder_agent: request.agent.name },
          type: 'service',
          renewable: true,
          ttl: `${unheardSeconds}s`,
          // Renewals are Warder's alone; past the longest life of any grant not even they help.
          explicit_max_ttl: `${longestGrantSeconds + unheardSeconds}s`,
        },
      },
      context.signal,
    ),
  );
  if (!auth?.accessor || !auth.client_token)
    throw new ProviderFailure('unavailable', 'Vault: its answer has no token of the grant');
  return { text: auth.client_token, accessor: auth.accessor };
};

export const prolongToken = async (
  session: VaultSession,
  accessor: string,
  seconds: number,
  context: ProviderContext,
): Promise<void> => {
  const { auth } = await asking(
    'to renew the token of the grant',
    session.call(
      { method: 'POST', path: 'auth/token/renew-accessor', body: { accessor, increment: `${seconds}s` } },
      context.signal,
    ),
  );
  // A second of doubt: both count in whole ones.
  if ((auth?.lease_duration ?? 0) < seconds - 1) {
    throw new ProviderFailure('refused', 'Vault does not let the token of the grant live as long as the grant');
  }
};

/** Gone already is what was wanted. Only Vault's words tell it from a clean-up that failed: both are a 400. */
const unlessGone = async (gone: RegExp, work: Promise<unknown>): Promise<void> => {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof VaultFailure && error.says(gone))) throw error;
  }
};

/**
 * Ends what the handle names; succeeds when it is gone.
 * @returns when it ends at the latest, where a secret may still be on its way that nobody will ever be given
 */
export const undo = async (
  session: VaultSession,
  { accessor, lease_id, asking_since }: VaultHandle,
  context: ProviderContext,
  requestMs: number,
): Promise<LivesOn | undefined> => {
  const { signal } = context;
  const left = asking_since === undefined ? 0 : asking_since + requestMs - context.now();
  if (accessor !== undefined && left > 0) return endLater(session, accessor, Math.ceil(left / 1000), context);
  const post = (path: string, body: Record<string, unknown>) => session.call({ method: 'POST', path, body }, signal);
  const steps = [
    // Waited for: when Vault says yes the account is gone. A token's end only queues the ends of its leases.
    lease_id &&
      (() => unlessGone(/invalid lease|lease not found/i, post('sys/leases/revoke', { lease_id, sync: true }))),
    accessor && (() => unlessGone(/invalid accessor/i, post('auth/token/revoke-accessor', { accessor }))),
  ];
  let failure: unknown;
  for (const step of steps) {
    try {
      if (step) await step();
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure) throw asProviderFailure(failure, 'to revoke');
  return undefined;
};

/** Gives the token just so long to live: what still comes is ended with it. */
const endLater = async (
  session: VaultSession,
  accessor: string,
  seconds: number,
  context: ProviderContext,
): Promise<LivesOn | undefined> => {
  const body = { accessor, increment: `${seconds}s` };
  const path = 'auth/token/renew-accessor';
  let gone = true;
  try {
    await unlessGone(
      /invalid accessor/i,
      session.call({ method: 'POST', path, body }, context.signal).then(() => {
        gone = false;
      }),
    );
  } catch (error) {
    throw asProviderFailure(error, 'to end the token of the grant');
  }
  return gone ? undefined : { endsBy: context.now() + seconds * 1000 + slackMs };
};
