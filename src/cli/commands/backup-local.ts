/** What commands that read a backup on this machine have in common. */
import { existsSync } from 'node:fs';
import type { BackupStep, GivenCheckpoint } from '../../domain/backup.ts';
import { parseCheckpoint, parseNote } from '../../domain/signed-note.ts';
import type { Context } from '../context.ts';
import { errorCode, exitCodes, type Failure, failed, usage } from '../failure.ts';
import { screenOf } from '../screen.ts';
import { readCheckpoint } from './audit-verify.ts';
import { startTrouble } from './serve.ts';

/** A file as `audit checkpoint` writes it, or its text: a note has several lines, no path has. */
export const collectCheckpoints = (given: string, before: GivenCheckpoint[] = []): GivenCheckpoint[] => {
  const isText = given.includes('\n') && !existsSync(given);
  const { source, note } = isText ? { source: 'the checkpoint', note: given } : readCheckpoint(given);
  const text = String(note);
  const parsed = parseNote(text);
  const head = parsed.ok ? parseCheckpoint(parsed.value.body) : parsed;
  if (!head.ok) throw usage(`--checkpoint: ${source} is no checkpoint (${head.problem})`);
  return [...before, { source, note: text, head: head.value }];
};

const steps: Record<BackupStep, string> = {
  reading: 'reading the file …',
  decrypting: 'decrypting it …',
  checking: 'checking the database and its log …',
  opening: 'opening every sealed box …',
  fencing: 'fencing what was issued …',
};

/** Says at a terminal what is being done; it takes seconds a million entries. */
export const backupSteps = (context: Context): ((step: BackupStep) => void) => {
  const screen = screenOf(context);
  return (step) => (context.stderr.isTTY ? screen.note(steps[step]) : undefined);
};

/** Interrupted, the process ends by itself, so that what was decrypted is removed. */
export const withProcessEnd = async <T>(context: Context, work: () => Promise<T>): Promise<T> => {
  const unsubscribe = context.onSignal(() => context.exit(exitCodes.failed));
  try {
    return await work();
  } finally {
    unsubscribe();
  }
};

/** Errors of the parts below whose messages are for people. */
const readyForUsers = new Set(['BadBackup', 'NoRoom', 'KmsRefused', 'KmsUnavailable']);

/** @param file which is named when it cannot be read */
export const backupTrouble = (error: unknown, file: string): Failure => {
  if (error instanceof Error && readyForUsers.has(error.name)) return failed(`refused: ${error.message}`);
  if (error instanceof Error && error.name === 'Refused' && 'refusal' in error) return failed(detailOf(error.refusal));
  if (errorCode(error) === 'ENOENT' || errorCode(error) === 'EISDIR') {
    return usage(`${file} cannot be read (${errorCode(error)})`);
  }
  return startTrouble(error);
};

const detailOf = (refusal: unknown): string =>
  typeof refusal === 'object' && refusal !== null && 'detail' in refusal ? String(refusal.detail) : 'refused';
