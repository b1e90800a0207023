/**
 * Checks a receipt without asking anybody: the signature, every line of its lists, the counts, the proof that the fence
 * is in the audit log, and the checkpoint of the log. One pass, one line in memory.
 */
import { createPublicKey, hash, verify } from 'node:crypto';
import { canonicalJson } from './canonical-json.ts';
import { LineCutter, type TakeLine } from './line-cutter.ts';
import { leafHash, verifyInclusion } from './merkle.ts';
import { countListed, type Listed, type ListedCounts, noCounts } from './receipt.ts';
import {
  betweenLists,
  closingEnd,
  closingStart,
  ListDigester,
  maxReceiptLineBytes,
  opening,
  type ReceiptPayload,
  receiptType,
} from './receipt-file.ts';
import { parseCheckpoint, parseVerifierKey, type VerifierKey, verifyNote } from './signed-note.ts';

/** Whose signature counts. `thumbprint` is that of RFC 7638, and the key itself comes with the receipt. */
export type TrustedKey = { jwks: readonly Record<string, unknown>[] } | { thumbprint: string };

export type ReceiptFault =
  /** Not a byte may be other than the file was written; `line` counts from 1. */
  | { fault: 'malformed'; line: number }
  | { fault: 'cut_off' | 'bad_token' | 'bad_signature' | 'wrong_list' | 'wrong_names' | 'wrong_counts' }
  | { fault: 'unknown_key'; kid: string }
  | { fault: 'not_in_log' | 'other_entry' | 'bad_checkpoint' | 'unknown_log' };

export type ReceiptVerdict =
  | {
      ok: true;
      payload: ReceiptPayload;
      kid: string;
      /** What kind of entry put up the fence: `revocation.created`, or the change it came with. */
      entryType: string;
      /** Whether the log's key was known, or came with the receipt, vouched for by its signature. */
      logKeyKnown: boolean;
    }
  | ({ ok: false } & ReceiptFault);

/** RFC 7638 section 3, for an Ed25519 key (RFC 8037 section 2). */
const thumbprintOf = ({ crv, kty, x }: Record<string, unknown>): string =>
  hash('sha256', canonicalJson({ crv, kty, x }), 'base64url');

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** One spelling of base64url, and JSON in UTF-8 inside. */
const decoded = (part: string): Buffer | undefined => {
  const bytes = Buffer.from(part, 'base64url');
  return bytes.toString('base64url') === part ? bytes : undefined;
};
const objectIn = (part: string): Record<string, unknown> | undefined => {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(decoded(part));
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
};

const isOurs = ({ kty, crv, x, d }: Record<string, unknown>): boolean =>
  kty === 'OKP' && crv === 'Ed25519' && typeof x === 'string' && decoded(x)?.length === 32 && d === undefined;

/** The key that is trusted, if it is this one. */
const keyFor = (trusted: TrustedKey, kid: string, embedded: unknown): Record<string, unknown> | undefined => {
  if ('jwks' in trusted) return trusted.jwks.find((key) => key['kid'] === kid && isOurs(key));
  if (!isRecord(embedded) || !isOurs(embedded) || thumbprintOf(embedded) !== trusted.thumbprint) return undefined;
  return embedded;
};

const openToken = (
  jws: string,
  trusted: TrustedKey,
): { payload: Record<string, unknown>; kid: string } | ReceiptFault => {
  const [first = '', second = '', third = '', ...more] = jws.split('.');
  const header = objectIn(first);
  const signature = decoded(third);
  if (!header || !signature || more.length > 0) return { fault: 'bad_token' };
  const { alg, typ, kid } = header;
  if (alg !== 'EdDSA' || typ !== receiptType || typeof kid !== 'string') return { fault: 'bad_token' };
  const key = keyFor(trusted, kid, header['jwk']);
  if (!key || thumbprintOf(key) !== kid) return { fault: 'unknown_key', kid };
  const x = String(key['x']);
  const publicKey = createPublicKey({ key: { crv: 'Ed25519', kty: 'OKP', x }, format: 'jwk' });
  if (!verify(null, Buffer.from(`${first}.${second}`), publicKey, signature)) return { fault: 'bad_signature' };
  const payload = objectIn(second);
  return payload ? { payload, kid } : { fault: 'bad_token' };
};

const fromBase64 = (text: string): Buffer => Buffer.from(text, 'base64');

/** Whether the entry says what the receipt says; of a fence that came with another change only that it is there. */
const agrees = (entry: unknown, { revocation }: ReceiptPayload): string | undefined => {
  if (!isRecord(entry) || typeof entry['type'] !== 'string') return undefined;
  if (entry['type'] !== 'revocation.created') return entry['type'];
  const data = isRecord(entry['data']) ? entry['data'] : {};
  const same =
    data['revocation'] === revocation.id &&
    data['reason'] === revocation.reason &&
    canonicalJson(data['selector']) === canonicalJson(revocation.selector);
  return same ? entry['type'] : undefined;
};

