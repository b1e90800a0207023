/** An audit log made up for tests: entries, their tree, and exports of it. */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { auditRecord } from '../../../src/domain/audit-entry.ts';
import { checkpointLine, entryLine } from '../../../src/domain/audit-export.ts';
import { append, emptyFrontier, leafHash, rootOf } from '../../../src/domain/merkle.ts';
import { checkpointBody, encodeVerifierKey, signNote, type VerifierKey } from '../../../src/domain/signed-note.ts';

export interface TestKey {
  verifier: VerifierKey;
  /** The verifier key as text. */
  text: string;
  privateKey: KeyObject;
}

export const makeKey = (name = 'warder.test/log'): TestKey => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const verifier = { name, publicKey: Buffer.from(String(publicKey.export({ format: 'jwk' }).x), 'base64url') };
  return { verifier, text: encodeVerifierKey(verifier), privateKey };
};

/** @param salt makes entries of one number differ from those of another log */
export const entryBody = (seq: number, salt = ''): string =>
  auditRecord({
    type: 'grant.issued',
    at: 1_790_000_000_000 + seq,
    actor: { kind: 'agent', id: 'agt_1', name: `reporter${salt}` },
    outcome: 'done',
    grant: `grt_${seq}`,
    data: { scopes: ['charges:read'], note: 'newline \n, "quotes", ünicode ☃' },
  }).body;

export const bodies = (count: number, salt = ''): string[] =>
  Array.from({ length: count }, (_, seq) => entryBody(seq, salt));

/** The signed head of the tree over these entries. */
export const noteFor = (entries: readonly string[], key: TestKey, origin = key.verifier.name): string => {
  const frontier = emptyFrontier();
  for (const body of entries) append(frontier, leafHash(body));
  const signer = { ...key.verifier, sign: (bytes: Uint8Array) => sign(null, bytes, key.privateKey) };
  return signNote(checkpointBody({ origin, size: frontier.size, root: rootOf(frontier) }), signer);
};

/** The lines of an export, each with its line end; the last one is the checkpoint. */
export const exportLines = (entries: readonly string[], key: TestKey): string[] => [
  ...entries.map((body, seq) => entryLine(seq, body)),
  checkpointLine(noteFor(entries, key), key.text),
];

/** Bytes, or those of a text, in chunks of that size. */
export async function* chunked(whole: string | Uint8Array, size = 1000): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(whole);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
