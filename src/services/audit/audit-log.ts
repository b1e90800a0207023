/** Asking the audit log: pages, exports, the signed checkpoint, proofs. */
import type { Actor } from '../../domain/audit-entry.ts';
import { checkpointLine, entryLine } from '../../domain/audit-export.ts';
import { csvLine } from '../../domain/csv.ts';
import { checkpointBody, encodeVerifierKey, signNote } from '../../domain/signed-note.ts';
import type { AuditFilter } from '../../ports/ledger.ts';
import type { Core } from '../core.ts';

/** An entry as it was written, with its place. */
export interface AuditEntryView {
  seq: number;
  type: string;
  time: string;
  outcome: 'done' | 'refused';
  actor: Actor;
  agent?: { id: string; name: string };
  connection?: { id: string; name: string };
  grant?: string;
  request_id?: string;
  data?: Record<string, unknown>;
}

export interface Checkpoint {
  /** A C2SP signed note. */
  checkpoint: string;
  /** The verifier key it is signed with. */
  key: string;
  size: number;
  /** Base64. */
  root: string;
}

/** The log's name, a URL without its scheme (C2SP tlog-checkpoint); also the name of its key. */
export const logOrigin = (issuer: string): string => `${issuer.replace(/^https?:\/\//, '')}/log`;

/**
 * Signs the tree as it stands.
 * @throws Refused `sealed`
 */
export const checkpoint = async (core: Core): Promise<Checkpoint> => signHead(core, await core.reader.treeHead());

/** Signs a tree of this log. @throws Refused `sealed` */
export const signHead = (core: Core, { size, root }: { size: number; root: Uint8Array }): Checkpoint => {
  const origin = logOrigin(core.issuer);
  const publicKey = core.signingKeys.checkpointPublicKey();
  const note = signNote(checkpointBody({ origin, size, root }), {
    name: origin,
    publicKey,
    sign: (body) => core.signingKeys.signCheckpoint(body),
  });
  return {
    checkpoint: note,
    key: encodeVerifierKey({ name: origin, publicKey }),
    size,
    root: Buffer.from(root).toString('base64'),
  };
};

const viewOf = ({ seq, body }: { seq: number; body: string }): AuditEntryView => {
  const { v: _version, ...entry }: { v: number } & Omit<AuditEntryView, 'seq'> = JSON.parse(body);
  return { seq, ...entry };
};

/** One page, newest first. `next` is where the following page begins, null at the end. */
export const listAudit = async (
  core: Core,
  filter: AuditFilter,
  before: number | undefined,
  limit: number,
): Promise<{ items: AuditEntryView[]; next: number | null }> => {
  const found = await core.reader.audit(await narrowed(core, filter), { before, limit: limit + 1 });
  const items = found.slice(0, limit).map(viewOf);
  return { items, next: found.length > limit ? (items.at(-1)?.seq ?? null) : null };
};

/** An entry of a grant is also one of its agent, and not older than the grant: that is what there is an index for. */
const narrowed = async (core: Core, filter: AuditFilter): Promise<AuditFilter> => {
  const grant = filter.grant_id === undefined ? undefined : await core.state.grants.get(filter.grant_id);
  if (!grant || filter.agent_id !== undefined) return filter;
  return { ...filter, agent_id: grant.agent_id, from: Math.max(filter.from ?? 0, grant.issued_at) };
};

const exportPage = 2000;
const isEmpty = (filter: AuditFilter): boolean => Object.values(filter).every((value) => value === undefined);

/**
 * Every entry that passes the filter, as lines, in order. An unfiltered JSONL export ends with the checkpoint it was
 * taken at, and is what `warder audit verify` reads.
 * @throws Refused `sealed` before the first line, for an export that ends with a checkpoint
 */
export async function* exportAudit(core: Core, format: 'jsonl' | 'csv', filter: AuditFilter): AsyncGenerator<string> {
  const whole = format === 'jsonl' && isEmpty(filter);
  const wanted = await narrowed(core, filter);
  const signed = whole ? await checkpoint(core) : undefined;
  const size = signed?.size ?? (await core.reader.treeHead()).size;
  if (format === 'csv') {
    yield csvLine(['seq', 'time', 'type', 'outcome', 'actor', 'agent', 'connection', 'grant', 'request_id', 'data']);
  }
  for (let from = 0; from < size; ) {
    const page = await core.reader.auditRange(wanted, from, size, exportPage);
    const last = page.at(-1);
    if (!last) break;
    yield page.map(format === 'csv' ? csvOf : jsonlOf).join('');
    from = last.seq + 1;
  }
  if (signed) yield checkpointLine(signed.checkpoint, signed.key);
}

const jsonlOf = ({ seq, body }: { seq: number; body: string }): string => entryLine(seq, body);

const csvOf = (stored: { seq: number; body: string }): string => {
  const entry = viewOf(stored);
  const { actor } = entry;
  const who = actor.kind === 'anonymous' ? `anonymous ${actor.address}` : `${actor.kind} ${actor.name}`;
  return csvLine([
    String(entry.seq),
    entry.time,
    entry.type,
    entry.outcome,
    who,
    entry.agent?.name ?? '',
    entry.connection?.name ?? '',
    entry.grant ?? '',
    entry.request_id ?? '',
    entry.data === undefined ? '' : JSON.stringify(entry.data),
  ]);
};
