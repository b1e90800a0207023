/**
 * The ledger: the only writer. A changeset is plain data, so that it can be sent to another thread or written by
 * another replica: guards (what must still be so), row writes, and at least one audit entry.
 *
 * Contract every store keeps (test/conformance/ledger.ts):
 * - Atomic: all of a changeset commits, or nothing of it. A refused changeset does not disturb its neighbours in the
 *   same batch.
 * - Durable: when `commit` resolves with `ok: true`, the changeset survives kill -9 and loss of power.
 * - Ordered: sequence numbers are the indexes of audit entries in the Merkle tree, without gaps. `onCommitted`
 *   listeners hear of changesets in that order, and of each before its `commit` resolves.
 * - Honest: when the store cannot write, `commit` rejects with {@link LedgerUnavailable}; it never resolves. Whether
 *   the changeset took place is then unknown until the store was opened anew.
 */
import type { AuditRecord } from '../domain/audit-entry.ts';
import type { FenceFacts } from '../domain/fences.ts';
import type { Freeze, Incident, IncidentItem } from '../domain/incident.ts';
import type * as model from '../domain/model.ts';
import type { Lease, Rotation, RotationPolicy } from '../domain/rotation.ts';
import type { SignalStream } from '../domain/signals.ts';
import type { Webhook } from '../domain/webhook.ts';
import type { AlertReader } from './readers/alerts.ts';
import type { IncidentReader } from './readers/incidents.ts';
import type { RevocationReader } from './readers/revocations.ts';
import type { RotationReader } from './readers/rotation.ts';

export interface Tables {
  agents: model.Agent;
  operators: model.Operator;
  connections: model.Connection;
  secrets: model.SecretVersion;
  entitlements: model.Entitlement;
  trusted_issuers: model.TrustedIssuer;
  grants: model.Grant;
  agent_tokens: model.AgentToken;
  fences: model.Fence;
  revocations: model.Revocation;
  key_encryption_keys: model.KeyEncryptionKey;
  signing_keys: model.SigningKey;
  used_once: model.UsedOnce;
  budget_uses: model.BudgetUse;
  authorizations: model.Authorization;
  authorization_flows: model.AuthorizationFlow;
  rotation_policies: RotationPolicy;
  rotations: Rotation;
  leases: Lease;
  freezes: Freeze;
  incidents: Incident;
  incident_items: IncidentItem;
  webhooks: Webhook;
  signal_streams: SignalStream;
}
export type TableName = keyof Tables;

/** Tables whose rows may hold a sealed box. Of grants those that are not gone upstream: of the others none is ever opened. */
export const sealedTables = [
  'secrets',
  'signing_keys',
  'authorizations',
  'authorization_flows',
  'grants',
  'webhooks',
  'signal_streams',
] as const;
export type SealedRow = {
  [T in (typeof sealedTables)[number]]: { table: T; row: Tables[T] };
}[(typeof sealedTables)[number]];

export type Guard =
  /** The row exists and still has this version. */
  | { guard: 'unchanged'; table: TableName; id: string; version: number }
  /** No fence newer than `since` matches; and with `unfrozen`, for what issues or prolongs, no freeze that stands either. */
  | { guard: 'unfenced'; since: number; facts: FenceFacts; unfrozen?: true }
  /**
   * No grant of this connection has anything upstream, or an intent to, no account is connected through it, and no
   * rotation of its secret is under way.
   */
  | { guard: 'nothing_upstream'; connection_id: string }
  /** No other connection's secret is read through this one, but for those of these ids. */
  | { guard: 'unreferenced'; connection_id: string; besides: string[] }
  /** No sealed box ({@link sealedTables}) is under the key-encryption key of this number. */
  | { guard: 'nothing_sealed_under'; kek: number };

type Insert = { [T in TableName]: { write: 'insert'; table: T; row: Tables[T] } }[TableName];
type Update = {
  [T in TableName]: { write: 'update'; table: T; id: string; set: Partial<Tables[T]>; from?: Partial<Tables[T]> };
}[TableName];
type Delete = { [T in TableName]: { write: 'delete'; table: T; id: string; from?: Partial<Tables[T]> } }[TableName];

/**
 * A write of one row. `from` makes it a compare-and-swap: the named fields must have these values, or the changeset is
 * refused. A row's `seq` field, where it has one, is set by the store: the number of the changeset's first entry
 * (whatever the caller wrote there; {@link unassigned} says so).
 */
export type Write =
  | Insert
  | Update
  | Delete
  /** Takes one from a budget: refused when `limit` were passed. */
  | { write: 'spend'; table: 'budget_uses'; row: model.BudgetUse; limit: number };

/** Stands for a sequence number the store is about to assign. */
export const unassigned = -1;

export interface Changeset {
  guards?: Guard[];
  writes: Write[];
  audit: [AuditRecord, ...AuditRecord[]];
}

export type CommitRefusal =
  | { why: 'changed'; table: TableName; id: string }
  | { why: 'fenced'; fence: number }
  | { why: 'frozen'; freeze: string }
  | { why: 'exists'; table: TableName }
  | { why: 'spent'; table: TableName };

/** `seq` is the number of the first audit entry; a changeset of n entries takes seq … seq + n - 1. */
export type Committed = { ok: true; seq: number } | ({ ok: false } & CommitRefusal);

export class LedgerUnavailable extends Error {
  constructor(cause: unknown) {
    super('the ledger cannot write', { cause });
    this.name = 'LedgerUnavailable';
  }
}

