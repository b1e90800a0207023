import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  append,
  consistencyProof,
  decodeFrontier,
  emptyFrontier,
  emptyRoot,
  encodeFrontier,
  type Frontier,
  frontierFromReader,
  type Hash,
  type HashReader,
  inclusionProof,
  leafHash,
  nodeHash,
  rootFromReader,
  rootOf,
  rootOfInclusion,
  storedLevels,
  verifyConsistency,
  verifyInclusion,
} from '../../src/domain/merkle.ts';

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));
const hex = (value: Uint8Array | undefined): string => (value ? Buffer.from(value).toString('hex') : 'nothing');
const hexes = (values: readonly Uint8Array[]): string[] => values.map(hex);

/** MTH of RFC 6962 §2.1, as it is written there: slow, and too simple to be wrong. */
const naiveRoot = (leaves: readonly Hash[]): Hash => {
  const [only] = leaves;
  if (only === undefined) return emptyRoot;
  if (leaves.length === 1) return only;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return nodeHash(naiveRoot(leaves.slice(0, k)), naiveRoot(leaves.slice(k)));
};

/** A log as a store keeps it: the levels 0, 8, 16 … and nothing between them. */
const makeLog = (leaves: readonly Hash[]): { frontier: Frontier; reader: HashReader } => {
  const levels = new Map<number, Hash[]>([[0, [...leaves]]]);
  const frontier = emptyFrontier();
  for (const leaf of leaves) {
    append(frontier, leaf, (level, index, hash) => {
      if (level % storedLevels !== 0) return;
      const row = levels.get(level) ?? [];
      levels.set(level, row);
      row[index] = hash;
    });
  }
  const reader: HashReader = (level, start, end) => {
    if (level % storedLevels !== 0) throw new Error(`level ${level} is not stored`);
    return (levels.get(level) ?? []).slice(start, end);
  };
  return { frontier, reader };
};

/** The hash at a place that a test knows to be there. */
const at = (hashes: readonly Hash[], index: number): Hash => {
  const found = hashes[index];
  if (found === undefined) throw new Error(`no hash at ${index}`);
  return found;
};

const flipBit = (hash: Hash, bit: number): Hash =>
  hash.map((byte, position) => (position === Math.floor(bit / 8) ? byte ^ (1 << (bit % 8)) : byte));

const replaceAt = (hashes: readonly Hash[], index: number, hash: Hash): Hash[] =>
  hashes.map((old, position) => (position === index ? hash : old));

