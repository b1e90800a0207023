/**
 * Signed notes (c2sp.org/signed-note) and the checkpoints of transparency logs (c2sp.org/tlog-checkpoint), with Ed25519
 * only. What is written here, the tools of that world read: sumdb, tlog-tiles, witnesses.
 *
 * Writers throw RangeError, since what they are given is ours. Readers answer with a tagged value, since what they are
 * given is anybody's, and they accept one spelling of each thing.
 */
import { createPublicKey, hash, verify } from 'node:crypto';
import type { Hash } from './merkle.ts';

/** The signature type byte of Ed25519 (signed-note, "Signature types"). */
export const ed25519Algorithm = 0x01;

/** More than any note of ours by far: 16 post-quantum cosignatures, which every reader must take, are 110 kB. */
export const maxNoteBytes = 1_000_000;

/** Signed-note asks for a limit of at least 16. Each signature of a known key costs a verification. */
export const maxSignatures = 64;

const publicKeyBytes = 32;
const keyHashBytes = 4;
const rootBytes = 32;

/** One signature line. `keyHash` is an unsigned 32-bit number, `signature` the bytes after it. */
export interface NoteSignature {
  name: string;
  keyHash: number;
  signature: Uint8Array;
}

/** A note that was parsed and **not** verified. `body` includes its final newline; that is what was signed. */
export interface Note {
  body: string;
  signatures: NoteSignature[];
}

/** A public Ed25519 key (32 raw bytes, RFC 8032 §5.1.5) under the name of who holds it. */
export interface VerifierKey {
  name: string;
  publicKey: Uint8Array;
}

/** A key that signs elsewhere. `sign` is given the bytes of a note's body and returns 64 bytes of Ed25519. */
export interface NoteSigner extends VerifierKey {
  sign: (bytes: Uint8Array) => Uint8Array;
}

/** The head of a log: `root` is the 32 byte root of the tree with `size` leaves. */
export interface TreeHead {
  origin: string;
  size: number;
  root: Hash;
}

/** A parsed checkpoint. `extensions` are opaque lines, nearly always none. */
export interface Checkpoint extends TreeHead {
  extensions: string[];
}

export type NoteProblem =
  | 'too_large'
  | 'not_utf8'
  | 'control_character'
  | 'no_final_newline'
  | 'no_signatures'
  | 'too_many_signatures'
  | 'bad_signature_line';
export type VerifierKeyProblem = 'bad_spelling' | 'bad_name' | 'unsupported_algorithm' | 'wrong_key_hash';
export type CheckpointProblem = 'bad_lines' | 'bad_size' | 'bad_root';

export type Parsed<T, Problem extends string> = { ok: true; value: T } | { ok: false; problem: Problem };

/** `signer` in `bad_signature` names the known key whose signature is false. */
export type Verification =
  | { ok: true; body: string; signers: VerifierKey[] }
  | { ok: false; problem: NoteProblem | 'no_known_key' }
  | { ok: false; problem: 'bad_signature'; signer: string };

const fail = <Problem extends string>(problem: Problem): { ok: false; problem: Problem } => ({ ok: false, problem });

const hasControlCharacter = (text: string): boolean => {
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code < 0x20 && code !== 0x0a) return true;
  }
  return false;
};

const isLine = (text: string): boolean =>
  text !== '' && text.isWellFormed() && !text.includes('\n') && !hasControlCharacter(text);

/** White_Space is what Go's `unicode.IsSpace` calls a space; `\s` differs from it (U+0085, U+FEFF). */
const isKeyName = (name: string): boolean => isLine(name) && !/[\p{White_Space}+]/u.test(name);

const requireKeyName = (name: string): void => {
  if (!isKeyName(name)) throw new RangeError('a key name is empty or has a space, a plus or a control character');
};

/** RFC 4648 §4 with padding, in its one canonical spelling; Buffer alone reads past anything. */
const fromBase64 = (text: string): Buffer | undefined => {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
};

const toBase64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

const hexKeyHash = (value: number): string => value.toString(16).padStart(2 * keyHashBytes, '0');

/**
 * The key id of signed-note, "Signatures": the first four bytes of SHA-256(name ‖ 0x0A ‖ algorithm ‖ public key).
 *
 * @param algorithm the signature type byte, {@link ed25519Algorithm}
 * @param publicKey 32 raw bytes
 * @returns an unsigned 32-bit number, as which the specification reads them (big-endian)
 * @throws RangeError for a name no note can carry, an algorithm that is no byte, a key of another length
 */
