/** Backups in tests: made over HTTP as the command line makes them, restored by the code behind `warder restore`. */
import { writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { readConfig } from '../../src/config.ts';
import type { CheckedBackup, CheckRequest, RestoreReport, RestoreRequest } from '../../src/domain/backup.ts';
import { checkBackupFile, restoreWarder } from '../../src/restore.ts';
import type { BrokerClient } from './broker.ts';

/** @returns the whole file */
export const downloadBackup = async (broker: BrokerClient, token = broker.adminToken): Promise<Buffer> => {
  const response = await broker.fetch('/admin/v1/backups', {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  if (response.status !== 200) throw new Error(`no backup: ${response.status} ${bytes.toString()}`);
  return bytes;
};

/** Makes a backup and keeps it at `path`. */
export const backupTo = async (broker: BrokerClient, path: string): Promise<Buffer> => {
  const bytes = await downloadBackup(broker);
  writeFileSync(path, bytes, { mode: 0o600 });
  return bytes;
};

/** The configuration of a broker of this directory and address. */
const configOf = (dataDir: string, url: string, env: Record<string, string> = {}) => {
  const read = readConfig({
    env: { WARDER_DATA_DIR: dataDir, WARDER_LISTEN: new URL(url).host, ...env },
    readFile: (path) => {
      throw new Error(`${path} is not read in this test`);
    },
  });
  if (!read.ok) throw new Error(read.problems.join('\n'));
  return read;
};

export interface RestoreOptions extends Partial<RestoreRequest> {
  file: string;
  dataDir: string;
  url: string;
  env?: Record<string, string>;
}

const nothing = { checkpoints: [], keepGrants: undefined, replace: false };
const unheard = (): void => undefined;

export const restore = ({ dataDir, url, env, ...request }: RestoreOptions): Promise<RestoreReport> => {
  const { config, secrets } = configOf(dataDir, url, env);
  return restoreWarder(config, secrets, { ...nothing, ...request }, unheard);
};

export const check = ({
  dataDir,
  url,
  env,
  ...request
}: Omit<RestoreOptions, 'keepGrants' | 'replace'> & Partial<CheckRequest>): Promise<CheckedBackup> => {
  const { config, secrets } = configOf(dataDir, url, env);
  return checkBackupFile(config, secrets, { checkpoints: [], offline: false, ...request }, unheard);
};

/** The header of a backup file. */
export const headerOf = async (path: string): Promise<Record<string, unknown>> => {
  const bytes = await readFile(path);
  return JSON.parse(bytes.subarray(0, bytes.indexOf(0x0a)).toString());
};
