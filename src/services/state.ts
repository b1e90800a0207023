/**
 * What decisions are made from, in memory: the small tables whole, and the grants and tokens used lately. It changes in
 * one way only: by hearing of a committed changeset, in the ledger's order, before whoever committed it is told.
 */
import { LRUCache } from 'lru-cache';
import { FenceIndex } from '../domain/fences.ts';
import { FreezeIndex } from '../domain/freezes.ts';
import type {
  Agent,
  AgentToken,
  Connection,
  Entitlement,
  Grant,
  KeyEncryptionKey,
  Operator,
  SigningKey,
  TrustedIssuer,
} from '../domain/model.ts';
import type { RotationPolicy } from '../domain/rotation.ts';
import type { SignalStream } from '../domain/signals.ts';
import type { Webhook } from '../domain/webhook.ts';
import type { Changeset, Ledger, LedgerReader, LedgerSnapshot, Write } from '../ports/ledger.ts';
import { AuthorizationRows } from './accounts/authorization-rows.ts';
import { RotationRows } from './rotation/rotation-rows.ts';

/** Rows of a small table by id, and by name where they have one. */
class Rows<T extends { id: string }> {
  readonly #byId = new Map<string, T>();
  readonly #byName = new Map<string, T>();

  constructor(rows: readonly T[]) {
    for (const row of rows) this.put(row);
  }

  get(id: string): T | undefined {
    return this.#byId.get(id);
  }

  named(name: string): T | undefined {
    return this.#byName.get(name);
  }

  all(): T[] {
    return [...this.#byId.values()];
  }

  get size(): number {
    return this.#byId.size;
  }

  put(row: T): void {
    this.drop(row.id);
    this.#byId.set(row.id, row);
    if ('name' in row && typeof row.name === 'string') this.#byName.set(row.name, row);
  }

  drop(id: string): void {
    const old = this.#byId.get(id);
    if (!old) return;
    this.#byId.delete(id);
    if ('name' in old && typeof old.name === 'string') this.#byName.delete(old.name);
  }
}

/** Rows too many to hold: those used lately, read on demand, never stale. */
class Recent<T extends { id: string; version: number }> {
  readonly #cache: LRUCache<string, T>;
  readonly #read: (id: string) => Promise<T | undefined>;
  /** Reads under way; one that a commit overtakes is read again. */
  readonly #reading = new Map<string, { overtaken: boolean; row: Promise<T | undefined> }>();

  constructor(max: number, read: (id: string) => Promise<T | undefined>) {
    this.#cache = new LRUCache({ max });
    this.#read = read;
  }

  /** The row if it is at hand: the common case, without waiting. */
  peek(id: string): T | undefined {
    return this.#cache.get(id);
  }

  async get(id: string): Promise<T | undefined> {
    const held = this.#cache.get(id);
    if (held) return held;
    const under = this.#reading.get(id);
    if (under) return under.row;
    const entry: { overtaken: boolean; row: Promise<T | undefined> } = {
      overtaken: false,
      row: Promise.resolve(undefined),
    };
    const load = async (): Promise<T | undefined> => {
      try {
        for (;;) {
          entry.overtaken = false;
          const row = await this.#read(id);
          const newer = this.#cache.get(id);
          if (newer) return newer;
          if (entry.overtaken) continue;
          if (row) this.#cache.set(id, row);
          return row;
        }
      } finally {
        this.#reading.delete(id);
      }
    };
    this.#reading.set(id, entry);
    entry.row = load();
    return entry.row;
  }

  inserted(row: T): void {
    this.#cache.set(row.id, row);
  }

  updated(id: string, set: Partial<T>): void {
    const reading = this.#reading.get(id);
    if (reading) reading.overtaken = true;
    const held = this.#cache.get(id);
    if (held) this.#cache.set(id, { ...held, ...set });
  }

  deleted(id: string): void {
    const reading = this.#reading.get(id);
    if (reading) reading.overtaken = true;
    this.#cache.delete(id);
  }
}

/** About 600 bytes each: 20 000 grants are some 12 MB, and a miss costs one look-up in another thread. */
const recentRows = 20_000;

export class State {
  readonly agents: Rows<Agent>;
  readonly operators: Rows<Operator>;
  readonly connections: Rows<Connection>;
  readonly entitlements: Rows<Entitlement>;
  readonly trustedIssuers: Rows<TrustedIssuer>;
  readonly authorizations: AuthorizationRows;
  readonly keyEncryptionKeys: Rows<KeyEncryptionKey>;
  readonly signingKeys: Rows<SigningKey>;
  readonly rotationPolicies: Rows<RotationPolicy>;
  /** Those that have not ended. */
  readonly rotations: RotationRows;
  readonly webhooks: Rows<Webhook>;
  readonly signalStreams: Rows<SignalStream>;
  readonly fences: FenceIndex;
  readonly freezes: FreezeIndex;
  readonly grants: Recent<Grant>;
  readonly agentTokens: Recent<AgentToken>;
  /** Grants this process is issuing at this moment: an intent that is not among them was left behind. */
  readonly issuing = new Set<string>();
  /** Entitlements by agent and connection; made when first asked for, dropped when any of them changes. */
  #entitlementsOf: Map<string, Entitlement[]> | undefined;
  readonly #killListeners = new Set<() => void>();
  #newestSeq: number;