const checkLog = (payload: ReceiptPayload, logKey: VerifierKey | undefined): { entryType: string } | ReceiptFault => {
  const { seq, entry, proof, checkpoint, key } = payload.log;
  const own = parseVerifierKey(key);
  if (!own.ok) return { fault: 'bad_checkpoint' };
  const note = verifyNote(checkpoint, [logKey ?? own.value]);
  if (!note.ok) return { fault: logKey && note.problem === 'no_known_key' ? 'unknown_log' : 'bad_checkpoint' };
  const head = parseCheckpoint(note.body);
  if (!head.ok) return { fault: 'bad_checkpoint' };
  const { size, root } = head.value;
  if (seq !== payload.revocation.fence || !verifyInclusion(seq, size, leafHash(entry), proof.map(fromBase64), root)) {
    return { fault: 'not_in_log' };
  }
  const entryType = agrees(JSON.parse(entry), payload);
  return entryType === undefined ? { fault: 'other_entry' } : { entryType };
};

/** The file on its way through. */
class Reading {
  readonly #lines = new LineCutter(maxReceiptLineBytes);
  readonly grants = new ListDigester();
  readonly names = new ListDigester();
  /** What ends by itself is counted when it is known at what time: the JWS, which says it, comes last. */
  readonly #ending: { until: number; left: boolean }[] = [];
  readonly #counts: ListedCounts = noCounts();
  #part: 'opening' | 'grants' | 'names' | 'over' = 'opening';
  /** The next item would be the first of its list. */
  #first = true;
  /** The item before ended with a comma. */
  #expectsMore = false;
  line = 0;
  jws: string | undefined;

  push(chunk: Uint8Array): ReceiptFault | undefined {
    const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const fault = this.#lines.push(buffer, this.#take);
    return fault === 'line_too_long' ? { fault: 'malformed', line: this.line + 1 } : fault;
  }

  /** Whether it ended where it should: after the line with the JWS, and that with a line end. */
  get complete(): boolean {
    return this.#part === 'over' && this.#lines.rest().length === 0;
  }

  readonly #take: TakeLine<ReceiptFault> = (buffer, start, end) => {
    this.line += 1;
    return this.#accept(buffer.subarray(start, end)) ? undefined : { fault: 'malformed', line: this.line };
  };

  #accept(line: Buffer): boolean {
    if (this.#part === 'over') return false;
    if (this.#part === 'opening') {
      this.#part = 'grants';
      return line.equals(Buffer.from(opening));
    }
    // `{` begins an item, `]` ends the list.
    if (line[0] !== 0x5d) return this.#item(line);
    if (this.#expectsMore) return false;
    this.#first = true;
    if (this.#part === 'grants') {
      this.#part = 'names';
      return line.equals(Buffer.from(betweenLists));
    }
    this.#part = 'over';
    const text = line.toString('latin1');
    if (!text.startsWith(closingStart) || !text.endsWith(closingEnd)) return false;
    this.jws = text.slice(closingStart.length, -closingEnd.length);
    return true;
  }

  #item(line: Buffer): boolean {
    if (!this.#first && !this.#expectsMore) return false;
    this.#first = false;
    this.#expectsMore = line.at(-1) === 0x2c;
    const item = this.#expectsMore ? line.subarray(0, -1) : line;
    if (item[0] !== 0x7b) return false;
    if (this.#part === 'names') this.names.add(item);
    else {
      this.grants.add(item);
      return this.#count(item);
    }
    return true;
  }

  #count(item: Buffer): boolean {
    try {
      const one = JSON.parse(item.toString()) as Listed;
      const { upstream } = one;
      if (upstream.state === 'offline' || upstream.state === 'ends_by_itself') {
        this.#ending.push({ until: Date.parse(upstream.until), left: one.fenced_at === null });
      } else countListed(this.#counts, one, 0);
      return true;
    } catch {
      return false;
    }
  }

  countsAt(now: number): ListedCounts {
    for (const { until, left } of this.#ending.splice(0)) {
      this.#counts[left ? 'left_over' : 'killed'][until > now ? 'lives_on' : 'ended_by_itself'] += 1;
    }
    return this.#counts;
  }
}

/**
 * @param source the file, in chunks of any size
 * @param options `logKey`: the verifier key of the audit log, where it is known
 * @throws what `source` throws
 */
export const verifyReceipt = async (
  source: AsyncIterable<Uint8Array>,
  options: { trusted: TrustedKey; logKey?: VerifierKey | undefined; onProgress?: (grants: number) => void },
): Promise<ReceiptVerdict> => {
  const reading = new Reading();
  for await (const chunk of source) {
    const fault = reading.push(chunk);
    if (fault) return { ok: false, ...fault };
    options.onProgress?.(reading.grants.count);
  }
  if (!reading.complete || reading.jws === undefined) return { ok: false, fault: 'cut_off' };
  const opened = openToken(reading.jws, options.trusted);
  if ('fault' in opened) return { ok: false, ...opened };
  // Its signer is trusted, and signs nothing of this type in another form.
  const payload = opened.payload as unknown as ReceiptPayload;
  const same = (a: unknown, b: unknown): boolean => canonicalJson(a) === canonicalJson(b);
  if (!same(reading.grants.digest(), payload.grants)) return { ok: false, fault: 'wrong_list' };
  if (!same(reading.names.digest(), payload.names)) return { ok: false, fault: 'wrong_names' };
  if (!same(reading.countsAt(payload.iat * 1000), payload.counts)) return { ok: false, fault: 'wrong_counts' };
  const log = checkLog(payload, options.logKey);
  if ('fault' in log) return { ok: false, ...log };
  return {
    ok: true,
    payload,
    kid: opened.kid,
    entryType: log.entryType,
    logKeyKnown: options.logKey !== undefined,
  };
};
