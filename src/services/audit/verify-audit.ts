/**
 * Checks an export of the audit log without trusting whoever made it: every entry's leaf hash is computed from its own
 * bytes, the Merkle tree is built up again (RFC 6962), and its root is compared with signed checkpoints.
 *
 * One pass, a tree frontier and one line in memory, whatever the length of the log.
 */
import { EntryPrefix, maxExportLineBytes, readOtherLine } from '../../domain/audit-export.ts';
import { LineCutter, type TakeLine } from '../../domain/line-cutter.ts';
import { append, emptyFrontier, type Frontier, type Hash, leafHash, rootOf } from '../../domain/merkle.ts';
import {
  type Checkpoint,
  parseCheckpoint,
  parseNote,
  parseVerifierKey,
  type VerifierKey,
  verifyNote,
} from '../../domain/signed-note.ts';

/** A checkpoint to hold the export against, besides the one at its end: kept from earlier, or from elsewhere. */
export interface KnownCheckpoint {
  /** What to call it in the verdict, e.g. the name of its file. */
  source: string;
  note: string | Uint8Array;
}

export interface VerifyOptions {
  /** Whose signature counts, known from elsewhere. Without it the export's own key is used, and proves less. */
  key?: VerifierKey | undefined;
  checkpoints?: readonly KnownCheckpoint[] | undefined;
  /** Called after each chunk with what was checked so far. */
  onProgress?: ((entries: number, bytes: number) => void) | undefined;
}

/** The name of the checkpoint at the end of the export itself, as `source` of a fault. */
export const ownCheckpoint = 'export';

/**
 * What is wrong. `seq` is the first entry that cannot be as it was; where only the whole tree tells that something
 * changed, `after` is how many entries at the beginning are proven all the same.
 */
export type AuditFault =
  | { fault: 'garbage' | 'carriage_return' | 'line_too_long' | 'cut_off' | 'after_checkpoint'; seq: number }
  /** Entries are missing (`found` is larger), repeated or in another order. */
  | { fault: 'wrong_seq'; seq: number; found: number }
  /** No checkpoint covers the entries from `seq` on. */
  | { fault: 'missing_checkpoint'; seq: number }
  | { fault: 'bad_checkpoint'; source: string; problem: string }
  | { fault: 'bad_signature' | 'unknown_signer'; source: string }
  /** The checkpoints are of different logs. */
  | { fault: 'other_log'; source: string; origin: string; expected: string }
  | { fault: 'wrong_size'; source: string; size: number; entries: number; seq: number }
  | { fault: 'wrong_root'; source: string; size: number; after: number };

export type AuditVerdict =
  | {
      ok: true;
      entries: number;
      /** Of those, how many came as a hash alone, their bodies dropped. */
      hashesOnly: number;
      bytes: number;
      origin: string;
      /** Base64 of the root over all entries. */
      root: string;
      /** The verifier key as it was used. */
      key: VerifierKey;
      /** Whether that key was the caller's; if not, it came with the export and proves only that the export agrees with itself. */
      keyKnown: boolean;
      /** Every checkpoint that was compared, oldest first. */
      checkpoints: { source: string; size: number }[];
    }
  | { ok: false; fault: AuditFault; entries: number; bytes: number };

/** The root the tree had at the sizes that matter, taken in passing. */
class RootsOnTheWay {
  readonly #sizes: number[];
  readonly #roots = new Map<number, Hash>();
  /** The next size to stop at; compared for every entry, so it is a number and never undefined. */
  next: number;

  constructor(sizes: readonly number[]) {
    this.#sizes = sizes.toSorted((a, b) => b - a);
    this.next = this.#sizes.at(-1) ?? -1;
  }

  take(frontier: Frontier): void {
    this.#roots.set(frontier.size, rootOf(frontier));
    while (this.next === frontier.size) {
      this.#sizes.pop();
      this.next = this.#sizes.at(-1) ?? -1;
    }
  }

