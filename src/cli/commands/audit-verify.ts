/**
 * `warder audit verify`: checks the log without trusting the broker. With a file, offline; without, on what the broker
 * exports now, held against the checkpoint it hands out.
 */
import { createReadStream, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { encodeVerifierKey, parseVerifierKey, type VerifierKey } from '../../domain/signed-note.ts';
import {
  type AuditFault,
  type AuditVerdict,
  type KnownCheckpoint,
  ownCheckpoint,
  type VerifyOptions,
  verifyAuditExport,
} from '../../services/audit/verify-audit.ts';
import { parseJson } from '../api.ts';
import { type JsonOption, leaf, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { errorCode, exitCodes, Failure, failed, usage } from '../failure.ts';
import { fieldsOf } from '../fields.ts';
import { printable } from '../sanitise.ts';
import { progressOn, type Screen, screenOf, shownCount } from '../screen.ts';

interface Options extends JsonOption {
  key?: string;
  checkpoint?: string[];
}

/** Large enough that reading costs less than hashing, small enough not to matter. */
const readAheadBytes = 256 * 1024;

const trustedKey = (text: string | undefined): VerifierKey | undefined => {
  if (text === undefined) return undefined;
  const parsed = parseVerifierKey(text.trim());
  if (!parsed.ok)
    throw usage(`--key is no verifier key (${parsed.problem}): name+hash+base64, as in \`key\` of a checkpoint`);
  return parsed.value;
};

/** A note as `audit checkpoint` prints it, or the JSON of `audit checkpoint --json`. */
export const readCheckpoint = (path: string): KnownCheckpoint => {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw usage(`--checkpoint: ${path} cannot be read (${errorCode(error)})`);
  }
  if (!text.startsWith('{')) return { source: path, note: text };
  const note = fieldsOf(parseJson(text)).raw('checkpoint');
  if (note === '') throw usage(`--checkpoint: ${path} holds no checkpoint`);
  return { source: path, note };
};

const checkpointName = (source: string): string =>
  source === ownCheckpoint ? "the export's own checkpoint" : `the checkpoint of ${source}`;

/** What a fault means, for somebody who has to decide what to do about it. */
export const explainFault = (fault: AuditFault): string => {
  switch (fault.fault) {
    case 'garbage':
      return fault.seq === 0
        ? 'the first line is no line of an export in JSON Lines'
        : `the line of entry ${fault.seq} is not one an export has: it was changed`;
    case 'carriage_return':
      return `the line of entry ${fault.seq} ends with CR LF: something on the way rewrote line ends`;
    case 'line_too_long':
      return `the line of entry ${fault.seq} is longer than any entry can be`;
    case 'cut_off':
      return `the export breaks off in the line of entry ${fault.seq}`;
    case 'after_checkpoint':
      return `something follows the checkpoint after entry ${fault.seq - 1}`;
    case 'wrong_seq':
      return fault.found > fault.seq
        ? `entry ${fault.seq} is missing: entry ${fault.found} stands in its place (an export with filters cannot be verified)`
        : `entry ${fault.found} stands where entry ${fault.seq} belongs: repeated or in another order`;
    case 'missing_checkpoint':
      return `no checkpoint covers the entries from ${fault.seq} on: the export is incomplete`;
    case 'bad_checkpoint':
      return `${checkpointName(fault.source)} is malformed (${fault.problem})`;
    case 'bad_signature':
      return `the signature of ${checkpointName(fault.source)} is false`;
    case 'unknown_signer':
      return `${checkpointName(fault.source)} is not signed with the key`;
    case 'other_log':
      return `${checkpointName(fault.source)} is of the log ${fault.origin}, the export of ${fault.expected}`;
    case 'wrong_size':
      return fault.size > fault.entries
        ? `entries ${fault.entries} to ${fault.size - 1} are missing: ${checkpointName(fault.source)} counts ${fault.size}`
        : `entries from ${fault.size} on were added: ${checkpointName(fault.source)} counts ${fault.size}`;
    case 'wrong_root':
      return (
        `the first ${fault.size} entries are not those ${checkpointName(fault.source)} was signed for: ` +
        `at least one between ${fault.after} and ${fault.size - 1} was changed`
      );
  }
};

const verdictJson = (verdict: AuditVerdict): Buffer =>
  Buffer.from(
    JSON.stringify(
      verdict.ok
        ? { ...verdict, key: encodeVerifierKey(verdict.key) }
        : { ...verdict, explanation: explainFault(verdict.fault) },
    ),
  );

const showVerdict = (screen: Screen, verdict: AuditVerdict & { ok: true }): void => {
  screen.line(`${screen.paint('green', 'Verified.')} ${shownCount(verdict.entries)} entries, unchanged and complete.`);
  screen.line();
  screen.pairs([
    ['log', printable(verdict.origin)],
    ['root', verdict.root],
    ['key', printable(encodeVerifierKey(verdict.key))],
    ['hashes only', verdict.hashesOnly > 0 ? `${shownCount(verdict.hashesOnly)} (bodies dropped)` : ''],
    ...verdict.checkpoints.map(({ source, size }): [string, string] => [
      'checkpoint',
      `${source === ownCheckpoint ? 'in the export' : printable(source)}, ${shownCount(size)} entries`,
    ]),
  ]);
  if (!verdict.keyKnown) {
    screen.note('The key came with the export and was not checked against a known one: this proves that the export');
    screen.note('agrees with itself, not who signed it. Give the key you noted at installation: --key KEY');
  }
};

const fromFile = async (path: string): Promise<AsyncIterable<Uint8Array>> => {
  const facts = await stat(path).catch((error: unknown) => {
    throw usage(`${path} cannot be read (${errorCode(error)})`);
  });
  if (facts.isDirectory()) throw usage(`${path} is a directory`);
  return createReadStream(path, { highWaterMark: readAheadBytes });
};

/** The checkpoint comes first: the export, which is made later, must contain everything it covers. */
const fromBroker = async (
  context: Context,
): Promise<{ source: AsyncIterable<Uint8Array>; checkpoint: KnownCheckpoint }> => {
  const { api } = toolsFor(context);
  const answer = await api.call('GET', 'audit/checkpoint');
  return {
    source: await api.stream('audit/export', { format: 'jsonl' }),
    checkpoint: { source: 'the broker', note: answer.fields.raw('checkpoint') },
  };
};

/** Adds `verify` to the group `audit`. */
export const verifyCommand = (group: Command, context: Context): void => {
  leaf(group, 'verify [file]', 'check an export (offline), or the whole log of the broker')
    .option('--key <key>', 'the verifier key you know: name+hash+base64')
    .option('--checkpoint <file>', 'a checkpoint kept from earlier (repeatable)', (path, before: string[] = []) => [
      ...before,
      path,
    ])
    .action(async (file: string | undefined, options: Options) => {
      const key = trustedKey(options.key);
      const checkpoints = (options.checkpoint ?? []).map(readCheckpoint);
      const online = file === undefined ? await fromBroker(context) : undefined;
      if (online) checkpoints.push(online.checkpoint);
      const source = online?.source ?? (await fromFile(file ?? ''));
      const progress = progressOn(context.stderr, context.now);
      const verifyOptions: VerifyOptions = {
        key,
        checkpoints,
        onProgress: (entries) => progress.show(() => `${shownCount(entries)} entries`),
      };
      const verdict = await verifyAuditExport(source, verifyOptions)
        .catch((error: unknown) => {
          throw error instanceof Failure ? error : failed(`the export cannot be read (${errorCode(error)})`);
        })
        .finally(() => progress.end());
      const screen = screenOf(context);
      if (options.json) screen.json(verdictJson(verdict));
      else if (verdict.ok) showVerdict(screen, verdict);
      if (!verdict.ok) throw new Failure(exitCodes.failed, [`NOT verified: ${explainFault(verdict.fault)}`]);
    });
};
