/**
 * Makes the receipt of a revocation: the list of what it reached, streamed, and a signature over what the list hashes
 * to. See domain/receipt-file.ts for the form and domain/receipt.ts for what is listed.
 */
import type { Revocation } from '../../domain/model.ts';
import { addCounts, noCounts } from '../../domain/receipt.ts';
import {
  betweenLists,
  closingEnd,
  closingStart,
  ListDigester,
  opening,
  type ReceiptPayload,
} from '../../domain/receipt-file.ts';
import { Refused } from '../../domain/refusals.ts';
import { checkpoint } from '../audit/audit-log.ts';
import type { Core } from '../core.ts';
import { ensureReceiptKey } from '../keys/receipt-key.ts';
import { fenceOf } from './revoke.ts';

/** A page is read in another thread and hashed here, in about a millisecond. */
const page = 500;

/** @throws Refused `not_found` */
export const revocationCalled = async (core: Core, id: string): Promise<Revocation> => {
  const row = await core.reader.revocation(id);
  if (!row) throw new Refused('not_found', 'there is no such revocation');
  return row;
};

/**
 * The file, piece by piece.
 * @throws Refused `not_found`, `sealed`, before the first piece; later errors leave a file that is cut off
 */
export async function* receiptFile(core: Core, id: string): AsyncGenerator<string> {
  const row = await revocationCalled(core, id);
  await ensureReceiptKey(core);
  core.keyring.requireUnsealed();
  const iat = Math.floor(core.clock.now() / 1000);
  const fence = fenceOf(core, row);
  const [grants, names] = [new ListDigester(), new ListDigester()];
  const counts = noCounts();
  const named = new Set([row.selector.agent, row.selector.connection].filter((one) => one !== undefined));

  yield opening;
  for (let after: string | null = ''; after !== null; ) {
    const found = await core.reader.listedGrants(fence, iat * 1000, after, page);
    yield linesOf(grants, found.lines);
    addCounts(counts, found.counts);
    for (const one of found.named) named.add(one);
    after = found.after;
  }
  yield `\n${betweenLists}`;
  yield linesOf(
    names,
    [...named].sort().flatMap((one) => nameLine(core, one) ?? []),
  );

  // As it is now: a grant that was tried again meanwhile has opened it anew, and its end may have come meanwhile.
  const now = await revocationCalled(core, id);
  // One that another revocation killed, too, may be tried again for that one's sake.
  const pending = counts.killed.pending + counts.left_over.pending;
  const payload: ReceiptPayload = {
    iss: core.issuer,
    iat,
    final: row.completed_at !== null && now.completed_at === row.completed_at && pending === 0,
    revocation: {
      id: row.id,
      selector: row.selector,
      reason: row.reason,
      requested_by: row.requested_by,
      suspend: row.suspend,
      rotate: row.rotate,
      fence: row.seq,
      fenced_at: new Date(row.created_at).toISOString(),
      completed_at: row.completed_at === null ? null : new Date(row.completed_at).toISOString(),
    },
    suspended: row.suspended,
    ...(await rotationsOf(core, now)),
    counts,
    grants: grants.digest(),
    names: names.digest(),
    log: await provenInLog(core, row.seq),
  };
  yield `\n${closingStart}${core.signingKeys.signReceipt(JSON.stringify(payload))}${closingEnd}\n`;
}

/** Each on its own line, with a comma before the next. */
const linesOf = (digester: ListDigester, lines: readonly string[]): string => {
  let text = '';
  for (const line of lines) {
    text += `${digester.count > 0 ? ',' : ''}\n${line}`;
    digester.add(line);
  }
  return text;
};

const nameLine = (core: Core, id: string): string | undefined => {
  const name = core.state.agents.get(id)?.name ?? core.state.connections.get(id)?.name;
  return name === undefined ? undefined : JSON.stringify({ id, name });
};

const rotationsOf = async (
  core: Core,
  { rotate, rotations }: Revocation,
): Promise<Pick<ReceiptPayload, 'rotations' | 'rotate_by_hand'>> => {
  if (rotations === null && rotate) return { rotations: null, rotate_by_hand: null };
  const asked: NonNullable<ReceiptPayload['rotations']> = [];
  const byHand: NonNullable<ReceiptPayload['rotate_by_hand']> = [];
  for (const one of rotations ?? []) {
    const { connection } = one;
    if ('by_hand' in one) byHand.push({ connection, why: one.by_hand });
    else {
      const status = (await core.reader.rotation(one.rotation))?.status ?? 'unknown';
      asked.push({ connection, rotation: one.rotation, status });
    }
  }
  return { rotations: asked, rotate_by_hand: byHand };
};

/** The entry that put up the fence, and the proof that it is in the log as it stands. */
const provenInLog = async (core: Core, seq: number): Promise<ReceiptPayload['log']> => {
  const signed = await checkpoint(core);
  const [entry] = await core.reader.auditRange({}, seq, seq + 1, 1);
  if (!entry) throw new Error(`the entry ${seq} of a fence has no body`);
  const proof = await core.reader.inclusionProof(seq, signed.size);
  return {
    seq,
    entry: entry.body,
    proof: proof.map((hash) => Buffer.from(hash).toString('base64')),
    checkpoint: signed.checkpoint,
    key: signed.key,
  };
};
