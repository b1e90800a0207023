/** Changesets that show when half of one is missing, and the check that none is. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { openForWriting } from '../../adapters/stores/sqlite/connection.ts';
import { migrate, readMigrations } from '../../adapters/stores/sqlite/migrate.ts';
import { type DirectReader, makeReader } from '../../adapters/stores/sqlite/reader.ts';
import { Writer } from '../../adapters/stores/sqlite/writer.ts';
import { leafHash } from '../../src/domain/merkle.ts';
import type { Grant } from '../../src/domain/model.ts';
import type { Changeset } from '../../src/ports/ledger.ts';
import { migrationsFolder } from '../adapters/stores/sqlite/temporary-store.ts';
import * as make from '../conformance/ledger-rows.ts';

/** Two rows, a spent budget and two entries, each with the name on it. */
export const changesetNamed = (name: string, payloadBytes: number): Changeset => ({
  writes: [
    make.insert('used_once', { id: name, expires_at: make.now }),
    make.insert(
      'grants',
      make.grant({ id: `grt_${name}`, reason: name, handle: { payload: 'x'.repeat(payloadBytes) } }),
    ),
    make.spend({ ...make.budgetUse(), id: 'all' }, Number.MAX_SAFE_INTEGER),
  ],
  audit: [1, 2].map((part) => make.entry({ type: 'test.part', data: { name, part } })) as Changeset['audit'],
});

/** What a process said of its changesets (committer.ts). */
export interface Told {
  acknowledged: Map<string, number>;
  tried: Set<string>;
  refused: Map<string, string>;
  fatal: string[];
}

export const told = (lines: readonly string[]): Told => {
  const all: Told = { acknowledged: new Map(), tried: new Set(), refused: new Map(), fatal: [] };
  for (const line of lines) {
    const [what, name = '', ...rest] = line.split(' ');
    if (what === 'try') all.tried.add(name);
    if (what === 'ack') all.acknowledged.set(name, Number(rest[0]));
    if (what === 'refused') all.refused.set(name, rest.join(' '));
    if (what === 'fatal') all.fatal.push([name, ...rest].join(' '));
  }
  return all;
};

export const merged = (...parts: Told[]): Told => ({
  acknowledged: new Map(parts.flatMap((part) => [...part.acknowledged])),
  tried: new Set(parts.flatMap((part) => [...part.tried])),
  refused: new Map(parts.flatMap((part) => [...part.refused])),
  fatal: parts.flatMap((part) => part.fatal),
});

const readAll = (reader: DirectReader) => {
  const head = reader.treeHead();
  const entries = reader.auditRange({}, 0, head.size, head.size + 1);
  const grants: Grant[] = [];
  for (;;) {
    const page = reader.grants({}, { before: grants.at(-1)?.id, limit: 1000 });
    grants.push(...page);
    if (page.length < 1000) break;
  }
  const used = reader.expiredRows(make.now, 1_000_000).filter((row) => row.table === 'used_once');
  return { head, entries, grants, used: used.map((row) => row.id) };
};

/**
 * Opens what a process left behind as the store does, without its threads, and compares it with what the process said.
 * @returns what is wrong, in words; and how many changesets are there
 */
export const checkLedger = (databasePath: string, said: Told): { problems: string[]; kept: number } => {
  mkdirSync(dirname(databasePath), { recursive: true });
  const db = openForWriting(databasePath);
  migrate(db, readMigrations(migrationsFolder), 0);
  // The writer compares log and tree head as it starts.
  const { size } = new Writer(db);
  const { head, entries, grants, used } = readAll(makeReader(db));
  const problems: string[] = [];
  const expect = (fine: boolean, what: string): void => {
    if (!fine) problems.push(what);
  };

  expect(size === head.size, 'reader and writer do not see the same');
  const root = make.simpleRoot(entries.map((entry) => leafHash(entry.body)));
  expect(entries.length === head.size && Buffer.compare(root, head.root) === 0, 'the tree is not that of its entries');
  const firstOf = new Map<string, number>();
  for (const [i, entry] of entries.entries()) {
    const { name, part } = JSON.parse(entry.body).data;
    expect(entry.seq === i, `entry ${i} has number ${entry.seq}`);
    if (part === 1) firstOf.set(name, i);
    else expect(firstOf.get(name) === i - 1, `the entries of ${name} are not together`);
  }
  expect(firstOf.size * 2 === entries.length, 'a changeset has one entry only');
  const usedNames = new Set(used);
  for (const grant of grants)
    expect(firstOf.get(grant.reason ?? '') === grant.seq, `${grant.id} is not with its entry`);
  for (const name of firstOf.keys()) expect(usedNames.has(name), `${name} lacks a row`);
  expect(grants.length === firstOf.size && usedNames.size === firstOf.size, 'rows and entries are not as many');

  for (const [name, seq] of said.acknowledged) {
    expect(firstOf.get(name) === seq, `${name} was acknowledged as ${seq} and is at ${firstOf.get(name)}`);
  }
  for (const name of firstOf.keys()) expect(said.tried.has(name), `${name} was never tried`);

  const spent = db.prepare("SELECT coalesce(sum(used), 0) FROM budget_uses WHERE id = 'all'").pluck().get();
  expect(spent === firstOf.size, `${String(spent)} were spent by ${firstOf.size} changesets`);
  const integrity = db.pragma('integrity_check', { simple: true });
  expect(integrity === 'ok', `integrity: ${String(integrity)}`);
  db.close();
  return { problems: problems.slice(0, 10), kept: firstOf.size };
};
