/**
 * What SQLite will do for each question, by EXPLAIN QUERY PLAN: at a million rows the difference between an index and a
 * walk is that between a millisecond and seconds. The statements are those the reader and the writer really prepare.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type Database from 'better-sqlite3';
import { openForWriting } from '../../../../adapters/stores/sqlite/connection.ts';
import { migrate, readMigrations } from '../../../../adapters/stores/sqlite/migrate.ts';
import { type DirectReader, makeReader } from '../../../../adapters/stores/sqlite/reader.ts';
import { Writer } from '../../../../adapters/stores/sqlite/writer.ts';
import type { Selector } from '../../../../src/domain/model.ts';
import * as make from '../../../conformance/ledger-rows.ts';
import { migrationsFolder, temporaryFolder } from './temporary-store.ts';

let folder: ReturnType<typeof temporaryFolder>;
let db: Database.Database;
let reader: DirectReader;
let writer: Writer;
let prepared: string[] = [];

beforeAll(() => {
  folder = temporaryFolder();
  db = openForWriting(join(folder.path, 'plans.db'));
  migrate(db, readMigrations(migrationsFolder), 0);
  const prepare = db.prepare.bind(db);
  db.prepare = ((sql: string) => {
    prepared.push(sql);
    return prepare(sql);
  }) as typeof db.prepare;
  reader = makeReader(db);
  writer = new Writer(db);
  const hours = [0, 1, 2, 3].map((n) => make.entry({ at: make.now + n * make.hour }));
  writer.apply(hours.map((one) => ({ writes: [], audit: [one] })));
});
afterAll(() => {
  db.close();
  folder.remove();
});

/** @returns the plans of the statements that `ask` prepares and that touch `table`, one line each */
const plansOf = (table: string, ask: () => unknown): string[] => {
  prepared = [];
  ask();
  return [...new Set(prepared)]
    .filter((sql) => new RegExp(`\\b${table}\\b`).test(sql))
    .map((sql) => {
      const holes = Array.from(sql.matchAll(/\?/g), () => null);
      const steps = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...holes) as { detail: string }[];
      return steps.map((step) => step.detail).join(' | ');
    })
    .filter((plan) => plan !== '');
};

const page = { limit: 10 };
const auditPage = { limit: 10 };
const inTheMiddle = make.now + 90 * make.minute;
const fence = (selector: Selector) => ({ selector, ownedAgents: [], seq: 3, at: make.now });

const grantQueries: [string, () => unknown, RegExp][] = [
  ['grants of an agent', () => reader.grants({ agent_id: 'a' }, page), /INDEX grants_by_agent \(agent_id=\?\)/],
  [
    'a later page of an agent’s grants',
    () => reader.grants({ agent_id: 'a' }, { limit: 5, before: 'g' }),
    /INDEX grants_by_agent \(agent_id=\? AND id<\?\)/,
  ],
  [
    'grants of an agent on a day',
    () => reader.grants({ agent_id: 'a', from: make.now, to: make.now + make.hour }, page),
    /INDEX grants_by_agent \(agent_id=\? AND id>\? AND id<\?\)/,
  ],
  [
    'grants on a connection',
    () => reader.grants({ connection_id: 'c', statuses: ['active'] }, page),
    /INDEX grants_by_connection \(connection_id=\?\)/,
  ],
  ['grants since a moment', () => reader.grants({ from: make.now }, page), /PRIMARY KEY \(id>\?\)/],
  ['grants before a moment', () => reader.grants({ to: make.now }, page), /PRIMARY KEY \(id<\?\)/],
  [
    'grants alive now',
    () => reader.grants({ statuses: ['active'], alive_at: make.now }, page),
    /PRIMARY KEY \(id>\?\)/,
  ],
  ['a later page of all grants', () => reader.grants({}, { limit: 5, before: 'g' }), /PRIMARY KEY \(id<\?\)/],
  ['what a drain walks', () => reader.upstreamGrants('', 10), /INDEX grants_upstream \(id>\?\)/],
  [
    'what a revocation waits for',
    () => reader.upstreamGrantsOf(fence({ agent: 'a' }), make.now, '', 10, []),
    /INDEX grants_upstream \(id>\?\)/,
  ],
  [
    'what is left of before the window of a receipt',
    () => reader.listedGrants(fence({ agent: 'a' }), make.now, '', 10),
    /INDEX grants_upstream \(id>\? AND id<\?\)/,
  ],
  [
    'what a receipt lists of an agent',
    () => reader.listedGrants(fence({ agent: 'a' }), make.now, 'grt_7', 10),
    /INDEX grants_by_agent \(agent_id=\? AND id>\? AND id<\?\)/,
  ],
  [
    'when the next that lives on ends',
    () => reader.nextEndOf('rev', make.now),
    /USING INDEX grants_by_revocation \(revocation_id=\? AND upstream=\?\)/,
  ],
  ['what recovery walks', () => reader.intendedGrants(10, 10), /INDEX grants_intended/],
  [
    'kept boxes under older keys',
    () => reader.rowsSealedUnderOthers('grants', 1, '', 10),
    /INDEX grants_upstream \(id>\?\)/,
  ],
  [
    'how far a revocation has come',
    () => reader.upstreamProgress('rev'),
    /USING INDEX grants_by_revocation \(revocation_id=\? AND upstream=\?\)/,
  ],
];