  constructor(snapshot: LedgerSnapshot, ledger: Ledger, reader: LedgerReader) {
    this.agents = new Rows(snapshot.agents);
    this.operators = new Rows(snapshot.operators);
    this.connections = new Rows(snapshot.connections);
    this.entitlements = new Rows(snapshot.entitlements);
    this.trustedIssuers = new Rows(snapshot.trusted_issuers);
    this.authorizations = new AuthorizationRows(snapshot.authorizations);
    this.keyEncryptionKeys = new Rows(snapshot.key_encryption_keys);
    this.signingKeys = new Rows(snapshot.signing_keys);
    this.rotationPolicies = new Rows(snapshot.rotation_policies);
    this.rotations = new RotationRows(snapshot.rotations);
    this.webhooks = new Rows(snapshot.webhooks);
    this.signalStreams = new Rows(snapshot.signal_streams);
    this.fences = new FenceIndex(snapshot.fences);
    this.freezes = new FreezeIndex(snapshot.freezes);
    this.grants = new Recent(recentRows, (id) => reader.grant(id));
    this.agentTokens = new Recent(recentRows, (id) => reader.agentToken(id));
    this.#newestSeq = snapshot.size - 1;
    ledger.onCommitted((changeset, seq) => this.#apply(changeset, seq));
  }

  /** The newest entry this state has heard of: what a decision made now is based on. */
  get newestSeq(): number {
    return this.#newestSeq;
  }

  entitlementsOf(agentId: string, connectionId: string): readonly Entitlement[] {
    this.#entitlementsOf ??= Map.groupBy(this.entitlements.all(), (e) => `${e.agent_id} ${e.connection_id}`);
    return this.#entitlementsOf.get(`${agentId} ${connectionId}`) ?? [];
  }

  /** @returns the agent or connection of this name or id */
  agentCalled(nameOrId: string): Agent | undefined {
    return this.agents.named(nameOrId) ?? this.agents.get(nameOrId);
  }

  connectionCalled(nameOrId: string): Connection | undefined {
    return this.connections.named(nameOrId) ?? this.connections.get(nameOrId);
  }

  issuerCalled(nameOrId: string): TrustedIssuer | undefined {
    return this.trustedIssuers.named(nameOrId) ?? this.trustedIssuers.get(nameOrId);
  }

  operatorCalled(nameOrId: string): Operator | undefined {
    return this.operators.named(nameOrId) ?? this.operators.get(nameOrId);
  }

  /**
   * Calls the listener after each change that may have killed something: a fence, a suspension, a deletion, a grant
   * that ended.
   */
  onKilled(listener: () => void): () => void {
    this.#killListeners.add(listener);
    return () => this.#killListeners.delete(listener);
  }

  #apply(changeset: Changeset, seq: number): void {
    this.#newestSeq = seq + changeset.audit.length - 1;
    for (const write of changeset.writes) this.#write(write);
    if (changeset.writes.some(mayKill)) for (const listener of this.#killListeners) listener();
  }

  #write(write: Write): void {
    switch (write.table) {
      case 'agents':
        put(this.agents, write);
        if (write.write === 'delete') this.#dropEntitlements((e) => e.agent_id === write.id);
        return;
      case 'operators':
        put(this.operators, write);
        return;
      case 'connections':
        put(this.connections, write);
        if (write.write === 'delete') {
          this.#dropEntitlements((e) => e.connection_id === write.id);
          for (const row of this.authorizations.ofConnection(write.id)) this.authorizations.drop(row.id);
          this.rotationPolicies.drop(write.id);
        }
        return;
      case 'entitlements':
        put(this.entitlements, write);
        this.#entitlementsOf = undefined;
        return;
      case 'authorizations':
        put(this.authorizations, write);
        return;
      case 'trusted_issuers':
        put(this.trustedIssuers, write);
        return;
      case 'key_encryption_keys':
        put(this.keyEncryptionKeys, write);
        return;
      case 'signing_keys':
        put(this.signingKeys, write);
        return;
      case 'rotation_policies':
        put(this.rotationPolicies, write);
        return;
      case 'rotations':
        put(this.rotations, write);
        return;
      case 'webhooks':
        put(this.webhooks, write);
        return;
      case 'signal_streams':
        put(this.signalStreams, write);
        return;
      case 'grants':
        touch(this.grants, write);
        return;
      case 'agent_tokens':
        touch(this.agentTokens, write);
        return;
      case 'fences':
        if (write.write === 'insert') this.fences.add(write.row.selector, write.row.seq);
        return;
      case 'freezes':
        put(this.freezes, write);
        return;
      default:
        return;
    }
  }

  /** The database deletes what hangs on a deleted row; memory follows. */
  #dropEntitlements(gone: (entitlement: Entitlement) => boolean): void {
    for (const entitlement of this.entitlements.all()) if (gone(entitlement)) this.entitlements.drop(entitlement.id);
    this.#entitlementsOf = undefined;
  }
}

/** Whether something that lives on what a check point looks at (liveness.ts) may be dead after this write. */
const mayKill = (write: Write): boolean => {
  switch (write.table) {
    case 'fences':
      return true;
    case 'agents':
    case 'connections':
      return write.write !== 'insert';
    case 'grants':
      return write.write === 'update' && write.set.status !== undefined && write.set.status !== 'active';
    default:
      return false;
  }
};

/** A write to one table, by the row it holds. */
type RowWrite<T> =
  | { write: 'insert'; row: T }
  | { write: 'update'; id: string; set: Partial<T> }
  | { write: 'delete'; id: string };

const put = <T extends { id: string }>(rows: Pick<Rows<T>, 'get' | 'put' | 'drop'>, write: RowWrite<T>): void => {
  if (write.write === 'insert') rows.put(write.row);
  else if (write.write === 'delete') rows.drop(write.id);
  else {
    const old = rows.get(write.id);
    if (old) rows.put({ ...old, ...write.set });
  }
};

const touch = <T extends { id: string; version: number }>(recent: Recent<T>, write: RowWrite<T>): void => {
  if (write.write === 'insert') recent.inserted(write.row);
  else if (write.write === 'delete') recent.deleted(write.id);
  else recent.updated(write.id, write.set);
};
