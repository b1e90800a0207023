/**
 * What `rotate` asks for: the secrets of the connections a revocation reaches are replaced. That it is to be done is
 * written down with the fence; which they are is worked out behind it, so that the fence waits for nothing and nothing
 * about rotation can fail it. All rotations of one revocation are asked for in one commit, so a crash leaves all or none.
 */
import type { AuditRecord } from '../../domain/audit-entry.ts';
import type { Connection, Revocation, Selector } from '../../domain/model.ts';
import type { RotationAfter } from '../../domain/revocation.ts';
import type { Write } from '../../ports/ledger.ts';
import { type Core, commit, record } from '../core.ts';
import { prepareRotation, rotationProblem } from '../rotation/request-rotation.ts';
import { fenceOf, systemCaller } from './revoke.ts';

/** What was not finished when the ledger could not write is looked for this often. */
const againMs = 5_000;

/** Connections the selector itself names, whether or not anything was issued through them. */
export const namedConnections = (core: Pick<Core, 'state'>, selector: Selector): string[] => {
  const { connection, provider, everything } = selector;
  if (connection !== undefined) return [connection];
  const onlyProvider = provider !== undefined && Object.keys(selector).length === 1;
  if (!everything && !onlyProvider) return [];
  return core.state.connections
    .all()
    .filter((row) => everything || row.provider === provider)
    .map(({ id }) => id);
};

/** Whether there is something to replace at all. */
export const hasSecret = ({ secret_version, secret_source }: Connection): boolean =>
  secret_version !== null || secret_source !== null;

export class RotationsAfter {
  readonly #core: Core;
  #unhear = (): unknown => undefined;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #again = false;
  #stopped = false;

  constructor(core: Core) {
    this.#core = core;
  }

  start(): void {
    this.#unhear = this.#core.ledger.onCommitted(({ writes }) => {
      const asked = writes.some(
        (write) => write.table === 'revocations' && write.write === 'insert' && write.row.rotate,
      );
      // Later: the answer to whoever asked goes first.
      if (asked) setImmediate(() => this.#wake());
    });
    this.#timer = setInterval(() => this.#wake(), againMs);
    this.#timer.unref();
    this.#wake();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unhear();
    clearInterval(this.#timer);
    await this.#running;
  }

  #wake(): void {
    if (this.#stopped) return;
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#again = false;
    this.#running = this.#round()
      .catch((error: unknown) => this.#core.log.error({ err: error }, 'rotations after a revocation failed'))
      .finally(() => {
        this.#running = undefined;
        if (this.#again) this.#wake();
      });
  }

  async #round(): Promise<void> {
    for (const revocation of await this.#core.reader.revocationsToRotate()) {
      if (this.#stopped) return;
      await askForRotations(this.#core, revocation);
    }
  }
}

/** The connections a revocation reaches that have a secret. */
const reached = async (core: Pick<Core, 'state' | 'reader'>, revocation: Revocation): Promise<Connection[]> => {
  const ids = new Set([
    ...namedConnections(core, revocation.selector),
    ...(await core.reader.connectionsOf(revocation.id, fenceOf(core, revocation))),
  ]);
  return [...ids].flatMap((id) => core.state.connections.get(id) ?? []).filter(hasSecret);
};

/** Hands all rotations that were not asked for yet over to people. @param why for them */
export const leaveToPeople = async (core: Pick<Core, 'state' | 'reader'>, why: string): Promise<Write[]> => {
  const open = await core.reader.revocationsToRotate();
  return Promise.all(
    open.map(async (row): Promise<Write> => {
      const connections = await reached(core, row);
      const rotations: RotationAfter[] = connections.map(({ id, name }) => ({
        connection: { id, name },
        by_hand: why,
      }));
      return { write: 'update', table: 'revocations', id: row.id, set: { rotations }, from: { rotations: null } };
    }),
  );
};

/** Asks for all of them in one commit. @throws Refused `ledger_unavailable` */
const askForRotations = async (core: Core, revocation: Revocation): Promise<void> => {
  const writes: Write[] = [];
  const audit: AuditRecord[] = [];
  const rotations: RotationAfter[] = [];
  for (const connection of await reached(core, revocation)) {
    const one = rotationFor(core, connection, revocation);
    writes.push(...one.writes);
    audit.push(...one.audit);
    rotations.push(one.after);
  }
  await commit(core, {
    writes: [
      ...writes,
      { write: 'update', table: 'revocations', id: revocation.id, set: { rotations }, from: { rotations: null } },
    ],
    audit: [
      record(core, systemCaller('revocation'), {
        type: 'revocation.rotations',
        data: {
          revocation: revocation.id,
          asked: rotations.filter((one) => 'rotation' in one).length,
          by_hand: rotations.filter((one) => 'by_hand' in one).length,
        },
      }),
      ...audit,
    ],
  });
};

/** The rotation of one connection, or why a person has to do it. */
const rotationFor = (
  core: Core,
  connection: Connection,
  { id, reason, requested_by }: Revocation,
): { writes: Write[]; audit: AuditRecord[]; after: RotationAfter } => {
  const named = { id: connection.id, name: connection.name };
  const byHand = (why: string) => ({ writes: [], audit: [], after: { connection: named, by_hand: why } });
  try {
    const problem = rotationProblem(core, connection);
    if (problem !== undefined) return byHand(problem);
    const { writes, audit, rotation } = prepareRotation(core, connection, {
      why: 'revocation',
      reason,
      caller: systemCaller(`revocation by ${requested_by}`),
      revocation: id,
    });
    return { writes, audit, after: { connection: named, rotation: rotation.id } };
  } catch (error) {
    // One connection whose settings nothing understands any more does not keep the others from being rotated.
    core.log.error({ err: error, connection: connection.id, revocation: id }, 'a rotation could not be prepared');
    return byHand('its rotation could not be prepared; the log of the broker says why');
  }
};
