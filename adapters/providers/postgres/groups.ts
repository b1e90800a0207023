/**
 * The roles that hold the rights of a preset. What is issued becomes a member of one: granting on each table to each
 * issued role would write to the catalogue row of every table twice a grant, in conflict with everybody else who does,
 * until the row is full after a few hundred.
 *
 * A group cannot log in and belongs to one connection. Its rights are brought up to date before it is used.
 */
import { createHash } from 'node:crypto';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import type { Session } from './session.ts';
import type { PresetScope } from './settings.ts';
import { batch, named, quoted } from './statements.ts';

/** @returns the same name for the same rights on the same database of the same connection */
export const groupName = (prefix: string, connectionId: string, database: string, scope: PresetScope): string => {
  const what = JSON.stringify([connectionId, database, scope.preset, [...scope.schemas].sort()]);
  const digest = createHash('sha256').update(what).digest('hex').slice(0, 20);
  return `${prefix}${scope.preset === 'read' ? 'r' : 'rw'}_${digest}`;
};

const groupMark = (connectionId: string): string => `Warder keeps the rights of a scope of ${connectionId} here`;

const tableRights = { read: ['SELECT'], 'read-write': ['SELECT', 'INSERT', 'UPDATE', 'DELETE'] } as const;
const sequenceRights = { read: ['SELECT'], 'read-write': ['SELECT', 'USAGE'] } as const;

const list = (values: readonly string[]): string => `ARRAY[${values.map(quoted).join(', ')}]::text[]`;

/**
 * Rows (what, schema, name, right) for everything in the schemas that the group lacks and this session may grant. What
 * it may not grant is left out: one table of somebody else's must not end all issuing.
 */
const lacking = (group: string, { preset, schemas }: PresetScope): string => {
  const within = `n.nspname = ANY (${list(schemas)})`;
  const relations = (kinds: string, what: string, may: string, rights: readonly string[]): string =>
    `SELECT '${what}', n.nspname, c.relname, p FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace ` +
    `CROSS JOIN unnest(${list(rights)}) p WHERE ${within} AND c.relkind IN (${kinds}) ` +
    `AND ${may}(c.oid, p || ' WITH GRANT OPTION') AND NOT ${may}(${quoted(group)}::name, c.oid, p)`;
  return [
    `SELECT 'DATABASE', NULL::name, current_database(), 'CONNECT' ` +
      `WHERE has_database_privilege(current_database(), 'CONNECT WITH GRANT OPTION') ` +
      `AND NOT has_database_privilege(${quoted(group)}::name, current_database(), 'CONNECT')`,
    `SELECT 'SCHEMA', NULL::name, n.nspname, 'USAGE' FROM pg_namespace n WHERE ${within} ` +
      `AND has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION') ` +
      `AND NOT has_schema_privilege(${quoted(group)}::name, n.oid, 'USAGE')`,
    relations("'r', 'p', 'v', 'm', 'f'", 'TABLE', 'has_table_privilege', tableRights[preset]),
    relations("'S'", 'SEQUENCE', 'has_sequence_privilege', sequenceRights[preset]),
  ].join('\nUNION ALL ');
};

/** How many of the schemas the group can look into. */
const usable = (group: string, schemas: readonly string[]): string =>
  `SELECT count(*) FROM pg_namespace n WHERE n.nspname = ANY (${list(schemas)}) ` +
  `AND has_schema_privilege(${quoted(group)}::name, n.oid, 'USAGE')`;

/** One GRANT for each kind and right. */
const grants = (group: string, rows: readonly (string | null)[][]): string[] => {
  const found = new Map<string, string[]>();
  for (const [what = '', schema, name, right = ''] of rows) {
    const on = `${right} ON ${what}`;
    const target = `${schema === null || schema === undefined ? '' : `${named(schema)}.`}${named(name ?? '')}`;
    found.set(on, [...(found.get(on) ?? []), target]);
  }
  return [...found].map(([on, targets]) => `GRANT ${on} ${targets.join(', ')} TO ${named(group)}`);
};

/**
 * Makes the group if it is not there, and gives it what its scope means today.
 * @throws ProviderFailure `refused` for a role of that name that is not ours, or a schema nobody can look into
 */
export const keepGroup = async (
  session: Session,
  connectionId: string,
  group: string,
  scope: PresetScope,
): Promise<void> => {
  const find = `SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = ${quoted(group)}`;
  const [rows = []] = await session.run(find);
  const [found] = rows;
  if (!found) {
    const mark = quoted(groupMark(connectionId));
    await session.run(batch([`CREATE ROLE ${named(group)} NOLOGIN`, `COMMENT ON ROLE ${named(group)} IS ${mark}`]));
  } else if (found[0] !== groupMark(connectionId)) {
    throw new ProviderFailure('refused', 'a role with the name Warder needs belongs to somebody else');
  }
  const [missing = []] = await session.run(lacking(group, scope));
  if (missing.length > 0) await session.run(batch(grants(group, missing)));
  const [[[count] = []] = []] = await session.run(usable(group, scope.schemas));
  if (Number(count) !== scope.schemas.length) {
    throw new ProviderFailure('refused', 'a schema of this scope is not there, or Warder’s role may not grant its use');
  }
};

/** Rights are looked at again when they are older: a table made since then is found by the next grant. */
const freshMs = 1_000;
/** Below what a call may take: nobody who waits for a look waits longer for it than for the rest. */
const lookMs = 8_000;

/** Looks after the rights of presets: one look at a time, for everybody who asks the same server meanwhile. */
export class GroupKeeper {
  readonly #looks = new WeakMap<object, Map<string, { at: number; done: Promise<void> }>>();

  async fresh(
    pool: object,
    group: string,
    callers: AbortSignal,
    look: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const looks = this.#looks.get(pool) ?? new Map();
    this.#looks.set(pool, looks);
    const now = performance.now();
    let found = looks.get(group);
    if (!found || now - found.at > freshMs) {
      // Whoever began it may go away: others wait for it too.
      found = { at: now, done: look(AbortSignal.timeout(lookMs)) };
      looks.set(group, found);
      found.done.catch(() => looks.delete(group));
    }
    await untilAborted(callers, found.done);
  }
}

const untilAborted = async (signal: AbortSignal, work: Promise<void>): Promise<void> => {
  if (signal.aborted) throw new ProviderFailure('timeout', 'the database did not answer in time');
  let over = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    over = () => reject(new ProviderFailure('timeout', 'the database did not answer in time'));
    signal.addEventListener('abort', over, { once: true });
  });
  try {
    await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', over);
  }
};