// The reference inputs of Certificate Transparency: github.com/transparency-dev/merkle, proof/verify_test.go.
const referenceLeaves = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
].map((entry) => leafHash(bytes(entry)));
const referenceRoots = [
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
];
const referenceInclusion = [
  { index: 0, size: 1, proof: [] },
  {
    index: 0,
    size: 8,
    proof: [
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ],
  },
  {
    index: 5,
    size: 8,
    proof: [
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ],
  },
  { index: 2, size: 3, proof: ['fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'] },
  {
    index: 1,
    size: 5,
    proof: [
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
    ],
  },
];
const referenceConsistency = [
  { from: 1, to: 1, proof: [] },
  {
    from: 1,
    to: 8,
    proof: [
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ],
  },
  {
    from: 6,
    to: 8,
    proof: [
      '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ],
  },
  {
    from: 2,
    to: 5,
    proof: [
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
    ],
  },
  {
    from: 6,
    to: 7,
    proof: [
      '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
      'b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ],
  },
];

// Two full stored subtrees and an edge: every property below sees sizes on both sides of 256 and 512.
const maxSize = 600;
const leaves = Array.from({ length: maxSize }, (_, i) => leafHash(`entry ${i}`));
const { reader } = makeLog(leaves);
const roots = Array.from({ length: maxSize + 1 }, (_, size) => naiveRoot(leaves.slice(0, size)));
const rootAt = (size: number): Hash => at(roots, size);

const anyLeaf = fc
  .integer({ min: 1, max: maxSize })
  .chain((size) => fc.record({ size: fc.constant(size), index: fc.integer({ min: 0, max: size - 1 }) }));
/** Two different sizes, both with leaves: the case in which a proof has anything in it. */
const anyGrowth = fc
  .integer({ min: 2, max: maxSize })
  .chain((to) => fc.record({ to: fc.constant(to), from: fc.integer({ min: 1, max: to - 1 }) }));
const anyBit = fc.integer({ min: 0, max: 255 });
const anyHash = fc.uint8Array({ minLength: 32, maxLength: 32 });
const notAHash = fc.uint8Array({ maxLength: 70 }).filter((value) => value.length !== 32);
const notASize = fc.constantFrom(-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53);

describe('hashing', () => {
  test('the root of no leaves is the SHA-256 of nothing', () => {
    expect(hex(emptyRoot)).toBe(referenceRoots[0]);
  });

  test('leaves and nodes hash as the reference implementation hashes them', () => {
    // transparency-dev/merkle, rfc6962/rfc6962_test.go and proof/verify_test.go.
    expect(hex(leafHash(''))).toBe('6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d');
    expect(hex(leafHash('L123456'))).toBe('395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56');
    expect(hex(nodeHash(at(referenceLeaves, 0), at(referenceLeaves, 1)))).toBe(referenceRoots[2]);
  });

  test('a string hashes as its UTF-8', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (entry) => {
        expect(hex(leafHash(entry))).toBe(hex(leafHash(Buffer.from(entry))));
      }),
    );
  });

  test('a string without a UTF-8 form is refused rather than changed', () => {
    expect(() => leafHash('\ud800')).toThrow(RangeError);
  });

  test('an entry that spells out two hashes is no node', () => {
    const [left, right] = [leafHash('a'), leafHash('b')];
    expect(hex(leafHash(Buffer.concat([left, right])))).not.toBe(hex(nodeHash(left, right)));
  });

  test('children that are not 32 bytes are refused', () => {
    fc.assert(
      fc.property(notAHash, (value) => {
        expect(() => nodeHash(value, emptyRoot)).toThrow(RangeError);
        expect(() => nodeHash(emptyRoot, value)).toThrow(RangeError);
      }),
    );
  });
});

describe('the frontier', () => {
  test('has the reference roots at every size', () => {
    const frontier = emptyFrontier();
    const seen = [hex(rootOf(frontier))];
    for (const leaf of referenceLeaves) {
      append(frontier, leaf);
      seen.push(hex(rootOf(frontier)));
    }
    expect(seen).toEqual(referenceRoots);
  });

  test('agrees with the recursive definition at every size up to 600', () => {
    const frontier = emptyFrontier();
    for (const [i, leaf] of leaves.entries()) {
      append(frontier, leaf);
      if (hex(rootOf(frontier)) !== hex(rootAt(i + 1))) throw new Error(`differs at ${i + 1}`);
    }
    expect(frontier.size).toBe(maxSize);
  });

  test('tells of every complete subtree once, children before parents', () => {
    const seen: string[] = [];
    const frontier = emptyFrontier();
    for (const leaf of referenceLeaves.slice(0, 7)) {
      append(frontier, leaf, (level, index, hash) => {
        const width = 2 ** level;
        expect(hex(hash)).toBe(hex(naiveRoot(referenceLeaves.slice(index * width, (index + 1) * width))));
        seen.push(`${level}/${index}`);
      });
    }
    expect(seen).toEqual(['1/0', '1/1', '2/0', '1/2']);
  });

  test('is unchanged when the listener throws', () => {
    const { frontier } = makeLog(leaves.slice(0, 7));
    const before = encodeFrontier(frontier);
    expect(() =>
      append(frontier, at(leaves, 7), (level) => {
        if (level === 3) throw new Error('disk full');
      }),
    ).toThrow('disk full');
    expect(encodeFrontier(frontier)).toEqual(before);
  });

  test('refuses a leaf that is not 32 bytes', () => {
    fc.assert(fc.property(notAHash, (leaf) => expect(() => append(emptyFrontier(), leaf)).toThrow(RangeError)));
  });

  test('that contradicts its own size is not built upon', () => {
    expect(() => append({ size: 1, hashes: [] }, emptyRoot)).toThrow(RangeError);
    expect(() => rootOf({ size: 5, hashes: [] })).toThrow(RangeError);
    expect(() => encodeFrontier({ size: 2, hashes: [emptyRoot, emptyRoot] })).toThrow(RangeError);
  });

  test('goes on from its encoded form as if it had never stopped', () => {
    fc.assert(
      fc.property(anyLeaf, ({ size, index }) => {
        const resumed = decodeFrontier(encodeFrontier(frontierFromReader(reader, index)));
        for (const leaf of leaves.slice(index, size)) append(resumed, leaf);
        expect(hex(rootOf(resumed))).toBe(hex(rootAt(size)));
      }),
      { numRuns: 50 },
    );
  });

  test('is encoded as its size and its hashes and nothing else', () => {
    expect(encodeFrontier(emptyFrontier()).toString('hex')).toBe('0000000000000000');
    const { frontier } = makeLog(referenceLeaves.slice(0, 3));
    expect(encodeFrontier(frontier).toString('hex')).toBe(
      `0000000000000003${referenceRoots[2]}${hex(referenceLeaves[2])}`,
    );
  });

  test('is not decoded from any other number of bytes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: maxSize }), fc.integer({ min: 1, max: 64 }), (size, change) => {
        const encoded = encodeFrontier(frontierFromReader(reader, size));
        expect(() => decodeFrontier(encoded.subarray(0, Math.max(0, encoded.length - change)))).toThrow(RangeError);
        expect(() => decodeFrontier(Buffer.concat([encoded, Buffer.alloc(change)]))).toThrow(RangeError);
      }),
    );
  });

  test('is not decoded with a size beyond exact integers', () => {
    expect(() => decodeFrontier(Buffer.concat([bytes('0020000000000000'), emptyRoot]))).toThrow(RangeError);
  });

  test('does not change when the bytes it was decoded from do', () => {
    const encoded = encodeFrontier(makeLog(leaves.slice(0, 5)).frontier);
    const decoded = decodeFrontier(encoded);
    encoded.fill(0);
    expect(hex(rootOf(decoded))).toBe(hex(rootAt(5)));
  });
});

