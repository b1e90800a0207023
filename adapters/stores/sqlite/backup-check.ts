/** Reads a whole database that nobody writes, and says whether it holds together. */
import type Database from 'better-sqlite3';
import {
  append,
  decodeFrontier,
  emptyFrontier,
  type Frontier,
  leafHash,
  rootOf,
  storedLevels,
} from '../../../src/domain/merkle.ts';
import { type CheckedDatabase, DamagedLedger } from '../../../src/ports/backup.ts';
import { codeOf } from './connection.ts';

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.from(a).equals(b);

/** Every page and every row; `thorough` compares each index with its table too, which takes three times as long. */
const checkPages = (db: Database.Database, thorough: boolean): void => {
  const found = db.pragma(thorough ? 'integrity_check(1)' : 'quick_check(1)', { simple: true });
  if (found !== 'ok') throw new DamagedLedger(`the database is damaged: ${String(found).slice(0, 200)}`);
};

const schemaOf = (db: Database.Database): number =>
  Number(db.prepare('SELECT coalesce(max(number), 0) FROM migrations').pluck().get());

/** The tree once more from the bodies of the entries, held against every hash that is stored of it. */
const growTree = (
  db: Database.Database,
  sizes: readonly number[],
): { frontier: Frontier; rootsAt: Map<number, Uint8Array> } => {
  const rootsAt = new Map<number, Uint8Array>();
  const wanted = new Set(sizes);
  const frontier = emptyFrontier();
  const stored = db.prepare<[number, number], Buffer>('SELECT hash FROM tree_nodes WHERE level = ? AND position = ?');
  const node = stored.pluck();
  const compare = (level: number, position: number, hash: Uint8Array): void => {
    if (level % storedLevels !== 0) return;
    const kept = node.get(level, position);
    if (!(kept instanceof Buffer) || !same(hash, kept)) {
      throw new DamagedLedger(`a stored hash of the audit tree is wrong (level ${level}, number ${position})`);
    }
  };
  if (wanted.has(0)) rootsAt.set(0, rootOf(frontier));
  const entries = db.prepare<[], { seq: number; leaf: Buffer; body: string | null }>(
    'SELECT seq, leaf, body FROM audit ORDER BY seq',
  );
  for (const { seq, leaf, body } of entries.iterate()) {
    if (seq !== frontier.size) throw new DamagedLedger(`entry ${frontier.size} of the audit log is missing`);
    const hash = body === null ? Uint8Array.from(leaf) : leafHash(body);
    if (!same(hash, leaf)) throw new DamagedLedger(`entry ${seq} of the audit log was changed`);
    append(frontier, hash, compare);
    if (wanted.has(frontier.size)) rootsAt.set(frontier.size, rootOf(frontier));
  }
  return { frontier, rootsAt };
};

const requireHead = (db: Database.Database, computed: Frontier): void => {
  const head = db.prepare<[], { size: number; frontier: Buffer }>('SELECT size, frontier FROM tree_head').get();
  const stored = head && (head.size === 0 ? emptyFrontier() : decodeFrontier(head.frontier));
  if (stored?.size !== computed.size || !same(rootOf(stored), rootOf(computed))) {
    throw new DamagedLedger('the head of the audit tree does not fit the log');
  }
};

/**
 * @param options.sizes sizes at which the tree's root is wanted
 * @throws DamagedLedger when it contradicts itself, or is no database of Warder
 */
export const checkDatabase = (
  db: Database.Database,
  options: { thorough: boolean; sizes?: readonly number[] },
): CheckedDatabase => {
  try {
    checkPages(db, options.thorough);
    const { frontier, rootsAt } = growTree(db, options.sizes ?? []);
    requireHead(db, frontier);
    return { schema: schemaOf(db), size: frontier.size, root: rootOf(frontier), rootsAt };
  } catch (error) {
    if (error instanceof DamagedLedger) throw error;
    const code = codeOf(error);
    const damaged = /^SQLITE_(CORRUPT|NOTADB|ERROR)/.test(code) || error instanceof RangeError;
    if (damaged) throw new DamagedLedger(`the database cannot be read (${code})`, { cause: error });
    throw error;
  }
};
