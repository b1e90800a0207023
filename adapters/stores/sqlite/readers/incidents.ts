/** Questions about freezes and incidents. */
import { type CompiledQuery, sql } from 'kysely';
import { endsByField } from '../../../../src/domain/stored-handle.ts';
import type { TableName, Tables } from '../../../../src/ports/ledger.ts';
import type { IncidentReader } from '../../../../src/ports/readers/incidents.ts';
import { compiler } from '../statements.ts';

/** The questions as they are on the reader's own thread: answered at once. */
type Direct = {
  [M in keyof IncidentReader]: (...args: Parameters<IncidentReader[M]>) => Awaited<ReturnType<IncidentReader[M]>>;
};

const endsByPath = `$."${endsByField}"`;

export const incidentReader = (
  all: <T extends TableName>(table: T, query: CompiledQuery) => Tables[T][],
  rows: (query: CompiledQuery) => Record<string, unknown>[],
  isRareType: ReturnType<typeof sql<boolean>>,
): Direct => ({
  freeze: (id) => all('freezes', compiler.selectFrom('freezes').selectAll().where('id', '=', id).compile())[0],

  freezes: ({ standing, incident_id }, page) => {
    let query = compiler.selectFrom('freezes').selectAll().orderBy('id', 'desc').limit(page.limit);
    if (page.before !== undefined) query = query.where('id', '<', page.before);
    if (standing !== undefined) query = query.where('lifted_at', standing ? 'is' : 'is not', null);
    if (incident_id !== undefined) query = query.where('incident_id', '=', incident_id);
    return all('freezes', query.compile());
  },

  incident: (id) => all('incidents', compiler.selectFrom('incidents').selectAll().where('id', '=', id).compile())[0],

  incidents: ({ status }, page) => {
    let query = compiler.selectFrom('incidents').selectAll().orderBy('id', 'desc').limit(page.limit);
    if (page.before !== undefined) query = query.where('id', '<', page.before);
    if (status !== undefined) query = query.where('status', '=', status);
    return all('incidents', query.compile());
  },

  incidentItems: (incidentId) =>
    all(
      'incident_items',
      compiler
        .selectFrom('incident_items')
        .selectAll()
        .where('incident_id', '=', incidentId)
        .orderBy('number')
        .compile(),
    ),

  grantsLeftUpstream: (revocationIds, limit) =>
    all(
      'grants',
      compiler
        .selectFrom('grants')
        .selectAll()
        .where('revocation_id', 'in', sql<string>`(select value from json_each(${JSON.stringify(revocationIds)}))`)
        .where((is) =>
          is.or([
            is('upstream', '=', 'unrevocable'),
            is.and([is('upstream', '=', 'live'), sql<boolean>`handle ->> ${sql.lit(endsByPath)} is not null`]),
          ]),
        )
        .orderBy('id')
        .limit(limit)
        .compile(),
    ),

  auditOfTypes: (types, from, to, limit) =>
    rows(
      compiler
        .selectFrom('audit')
        .select(['seq', 'body'])
        .where('body', 'is not', null)
        .where('type', 'in', types)
        // Said again, so that the index of the rare types answers.
        .where(isRareType)
        .where('seq', '>=', from)
        .where('seq', '<', to)
        .orderBy('seq')
        .limit(limit)
        .compile(),
    ).map((row) => ({ seq: Number(row['seq']), body: String(row['body']) })),
});
