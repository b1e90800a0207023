/**
 * Migration from one key service to another. Every key-encryption key is wrapped by the new one and given back by it,
 * then all rows change in one changeset: before it the old service is the one to start with, after it the new one.
 * Nothing that is sealed changes, and nobody waits.
 */
import type { KeyServiceName } from '../../domain/key-service-name.ts';
import { Refused } from '../../domain/refusals.ts';
import type { KeyService } from '../../ports/kms.ts';
import { LedgerUnavailable } from '../../ports/ledger.ts';
import { type Caller, type Core, commit, record } from '../core.ts';
import { refusalOfKeyService } from './rotate-keys.ts';

export interface Migrated {
  from: string;
  to: string;
  /** How many key-encryption keys were wrapped anew, or would be. */
  keys: number;
  dry_run: boolean;
}

/**
 * @param request `dryRun`: wraps and opens every key by the new service, and changes nothing
 * @throws Refused `sealed`, `conflict`, `upstream_unavailable`, `upstream_refused`
 */
export const migrateKeys = async (
  core: Core,
  request: { to: KeyServiceName; dryRun: boolean },
  caller: Caller,
): Promise<Migrated> => {
  const { keyring, state } = core;
  keyring.requireUnsealed();
  const from = keyring.kmsName;
  const rows = state.keyEncryptionKeys.all().filter((row) => row.state !== 'retired');
  const kms = opened(core, request.to);
  if (kms.name === from) throw new Refused('conflict', 'the keys are kept by this key service already');
  const wrapped = await keyring.wrapAllBy(kms, rows).catch((error: unknown) => {
    throw refusalOfKeyService(error);
  });
  const migrated: Migrated = { from, to: kms.name, keys: rows.length, dry_run: request.dryRun };
  const data = { from, to: kms.name, keys: rows.map((row) => row.number) };
  if (request.dryRun) {
    await commit(core, { writes: [], audit: [record(core, caller, { type: 'key.migration_tried', data })] });
    return migrated;
  }
  const forget = keyring.know(kms);
  let committed: boolean;
  try {
    ({ ok: committed } = await commit(core, {
      writes: rows.map((row) => ({
        write: 'update',
        table: 'key_encryption_keys',
        id: row.id,
        set: { kms: kms.name, wrapped: wrapped.get(row.number) ?? '', version: row.version + 1 },
        // A rotation, a retirement or another migration at the same time counts one of these up.
        from: { version: row.version },
      })),
      audit: [record(core, caller, { type: 'key.migrated', data })],
    }));
  } catch (error) {
    // Whether it took place is not known: then both services stay known, and the rows say which it is.
    const unknown = error instanceof Refused && error.cause instanceof LedgerUnavailable;
    if (!unknown) forget();
    throw error;
  }
  if (!committed) {
    forget();
    throw new Refused('conflict', 'the keys are changed by someone else at this moment; look at them, then try again');
  }
  keyring.moveTo(kms);
  core.log.warn(
    { from, to: kms.name },
    'the keys were migrated; WARDER_KMS must name the new service at the next start',
  );
  return migrated;
};

const opened = (core: Core, name: KeyServiceName): KeyService => {
  try {
    return core.openKeyService(name);
  } catch (error) {
    throw refusalOfKeyService(error);
  }
};
