/** The rotation engine over a real store, with connections to key houses. */
import type { Connection } from '../../../src/domain/model.ts';
import type { Rotation } from '../../../src/domain/rotation.ts';
import { createConnection } from '../../../src/services/access/manage-connections.ts';
import { setSecret } from '../../../src/services/access/set-secret.ts';
import { commitChanges } from '../../../src/services/change.ts';
import type { Caller } from '../../../src/services/core.ts';
import type { CoreWithSecrets } from '../../../src/services/issuing/provider-context.ts';
import { cancelRotation } from '../../../src/services/rotation/ask-rotation.ts';
import { RotationEngine } from '../../../src/services/rotation/engine.ts';
import type { RotationPace } from '../../../src/services/rotation/pace.ts';
import { prepareRotation, type RotationRequest } from '../../../src/services/rotation/request-rotation.ts';
import { openSecretVersion } from '../../../src/services/secrets/secrets.ts';
import { hurriedRotation } from '../../support/broker.ts';
import { eventually } from '../../support/eventually.ts';
import { openServices } from '../../support/services.ts';
import { type KeyHouse, type Kind, openKeyHouse } from './key-house.ts';

export const ops: Caller = { actor: { kind: 'operator', id: 'op_1', name: 'olga' }, requestId: 'req_1' };

/** Quick, and what failed is not attempted again within a test. */
export const once: RotationPace = {
  ...hurriedRotation,
  firstPauseMs: 2,
  longestPauseMs: 20,
  silenceMs: 0,
  stepTries: 3,
  cleanTries: 3,
  firstAttemptPauseMs: 3_600_000,
  longestAttemptPauseMs: 3_600_000,
};

/** A connection, and the upstream behind it. */
export interface Account {
  house: KeyHouse;
  id: string;
  /** The connection's row as it is now. */
  row(): Connection;
  /** Asks for a rotation, at once and with no grace unless told. */
  ask(request?: Partial<RotationRequest> & { graceSeconds?: number }): Promise<Rotation>;
  /** The secret in force in the ledger, opened. */
  inForce(): Promise<Record<string, string>>;
  /** The states of its secrets, oldest first. */
  secrets(): Promise<string[]>;
  setByHand(secret: Record<string, string>): Promise<void>;
  /** Has its secret read from a vault from now on (`core.secrets.readFrom` says what is there). */
  keepInVault(): Promise<void>;
  rotations(): Promise<Rotation[]>;
}

export interface Rig {
  core: CoreWithSecrets;
  account(kind?: Kind): Promise<Account>;
  /** The row when it is in one of these states. */
  reaches(rotation: Pick<Rotation, 'id'>, ...statuses: Rotation['status'][]): Promise<Rotation>;
  rotation(id: string): Promise<Rotation | undefined>;
  audit(filter?: { type?: string; connection_id?: string }): Promise<{ type: string; data: Record<string, unknown> }[]>;
  cancel(rotationId: string): Promise<void>;
  /** Ends the engine in the middle of whatever it does, and starts another one. */
  restart(): Promise<void>;
  stop(): Promise<void>;
  close(): Promise<void>;
}

const houseCount = 60;

export const openRig = async (pace: RotationPace = once): Promise<Rig> => {
  const houses: Record<Kind, KeyHouse[]> = { keys: [], password: [] };
  for (let number = 1; number <= houseCount; number += 1) {
    for (const kind of ['keys', 'password'] as const) houses[kind].push(openKeyHouse(kind, `test-${kind}-${number}`));
  }
  const services = await openServices([...houses.keys, ...houses.password].map(({ provider }) => provider));
  const { core, store } = services;
  const { reader } = store;
  const open = (): RotationEngine => new RotationEngine(core, { pace, exclusive: true });
  let engine = open();
  engine.start();
  return {
    core,
    rotation: (id) => reader.rotation(id),
    account: async (kind = 'keys') => {
      const house = houses[kind].pop();
      if (!house) throw new Error('no key house is left');
      const name = house.provider.type;
      const secret = house.newSecret();
      const { id } = await createConnection(core, { name, provider: name, settings: {}, secret }, ops);
      const row = (): Connection => {
        const found = core.state.connections.get(id);
        if (!found) throw new Error('the connection is gone');
        return found;
      };
      return {
        house,
        id,
        row,
        ask: async ({ graceSeconds = 0, ...request } = {}) => {
          const asked = { why: 'asked', reason: 'a test', caller: ops, now: true, ...request } as const;
          const prepared = prepareRotation(core, row(), asked);
          const rotation = { ...prepared.rotation, grace_seconds: graceSeconds };
          const writes = [{ write: 'insert', table: 'rotations', row: rotation }] as const;
          await commitChanges(core, { writes: [...writes], audit: prepared.audit });
          return rotation;
        },
        inForce: async () => {
          const { secret_version: version } = row();
          if (version === null) throw new Error('there is no secret');
          const opened = await openSecretVersion(core, id, version);
          return Object.fromEntries(Object.entries(opened).map(([name, value]) => [name, value.reveal()]));
        },
        secrets: async () => {
          const newest = await reader.newestSecretNumber(id);
          const numbers = Array.from({ length: newest }, (_, index) => index + 1);
          return (await Promise.all(numbers.map((number) => reader.secret(id, number)))).map(
            (one) => one?.state ?? '-',
          );
        },
        setByHand: async (given) => void (await setSecret(core, row(), given, ops)),
        keepInVault: async () => {
          const { version } = row();
          const source = { connection_id: 'con_vault', path: 'kv/key', fields: {}, version: null, max_age_seconds: 60 };
          const set = { secret_source: source, version: version + 1, updated_at: core.clock.now() };
          await store.ledger.commit({
            writes: [{ write: 'update', table: 'connections', id, set, from: { version } }],
            audit: [{ type: 'test', at: 0, agent_id: null, connection_id: null, grant_id: null, body: '{}' }],
          });
        },
        rotations: async () => (await reader.rotations({ policy_id: id }, { limit: 100 })).reverse(),
      };
    },
    reaches: async ({ id }, ...statuses) => {
      const found = await eventually(
        `the rotation is ${statuses.join(' or ')}`,
        () => reader.rotation(id),
        (one) => one !== undefined && statuses.includes(one.status),
      );
      if (!found) throw new Error('unreachable');
      return found;
    },
    audit: async (filter = {}) =>
      (await reader.audit(filter, { limit: 500 })).map(({ body }) => JSON.parse(body)).reverse(),
    cancel: async (id) => void (await cancelRotation(core, id, { name: 'olga' }, ops)),
    restart: async () => {
      await engine.stop();
      engine = open();
      engine.start();
    },
    stop: () => engine.stop(),
    close: async () => {
      await engine.stop();
      await services.close();
    },
  };
};
