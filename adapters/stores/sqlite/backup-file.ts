/** The file of a backup on disk (src/domain/backup.ts has its form): written once, read in pieces. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { ReadableStream } from 'node:stream/web';
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { Decrypter, Encrypter } from 'age-encryption';
import {
  type BackupHeader,
  BadBackup,
  backupVersion,
  headerLine,
  maxHeaderBytes,
  readHeader,
  readTrailer,
  trailerBytes,
  trailerOf,
} from '../../../src/domain/backup.ts';
import { type BackupFile, NoRoom } from '../../../src/ports/backup.ts';

/** Large enough that a system call costs nothing beside its work. */
const pieceBytes = 1024 * 1024;

/** Level 1: nearly as small as the usual 3 where most bytes are ids and hashes, in half the time. */
const compression = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

const newline = 0x0a;

const codeOf = (error: unknown): string | undefined =>
  typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : undefined;

/** A full disk, in words; everything else as it is. */
export const asNoRoom = (error: unknown): unknown => {
  const code = codeOf(error);
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'SQLITE_FULL'
    ? new NoRoom(`the disk is full (${code}); nothing of it was kept`, { cause: error })
    : error;
};

/** Writes all of it; a short write is none. */
const writeAll = async (file: FileHandle, bytes: Uint8Array): Promise<void> => {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at)).bytesWritten;
};

/**
 * Writes a backup file of mode 0600; it must not exist.
 * @param recipient an age recipient, `age1…`
 * @throws NoRoom
 */
export const sealFile = async (
  databasePath: string,
  path: string,
  header: BackupHeader,
  recipient: string,
): Promise<{ bytes: number; sha256: string }> => {
  const encrypter = new Encrypter();
  encrypter.addRecipient(recipient);
  const digest = createHash('sha256');
  let bytes = 0;
  const file = await open(path, 'wx', 0o600);
  const put = async (chunk: Uint8Array): Promise<void> => {
    digest.update(chunk);
    bytes += chunk.length;
    await writeAll(file, chunk);
  };
  try {
    await put(Buffer.from(headerLine(header)));
    await pipeline(
      createReadStream(databasePath, { highWaterMark: pieceBytes }),
      createZstdCompress(compression),
      async (compressed: AsyncIterable<Uint8Array>) => {
        for await (const chunk of await encrypter.encrypt(ReadableStream.from(compressed))) await put(chunk);
      },
    );
    await put(Buffer.from(trailerOf(digest.copy().digest('hex'))));
  } catch (error) {
    throw asNoRoom(error);
  } finally {
    await file.close();
  }
  return { bytes, sha256: digest.digest('hex') };
};

const headerProblems = {
  no_backup: 'this is no backup of Warder',
  other_version: `this backup is of another form than this Warder reads (${backupVersion}); use the Warder that made it, or a newer one`,
  malformed: 'the header of this backup is damaged',
};

/**
 * Opens a file and reads its header.
 * @throws BadBackup when it is none; what `open` throws when it cannot be read
 */
export const openBackupFile = async (path: string): Promise<BackupFile> => {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const start = Buffer.alloc(Math.min(size, maxHeaderBytes));
    await file.read(start, 0, start.length, 0);
    const end = start.indexOf(newline);
    const read = readHeader(start.subarray(0, Math.max(0, end)));
    if (!read.ok) throw new BadBackup(headerProblems[read.problem]);
    return fileOf(path, read.header, { bytes: size, bodyStart: end + 1 });
  } finally {
    await file.close();
  }
};

const fileOf = (path: string, header: BackupHeader, at: { bytes: number; bodyStart: number }): BackupFile => {
  const bodyEnd = at.bytes - trailerBytes;
  return {
    header,
    bytes: at.bytes,
    digest: async () => {
      const trailer = await readTail(path, bodyEnd);
      const named = readTrailer(trailer);
      if (bodyEnd <= at.bodyStart || named === undefined) throw new BadBackup('this backup is cut off at its end');
      const digest = createHash('sha256');
      const range = { start: 0, end: bodyEnd - 1, highWaterMark: pieceBytes };
      for await (const chunk of createReadStream(path, range)) digest.update(chunk);
      if (digest.copy().digest('hex') !== named) {
        throw new BadBackup('this backup is damaged: its bytes do not have the digest at its end');
      }
      return digest.update(trailer).digest('hex');
    },
    unpack: async (identity, target) => {
      const decrypter = new Decrypter();
      decrypter.addIdentity(identity);
      const out = await open(target, 'wx', 0o600);
      try {
        const body = createReadStream(path, { start: at.bodyStart, end: bodyEnd - 1, highWaterMark: pieceBytes });
        const clear = async function* (source: AsyncIterable<Uint8Array>) {
          yield* await decrypter.decrypt(ReadableStream.from(source));
        };
        await pipeline(body, clear, createZstdDecompress(), (database: AsyncIterable<Uint8Array>) =>
          writeDatabase(database, out, header),
        );
        await out.sync();
      } catch (error) {
        throw unpackTrouble(error);
      } finally {
        await out.close();
      }
    },
  };
};

const readTail = async (path: string, from: number): Promise<Buffer> => {
  const file = await open(path, 'r');
  try {
    const tail = Buffer.alloc(trailerBytes);
    if (from >= 0) await file.read(tail, 0, tail.length, from);
    return tail;
  } finally {
    await file.close();
  }
};

/** Stops as soon as there is more than the header says: what somebody else encrypted does not fill the disk. */
const writeDatabase = async (
  database: AsyncIterable<Uint8Array>,
  out: FileHandle,
  header: BackupHeader,
): Promise<void> => {
  const digest: Hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of database) {
    bytes += chunk.length;
    if (bytes > header.database_bytes) throw new BadBackup('the content of this backup is not what its header says');
    digest.update(chunk);
    await writeAll(out, chunk);
  }
  if (bytes !== header.database_bytes || digest.digest('hex') !== header.database_sha256) {
    throw new BadBackup('the content of this backup is not what its header says');
  }
};

/** What age and zstd throw has no code of the system; a disk's errors do. */
const unpackTrouble = (error: unknown): unknown => {
  if (error instanceof BadBackup) return error;
  const code = codeOf(error);
  if (code !== undefined && /^E[A-Z]+$/.test(code)) return asNoRoom(error);
  return new BadBackup('the content of this backup was changed, or belongs to another header', { cause: error });
};
