/**
 * What the clients of a broker were told, and so must be so whatever becomes of the broker. Kept apart from what the
 * broker itself says: that is audit-view.ts.
 */
import type { Selector } from '../../../src/domain/model.ts';
import type { TakenBackup } from './backups.ts';

export const connections = ['gate', 'jwt', 'made', 'lease', 'keyed'] as const;
export type ConnectionName = (typeof connections)[number];
/** Those whose grants are accounts in the upstream. */
export const withAccounts: readonly ConnectionName[] = ['made', 'lease', 'keyed'];

export interface Agent {
  id: string;
  name: string;
  owner: string;
  clientId: string;
  clientSecret: string;
  /** Its newest token, until that was refused. */
  token: string | undefined;
  /** Of its entitlements, by connection. */
  entitlements: Map<ConnectionName, string>;
}

/** A grant that was delivered. */
export interface Held {
  id: string;
  agent: Agent;
  connection: ConnectionName;
  credential: { token?: string; username?: string; password?: string };
  /** The latest end that was promised, in milliseconds since the epoch. */
  expiresAt: number;
  /** Whether anybody asked to give it back, answered or not. */
  askedBack: boolean;
  /** What ended it, from the moment that was acknowledged. */
  ended: 'revoked' | 'returned' | undefined;
}

/** An agent token; its agent asks with the newest, and somebody may have kept an older one. */
export interface HeldToken {
  token: string;
  agent: Agent;
}

export interface SentRevocation {
  /** Sent with it, and by which the log knows it again. */
  reason: string;
  selector: Selector;
  acknowledged: { id: string; fence: number } | undefined;
}

/**
 * One value that one client writes: what it was told last, and what it sent since without hearing. After a crash
 * exactly one of them is in force.
 */
export class Register<T> {
  readonly what: string;
  #possible: T[];

  constructor(what: string, first: T) {
    this.what = what;
    this.#possible = [first];
  }

  /** @returns to be called with whether it was acknowledged; never called where no answer came */
  send(value: T): (acknowledged: boolean) => void {
    this.#possible.push(value);
    return (acknowledged) => {
      this.#possible = acknowledged ? [value] : this.#possible.filter((one) => one !== value);
    };
  }

  /** @returns whether what is in force may be; from then on it is known */
  settle(seen: T): boolean {
    const fine = this.#possible.includes(seen);
    this.#possible = [seen];
    return fine;
  }

  get possible(): readonly T[] {
    return this.#possible;
  }
}

/** The names a selector uses, of a grant. */
const factsOf = (
  held: Held,
  providers: Readonly<Record<ConnectionName, string>>,
): Record<string, string | undefined> => ({
  agent: held.agent.name,
  owner: held.agent.owner,
  connection: held.connection,
  provider: providers[held.connection],
  entitlement: held.agent.entitlements.get(held.connection),
  grant: held.id,
});

export const providersOf: Readonly<Record<ConnectionName, string>> = {
  gate: 'api-key',
  jwt: 'internal-jwt',
  made: 'test-account',
  lease: 'test-lease',
  keyed: 'test-keyed',
};

/** The rule of the product, written a second time from its documentation: everything the selector names is so. */
export const reaches = (selector: Selector, held: Held): boolean => {
  const facts = factsOf(held, providersOf);
  return Object.entries(selector).every(([field, value]) => field === 'everything' || facts[field] === value);
};

/** Agent tokens have no connection: only these reach them. */
export const reachesTokensOf = (selector: Selector, agent: Agent): boolean =>
  Object.entries(selector).every(
    ([field, value]) =>
      field === 'everything' ||
      (field === 'agent' && value === agent.name) ||
      (field === 'owner' && value === agent.owner),
  );

export class Memory {
  readonly agents: Agent[] = [];
  /** All that was delivered. */
  readonly held = new Map<string, Held>();
  /** Of these those that nothing acknowledged has ended. */
  readonly living = new Set<Held>();
  /** What was acknowledged since it was last looked for in the log: an entry that is there stays, as the log is verified. */
  readonly unchecked: { grants: Held[]; revocations: SentRevocation[] } = { grants: [], revocations: [] };
  readonly dead: Held[] = [];
  readonly tokens = new Set<HeldToken>();
  readonly revocations: SentRevocation[] = [];
  /** Numbers and ids of keys that the broker said it made. */
  readonly keys: { kind: 'key-encryption' | 'signing'; id: string }[] = [];
  /** Ids of those that were asked for. */
  readonly rotations: string[] = [];
  /** Ids of revocations that asked for the key of `keyed` to be rotated. */
  readonly rotatedBy: string[] = [];
  /** The newest that was not restored yet. */
  backup: TakenBackup | undefined;
  readonly secret: Register<string>;
  readonly suspended = new Map<Agent, Register<boolean>>();

  constructor(firstSecret: string) {
    this.secret = new Register('the secret of gate', firstSecret);
  }

  delivered(held: Held): void {
    this.held.set(held.id, held);
    this.living.add(held);
    this.unchecked.grants.push(held);
  }

  end(held: Held, how: NonNullable<Held['ended']>): void {
    if (held.ended) return;
    held.ended = how;
    this.living.delete(held);
    this.dead.push(held);
  }
}