  at(size: number): Hash | undefined {
    return this.#roots.get(size);
  }
}

interface ReadCheckpoint {
  source: string;
  note: string | Uint8Array;
  head: Checkpoint;
}

/** What a note claims; whose signature it has is checked when the key is known. */
const readKnown = ({ source, note }: KnownCheckpoint): ReadCheckpoint | AuditFault => {
  const parsed = parseNote(note);
  if (!parsed.ok) return { fault: 'bad_checkpoint', source, problem: parsed.problem };
  const head = parseCheckpoint(parsed.value.body);
  return head.ok ? { source, note, head: head.value } : { fault: 'bad_checkpoint', source, problem: head.problem };
};

const signatureFault = ({ source, note }: ReadCheckpoint, key: VerifierKey): AuditFault | undefined => {
  const verdict = verifyNote(note, [key]);
  if (verdict.ok) return undefined;
  if (verdict.problem === 'bad_signature') return { fault: 'bad_signature', source };
  if (verdict.problem === 'no_known_key') return { fault: 'unknown_signer', source };
  return { fault: 'bad_checkpoint', source, problem: verdict.problem };
};

/** Size and root of one checkpoint against the tree; `after` is what older checkpoints have proven. */
const headFault = (
  { source, head }: ReadCheckpoint,
  frontier: Frontier,
  roots: RootsOnTheWay,
  after: number,
): AuditFault | undefined => {
  const entries = frontier.size;
  // Its own checkpoint covers exactly what the export holds; one from elsewhere may be older, never newer.
  if (head.size > entries || (source === ownCheckpoint && head.size < entries)) {
    return { fault: 'wrong_size', source, size: head.size, entries, seq: Math.min(head.size, entries) };
  }
  const root = head.size === entries ? rootOf(frontier) : roots.at(head.size);
  return root !== undefined && Buffer.from(root).equals(head.root)
    ? undefined
    : { fault: 'wrong_root', source, size: head.size, after };
};

/** One pass over an export; {@link verifyAuditExport} feeds it. */
class Verification {
  readonly frontier = emptyFrontier();
  bytes = 0;
  readonly #lines = new LineCutter(maxExportLineBytes);
  readonly #prefix = new EntryPrefix();
  readonly #known: readonly ReadCheckpoint[];
  readonly #roots: RootsOnTheWay;
  #hashesOnly = 0;
  #own: { note: string; key: string } | undefined;

  constructor(known: readonly ReadCheckpoint[]) {
    this.#known = known;
    this.#roots = new RootsOnTheWay(known.map(({ head }) => head.size));
    if (this.#roots.next === 0) this.#roots.take(this.frontier);
  }

  push(chunk: Uint8Array): AuditFault | undefined {
    this.bytes += chunk.length;
    const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const fault = this.#lines.push(buffer, this.#take);
    return fault === 'line_too_long' ? { fault, seq: this.frontier.size } : fault;
  }

  readonly #take: TakeLine<AuditFault> = (buffer, start, end) => {
    if (this.#own) return { fault: 'after_checkpoint', seq: this.frontier.size };
    const from = this.#prefix.entryStart(buffer, start, end);
    if (from < 0) return this.#takeOther(buffer.subarray(start, end));
    this.#append(leafHash(buffer.subarray(from, end - 1)));
    return undefined;
  };

  #takeOther(line: Buffer): AuditFault | undefined {
    const seq = this.frontier.size;
    const other = readOtherLine(line, seq);
    if (other.kind === 'checkpoint') {
      this.#own = { note: other.note, key: other.key };
    } else if (other.kind === 'leaf') {
      this.#hashesOnly += 1;
      this.#append(other.leaf);
    } else if (other.kind === 'wrong_seq') {
      return { fault: 'wrong_seq', seq, found: other.found };
    } else {
      return { fault: other.kind, seq };
    }
    return undefined;
  }

