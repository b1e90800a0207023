/**
 * A checkpoint that somebody kept, shown to the broker: is the log still the continuation of what was signed then? A log
 * that went back (an older database, or a backup, was put in its place) cannot tell by itself; whoever kept a checkpoint
 * can, and the broker records it, so that it is heard of.
 */

import { verifyConsistency } from '../../domain/merkle.ts';
import { Refused } from '../../domain/refusals.ts';
import { encodeVerifierKey, parseCheckpoint, parseNote, verifyNote } from '../../domain/signed-note.ts';
import { type Caller, type Core, commit, record } from '../core.ts';
import { type Checkpoint, checkpoint, logOrigin } from './audit-log.ts';

/** `went_back`: entries are missing. `other_entries`: there are as many, and they are others. */
export type WitnessResult = 'continues' | 'went_back' | 'other_entries';

export interface Witnessed extends Checkpoint {
  result: WitnessResult;
  /** Of the checkpoint that was shown. */
  shown_size: number;
  /** Entries it counts that this log does not have. */
  missing: number;
  /** RFC 9162 section 2.1.4, from the size that was shown to `size`, base64; empty unless it continues. */
  proof: string[];
}

/**
 * @param note a checkpoint of this log
 * @returns the verdict, and the log as it stands, signed
 * @throws Refused `invalid_request` for what is no checkpoint of this log, `sealed`, `ledger_unavailable`
 */
export const witness = async (core: Core, note: string, caller: Caller): Promise<Witnessed> => {
  const shown = shownHead(core, note);
  const now = await checkpoint(core);
  const missing = Math.max(0, shown.size - now.size);
  const proof = missing > 0 ? [] : await core.reader.consistencyProof(shown.size, now.size);
  const root = Buffer.from(now.root, 'base64');
  const continues = missing === 0 && verifyConsistency(shown.size, now.size, shown.root, root, proof);
  const result: WitnessResult = continues ? 'continues' : missing > 0 ? 'went_back' : 'other_entries';
  const base64 = (hash: Uint8Array): string => Buffer.from(hash).toString('base64');
  await commit(core, {
    writes: [],
    audit: [
      record(core, caller, {
        type: continues ? 'audit.witnessed' : 'audit.contradicted',
        data: {
          result,
          shown_size: shown.size,
          shown_root: base64(shown.root),
          size: now.size,
          root: now.root,
          missing,
        },
      }),
    ],
  });
  if (!continues) {
    core.log.error(
      { result, shown_size: shown.size, size: now.size, missing },
      'the audit log contradicts a checkpoint',
    );
  }
  return { ...now, result, shown_size: shown.size, missing, proof: continues ? proof.map(base64) : [] };
};

const shownHead = (core: Core, note: string) => {
  const parsed = parseNote(note);
  const head = parsed.ok ? parseCheckpoint(parsed.value.body) : parsed;
  if (!head.ok) throw new Refused('invalid_request', `this is no checkpoint (${head.problem})`);
  const key = { name: logOrigin(core.issuer), publicKey: core.signingKeys.checkpointPublicKey() };
  const verdict = verifyNote(note, [key]);
  if (!verdict.ok || head.value.origin !== key.name) {
    throw new Refused(
      'invalid_request',
      `this checkpoint is not signed with the key of this log, ${encodeVerifierKey(key)}`,
    );
  }
  return head.value;
};
