/**
 * The receipt of a revocation as a file: JSON that is written and read line by line, so that a hundred thousand grants
 * need no more memory than one.
 *
 *     {"format":"warder-revocation-receipt/1","grants":[
 *     {"agent":"agt_…", … },
 *     {"agent":"agt_…", … }
 *     ],"names":[
 *     {"id":"agt_…","name":"reporter"}
 *     ],"receipt":"<compact JWS>"}
 *
 * The JWS comes last because it says how many lines there are and what they hash to. Each list is a Merkle tree
 * (RFC 6962) over its lines without their commas: so one grant of many can be proven to somebody without showing the
 * others. There is one spelling of the file; any other byte of it is a fault.
 */
import { append, emptyFrontier, type Frontier, leafHash, rootOf } from './merkle.ts';
import type { Selector } from './model.ts';
import type { ListedCounts } from './receipt.ts';

/** `typ` of the JWS: no other token of Warder has it (RFC 8725 section 3.11). */
export const receiptType = 'warder-revocation-receipt+jwt';

export const opening = '{"format":"warder-revocation-receipt/1","grants":[';
export const betweenLists = '],"names":[';
export const closingStart = '],"receipt":"';
export const closingEnd = '"}';

/** Longer than any line: the longest is the JWS, which names each agent that was suspended. */
export const maxReceiptLineBytes = 8 * 1024 * 1024;

/** Of a list: how many lines, and the RFC 6962 root over them (SHA-256, base64). */
export interface ListDigest {
  count: number;
  root: string;
}

interface Named {
  id: string;
  name: string;
}

/** What the JWS says. Times are RFC 3339, except `iat` (RFC 7519: seconds). */
export interface ReceiptPayload {
  iss: string;
  iat: number;
  /** Whether the clean-up upstream has ended. A later receipt of the same revocation says no more then, and no less. */
  final: boolean;
  revocation: {
    id: string;
    /** Ids, not names: see `names`. */
    selector: Selector;
    reason: string;
    requested_by: string;
    suspend: boolean;
    rotate: boolean;
    /** The fence: everything issued before this entry of the log that the selector matches is dead. */
    fence: number;
    fenced_at: string;
    completed_at: string | null;
  };
  /** Agents it suspended; null: from before this was recorded. */
  suspended: Named[] | null;
  /** Rotations that were asked for, as they stand; null: not worked out yet. */
  rotations: { connection: Named; rotation: string; status: string }[] | null;
  /** Connections whose secrets a person has to replace, and why; null: not worked out yet. */
  rotate_by_hand: { connection: Named; why: string }[] | null;
  counts: ListedCounts;
  grants: ListDigest;
  names: ListDigest;
  /** The entry of the audit log that put up the fence, and that it is in the log. */
  log: {
    seq: number;
    /** The entry, byte for byte. */
    entry: string;
    proof: string[];
    /** A signed note (C2SP), and the verifier key it is signed with. */
    checkpoint: string;
    key: string;
  };
}

/** A list on its way: what of it goes into the file, and its digest. */
export class ListDigester {
  readonly #frontier: Frontier = emptyFrontier();

  /** @param line as text, or its bytes in UTF-8 */
  add(line: string | Uint8Array): void {
    append(this.#frontier, leafHash(line));
  }

  get count(): number {
    return this.#frontier.size;
  }

  digest(): ListDigest {
    return { count: this.#frontier.size, root: Buffer.from(rootOf(this.#frontier)).toString('base64') };
  }
}
