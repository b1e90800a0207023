/** `warder revocation verify`: checks a receipt offline, for somebody who does not trust the broker it came from. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { totalOf } from '../../domain/receipt.ts';
import type { ReceiptPayload } from '../../domain/receipt-file.ts';
import { parseVerifierKey, type VerifierKey } from '../../domain/signed-note.ts';
import { type ReceiptFault, type ReceiptVerdict, type TrustedKey, verifyReceipt } from '../../domain/verify-receipt.ts';
import { type JsonOption, leaf } from '../command.ts';
import type { Context } from '../context.ts';
import { errorCode, exitCodes, Failure, failed, usage } from '../failure.ts';
import { readJwks } from '../jwks-input.ts';
import { printable } from '../sanitise.ts';
import { progressOn, type Screen, screenOf, shownCount, shownTime } from '../screen.ts';

interface Options extends JsonOption {
  jwks?: string;
  key?: string;
  logKey?: string;
}

/** A receipt proves as much as its signer is known: what came with it proves only that it agrees with itself. */
const trustedBy = ({ jwks, key }: Options): TrustedKey => {
  if (jwks !== undefined && key !== undefined) throw usage('--jwks and --key: give one of the two');
  if (jwks !== undefined) return { jwks: readJwks(jwks).keys };
  if (key === undefined) {
    throw usage(
      'whose signature counts? Give --jwks FILE, the broker’s /jwks as you keep it,',
      'or --key THUMBPRINT, that of its key for receipts (RFC 7638; `warder key list` shows it).',
      'The key inside a receipt says nothing: whoever forges one puts in his own.',
    );
  }
  if (!/^[A-Za-z0-9_-]{43}$/.test(key)) throw usage('--key is no RFC 7638 thumbprint: 43 characters of base64url');
  return { thumbprint: key };
};

const logKeyOf = (text: string | undefined): VerifierKey | undefined => {
  if (text === undefined) return undefined;
  const parsed = parseVerifierKey(text.trim());
  if (!parsed.ok) throw usage(`--log-key is no verifier key (${parsed.problem}): name+hash+base64`);
  return parsed.value;
};

/** What a fault means, for somebody who has to decide what to do about it. */
export const explainReceiptFault = (fault: ReceiptFault): string => {
  switch (fault.fault) {
    case 'malformed':
      return `line ${fault.line} is not one a receipt has: it was changed, or written anew by some tool`;
    case 'cut_off':
      return 'the receipt breaks off, something follows its end, or some tool wrote it anew';
    case 'bad_token':
      return 'the signed part is no receipt of this type, or was changed';
    case 'bad_signature':
      return 'the signature is false';
    case 'unknown_key':
      return `it is signed with another key (${printable(fault.kid)}) than those that count`;
    case 'wrong_list':
      return 'the list of grants is not the one that was signed: a line was changed, added or removed';
    case 'wrong_names':
      return 'the list of names is not the one that was signed';
    case 'wrong_counts':
      return 'the counts are not those of the list';
    case 'not_in_log':
      return 'the entry of the fence is not proven to be in the audit log';
    case 'other_entry':
      return 'the entry of the audit log is about something else than the receipt';
    case 'bad_checkpoint':
      return 'the checkpoint of the audit log is malformed, or its signature is false';
    case 'unknown_log':
      return 'the checkpoint is not signed with the key of the log that you gave';
  }
};

const counted = (counts: ReceiptPayload['counts']['killed']): string =>
  Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([state, count]) => `${shownCount(count)} ${stateNames[state] ?? state}`)
    .join(', ');

const stateNames: Record<string, string> = {
  none: 'had nothing upstream',
  revoked: 'revoked upstream',
  ended_by_itself: 'ended by themselves',
  lives_on: 'LIVE ON upstream until they end',
  pending: 'PENDING',
  unrevocable: 'UNREVOCABLE',
};