const auditQueries: [string, () => unknown, RegExp][] = [
  ['entries of an agent', () => reader.audit({ agent_id: 'a' }, auditPage), /INDEX audit_by_agent \(agent_id=\?\)/],
  [
    'a later page of an agent’s entries',
    () => reader.audit({ agent_id: 'a' }, { limit: 5, before: 3 }),
    /INDEX audit_by_agent \(agent_id=\? AND rowid<\?\)/,
  ],
  [
    'entries of an agent on a day',
    () => reader.audit({ agent_id: 'a', from: inTheMiddle, to: inTheMiddle + make.minute }, auditPage),
    /INDEX audit_by_agent \(agent_id=\? AND rowid>\? AND rowid<\?\)/,
  ],
  [
    'entries of a connection',
    () => reader.audit({ connection_id: 'c' }, auditPage),
    /INDEX audit_by_connection \(connection_id=\?\)/,
  ],
  [
    'entries of a rare type',
    () => reader.audit({ type: 'agent.created' }, auditPage),
    /INDEX audit_by_type \(type=\?\)/,
  ],
  ['entries since a moment', () => reader.audit({ from: inTheMiddle }, auditPage), /INTEGER PRIMARY KEY \(rowid>\?\)/],
  ['entries before a moment', () => reader.audit({ to: inTheMiddle }, auditPage), /INTEGER PRIMARY KEY \(rowid<\?\)/],
  [
    'everyday entries of a day',
    () => reader.audit({ type: 'gateway.call', from: inTheMiddle, to: inTheMiddle + make.minute }, auditPage),
    /INTEGER PRIMARY KEY \(rowid>\? AND rowid<\?\)/,
  ],
  ['a range of entries', () => reader.auditRange({}, 0, 10, 10), /INTEGER PRIMARY KEY \(rowid>\? AND rowid<\?\)/],
  [
    'entries that have to be told',
    () => makeReader(db).entriesToTell(['agent.suspended'], 0, 10),
    /INTEGER PRIMARY KEY \(rowid=\?\)/,
  ],
  ['leaves for a proof', () => reader.inclusionProof(1, 3), /INTEGER PRIMARY KEY \(rowid>\? AND rowid<\?\)/],
];

const isWalk = (plan: string): boolean => /SCAN (grants|audit)(?! USING INDEX grants_intended)/.test(plan);
const sortsInMemory = (plan: string): boolean => plan.includes('TEMP B-TREE');

describe('no question walks all grants', () => {
  test.each(grantQueries)('%s', (_, ask, expected) => {
    const plans = plansOf('grants', ask);
    expect(plans.at(-1)).toMatch(expected);
    expect(plans.filter((plan) => isWalk(plan) || sortsInMemory(plan))).toEqual([]);
  });

  const selectors: [keyof Selector, RegExp][] = [
    ['everything', /INDEX grants_alive \(expires_at>\?\)/],
    ['agent', /INDEX grants_(alive|by_agent)/],
    ['connection', /INDEX grants_(alive|by_connection)/],
    ['provider', /INDEX grants_alive \(expires_at>\?\)/],
    ['owner', /INDEX grants_alive \(expires_at>\?\)/],
    ['subject', /INDEX grants_alive \(expires_at>\?\)/],
    ['entitlement', /INDEX grants_alive \(expires_at>\?\)/],
    ['grant', /PRIMARY KEY \(id=\?\)/],
  ];
  test.each(selectors)('counting what a revocation by %s kills', (field, expected) => {
    const selector: Selector = field === 'everything' ? { everything: true } : { [field]: 'x' };
    const plans = plansOf('grants', () => reader.countLiveGrants(selector, make.now, ['a', 'b'], 10));
    expect(plans.length).toBeGreaterThan(0);
    for (const plan of plans) expect(plan).toMatch(expected);
    expect(plans.filter(isWalk)).toEqual([]);
  });
});

