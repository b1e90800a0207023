/**
 * What a restored ledger gets before anybody may serve from it, in one changeset with the record of it. The backup does
 * not know what was taken away after it was made, so everything that opens a door is taken away:
 *
 * - grants and agent tokens: a fence over everything, with a revocation, so that the drain cleans up what is known upstream
 * - issuing: a freeze of everything, because agents, entitlements and issuers may be back that were taken away since
 * - operators: each suspended, its token replaced by one that nobody knows; links to connect accounts die with their makers
 * - one new admin, who lifts all that when he has looked
 * - keys: new ones seal and sign; a key that was rotated away since may have been so because somebody else had it
 * - rotations of secrets that were under way: ended where they were; those that were yet to be asked for: left to people
 * - webhooks and signal streams: off, because their receivers may be gone since
 *
 * What was used once stays used.
 */
import type { AuditRecord } from '../../domain/audit-entry.ts';
import type { BackupHeader, RestoreReport } from '../../domain/backup.ts';
import { openRotationStatuses, type Rotation } from '../../domain/rotation.ts';
import { tokenDigest, tokenEntropyBytes } from '../../domain/tokens.ts';
import type { Write } from '../../ports/ledger.ts';
import { makeOperator } from '../access/manage-operators.ts';
import type { Change } from '../change.ts';
import { type Caller, type Core, record } from '../core.ts';
import { freezeWrites } from '../incidents/freeze.ts';
import { makeSigningKey, SigningKeys } from '../keys/signing-keys.ts';
import { accompanyingFence } from '../revocation/revoke.ts';
import { leaveToPeople } from '../revocation/rotate-after.ts';

/** What it needs of the core: nothing that serves. */
export type RestoredCore = Pick<Core, 'clock' | 'entropy' | 'state' | 'reader' | 'keyring'>;

/** Longer than the clock of an assertion's maker may be ahead of this one, and any assertion of an agent lives. */
const assertionSeconds = 600;

/**
 * Assertions that were used between the backup and now are not known to be used. They were made before now, so by this
 * time all are over: those of agents, and those of issuers whose tokens prove a workload once.
 */
const assertionsEndAt = (core: RestoredCore, now: number): number => {
  const issuers = core.state.trustedIssuers.all().filter((issuer) => issuer.single_use);
  const longest = Math.max(assertionSeconds, ...issuers.map((issuer) => issuer.max_token_age_seconds));
  return now + longest * 1000;
};

const changed = <T extends { version: number }>(row: T, now: number) => ({ version: row.version + 1, updated_at: now });

const endedOperators = (core: RestoredCore, now: number): { names: string[]; writes: Write[] } => {
  const operators = core.state.operators.all();
  const nobodysToken = (): string => tokenDigest(Buffer.from(core.entropy(tokenEntropyBytes)).toString('hex'));
  return {
    names: operators.map(({ name }) => name).sort(),
    writes: operators.map((row) => ({
      write: 'update',
      table: 'operators',
      id: row.id,
      set: { status: 'suspended', token_digest: nobodysToken(), ...changed(row, now) },
      from: { version: row.version },
    })),
  };
};

/**
 * New keys for JWTs in the place of all there are: what was signed with those is dead, and leaves `/jwks` with them. A
 * new one for receipts; those that were signed stay evidence, and their key published.
 */
const newSigningKeys = async (core: RestoredCore, now: number, caller: Caller): Promise<Change> => {
  const old = core.state.signingKeys.all().filter((key) => key.purpose === 'jwt');
  const [current, next] = [
    await makeSigningKey(core.keyring, 'jwt', 'current', now),
    await makeSigningKey(core.keyring, 'jwt', 'next', now),
  ];
  const receipts = await new SigningKeys(core.keyring, core.state, core.clock).receiptRotation();
  return {
    writes: [
      ...receipts.writes,
      ...old.map(
        (key): Write => ({
          write: 'update',
          table: 'signing_keys',
          id: key.id,
          set: { state: 'previous', retire_at: now, version: key.version + 1 },
          from: { version: key.version },
        }),
      ),
      { write: 'insert', table: 'signing_keys', row: current },
      { write: 'insert', table: 'signing_keys', row: next },
    ],
    audit: [
      record(core, caller, {
        type: 'signing_key.rotated',
        data: { from: old.find((key) => key.state === 'current')?.id, to: current.id, why: 'restored' },
      }),
      record(core, caller, {
        type: 'signing_key.rotated',
        data: { purpose: 'receipt', from: receipts.from, to: receipts.to, why: 'restored' },
      }),
    ],
  };
};

/** From now on a new key-encryption key seals; what is under the old ones is moved when the broker runs. */
const newKek = async (core: RestoredCore, now: number, caller: Caller): Promise<Change> => {
  const rows = core.state.keyEncryptionKeys.all();
  const number = Math.max(...rows.map((row) => row.number)) + 1;
  const next = await core.keyring.makeNext({ number, created_at: now });
  next.adopt();
  const current = rows.filter((row) => row.state === 'current');
  return {
    writes: [
      ...current.map(
        (row): Write => ({
          write: 'update',
          table: 'key_encryption_keys',
          id: row.id,
          set: { state: 'previous', version: row.version + 1 },
          from: { version: row.version },
        }),
      ),
      { write: 'insert', table: 'key_encryption_keys', row: next.row },
    ],
    audit: [
      record(core, caller, {
        type: 'key.rotated',
        data: { from: current[0]?.number, to: number, kms: next.row.kms, why: 'restored' },
      }),
    ],
  };
};

