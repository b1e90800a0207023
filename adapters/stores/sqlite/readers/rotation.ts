/** Questions about rotations, over one read-only connection. */
import type { CompiledQuery } from 'kysely';
import { sql } from 'kysely';
import type { Rotation } from '../../../../src/domain/rotation.ts';
import type { TableName, Tables } from '../../../../src/ports/ledger.ts';
import type { RotationReader } from '../../../../src/ports/readers/rotation.ts';
import type { DirectReader } from '../reader.ts';
import { compiler } from '../statements.ts';

type AllRows = <T extends TableName>(table: T, query: CompiledQuery) => Tables[T][];

/** For memory: those that have not ended. The partial index answers only to the very statuses it was made with. */
export const openRotations = (all: AllRows): Rotation[] =>
  all(
    'rotations',
    compiler
      .selectFrom('rotations')
      .selectAll()
      .where(sql<boolean>`status in ('asked', 'running', 'grace', 'stuck')`)
      .orderBy('id')
      .compile(),
  );

export const rotationReader = (
  all: AllRows,
  rows: (query: CompiledQuery) => Record<string, unknown>[],
): Pick<DirectReader, keyof RotationReader> => ({
  rotation: (id) => all('rotations', compiler.selectFrom('rotations').selectAll().where('id', '=', id).compile())[0],
  rotations: (filter, page) => {
    let query = compiler.selectFrom('rotations').selectAll().orderBy('id', 'desc').limit(page.limit);
    if (page.before !== undefined) query = query.where('id', '<', page.before);
    if (filter.policy_id !== undefined) query = query.where('policy_id', '=', filter.policy_id);
    return all('rotations', query.compile());
  },
  lastRotations: () =>
    all(
      'rotations',
      compiler
        .selectFrom('rotations')
        .selectAll()
        .where(
          'id',
          'in',
          compiler
            .selectFrom('rotations')
            .select((make) => make.fn.max('id').as('id'))
            .where('finished_at', 'is not', null)
            .groupBy('policy_id'),
        )
        .compile(),
    ),
  rotatedAway: (connectionId) =>
    all(
      'rotations',
      compiler
        .selectFrom('rotations')
        .selectAll()
        .where('policy_id', '=', connectionId)
        .where('finished_at', 'is not', null)
        .compile(),
    ).flatMap(({ from_version }) => from_version ?? []),
  newestSecretNumber: (connectionId) => {
    const [row] = rows(
      compiler
        .selectFrom('secrets')
        .select((make) => make.fn.max('number').as('newest'))
        .where('connection_id', '=', connectionId)
        .compile(),
    );
    return Number(row?.['newest'] ?? 0);
  },
  lease: (id) => all('leases', compiler.selectFrom('leases').selectAll().where('id', '=', id).compile())[0],
});