export const keyHash = (name: string, algorithm: number, publicKey: Uint8Array): number => {
  requireKeyName(name);
  if (!Number.isInteger(algorithm) || algorithm < 0 || algorithm > 0xff) {
    throw new RangeError(`a signature type is a byte, not ${algorithm}`);
  }
  if (publicKey.length !== publicKeyBytes) {
    throw new RangeError(`an Ed25519 public key has ${publicKeyBytes} bytes, not ${publicKey.length}`);
  }
  const input = Buffer.concat([Buffer.from(`${name}\n`), Buffer.of(algorithm), publicKey]);
  return hash('sha256', input, 'buffer').readUInt32BE(0);
};

/**
 * The verifier key as a line of text, `name+hash+key`: the hash as 8 hexadecimal digits, the key as base64 of 0x01 and
 * the 32 bytes, as golang.org/x/mod/sumdb/note writes it and everybody since. This is what an auditor is given out of band.
 *
 * @throws RangeError as {@link keyHash}
 */
export const encodeVerifierKey = (key: VerifierKey): string => {
  const id = hexKeyHash(keyHash(key.name, ed25519Algorithm, key.publicKey));
  return `${key.name}+${id}+${toBase64(Buffer.concat([Buffer.of(ed25519Algorithm), key.publicKey]))}`;
};

/**
 * The reverse of {@link encodeVerifierKey}; the hash must be the one the name and the key have, so that a slip of the
 * pen is noticed here and not as a signature by somebody unknown.
 */
export const parseVerifierKey = (text: string): Parsed<VerifierKey, VerifierKeyProblem> => {
  // Base64 has pluses of its own: only the first two separate.
  const [, name = '', id = '', encoded = ''] = /^([^+]*)\+([0-9a-f]{8})\+([^\n]+)$/.exec(text) ?? [];
  const bytes = fromBase64(encoded);
  if (encoded === '' || bytes === undefined) return fail('bad_spelling');
  if (!isKeyName(name)) return fail('bad_name');
  if (bytes[0] !== ed25519Algorithm) return fail('unsupported_algorithm');
  if (bytes.length !== 1 + publicKeyBytes) return fail('bad_spelling');
  const publicKey = Uint8Array.from(bytes.subarray(1));
  if (hexKeyHash(keyHash(name, ed25519Algorithm, publicKey)) !== id) return fail('wrong_key_hash');
  return { ok: true, value: { name, publicKey } };
};

/**
 * The body of a checkpoint (tlog-checkpoint, "Note text"): origin, size in decimal, base64 of the root, a line each. No
 * extension lines: they are not recommended, and we have none.
 *
 * @throws RangeError for an origin that is no line, a size that is no safe integer ≥ 0, a root without 32 bytes
 */
export const checkpointBody = ({ origin, size, root }: TreeHead): string => {
  if (!isLine(origin)) throw new RangeError('an origin is one line of text and not empty');
  if (!Number.isSafeInteger(size) || size < 0) throw new RangeError(`a tree cannot have ${size} leaves`);
  if (root.length !== rootBytes) throw new RangeError(`a root has ${rootBytes} bytes, not ${root.length}`);
  return `${origin}\n${size}\n${toBase64(root)}\n`;
};

/**
 * Reads the body of a note as a checkpoint. Says nothing about who signed it: {@link verifyNote} first, then this on the
 * body it returns, then compare the origin with the log you meant.
 */
export const parseCheckpoint = (body: string): Parsed<Checkpoint, CheckpointProblem> => {
  if (!body.endsWith('\n')) return fail('bad_lines');
  const lines = body.slice(0, -1).split('\n');
  if (!lines.every(isLine)) return fail('bad_lines');
  const [origin, decimal, encoded, ...extensions] = lines;
  if (origin === undefined || decimal === undefined || encoded === undefined) return fail('bad_lines');
  const size = /^(?:0|[1-9][0-9]*)$/.test(decimal) ? Number(decimal) : Number.NaN;
  if (!Number.isSafeInteger(size)) return fail('bad_size');
  const root = fromBase64(encoded);
  if (root?.length !== rootBytes) return fail('bad_root');
  return { ok: true, value: { origin, size, root: Uint8Array.from(root), extensions } };
};

/**
 * Puts a body and its signatures together (signed-note, "Format"). For adding a witness to a note, parse it, and format
 * it again with one signature more.
 *
 * @returns the note as text, to be encoded in UTF-8
 * @throws RangeError for whatever {@link parseNote} would refuse to read
 */
export const formatNote = (body: string, signatures: readonly NoteSignature[]): string => {
  const lines = signatures.map(({ name, keyHash: id, signature }) => {
    requireKeyName(name);
    if (!Number.isInteger(id) || id < 0 || id > 0xffff_ffff) throw new RangeError(`${id} is no key hash`);
    const prefix = Buffer.alloc(keyHashBytes);
    prefix.writeUInt32BE(id);
    return `— ${name} ${toBase64(Buffer.concat([prefix, signature]))}\n`;
  });
  if (!body.endsWith('\n')) throw new RangeError('the body of a note ends with a newline');
  const note = `${body}\n${lines.join('')}`;
  const parsed = parseNote(note);
  if (!parsed.ok) throw new RangeError(`this cannot be a note: ${parsed.problem}`);
  return note;
};

