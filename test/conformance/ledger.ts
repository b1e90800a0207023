/**
 * What every store of the ledger keeps (src/ports/ledger.ts), as tests. A store's own test calls it:
 *
 *     ledgerConformance('the SQLite ledger', openSomewhereFresh);
 */
import { describe } from '@jest/globals';
import { commitTests } from './ledger-commits.ts';
import { countTests } from './ledger-counts.ts';
import { guardTests } from './ledger-guards.ts';
import { readTests } from './ledger-reads.ts';
import { revocationTests } from './ledger-revocations.ts';
import type { OpenLedger } from './ledger-rows.ts';
import { tableTests } from './ledger-tables.ts';
import { treeTests } from './ledger-tree.ts';

export const ledgerConformance = (name: string, open: OpenLedger): void => {
  describe(name, () => {
    describe('commits', () => commitTests(open));
    describe('guards and single use', () => guardTests(open));
    describe('tables', () => tableTests(open));
    describe('reads', () => readTests(open));
    describe('counting live grants', () => countTests(open));
    describe('what a fence reaches', () => revocationTests(open));
    describe('the tree', () => treeTests(open));
  });
};
