/**
 * The key service of a single machine: a root key in a file that only its owner may read. Whoever has this file and
 * the database has everything; keep them in different backups (SECURITY.md).
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { canonicalJson } from '../../src/domain/canonical-json.ts';
import { type KeyService, KmsRefused, KmsUnavailable } from '../../src/ports/kms.ts';

const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;
/** 44 characters and a line end, with room for more line ends. */
const maxFileBytes = 200;
/** Group and others: no bit may be set. */
const othersMask = 0o077;

/** The root key can be read by others: it must be taken for known to them. */
export class RootKeyExposed extends Error {
  override readonly name = 'RootKeyExposed';
}

/** A new name in a directory is durable when the directory is. */
const syncDirectory = (path: string): void => {
  if (process.platform === 'win32') return;
  const directory = openSync(path, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
};

/**
 * Makes the root key file, once: mode 0600, durable, never over an existing one. It gets its name when it is whole, so
 * that no start that was cut off leaves half a key.
 * @returns whether it was made now
 */
export const makeRootKey = (path: string): boolean => {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  if (existsSync(path)) return false;
  const half = `${path}.new`;
  // Left by a start that was cut off: nothing was sealed with it.
  rmSync(half, { force: true });
  const file = openSync(half, 'wx', 0o600);
  try {
    writeSync(file, `${randomBytes(keyBytes).toString('base64')}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  try {
    // Unlike a renaming, a link does not replace what is there.
    linkSync(half, path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(half);
  }
  syncDirectory(dirname(path));
  return true;
};

/** @returns the mode of the file, in octal, if it gives others any right; undefined when it does not or is not there */
const exposedMode = (path: string): string | undefined => {
  if (process.platform === 'win32') return undefined;
  try {
    const { mode } = statSync(path);
    return (mode & othersMask) === 0 ? undefined : (mode & 0o777).toString(8);
  } catch {
    // A missing file is not an exposed one: the keyring finds it missing and stays sealed.
    return undefined;
  }
};

/** @throws RootKeyExposed when the file exists and others may read or write it; the message is for who starts Warder */
export const requirePrivateRootKey = (path: string): void => {
  const mode = exposedMode(path);
  if (mode === undefined) return;
  throw new RootKeyExposed(`${path} can be read or changed by others (mode ${mode}); run: chmod 600 ${path}`);
};

const readRootKey = (path: string): Buffer => {
  const mode = exposedMode(path);
  if (mode !== undefined) throw new KmsRefused(`the root key can be read or changed by others (mode ${mode})`);
  let text: string;
  try {
    // Whoever migrates keys may name any path: a device or a pipe would be read for ever.
    const file = statSync(path);
    if (!file.isFile() || file.size > maxFileBytes) throw new KmsRefused('there is no root key at its path');
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof KmsRefused) throw error;
    const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : 'unknown';
    throw new KmsUnavailable(`the root key cannot be read (${code})`);
  }
  const key = Buffer.from(text.trim(), 'base64');
  // Decoding skips and stops at what is no base64: a file of two keys, or a broken one, would pass for one key.
  if (key.length !== keyBytes || key.toString('base64') !== text.trim())
    throw new KmsRefused(`the root key is not ${keyBytes} bytes in base64`);
  return key;
};

export const openLocalKms = (path: string): KeyService => ({
  name: `local:${path}`,

  async wrap(key, context) {
    const root = readRootKey(path);
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv('aes-256-gcm', root, nonce, { authTagLength: tagBytes });
    cipher.setAAD(Buffer.from(canonicalJson(context)));
    const sealed = Buffer.concat([nonce, cipher.update(key), cipher.final(), cipher.getAuthTag()]);
    root.fill(0);
    return sealed.toString('base64');
  },

  async unwrap(wrapped, context) {
    const root = readRootKey(path);
    const sealed = Buffer.from(wrapped, 'base64');
    try {
      const decipher = createDecipheriv('aes-256-gcm', root, sealed.subarray(0, nonceBytes), {
        authTagLength: tagBytes,
      });
      decipher.setAAD(Buffer.from(canonicalJson(context)));
      decipher.setAuthTag(sealed.subarray(-tagBytes));
      return Buffer.concat([decipher.update(sealed.subarray(nonceBytes, -tagBytes)), decipher.final()]);
    } catch (error) {
      throw new KmsRefused('the root key is not the one this data was sealed with', { cause: error });
    } finally {
      root.fill(0);
    }
  },
});