  #append(leaf: Hash): void {
    append(this.frontier, leaf);
    this.#prefix.advance();
    if (this.frontier.size === this.#roots.next) this.#roots.take(this.frontier);
  }

  finish(trusted: VerifierKey | undefined): AuditVerdict {
    const entries = this.frontier.size;
    const bad = (fault: AuditFault): AuditVerdict => ({ ok: false, fault, entries, bytes: this.bytes });
    const rest = this.#lines.rest();
    if (rest.length > 0) {
      // A checkpoint is whole or it does not verify: a lost line end after it changes nothing.
      const fault = this.#own ? { fault: 'after_checkpoint' as const, seq: entries } : this.#takeOther(rest);
      if (fault?.fault === 'after_checkpoint') return bad(fault);
      if (fault !== undefined || !this.#own) return bad({ fault: 'cut_off', seq: entries });
    }

    const checkpoints = [...this.#known];
    if (this.#own) {
      const own = readKnown({ source: ownCheckpoint, note: this.#own.note });
      if ('fault' in own) return bad(own);
      checkpoints.push(own);
    }
    checkpoints.sort((a, b) => a.head.size - b.head.size);
    const reference = checkpoints.find(({ source }) => source === ownCheckpoint) ?? checkpoints.at(-1);
    if (!reference) return bad({ fault: 'missing_checkpoint', seq: 0 });
    const { origin } = reference.head;

    const key = this.#key(trusted);
    if ('fault' in key) return bad(key);
    let after = 0;
    for (const checkpoint of checkpoints) {
      const { source, head } = checkpoint;
      const unsigned = signatureFault(checkpoint, key);
      if (unsigned) return bad(unsigned);
      if (head.origin !== origin) return bad({ fault: 'other_log', source, origin: head.origin, expected: origin });
      const wrong = headFault(checkpoint, this.frontier, this.#roots, after);
      if (wrong) return bad(wrong);
      after = head.size;
    }
    if (after < entries) return bad({ fault: 'missing_checkpoint', seq: after });
    return {
      ok: true,
      entries,
      hashesOnly: this.#hashesOnly,
      bytes: this.bytes,
      origin,
      root: Buffer.from(rootOf(this.frontier)).toString('base64'),
      key,
      keyKnown: trusted !== undefined,
      checkpoints: checkpoints.map(({ source, head }) => ({ source, size: head.size })),
    };
  }

  #key(trusted: VerifierKey | undefined): VerifierKey | AuditFault {
    if (trusted) return trusted;
    if (!this.#own) return { fault: 'missing_checkpoint', seq: 0 };
    const parsed = parseVerifierKey(this.#own.key);
    return parsed.ok ? parsed.value : { fault: 'bad_checkpoint', source: ownCheckpoint, problem: parsed.problem };
  }
}

/**
 * Verifies an export of the whole log (JSON Lines, see audit-export.ts). Stops at the first fault in a line; the
 * checkpoints are compared at the end.
 *
 * @param source the export's bytes in chunks of any size
 * @returns what was proven, or the first thing that is wrong
 * @throws what `source` throws
 */
export const verifyAuditExport = async (
  source: AsyncIterable<Uint8Array>,
  options: VerifyOptions = {},
): Promise<AuditVerdict> => {
  const known: ReadCheckpoint[] = [];
  for (const checkpoint of options.checkpoints ?? []) {
    const read = readKnown(checkpoint);
    const fault = 'fault' in read ? read : options.key && signatureFault(read, options.key);
    if (fault) return { ok: false, fault, entries: 0, bytes: 0 };
    if (!('fault' in read)) known.push(read);
  }
  const verification = new Verification(known);
  for await (const chunk of source) {
    const fault = verification.push(chunk);
    if (fault) return { ok: false, fault, entries: verification.frontier.size, bytes: verification.bytes };
    options.onProgress?.(verification.frontier.size, verification.bytes);
  }
  return verification.finish(options.key);
};
