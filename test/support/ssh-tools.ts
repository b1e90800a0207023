/** OpenSSH's own tools, as the judge of what Warder writes in its formats. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from '@jest/globals';
import { temporaryDir } from './broker.ts';

const run = (command: string, args: string[], input?: string): SpawnSyncReturns<string> =>
  spawnSync(command, args, { encoding: 'utf8', ...(input === undefined ? {} : { input }) });

export const hasKeygen = run('ssh-keygen', ['-?']).error === undefined;

/** A test for machines that have OpenSSH's tools. */
export const withKeygen = (name: string, body: () => Promise<void> | void, timeoutMs?: number): void => {
  if (hasKeygen) test(name, body, timeoutMs);
  else test.skip(`${name} (skipped: no ssh-keygen on this machine)`, body);
};

/** Where `sshd` is, if it is; it insists on being called by its whole path. */
export const sshdPath = ['/usr/sbin/sshd', '/usr/local/sbin/sshd', '/usr/bin/sshd'].find((path) => existsSync(path));

export const keygen = (args: string[]): SpawnSyncReturns<string> => run('ssh-keygen', args);

/** A folder of its own for a few files. */
export const folder = (): string => mkdtempSync(join(temporaryDir(), 'ssh-'));

/** Makes a key pair; returns the private key's path, its text, and the public line. */
export const makeKey = (args: string[]): { path: string; privateKey: string; publicKey: string } => {
  const path = join(folder(), 'key');
  const made = keygen(['-q', '-N', '', '-C', 'test', '-f', path, ...args]);
  if (made.status !== 0) throw new Error(made.stderr);
  return {
    path,
    privateKey: readFileSync(path, 'utf8'),
    publicKey: readFileSync(`${path}.pub`, 'utf8').trim(),
  };
};

/** What `ssh-keygen -L` reads in a certificate. */
export interface ReadCertificate {
  type: string;
  publicKey: string;
  signingCa: string;
  keyId: string;
  serial: string;
  valid: string;
  principals: string[];
  criticalOptions: string[];
  extensions: string[];
}

/** @returns undefined when it is no certificate whose signature is right */
export const readCertificate = (line: string): ReadCertificate | undefined => {
  const path = join(folder(), 'id-cert.pub');
  writeFileSync(path, `${line}\n`);
  const { status, stdout } = keygen(['-L', '-f', path]);
  if (status !== 0) return undefined;
  const field = (name: string): string => new RegExp(`^ {8}${name}: (.*)$`, 'm').exec(stdout)?.[1] ?? '';
  const list = (name: string): string[] => {
    const [, block = ''] = new RegExp(`^ {8}${name}:[^\\n]*\\n((?: {16}.*\\n)*)`, 'm').exec(stdout) ?? [];
    return block
      .split('\n')
      .map((item) => item.trim())
      .filter((item) => item !== '');
  };
  return {
    type: field('Type'),
    publicKey: field('Public key'),
    signingCa: field('Signing CA'),
    keyId: field('Key ID').replace(/^"|"$/g, ''),
    serial: field('Serial'),
    valid: field('Valid'),
    principals: list('Principals'),
    criticalOptions: list('Critical Options'),
    extensions: list('Extensions'),
  };
};

/** @returns whether OpenSSH finds the certificate (or key) in the revocation list */
export const isRevoked = (list: Uint8Array, line: string): boolean => {
  const at = folder();
  writeFileSync(join(at, 'krl'), list);
  writeFileSync(join(at, 'id-cert.pub'), `${line}\n`);
  const { status, stdout, stderr } = keygen(['-Q', '-f', join(at, 'krl'), join(at, 'id-cert.pub')]);
  if (status === 0) return false;
  if (/REVOKED/.test(stdout)) return true;
  throw new Error(`ssh-keygen -Q: ${status} ${stdout} ${stderr}`);
};

/** Whether a certificate is in force now, by the local clock of ssh-keygen's words ("from … to …"). */
export const isInForce = (certificate: ReadCertificate): boolean => {
  const [, from = '', to = ''] = /^from (\S+) to (\S+)$/.exec(certificate.valid) ?? [];
  const now = Date.now();
  return new Date(from).getTime() <= now && now < new Date(to).getTime();
};
