/**
 * The file of a backup, as far as it can be read without a key:
 *
 *     {"warder_backup":1,"id":"bkp_…",…}\n   the header, one line of JSON
 *     age-encryption.org/v1\n…               the database, compressed with zstd, encrypted with age
 *     \nsha256:<64 hexadecimal digits>\n     the digest of everything before this line's first character
 *
 * The digest at the end tells a whole file from a damaged one, to anybody. It proves nothing about who made it: that is
 * for the key service, which gives the key out only for this very header ({@link headerDigest}), and for age.
 */
import { hash } from 'node:crypto';
import { canonicalJson } from './canonical-json.ts';
import { isId } from './ids.ts';
import type { Checkpoint } from './signed-note.ts';

/** The version of the form above; a reader refuses every other one. */
export const backupVersion = 1;

/** What a backup holds, and how to get at it. Times as ISO 8601. */
export interface BackupHeader {
  warder_backup: typeof backupVersion;
  id: string;
  created_at: string;
  /** The public URL of the broker it was made of. */
  issuer: string;
  /** The number of the newest migration that the database has. */
  schema: number;
  database_bytes: number;
  /** Of the database in clear, hexadecimal. */
  database_sha256: string;
  /** How many entries the audit log has. */
  entries: number;
  /** Base64 of the root of the log's Merkle tree. */
  root: string;
  /** A signed note over both (C2SP tlog-checkpoint). */
  checkpoint: string;
  compression: 'zstd';
  key: {
    /** The kind of key service that wrapped the age identity: `local`, `aws-kms`, `vault-transit`. */
    kms: string;
    wrapped: string;
  };
}

/** A header is a few hundred bytes and a note; more than this is no header. */
export const maxHeaderBytes = 64 * 1024;

const trailerStart = '\nsha256:';
/** Exactly: line end, `sha256:`, 64 digits, line end. */
export const trailerBytes = trailerStart.length + 64 + 1;

/** @param digest SHA-256 of everything before, hexadecimal */
export const trailerOf = (digest: string): string => `${trailerStart}${digest}\n`;

/** @returns the digest that a trailer names, or undefined when these bytes are none */
export const readTrailer = (bytes: Uint8Array): string | undefined => {
  const text = Buffer.from(bytes).toString('latin1');
  return /^\nsha256:[0-9a-f]{64}\n$/.test(text) ? text.slice(trailerStart.length, -1) : undefined;
};

/** The header as the first line of the file. */
export const headerLine = (header: BackupHeader): string => `${JSON.stringify(header)}\n`;

const isText = (value: unknown, longest: number): value is string =>
  typeof value === 'string' && value.length > 0 && value.length <= longest;
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
const isHex = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
const isIsoTime = (value: unknown): value is string =>
  isText(value, 30) && !Number.isNaN(Date.parse(value)) && new Date(value).toISOString() === value;

const rootBytes = 32;
const isRoot = (value: unknown): value is string => {
  if (!isText(value, 64)) return false;
  const bytes = Buffer.from(value, 'base64');
  return bytes.length === rootBytes && bytes.toString('base64') === value;
};

const shape: { [F in Exclude<keyof BackupHeader, 'warder_backup' | 'key'>]: (value: unknown) => boolean } = {
  id: (value) => typeof value === 'string' && isId('bkp', value),
  created_at: isIsoTime,
  issuer: (value) => isText(value, 2048),
  schema: isCount,
  database_bytes: isCount,
  database_sha256: isHex,
  entries: isCount,
  root: isRoot,
  checkpoint: (value) => isText(value, 8192),
  compression: (value) => value === 'zstd',
};
const keyShape: { [F in keyof BackupHeader['key']]: (value: unknown) => boolean } = {
  kms: (value) => typeof value === 'string' && /^[a-z-]{1,40}$/.test(value),
  wrapped: (value) => isText(value, 16_384),
};

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const fits = (value: unknown, shapes: Record<string, (value: unknown) => boolean>, others: string[]): boolean =>
  isRecord(value) &&
  Object.keys(value).length === Object.keys(shapes).length + others.length &&
  Object.entries(shapes).every(([field, good]) => Object.hasOwn(value, field) && good(value[field]));

const isHeader = (value: unknown): value is BackupHeader =>
  fits(value, shape, ['warder_backup', 'key']) && isRecord(value) && fits(value['key'], keyShape, []);