const showVerdict = (screen: Screen, { payload, kid, entryType, logKeyKnown }: ReceiptVerdict & { ok: true }): void => {
  const { revocation, counts, suspended, rotations, rotate_by_hand: byHand } = payload;
  const names = (list: readonly { name: string }[] | null): string =>
    list === null ? 'not recorded' : list.map(({ name }) => printable(name)).join(' ');
  screen.line(`${screen.paint('green', 'Verified.')} Not a byte was changed since it was signed.`);
  screen.line();
  screen.pairs([
    ['revocation', printable(revocation.id)],
    ['broker', printable(payload.iss)],
    ['made', shownTime(new Date(payload.iat * 1000).toISOString())],
    ['final', payload.final ? 'yes' : 'NO: the clean-up upstream had not ended'],
    ['selector', printable(JSON.stringify(revocation.selector))],
    ['by', printable(revocation.requested_by)],
    ['why', printable(revocation.reason)],
    ['fence', `${revocation.fence}, since ${shownTime(revocation.fenced_at)}`],
    ['killed', [`${shownCount(totalOf(counts.killed))} grants`, counted(counts.killed)].filter(Boolean).join(': ')],
    [
      'left over',
      totalOf(counts.left_over) > 0
        ? `${shownCount(totalOf(counts.left_over))} that had ended before: ${counted(counts.left_over)}`
        : '',
    ],
    ['suspended', names(suspended)],
    ['rotations', (rotations ?? []).map((one) => `${printable(one.connection.name)} ${one.status}`).join(', ')],
    ['by hand', (byHand ?? []).map((one) => printable(`${one.connection.name}: ${one.why}`)).join('; ')],
    ['key', printable(kid)],
    ['in the log', `entry ${payload.log.seq}, ${printable(entryType)}`],
  ]);
  screen.line();
  screen.line('Not checked, for a receipt cannot show it:');
  if (!logKeyKnown) {
    screen.line('- that the audit log is the one you know: its key came with the receipt (give --log-key KEY)');
  }
  screen.line('- that the log was not forked: hold a later checkpoint against it (warder audit verify --checkpoint)');
  screen.line('- that the systems upstream did what they answered');
  if (!payload.final) screen.line('- what became of what was pending: fetch the final receipt');
};

const verdictJson = (verdict: ReceiptVerdict): Buffer =>
  Buffer.from(JSON.stringify(verdict.ok ? verdict : { ...verdict, explanation: explainReceiptFault(verdict) }));

/** Adds `verify` to the group `revocation`. */
export const verifyReceiptCommand = (group: Command, context: Context): void => {
  leaf(group, 'verify <file>', 'check a receipt; needs no broker')
    .option('--jwks <file>', 'the broker’s /jwks, as it was kept')
    .option('--key <thumbprint>', 'the RFC 7638 thumbprint of its key for receipts')
    .option('--log-key <key>', 'the verifier key of its audit log, as in `key` of a checkpoint')
    .action(async (file: string, options: Options) => {
      const trusted = trustedBy(options);
      const logKey = logKeyOf(options.logKey);
      const facts = await stat(file).catch((error: unknown) => {
        throw usage(`${file} cannot be read (${errorCode(error)})`);
      });
      if (facts.isDirectory()) throw usage(`${file} is a directory`);
      const progress = progressOn(context.stderr, context.now);
      const verdict = await verifyReceipt(createReadStream(file, { highWaterMark: 256 * 1024 }), {
        trusted,
        logKey,
        onProgress: (grants) => progress.show(() => `${shownCount(grants)} grants`),
      })
        .catch((error: unknown) => {
          throw failed(`${file} cannot be read (${errorCode(error)})`);
        })
        .finally(() => progress.end());
      const screen = screenOf(context);
      if (options.json) screen.json(verdictJson(verdict));
      else if (verdict.ok) showVerdict(screen, verdict);
      if (!verdict.ok) throw new Failure(exitCodes.failed, [`NOT verified: ${explainReceiptFault(verdict)}`]);
    });
};
