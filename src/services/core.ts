/** What every use case works with, wired once in warder.ts. */
import type { Actor, AuditEvent, AuditRecord } from '../domain/audit-entry.ts';
import { auditRecord } from '../domain/audit-entry.ts';
import { type IdPrefix, idEntropyBytes, makeId } from '../domain/ids.ts';
import type { KeyServiceName } from '../domain/key-service-name.ts';
import { Refused } from '../domain/refusals.ts';
import type { Catalog } from '../ports/catalog.ts';
import type { Clock, Entropy } from '../ports/clock.ts';
import type { KeyService } from '../ports/kms.ts';
import { type Changeset, type Committed, type Ledger, type LedgerReader, LedgerUnavailable } from '../ports/ledger.ts';
import type { Log } from '../ports/log.ts';
import type { Provider } from '../ports/provider.ts';
import type { Keyring } from './keys/keyring.ts';
import type { SigningKeys } from './keys/signing-keys.ts';
import type { State } from './state.ts';

export interface Core {
  clock: Clock;
  entropy: Entropy;
  ledger: Ledger;
  reader: LedgerReader;
  state: State;
  keyring: Keyring;
  /** Opens a key service beside the configured one, to migrate to. @throws KmsRefused when its kind is not configured */
  openKeyService(name: KeyServiceName): KeyService;
  signingKeys: SigningKeys;
  providers: ReadonlyMap<string, Provider>;
  catalog: Catalog;
  /** The public URL, byte for byte: `iss`, and the base of every address Warder hands out. */
  issuer: string;
  log: Log;
}

/** Who asks, for the audit entry. */
export interface Caller {
  actor: Actor;
  requestId: string;
}

export const newId = (core: Pick<Core, 'clock' | 'entropy'>, prefix: IdPrefix): string =>
  makeId(prefix, core.clock.now(), core.entropy(idEntropyBytes));

/** An audit record of something this caller did or was refused. */
export const record = (
  core: Pick<Core, 'clock'>,
  caller: Caller,
  event: Omit<AuditEvent, 'at' | 'actor' | 'request_id' | 'outcome'> & { outcome?: AuditEvent['outcome'] },
): AuditRecord =>
  auditRecord({
    outcome: 'done',
    ...event,
    at: core.clock.now(),
    actor: caller.actor,
    request_id: caller.requestId,
  });

/**
 * Commits, or says 503: nothing was acknowledged, and the caller may try again.
 * @throws Refused `ledger_unavailable`
 */
export const commit = async (core: Pick<Core, 'ledger'>, changeset: Changeset): Promise<Committed> => {
  try {
    return await core.ledger.commit(changeset);
  } catch (error) {
    if (error instanceof LedgerUnavailable) {
      throw new Refused('ledger_unavailable', 'the ledger cannot write now; nothing was changed', {
        retryAfterSeconds: 1,
        cause: error,
      });
    }
    throw error;
  }
};

/**
 * Commits what must take place as decided; a guard that fails means that someone else was first.
 * @returns the sequence number
 * @throws Refused `conflict` with `detail`, or `ledger_unavailable`
 */
export const commitOrConflict = async (
  core: Pick<Core, 'ledger'>,
  changeset: Changeset,
  detail: string,
): Promise<number> => {
  const result = await commit(core, changeset);
  if (!result.ok) throw new Refused('conflict', detail);
  return result.seq;
};