/** `other_version`: of another form than this Warder reads. */
export type HeaderProblem = 'no_backup' | 'other_version' | 'malformed';

/**
 * @param line the first line, without its end
 * @returns the header, checked in its form and in nothing else; or what is wrong
 */
export const readHeader = (
  line: Uint8Array,
): { ok: true; header: BackupHeader } | { ok: false; problem: HeaderProblem } => {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(line);
    value = JSON.parse(text);
  } catch {
    // Whatever else it is, it is no header; there is nothing to say about why.
    return { ok: false, problem: 'no_backup' };
  }
  if (!isRecord(value) || !Object.hasOwn(value, 'warder_backup')) return { ok: false, problem: 'no_backup' };
  if (value['warder_backup'] !== backupVersion) return { ok: false, problem: 'other_version' };
  // As it was written: a field that is there twice would be another one to a reader who takes the first.
  if (!isHeader(value) || JSON.stringify(value) !== text) return { ok: false, problem: 'malformed' };
  return { ok: true, header: value };
};

/**
 * What the wrapped key is bound to: every field of the header but the wrapped key itself. Whoever changes one of them,
 * or puts the header of one backup before the body of another, gets no key.
 */
export const headerDigest = ({ key, ...rest }: Omit<BackupHeader, 'key'> & { key: { kms: string } }): string =>
  hash('sha256', canonicalJson({ ...rest, key: { kms: key.kms } }), 'hex');

/** Why a file is not restored from; its message is for whoever asked, and names neither secrets nor keys. */
export class BadBackup extends Error {
  override readonly name = 'BadBackup';
}

/** What is being done with a file: it takes some seconds a million entries. */
export type BackupStep = 'reading' | 'decrypting' | 'checking' | 'opening' | 'fencing';

/** A checkpoint from elsewhere to hold a log against: the note, what it says, and how to call it. */
export interface GivenCheckpoint {
  source: string;
  note: string;
  head: Checkpoint;
}

export interface CheckRequest {
  checkpoints: readonly GivenCheckpoint[];
  /** Only what needs no key: whether the file is whole. */
  offline: boolean;
}

export interface RestoreRequest {
  checkpoints: readonly GivenCheckpoint[];
  /** Everything goes on as it was in the backup, for this reason. */
  keepGrants: { reason: string } | undefined;
  /** A ledger that is there is moved aside; without it, it is a refusal. */
  replace: boolean;
}

/** A file that was looked at. */
export interface CheckedBackup {
  header: BackupHeader;
  file: { bytes: number; sha256: string };
  /** Undefined when only the file was checked, without its key. */
  content:
    | undefined
    | {
        /** Entries of the audit log whose leaves were computed anew. */
        entries: number;
        /** Sealed boxes that were opened; `broken` ones do not open with the keys of the backup. */
        boxes: { opened: number; broken: number };
        /** By how many entries the newest checkpoint that was given is ahead; null when none was given. */
        missing: number | null;
      };
}

/** What a restore did. */
export interface RestoreReport {
  backup: string;
  made_at: string;
  entries: number;
  /** By how many entries a checkpoint that was given is ahead of the backup; null: none was given. */
  missing_entries: number | null;
  /** The entry of the log that says so. */
  seq: number;
  kept_grants: boolean;
  /** Sealed boxes that do not open; they did not in the broker the backup was made of. */
  broken_boxes: number;
  /** Null with `--keep-grants`. */
  fenced: null | {
    revocation: string;
    freeze: string;
    admin: string;
    /** Shown once. */
    admin_token: string;
    /** Operators that are suspended now, and whose tokens are dead. */
    operators: string[];
    /** Rotations of secrets that were under way and are not continued. */
    rotations: string[];
    /** Webhooks and signal streams that are off until somebody turns them on. */
    receivers: string[];
    /** Before this moment a signed assertion that was used after the backup could be used again. */
    assertions_end_at: string;
  };
  /** Connections whose secret was set before the backup and may have been replaced since. */
  secrets: { connection: string; version: number; set_at: string }[];
  /** Connected accounts whose refresh token the authorization server may have replaced since. */
  accounts: { connection: string; subject: string | null }[];
  /** What was there before, moved aside; null when nothing was. */
  replaced: string | null;
}