describe('the reader', () => {
  test('gives the root of every earlier size', () => {
    for (let size = 0; size <= maxSize; size += 1) {
      if (hex(rootFromReader(reader, size)) !== hex(rootAt(size))) throw new Error(`differs at ${size}`);
    }
  });

  test('is asked for stored levels and complete subtrees only', () => {
    fc.assert(
      fc.property(anyGrowth, ({ from, to }) => {
        const strict: HashReader = (level, start, end) => {
          expect(level % storedLevels).toBe(0);
          expect(start).toBeLessThan(end);
          expect(end * 2 ** level).toBeLessThanOrEqual(to);
          return reader(level, start, end);
        };
        rootFromReader(strict, to);
        inclusionProof(strict, from, to);
        consistencyProof(strict, from, to);
      }),
    );
  });

  test('that lacks hashes yields an error and not a wrong root', () => {
    expect(() => rootFromReader(reader, maxSize + 1)).toThrow(RangeError);
    expect(() => rootFromReader((level, start, end) => reader(level, start, end + 1), 256)).toThrow(RangeError);
    expect(() => rootFromReader(() => [new Uint8Array(31)], 1)).toThrow(RangeError);
  });

  test('proves nothing about leaves and sizes that cannot be', () => {
    fc.assert(
      fc.property(notASize, (odd) => {
        expect(() => rootFromReader(reader, odd)).toThrow(RangeError);
        expect(() => inclusionProof(reader, odd, 10)).toThrow(RangeError);
        expect(() => inclusionProof(reader, 0, odd)).toThrow(RangeError);
        expect(() => consistencyProof(reader, odd, 10)).toThrow(RangeError);
        expect(() => consistencyProof(reader, 0, odd)).toThrow(RangeError);
      }),
    );
    expect(() => inclusionProof(reader, 10, 10)).toThrow(RangeError);
    expect(() => inclusionProof(reader, 0, 0)).toThrow(RangeError);
    expect(() => consistencyProof(reader, 11, 10)).toThrow(RangeError);
  });
});

