/**
 * `warder audit witness FILE`: keeps the newest checkpoint in a file elsewhere, and each time has the log proven to be the
 * continuation of the one before. Run by a timer on another machine, it tells when the log went back.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { verifyConsistency } from '../../domain/merkle.ts';
import {
  type Checkpoint,
  parseCheckpoint,
  parseVerifierKey,
  type VerifierKey,
  verifyNote,
} from '../../domain/signed-note.ts';
import { type JsonOption, leaf, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { errorCode, exitCodes, Failure, failed, usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import { shownCount } from '../screen.ts';
import { readCheckpoint } from './audit-verify.ts';

/** Whole or not at all: half a checkpoint would be none the next time. */
const keep = (path: string, note: string): void => {
  const half = `${path}.${randomBytes(6).toString('hex')}.part`;
  try {
    writeFileSync(half, note, { mode: 0o644, flag: 'wx', flush: true });
    renameSync(half, path);
  } catch (error) {
    rmSync(half, { force: true });
    throw failed(`${path} cannot be written (${errorCode(error)})`);
  }
};

/** @throws Failure 1 when the note is not signed with this key */
const signedHead = (note: string, key: VerifierKey, what: string): Checkpoint => {
  const verdict = verifyNote(note, [key]);
  const head = verdict.ok ? parseCheckpoint(verdict.body) : undefined;
  if (!head?.ok || head.value.origin !== key.name) throw failed(`${what} is not signed with the key of this log`);
  return head.value;
};

const keyIn = (answer: Fields): VerifierKey => {
  const parsed = parseVerifierKey(answer.raw('key'));
  if (!parsed.ok) throw failed(`the broker answered with no verifier key (${parsed.problem})`);
  return parsed.value;
};

/** What the broker says is checked here: it is what is in doubt. */
const requireProven = (kept: string, answer: Fields): number => {
  const key = keyIn(answer);
  const before = signedHead(kept, key, 'the kept checkpoint');
  const now = signedHead(answer.raw('checkpoint'), key, 'the new checkpoint');
  const proof = answer.texts('proof').map((hash) => Buffer.from(hash, 'base64'));
  if (!verifyConsistency(before.size, now.size, before.root, now.root, proof)) {
    throw failed('NOT proven: the broker says that its log continues the checkpoint, and its proof is false');
  }
  return now.size;
};

const explain = (answer: Fields): string => {
  const missing = Number(answer.text('missing'));
  return answer.text('result') === 'went_back'
    ? `the audit log went back: the last ${shownCount(missing)} entries of the kept checkpoint are missing. A backup or an older database is in its place; see \`warder audit list --type backup.restored\``
    : 'the audit log has other entries than the kept checkpoint was signed for: it was changed, or an older database was put in its place and has grown since';
};

/** Adds `witness` to the group `audit`. */
export const witnessCommand = (group: Command, context: Context): void => {
  leaf(
    group,
    'witness <file>',
    'keep the newest checkpoint in a file, if the log continues the one that is in it',
  ).action(async (file: string, options: JsonOption) => {
    const { api, screen } = toolsFor(context);
    if (!existsSync(file)) {
      const { fields, body } = await api.call('GET', 'audit/checkpoint');
      const note = fields.raw('checkpoint');
      signedHead(note, keyIn(fields), 'the checkpoint');
      keep(file, note);
      if (options.json) screen.json(body);
      else screen.line(`Kept the first checkpoint in ${file}: ${shownCount(Number(fields.text('size')))} entries.`);
      return;
    }
    const { note } = readCheckpoint(file);
    if (typeof note !== 'string') throw usage(`${file} holds no checkpoint`);
    const { fields, body } = await api.call('POST', 'audit/witness', { body: { checkpoint: note } });
    if (fields.text('result') !== 'continues') {
      if (options.json) screen.json(body);
      // The file stays as it is: it is the evidence.
      throw new Failure(exitCodes.failed, [`NOT continued: ${explain(fields)}`]);
    }
    const size = requireProven(note, fields);
    keep(file, fields.raw('checkpoint'));
    if (options.json) screen.json(body);
    else
      screen.line(
        `${screen.paint('green', 'Proven.')} The log continues the kept checkpoint; it has ${shownCount(size)} entries now.`,
      );
  });
};