export interface Ledger {
  commit(changeset: Changeset): Promise<Committed>;
  /** @returns a function that ends the subscription */
  onCommitted(listener: (changeset: Changeset, seq: number) => void): () => void;
  /** Why nothing can be written now, or undefined when all is well. */
  trouble(): string | undefined;
}

/** Everything decisions need in memory, as of entry `size - 1`. */
export interface LedgerSnapshot {
  size: number;
  /** When the newest entry was written, 0 for an empty ledger: time does not go back behind it. */
  newestAt: number;
  agents: model.Agent[];
  operators: model.Operator[];
  connections: model.Connection[];
  entitlements: model.Entitlement[];
  trusted_issuers: model.TrustedIssuer[];
  authorizations: model.Authorization[];
  fences: model.Fence[];
  /** Those that stand. */
  freezes: Freeze[];
  key_encryption_keys: model.KeyEncryptionKey[];
  signing_keys: model.SigningKey[];
  rotation_policies: RotationPolicy[];
  /** Those that have not ended. */
  rotations: Rotation[];
  webhooks: Webhook[];
  signal_streams: SignalStream[];
}

export interface GrantFilter {
  agent_id?: string | undefined;
  connection_id?: string | undefined;
  statuses?: model.GrantStatus[] | undefined;
  /** Only those that end later than this. */
  alive_at?: number | undefined;
  from?: number | undefined;
  to?: number | undefined;
}

export interface AuditFilter {
  agent_id?: string | undefined;
  connection_id?: string | undefined;
  grant_id?: string | undefined;
  type?: string | undefined;
  from?: number | undefined;
  to?: number | undefined;
}

/** Newest first; `before` is where the previous page ended: an id, or a sequence number for audit entries. */
export interface PageRequest<Cursor = string> {
  before?: Cursor | undefined;
  limit: number;
}

export interface StoredEntry {
  seq: number;
  body: string;
}

/** How many live grants a selector matches. */
export interface UpstreamProgress {
  revoked: number;
  unrevocable: number;
  /** Cannot be taken back and ends by itself: how many, and when the last of them does; ms since the epoch. */
  livesOn: number;
  endsBy: number | null;
}

export interface GrantCount {
  total: number;
  /** Those with something to clean up upstream. */
  upstream: number;
}

/** Reads, each consistent in itself, all outside the event loop's thread. They see every acknowledged commit. */
export interface LedgerReader extends AlertReader, IncidentReader, RevocationReader, RotationReader {
  snapshot(): Promise<LedgerSnapshot>;
  grant(id: string): Promise<model.Grant | undefined>;
  agentToken(id: string): Promise<model.AgentToken | undefined>;
  secret(connectionId: string, number: number): Promise<model.SecretVersion | undefined>;
  authorizationFlow(id: string): Promise<model.AuthorizationFlow | undefined>;
  revocation(id: string): Promise<model.Revocation | undefined>;
  revocations(page: PageRequest): Promise<model.Revocation[]>;
  grants(filter: GrantFilter, page: PageRequest): Promise<model.Grant[]>;
  /**
   * Counts what a fence with this selector would kill, or killed: grants active, alive at `now`, and not dead already
   * by an older fence. `ownedAgents`: agents the selector's owner owns now, whose grants match whoever owned them when
   * they were issued. `beforeFence`: the sequence number of the fence itself, when it stands already.
   */
  countLiveGrants(
    selector: model.Selector,
    now: number,
    ownedAgents: string[],
    beforeFence: number | null,
  ): Promise<GrantCount>;
  /** Intents recorded up to this entry, by id from after `after`: oldest first. */
  intendedGrants(upToSeq: number, limit: number, after?: string): Promise<model.Grant[]>;
  /**
   * Issued grants with something live upstream, by id from after `after`: what a drain walks.
   * @param endedBy only those that are not active any more, or whose time is over at this moment, without what is known
   * to live on past it
   * @param without connections whose grants are left out
   */
  upstreamGrants(after: string, limit: number, endedBy?: number, without?: readonly string[]): Promise<model.Grant[]>;
  /** How far a revocation's clean-up upstream has come. */
  upstreamProgress(revocationId: string): Promise<UpstreamProgress>;
  /** Ids of rows whose time is over, at most `limit` a table. */
  expiredRows(
    now: number,
    limit: number,
  ): Promise<{ table: 'agent_tokens' | 'used_once' | 'budget_uses' | 'authorization_flows'; id: string }[]>;
  /** How many sealed boxes ({@link sealedTables}) are under each key-encryption key. */
  sealedBoxes(): Promise<{ kek: number; boxes: number }[]>;
  /** Rows of a table with a box under another key-encryption key than this one, by id from after `after`. */
  rowsSealedUnderOthers(table: SealedRow['table'], kek: number, after: string, limit: number): Promise<SealedRow[]>;
  /** Revocations whose clean-up has not ended. */
  openRevocations(): Promise<model.Revocation[]>;
  audit(filter: AuditFilter, page: PageRequest<number>): Promise<StoredEntry[]>;
  /** Entries that pass the filter, `from` up to but not including `to`, in order, at most `limit`. */
  auditRange(filter: AuditFilter, from: number, to: number, limit: number): Promise<StoredEntry[]>;
  /** The tree's size and root (32 bytes). */
  treeHead(): Promise<{ size: number; root: Uint8Array }>;
  /** RFC 6962 audit path of an entry in the tree of `size`. */
  inclusionProof(seq: number, size: number): Promise<Uint8Array[]>;
  consistencyProof(from: number, to: number): Promise<Uint8Array[]>;
}

export interface LedgerStore {
  ledger: Ledger;
  reader: LedgerReader;
  /** Waits for what was accepted, then closes. */
  close(): Promise<void>;
}
