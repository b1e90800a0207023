/**
 * The composition root of what is done with a backup on this machine: restoring it, and reading it. Beside warder.ts, so
 * that neither needs a broker with all its providers in memory, and a restore works when that would not start.
 */
import { join } from 'node:path';
import { requirePrivateRootKey } from '../adapters/kms/local.ts';
import { openKms } from '../adapters/kms/open.ts';
import { openDatabaseReading } from '../adapters/stores/sqlite/backup-databases.ts';
import { openBackupFile } from '../adapters/stores/sqlite/backup-file.ts';
import { openRestorePlace, openScratchPlace } from '../adapters/stores/sqlite/backup-place.ts';
import { systemClock, systemEntropy } from '../adapters/system.ts';
import type { Config, Secrets } from './config.ts';
import type { BackupStep, CheckedBackup, CheckRequest, RestoreReport, RestoreRequest } from './domain/backup.ts';
import { checkBackup } from './services/backup/examine-backup.ts';
import { restoreBackup } from './services/backup/restore-backup.ts';

const migrationsFolder = join(import.meta.dirname, '..', 'migrations', 'sqlite');

const examiner = ({ kms, vault }: Config, { vaultToken }: Secrets) => ({
  kms: openKms(kms, { vault: vault && vaultToken ? { ...vault, token: vaultToken } : undefined }),
  clock: systemClock(0),
  databases: openDatabaseReading(migrationsFolder),
});

/** `warder restore`: a backup becomes the ledger of this data directory. The broker must be stopped. */
export const restoreWarder = async (
  config: Config,
  secrets: Secrets,
  request: RestoreRequest & { file: string },
  onProgress: (step: BackupStep) => void,
): Promise<RestoreReport> => {
  if (config.kms.kind === 'local') requirePrivateRootKey(config.kms.path);
  const file = await openBackupFile(request.file);
  const place = openRestorePlace(config.store.path);
  try {
    return await restoreBackup(
      {
        ...examiner(config, secrets),
        file,
        place,
        issuer: config.publicUrl,
        entropy: systemEntropy,
        clockFrom: systemClock,
        onProgress,
      },
      request,
    );
  } finally {
    place.close();
  }
};

/** `warder backup verify`: the file alone, or all that is in it, with the key service of this configuration. */
export const checkBackupFile = async (
  config: Config,
  secrets: Secrets,
  request: CheckRequest & { file: string },
  onProgress: (step: BackupStep) => void,
): Promise<CheckedBackup> => {
  const file = await openBackupFile(request.file);
  const place = openScratchPlace();
  try {
    return await checkBackup({ ...examiner(config, secrets), file, onProgress }, place, request);
  } finally {
    place.close();
  }
};