describe('no question walks the audit log', () => {
  test.each(auditQueries)('%s', (_, ask, expected) => {
    const plans = plansOf('audit', ask);
    expect(plans.at(-1)).toMatch(expected);
    expect(plans.filter((plan) => isWalk(plan) || sortsInMemory(plan))).toEqual([]);
  });

  test('the newest time', () => {
    const plans = plansOf('audit', () => reader.snapshot());
    expect(plans).toEqual([expect.stringContaining('COVERING INDEX audit_by_time')]);
  });
});

// These have no index to go by: they begin at the newest row and stop when the page is full.
const fromTheNewest: [string, string, () => unknown][] = [
  ['all grants', 'grants', () => reader.grants({}, page)],
  ['grants of a status', 'grants', () => reader.grants({ statuses: ['active'] }, page)],
  ['all entries', 'audit', () => reader.audit({}, auditPage)],
  ['entries of an everyday type', 'audit', () => reader.audit({ type: 'grant.issued' }, auditPage)],
];
test.each(fromTheNewest)('%s are read from the newest on, without sorting', (_, table, ask) => {
  const plans = plansOf(table, ask);
  expect(plans).toHaveLength(1);
  expect(plans.filter(sortsInMemory)).toEqual([]);
});

test('rows whose time is over, open revocations and secrets are found by an index', () => {
  const found = (table: string, ask: () => unknown): string => plansOf(table, ask).join();
  expect(found('agent_tokens', () => reader.expiredRows(1, 5))).toContain(
    'INDEX agent_tokens_by_expiry (expires_at<?)',
  );
  expect(found('revocations', () => reader.openRevocations())).toContain('INDEX revocations_open');
  expect(found('secrets', () => reader.secret('c', 1))).toContain('(connection_id=? AND number=?)');
});

test('what belongs to an incident is found by an index', () => {
  const found = (table: string, ask: () => unknown): string => plansOf(table, ask).join();
  // Of rare types there are few: they may be sorted, and must not be looked for among the everyday ones.
  expect(found('audit', () => reader.auditOfTypes(['incident.opened', 'freeze.created'], 0, 9, 5))).toContain(
    'INDEX audit_by_type (type=? AND rowid>? AND rowid<?)',
  );
  expect(found('freezes', () => reader.freezes({ incident_id: 'i' }, page))).toContain('INDEX freezes_by_incident');
  expect(found('grants', () => reader.grantsLeftUpstream(['r'], 5))).toContain('INDEX grants_by_revocation');
  expect(found('incident_items', () => reader.incidentItems('i'))).toContain('(incident_id=?)');
});

describe('no write walks a table', () => {
  test('guards and writes find their row by its id, and fences by their number', () => {
    const agent = make.agent();
    const everything = plansOf('(agents|fences|grants|budget_uses|used_once)', () => {
      const fresh = new Writer(db);
      fresh.apply([
        {
          guards: [
            { guard: 'unfenced', since: -1, facts: make.facts() },
            { guard: 'unchanged', table: 'agents', id: 'x', version: 1 },
          ],
          ...make.changeset(),
        },
        make.changeset(make.insert('agents', agent), make.insert('fences', make.fence({ agent: 'nobody' }))),
        make.changeset(make.update('agents', agent.id, { version: 2 }, { version: 1, owner: 'team-a' })),
        make.changeset(make.update('grants', 'x', { version: 2 }, { status: 'active' })),
        make.changeset(make.remove('used_once', 'x', { expires_at: 1 })),
        make.changeset(make.spend(make.budgetUse(), 1)),
      ]);
    });
    const rows = everything.filter((plan) => /SCAN|SEARCH/.test(plan));
    expect(rows.length).toBeGreaterThanOrEqual(5);
    // The newest fence when the writer starts, and what hangs on an agent that goes, are look-ups too.
    for (const plan of rows) expect(plan).toMatch(/PRIMARY KEY \(id=\?\)|INDEX fences_by_seq|INDEX entitlements_by_/);
  });
});
