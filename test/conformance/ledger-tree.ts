/** The log is a Merkle tree (RFC 6962): its head and proofs against hashes of the entries as they are read back. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { emptyRoot, leafHash, verifyConsistency, verifyInclusion } from '../../src/domain/merkle.ts';
import type { LedgerStore } from '../../src/ports/ledger.ts';
import * as make from './ledger-rows.ts';

const { accept, changeset, entry, simpleRoot } = make;

/** Past two complete subtrees of a stored level (8), so that proofs are made of leaves and of stored nodes. */
const size = 600;

export const treeTests = (open: make.OpenLedger): void => {
  let opened: make.OpenedLedger;
  let store: LedgerStore;
  let leaves: Uint8Array[];
  beforeAll(async () => {
    opened = await open();
    store = opened.store;
    const commits: Promise<unknown>[] = [];
    for (let entries = 0; entries < size; entries += 3) {
      commits.push(accept(store.ledger, { writes: [], audit: [entry(), entry(), entry()] }));
      // Refused ones between them must leave no leaf.
      commits.push(store.ledger.commit({ ...changeset(make.remove('agents', 'agt_none')) }));
    }
    await Promise.all(commits);
    leaves = (await make.allBodies(store)).map((body) => leafHash(body));
  });
  afterAll(() => opened.close());

  test('an empty ledger has the root of nothing', async () => {
    const fresh = await open();
    expect(await fresh.store.reader.treeHead()).toEqual({ size: 0, root: emptyRoot });
    await fresh.close();
  });

  test('the head is the root over the entries as they are read back, at every size on the way', async () => {
    const fresh = await open();
    for (let i = 0; i < 40; i += 1) {
      await accept(fresh.store.ledger, changeset());
      const bodies = await make.allBodies(fresh.store);
      const root = simpleRoot(bodies.map((body) => leafHash(body)));
      expect(await fresh.store.reader.treeHead()).toEqual({ size: i + 1, root });
    }
    await fresh.close();
  });

  test('the head of many entries committed in batches is their root', async () => {
    expect(leaves).toHaveLength(size);
    expect(await store.reader.treeHead()).toEqual({ size, root: simpleRoot(leaves) });
  });

  const proofsHold = async (): Promise<void> => {
    const sizes = fc.oneof(
      fc.integer({ min: 1, max: size }),
      fc.constantFrom(1, 2, 255, 256, 257, 511, 512, 513, size),
    );
    await fc.assert(
      fc.asyncProperty(sizes, fc.nat(), fc.nat(), async (to, n, m) => {
        const index = n % to;
        const from = m % (to + 1);
        const root = simpleRoot(leaves.slice(0, to));
        const inclusion = await store.reader.inclusionProof(index, to);
        const leaf = leaves[index] ?? emptyRoot;
        expect(verifyInclusion(index, to, leaf, inclusion, root)).toBe(true);
        const consistency = await store.reader.consistencyProof(from, to);
        expect(verifyConsistency(from, to, simpleRoot(leaves.slice(0, from)), root, consistency)).toBe(true);
      }),
      { numRuns: 80 },
    );
  };

  test('every entry is proven to be in every tree that has it, and every tree to begin with every earlier one', () =>
    proofsHold());

  test('what the tree never had has no proof', async () => {
    await expect(store.reader.inclusionProof(size, size)).rejects.toThrow();
    await expect(store.reader.inclusionProof(0, size + 1)).rejects.toThrow();
    await expect(store.reader.consistencyProof(1, size + 1)).rejects.toThrow();
    await expect(store.reader.consistencyProof(5, 4)).rejects.toThrow();
  });

  test('opened anew, the tree is the same, its proofs hold, and it goes on', async () => {
    const before = await store.reader.treeHead();
    store = await opened.reopen();
    expect(await store.reader.treeHead()).toEqual(before);
    await proofsHold();
    const added = [entry(), entry()] as const;
    expect(await accept(store.ledger, { writes: [], audit: [...added] })).toBe(size);
    const root = simpleRoot([...leaves, ...added.map((one) => leafHash(one.body))]);
    expect(await store.reader.treeHead()).toEqual({ size: size + 2, root });
    const proof = await store.reader.consistencyProof(before.size, size + 2);
    expect(verifyConsistency(before.size, size + 2, before.root, root, proof)).toBe(true);
  });
};