/**
 * Has a body signed and formats the note.
 *
 * @throws RangeError when the body cannot be a note's, or the signature is not one by the key the signer says it has: a
 *   note that nobody can verify is worse than none
 */
export const signNote = (body: string, signer: NoteSigner): string => {
  const note = formatNote(body, [
    {
      name: signer.name,
      keyHash: keyHash(signer.name, ed25519Algorithm, signer.publicKey),
      signature: signer.sign(Buffer.from(body)),
    },
  ]);
  const verdict = verifyNote(note, [signer]);
  if (!verdict.ok) throw new RangeError(`the signer does not hold the key of ${signer.name}`);
  return note;
};

const parseSignatureLine = (line: string): NoteSignature | undefined => {
  const [dash, name = '', encoded = '', ...more] = line.split(' ');
  if (dash !== '—' || more.length > 0 || !isKeyName(name)) return undefined;
  const bytes = fromBase64(encoded);
  if (bytes === undefined || bytes.length <= keyHashBytes) return undefined;
  return { name, keyHash: bytes.readUInt32BE(0), signature: Uint8Array.from(bytes.subarray(keyHashBytes)) };
};

/** The text of valid UTF-8, without swallowing a byte order mark: every byte counts for the signature. */
const decodeUtf8 = (bytes: Uint8Array): string | undefined => {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
};

/**
 * Reads a note (signed-note, "Format") and believes nothing in it: use {@link verifyNote} where the body matters.
 *
 * @param input the note, at most {@link maxNoteBytes} in UTF-8, with 1 to {@link maxSignatures} signature lines
 */
export const parseNote = (input: Uint8Array | string): Parsed<Note, NoteProblem> => {
  if ((typeof input === 'string' ? Buffer.byteLength(input) : input.length) > maxNoteBytes) return fail('too_large');
  const text = typeof input === 'string' ? input : decodeUtf8(input);
  if (text === undefined || !text.isWellFormed()) return fail('not_utf8');
  if (hasControlCharacter(text)) return fail('control_character');
  if (!text.endsWith('\n')) return fail('no_final_newline');
  // The body may have empty lines: the last one is the one that separates.
  const split = text.lastIndexOf('\n\n');
  const lines = text.slice(split + 2, -1).split('\n');
  if (split < 0 || split + 2 === text.length) return fail('no_signatures');
  if (lines.length > maxSignatures) return fail('too_many_signatures');
  const signatures: NoteSignature[] = [];
  for (const line of lines) {
    const signature = parseSignatureLine(line);
    if (signature === undefined) return fail('bad_signature_line');
    signatures.push(signature);
  }
  return { ok: true, value: { body: text.slice(0, split + 1), signatures } };
};

const isSignatureOf = (key: VerifierKey, body: Uint8Array, signature: Uint8Array): boolean => {
  const x = Buffer.from(key.publicKey).toString('base64url');
  return verify(null, body, createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' }), signature);
};

/**
 * Opens a note (signed-note, "Signatures"): signatures by keys not in `keys` are ignored, one by a known key that does
 * not verify condemns the note, and at least one must verify.
 *
 * @param keys whom the caller trusts; a key is known by name and key hash together
 * @returns the body and who of `keys` signed it, each once, in the order of the lines
 * @throws RangeError when two different `keys` have the same name and hash, or one is malformed
 */
export const verifyNote = (input: Uint8Array | string, keys: readonly VerifierKey[]): Verification => {
  const known = new Map<string, VerifierKey>();
  for (const key of keys) {
    const id = `${key.name}+${hexKeyHash(keyHash(key.name, ed25519Algorithm, key.publicKey))}`;
    const other = known.get(id);
    if (other !== undefined && toBase64(other.publicKey) !== toBase64(key.publicKey)) {
      throw new RangeError(`two different keys are called ${id}`);
    }
    known.set(id, other ?? key);
  }
  const parsed = parseNote(input);
  if (!parsed.ok) return parsed;
  const { body, signatures } = parsed.value;
  const bytes = Buffer.from(body);
  const signers = new Set<VerifierKey>();
  for (const { name, keyHash: id, signature } of signatures) {
    const key = known.get(`${name}+${hexKeyHash(id)}`);
    if (key === undefined) continue;
    if (!isSignatureOf(key, bytes, signature)) return { ok: false, problem: 'bad_signature', signer: name };
    signers.add(key);
  }
  if (signers.size === 0) return fail('no_known_key');
  return { ok: true, body, signers: [...signers] };
};