const interrupted = 'a backup from before its end was restored; see which secret the upstream takes, and set that one';
const notRetired = 'a backup from before its end was restored; the secret before may still be accepted upstream';

/** How one ends that was under way. In its grace the new secret is in force, and stays so. */
const endOf = ({ status, finished_at }: Rotation) => {
  if (status === 'asked') return { status: 'cancelled', failure: interrupted, type: 'rotation.failed' } as const;
  return finished_at === null
    ? ({ status: 'failed', failure: interrupted, type: 'rotation.failed' } as const)
    : ({ status: 'done', failure: notRetired, type: 'rotation.stuck' } as const);
};

const endedRotations = (core: RestoredCore, now: number, caller: Caller): Change & { ids: string[] } => {
  const open = core.state.rotations.all().filter((row) => openRotationStatuses.some((status) => status === row.status));
  return {
    ids: open.map(({ id }) => id).sort(),
    writes: open.map((row) => ({
      write: 'update',
      table: 'rotations',
      id: row.id,
      set: { status: endOf(row).status, failure: endOf(row).failure, ended_at: now, ...changed(row, now) },
      from: { version: row.version },
    })),
    audit: open.map((row) => {
      const connection = core.state.connections.get(row.connection_id ?? '');
      return record(core, caller, {
        type: endOf(row).type,
        connection: connection && { id: connection.id, name: connection.name },
        data: {
          rotation: row.id,
          step: row.step,
          from: row.from_version,
          to: row.to_version,
          failure: endOf(row).failure,
        },
      });
    }),
  };
};

const silencedReceivers = (core: RestoredCore, now: number, caller: Caller): Change & { names: string[] } => {
  const webhooks = core.state.webhooks.all().filter((row) => row.status === 'active');
  const streams = core.state.signalStreams.all();
  return {
    names: [...webhooks, ...streams].map(({ name }) => name).sort(),
    writes: [
      ...webhooks.map(
        (row): Write => ({
          write: 'update',
          table: 'webhooks',
          id: row.id,
          set: { status: 'disabled', disabled_because: 'restored', ...changed(row, now) },
          from: { version: row.version },
        }),
      ),
      ...streams.map(
        (row): Write => ({
          write: 'update',
          table: 'signal_streams',
          id: row.id,
          set: {
            // What was paused for other reasons, or never begun, stays so.
            status: row.status === 'enabled' ? 'paused' : row.status,
            status_reason: 'a backup was restored',
            token_digest: tokenDigest(Buffer.from(core.entropy(tokenEntropyBytes)).toString('hex')),
            ...changed(row, now),
          },
          from: { version: row.version },
        }),
      ),
    ],
    audit: webhooks.map((row) =>
      record(core, caller, { type: 'webhook.disabled', data: { webhook: row.id, name: row.name, why: 'restored' } }),
    ),
  };
};

/** A name that nobody has, whatever operators called themselves. */
const freeName = (core: RestoredCore, { entries }: BackupHeader): string => {
  const name = `restored-admin-${entries}`;
  return core.state.operators.named(name) ? `${name}-${core.clock.now()}` : name;
};

export interface Fencing {
  writes: Write[];
  audit: AuditRecord[];
  report: NonNullable<RestoreReport['fenced']>;
  /** For the entry that says that a backup was restored. */
  facts: Record<string, unknown>;
}

/** @throws KmsUnavailable, KmsRefused where the key service wraps no new key */
export const fencing = async (core: RestoredCore, header: BackupHeader, caller: Caller): Promise<Fencing> => {
  const now = core.clock.now();
  const reason = `restored from the backup of ${header.created_at}`;
  const operators = endedOperators(core, now);
  const { operator, token } = makeOperator(core, { name: freeName(core, header), roles: ['admin'] });
  const fence = accompanyingFence(core, { everything: true }, reason, { name: 'restore' });
  const freeze = freezeWrites(core, { selector: { everything: true }, reason }, caller);
  // Before anything is sealed: it is sealed under the new one.
  const kek = await newKek(core, now, caller);
  const signing = await newSigningKeys(core, now, caller);
  const rotations = endedRotations(core, now, caller);
  const receivers = silencedReceivers(core, now, caller);
  const endAt = new Date(assertionsEndAt(core, now)).toISOString();
  return {
    writes: [
      ...fence.writes,
      ...freeze.writes,
      ...operators.writes,
      { write: 'insert', table: 'operators', row: operator },
      ...kek.writes,
      ...signing.writes,
      ...rotations.writes,
      ...(await leaveToPeople(core, interrupted)),
      ...receivers.writes,
    ],
    audit: [
      record(core, caller, {
        type: 'revocation.created',
        data: { revocation: fence.revocationId, selector: { everything: true }, reason, suspend: false },
      }),
      ...freeze.audit,
      record(core, caller, { type: 'operator.recovered', data: { operator: operator.id, name: operator.name } }),
      ...kek.audit,
      ...signing.audit,
      ...rotations.audit,
      ...receivers.audit,
    ],
    report: {
      revocation: fence.revocationId,
      freeze: freeze.freeze.id,
      admin: operator.name,
      admin_token: token,
      operators: operators.names,
      rotations: rotations.ids,
      receivers: receivers.names,
      assertions_end_at: endAt,
    },
    facts: {
      revocation: fence.revocationId,
      freeze: freeze.freeze.id,
      admin: operator.name,
      operators_ended: operators.names.length,
      rotations_ended: rotations.ids.length,
      receivers_off: receivers.names.length,
      assertions_end_at: endAt,
    },
  };
};