describe('an inclusion proof', () => {
  test.each(referenceInclusion)('of leaf $index in $size is the reference proof', ({ index, size, proof }) => {
    const made = inclusionProof(makeLog(referenceLeaves).reader, index, size);
    expect(hexes(made)).toEqual(proof);
    expect(hex(rootOfInclusion(index, size, at(referenceLeaves, index), made))).toBe(referenceRoots[size]);
  });

  test('verifies for every leaf of every small tree', () => {
    for (let size = 1; size <= 70; size += 1) {
      for (let index = 0; index < size; index += 1) {
        const proof = inclusionProof(reader, index, size);
        if (!verifyInclusion(index, size, at(leaves, index), proof, rootAt(size))) {
          throw new Error(`leaf ${index} of ${size}`);
        }
      }
    }
  });

  test('verifies for any leaf of any tree', () => {
    fc.assert(
      fc.property(anyLeaf, ({ size, index }) => {
        const proof = inclusionProof(reader, index, size);
        expect(verifyInclusion(index, size, at(leaves, index), proof, rootAt(size))).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test('with any bit flipped, in it or in the leaf or in the root, is refused', () => {
    fc.assert(
      fc.property(anyLeaf, anyBit, ({ size, index }, bit) => {
        const leaf = at(leaves, index);
        const root = rootAt(size);
        const proof = inclusionProof(reader, index, size);
        expect(verifyInclusion(index, size, flipBit(leaf, bit), proof, root)).toBe(false);
        expect(verifyInclusion(index, size, leaf, proof, flipBit(root, bit))).toBe(false);
        for (const [i, hash] of proof.entries()) {
          expect(verifyInclusion(index, size, leaf, replaceAt(proof, i, flipBit(hash, bit)), root)).toBe(false);
        }
      }),
    );
  });

  test('is refused for every other index', () => {
    fc.assert(
      fc.property(anyLeaf, ({ size, index }) => {
        const proof = inclusionProof(reader, index, size);
        for (let other = 0; other <= size; other += 1) {
          if (other !== index && verifyInclusion(other, size, at(leaves, index), proof, rootAt(size))) {
            throw new Error(`taken for leaf ${other}`);
          }
        }
      }),
      { numRuns: 50 },
    );
  });

  test('is refused for a tree of another height', () => {
    fc.assert(
      fc.property(anyLeaf, ({ size, index }) => {
        const proof = inclusionProof(reader, index, size);
        for (const other of [0, Math.floor(size / 2), size * 2, size * 2 ** 30]) {
          expect(rootOfInclusion(index, other, at(leaves, index), proof)).toBeUndefined();
        }
      }),
    );
  });

  test('with an element more or less is refused wherever it is', () => {
    fc.assert(
      fc.property(anyLeaf, anyHash, ({ size, index }, extra) => {
        const leaf = at(leaves, index);
        const proof = inclusionProof(reader, index, size);
        for (let i = 0; i <= proof.length; i += 1) {
          expect(rootOfInclusion(index, size, leaf, proof.toSpliced(i, 0, extra))).toBeUndefined();
          if (i < proof.length) expect(rootOfInclusion(index, size, leaf, proof.toSpliced(i, 1))).toBeUndefined();
        }
      }),
    );
  });

  test('with an element that is not 32 bytes is refused', () => {
    fc.assert(
      fc.property(anyLeaf, notAHash, ({ size, index }, odd) => {
        const leaf = at(leaves, index);
        const proof = inclusionProof(reader, index, size);
        expect(rootOfInclusion(index, size, odd, proof)).toBeUndefined();
        expect(verifyInclusion(index, size, leaf, proof, odd)).toBe(false);
        for (const i of proof.keys()) {
          expect(rootOfInclusion(index, size, leaf, replaceAt(proof, i, odd))).toBeUndefined();
        }
      }),
    );
  });

  test('is refused for an index and a size that cannot be', () => {
    fc.assert(
      fc.property(notASize, (odd) => {
        expect(rootOfInclusion(odd, 1, emptyRoot, [])).toBeUndefined();
        expect(rootOfInclusion(0, odd, emptyRoot, [])).toBeUndefined();
      }),
    );
    expect(rootOfInclusion(0, 0, emptyRoot, [])).toBeUndefined();
    expect(rootOfInclusion(1, 1, emptyRoot, [])).toBeUndefined();
  });
});

describe('a consistency proof', () => {
  test.each(referenceConsistency)('from $from to $to is the reference proof', ({ from, to, proof }) => {
    const made = consistencyProof(makeLog(referenceLeaves).reader, from, to);
    expect(hexes(made)).toEqual(proof);
    const [fromRoot, toRoot] = [bytes(referenceRoots[from] ?? ''), bytes(referenceRoots[to] ?? '')];
    expect(verifyConsistency(from, to, fromRoot, toRoot, made)).toBe(true);
  });

  test('verifies between any two small sizes', () => {
    for (let to = 0; to <= 70; to += 1) {
      for (let from = 0; from <= to; from += 1) {
        const proof = consistencyProof(reader, from, to);
        if (!verifyConsistency(from, to, rootAt(from), rootAt(to), proof)) throw new Error(`${from} to ${to}`);
      }
    }
  });

  test('verifies between any two sizes', () => {
    fc.assert(
      fc.property(anyGrowth, ({ from, to }) => {
        const proof = consistencyProof(reader, from, to);
        expect(verifyConsistency(from, to, rootAt(from), rootAt(to), proof)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test('with any bit flipped, in it or in a root, is refused', () => {
    fc.assert(
      fc.property(anyGrowth, anyBit, ({ from, to }, bit) => {
        const [fromRoot, toRoot] = [rootAt(from), rootAt(to)];
        const proof = consistencyProof(reader, from, to);
        expect(verifyConsistency(from, to, flipBit(fromRoot, bit), toRoot, proof)).toBe(false);
        expect(verifyConsistency(from, to, fromRoot, flipBit(toRoot, bit), proof)).toBe(false);
        for (const [i, hash] of proof.entries()) {
          const wrong = replaceAt(proof, i, flipBit(hash, bit));
          expect(verifyConsistency(from, to, fromRoot, toRoot, wrong)).toBe(false);
        }
      }),
    );
  });

  test('is refused for every other old size', () => {
    fc.assert(
      fc.property(anyGrowth, ({ from, to }) => {
        const proof = consistencyProof(reader, from, to);
        for (let other = 0; other <= to + 1; other += 1) {
          if (other !== from && verifyConsistency(other, to, rootAt(from), rootAt(to), proof)) {
            throw new Error(`taken for ${other}`);
          }
        }
      }),
      { numRuns: 50 },
    );
  });

  test('is refused for a new tree of another height', () => {
    fc.assert(
      fc.property(anyGrowth, ({ from, to }) => {
        const proof = consistencyProof(reader, from, to);
        for (const other of [0, Math.floor(to / 2), to * 2, to * 2 ** 30]) {
          expect(verifyConsistency(from, other, rootAt(from), rootAt(to), proof)).toBe(false);
        }
      }),
    );
  });

  test('with an element more or less is refused wherever it is', () => {
    fc.assert(
      fc.property(anyGrowth, anyHash, ({ from, to }, random) => {
        const [fromRoot, toRoot] = [rootAt(from), rootAt(to)];
        const proof = consistencyProof(reader, from, to);
        expect(verifyConsistency(from, to, fromRoot, toRoot, [])).toBe(false);
        for (let i = 0; i <= proof.length; i += 1) {
          for (const extra of [random, fromRoot, toRoot, ...proof.slice(0, 1)]) {
            expect(verifyConsistency(from, to, fromRoot, toRoot, proof.toSpliced(i, 0, extra))).toBe(false);
          }
          if (i < proof.length) {
            expect(verifyConsistency(from, to, fromRoot, toRoot, proof.toSpliced(i, 1))).toBe(false);
          }
        }
      }),
    );
  });

  test('with an element that is not 32 bytes is refused', () => {
    fc.assert(
      fc.property(anyGrowth, notAHash, ({ from, to }, odd) => {
        const proof = consistencyProof(reader, from, to);
        expect(verifyConsistency(from, to, odd, rootAt(to), proof)).toBe(false);
        expect(verifyConsistency(from, to, rootAt(from), odd, proof)).toBe(false);
        for (const i of proof.keys()) {
          expect(verifyConsistency(from, to, rootAt(from), rootAt(to), replaceAt(proof, i, odd))).toBe(false);
        }
      }),
    );
  });

  test('for a log that was rewritten cannot be made', () => {
    const rewritten = makeLog(replaceAt(leaves, 3, leafHash('something else')));
    for (const to of [5, 8, 256, 300]) {
      const proof = consistencyProof(rewritten.reader, 4, to);
      expect(verifyConsistency(4, to, rootAt(4), rootFromReader(rewritten.reader, to), proof)).toBe(false);
    }
  });

  test('from the empty tree takes its one root and no elements', () => {
    expect(consistencyProof(reader, 0, 9)).toEqual([]);
    expect(verifyConsistency(0, 9, emptyRoot, rootAt(9), [])).toBe(true);
    expect(verifyConsistency(0, 9, rootAt(1), rootAt(9), [])).toBe(false);
    expect(verifyConsistency(0, 9, emptyRoot, rootAt(9), [emptyRoot])).toBe(false);
    expect(verifyConsistency(0, 0, rootAt(1), rootAt(1), [])).toBe(false);
  });

  test('between equal sizes takes equal roots and no elements', () => {
    expect(consistencyProof(reader, 9, 9)).toEqual([]);
    expect(verifyConsistency(9, 9, rootAt(9), rootAt(9), [])).toBe(true);
    expect(verifyConsistency(9, 9, rootAt(9), rootAt(8), [])).toBe(false);
    expect(verifyConsistency(9, 9, rootAt(9), rootAt(9), [rootAt(9)])).toBe(false);
  });

  test('is refused for sizes that cannot be', () => {
    fc.assert(
      fc.property(notASize, (odd) => {
        expect(verifyConsistency(odd, 1, emptyRoot, emptyRoot, [])).toBe(false);
        expect(verifyConsistency(0, odd, emptyRoot, emptyRoot, [])).toBe(false);
      }),
    );
    expect(verifyConsistency(2, 1, rootAt(2), rootAt(1), [])).toBe(false);
  });
});

describe('a large log', () => {
  test('agrees with the recursive definition around 65 536 leaves, where the third stored level begins', () => {
    const many = Array.from({ length: 65_536 + 300 }, (_, i) => leafHash(String(i)));
    const log = makeLog(many);
    expect(log.reader(16, 0, 1)).toHaveLength(1);
    expect(hexes(frontierFromReader(log.reader, many.length).hashes)).toEqual(hexes(log.frontier.hashes));
    for (const size of [65_535, 65_536, 65_537, many.length]) {
      const root = naiveRoot(many.slice(0, size));
      expect(hex(rootFromReader(log.reader, size))).toBe(hex(root));
      for (const index of [0, 255, 256, 40_000, 65_534, size - 1]) {
        const proof = inclusionProof(log.reader, index, size);
        expect(verifyInclusion(index, size, at(many, index), proof, root)).toBe(true);
      }
      for (const from of [1, 255, 256, 257, 40_000, 65_534]) {
        const proof = consistencyProof(log.reader, from, size);
        expect(verifyConsistency(from, size, rootFromReader(log.reader, from), root, proof)).toBe(true);
      }
    }
  });

  test('is proved beyond the range of 32-bit integers', () => {
    // A log in which every entry is the same: each level has one hash, so any size can be read without being built.
    const rows = [leafHash('same')];
    for (let level = 1; level <= 53; level += 1) rows.push(nodeHash(at(rows, level - 1), at(rows, level - 1)));
    const endless: HashReader = (level, start, end) => Array.from({ length: end - start }, () => at(rows, level));
    const anySize = fc.integer({ min: 2 ** 31, max: Number.MAX_SAFE_INTEGER });
    fc.assert(
      fc.property(anySize, anySize, (a, b) => {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        const root = rootFromReader(endless, to);
        const inclusion = inclusionProof(endless, from - 1, to);
        expect(verifyInclusion(from - 1, to, at(rows, 0), inclusion, root)).toBe(true);
        expect(verifyInclusion(from - 1, to, at(rows, 1), inclusion, root)).toBe(false);
        const consistency = consistencyProof(endless, from, to);
        expect(verifyConsistency(from, to, rootFromReader(endless, from), root, consistency)).toBe(true);
        const resumed = decodeFrontier(encodeFrontier(frontierFromReader(endless, from - 1)));
        append(resumed, at(rows, 0));
        expect(hex(rootOf(resumed))).toBe(hex(rootFromReader(endless, from)));
      }),
    );
  });
});
