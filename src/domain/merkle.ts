/**
 * The Merkle tree of the ledger: hashing as RFC 6962 §2.1, proofs as RFC 9162 §2.1 (the same tree, better algorithms).
 *
 * Three views of one tree, each with what it needs and no more:
 * - a {@link Frontier} holds the roots of the complete subtrees, largest first, one for each 1 in the binary size: enough
 *   to append and to know the root;
 * - a {@link HashReader} is the stored hashes: enough to prove anything at any size the store has reached;
 * - the `verify…` functions take a proof from anybody and believe nothing in it.
 *
 * "Level" counts upwards from the leaves (level 0); the node `index` of `level` is the root over the leaves from
 * `index × 2^level` up to, not including, `(index + 1) × 2^level`. Hashes are shared between what these functions take
 * and return, never copied: nobody may write to one. Sizes pass 2^31, so there are no bit operators here.
 */
import { hash } from 'node:crypto';

/** SHA-256: exactly 32 bytes. */
export type Hash = Uint8Array;

/** A tree that can grow: how many leaves it has, and the roots of its complete subtrees from left to right. */
export interface Frontier {
  size: number;
  hashes: Hash[];
}

/**
 * Reads stored hashes: those of `level` with index `start` up to, not including, `end`. Only complete subtrees are asked
 * for, and only at levels that are multiples of {@link storedLevels}.
 */
export type HashReader = (level: number, start: number, end: number) => Hash[];

/** Told of each interior node that an append completes: `level` ≥ 1, from the lowest level upwards. */
export type NodeListener = (level: number, index: number, hash: Hash) => void;

/** A store keeps levels 0, 8, 16 …, like the tiles of C2SP tlog-tiles; at most 128 hashes make one in between. */
export const storedLevels = 8;

const hashBytes = 32;
const sizeBytes = 8;

/**
 * `crypto.hash` is more than twice as fast when it answers with a string than with a Buffer: a Buffer costs an
 * allocation outside the JavaScript heap, which is dearer than SHA-256 itself. Small typed arrays live on the heap.
 */
const sha256 = (input: Uint8Array | string): Hash => {
  const digest = hash('sha256', input, 'binary');
  const bytes = new Uint8Array(hashBytes);
  for (let i = 0; i < hashBytes; i += 1) bytes[i] = digest.charCodeAt(i);
  return bytes;
};

const requireHash = (value: Uint8Array): void => {
  if (value.length !== hashBytes) throw new RangeError(`a hash has ${hashBytes} bytes, not ${value.length}`);
};

const isSize = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

const requireSize = (size: number): void => {
  if (!isSize(size)) throw new RangeError(`a tree cannot have ${size} leaves`);
};

const sameHash = (a: Hash, b: Hash): boolean => {
  if (a.length !== hashBytes || b.length !== hashBytes) return false;
  for (let i = 0; i < hashBytes; i += 1) if (a[i] !== b[i]) return false;
  return true;
};

/** The root of the tree without leaves: the hash of nothing (RFC 6962 §2.1). */
export const emptyRoot: Hash = sha256('');

/**
 * SHA-256(0x00 ‖ entry), RFC 6962 §2.1.
 *
 * @param entry the bytes of a leaf; a string stands for its UTF-8
 * @throws RangeError for a string with a lone surrogate: it has no UTF-8, and replacing it would give two different
 *   strings one hash
 */
export const leafHash = (entry: Uint8Array | string): Hash => {
  if (typeof entry === 'string') {
    if (!entry.isWellFormed()) throw new RangeError('an entry is not well-formed Unicode');
    return sha256(`\0${entry}`);
  }
  const input = Buffer.allocUnsafe(1 + entry.length);
  input[0] = 0;
  input.set(entry, 1);
  return sha256(input);
};

/**
 * SHA-256(0x01 ‖ left ‖ right), RFC 6962 §2.1.
 *
 * @throws RangeError unless both have 32 bytes
 */
export const nodeHash = (left: Hash, right: Hash): Hash => {
  requireHash(left);
  requireHash(right);
  const input = Buffer.allocUnsafe(1 + 2 * hashBytes);
  input[0] = 1;
  input.set(left, 1);
  input.set(right, 1 + hashBytes);
  return sha256(input);
};

/** The root over complete subtrees that stand side by side, largest first. */
const foldSubtrees = (hashes: readonly Hash[]): Hash =>
  hashes.length === 0 ? emptyRoot : hashes.reduceRight((right, left) => nodeHash(left, right));

/** How many complete subtrees a tree of that size has: the ones in its binary form. */
const subtreeCount = (size: number): number => {
  let count = 0;
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) count += rest % 2;
  return count;
};

const requireFrontier = (frontier: Frontier): void => {
  requireSize(frontier.size);
  const expected = subtreeCount(frontier.size);
  if (frontier.hashes.length !== expected) {
    throw new RangeError(`a frontier of ${frontier.size} leaves has ${expected} hashes, not ${frontier.hashes.length}`);
  }
  frontier.hashes.forEach(requireHash);
};

/** @returns the frontier of the tree without leaves, ready to append to */
export const emptyFrontier = (): Frontier => ({ size: 0, hashes: [] });

/**
 * Adds one leaf, **in place**: `frontier` is the tree with the new leaf when this returns, and unchanged when it throws
 * (`onNode` included). Costs one interior hash a leaf on average, log₂(size) at most.
 *
 * @param leaf a {@link leafHash}
 * @param onNode called for each complete subtree this leaf completes; a store keeps those whose level is a multiple of
 *   {@link storedLevels}
 * @throws RangeError when the leaf has not 32 bytes, or a hash that the size calls for is missing
 */
export const append = (frontier: Frontier, leaf: Hash, onNode?: NodeListener): void => {
  requireHash(leaf);
  const { hashes } = frontier;
  let kept = hashes.length;
  let subtree = leaf;
  let level = 0;
  let index = frontier.size;
  while (index % 2 === 1) {
    kept -= 1;
    const left = hashes[kept];
    if (left === undefined) throw new RangeError(`a frontier of ${frontier.size} leaves lacks a hash`);
    subtree = nodeHash(left, subtree);
    level += 1;
    index = (index - 1) / 2;
    onNode?.(level, index, subtree);
  }
  hashes.length = kept;
  hashes.push(subtree);
  frontier.size += 1;
};

/**
 * @returns the root of the tree: {@link emptyRoot} for size 0
 * @throws RangeError when the frontier contradicts its own size
 */
export const rootOf = (frontier: Frontier): Hash => {
  requireFrontier(frontier);
  return foldSubtrees(frontier.hashes);
};

/**
 * @returns the size as 8 bytes big-endian, then the hashes, 32 bytes each
 * @throws RangeError when the frontier contradicts its own size
 */
export const encodeFrontier = (frontier: Frontier): Buffer => {
  requireFrontier(frontier);
  const size = Buffer.alloc(sizeBytes);
  size.writeBigUInt64BE(BigInt(frontier.size));
  return Buffer.concat([size, ...frontier.hashes]);
};

/**
 * The reverse of {@link encodeFrontier}; copies, so that `encoded` may be reused.
 *
 * @throws RangeError when the size is beyond 2^53 − 1, or the length is not the one that size has
 */
export const decodeFrontier = (encoded: Uint8Array): Frontier => {
  if (encoded.length < sizeBytes) throw new RangeError('an encoded frontier is cut off in its size');
  const size = Number(Buffer.from(encoded.buffer, encoded.byteOffset, sizeBytes).readBigUInt64BE());
  requireSize(size);
  const expected = sizeBytes + hashBytes * subtreeCount(size);
  if (encoded.length !== expected) {
    throw new RangeError(`an encoded frontier of ${size} leaves has ${expected} bytes, not ${encoded.length}`);
  }
  const hashes: Hash[] = [];
  for (let at = sizeBytes; at < expected; at += hashBytes) {
    hashes.push(Uint8Array.from(encoded.subarray(at, at + hashBytes)));
  }
  return { size, hashes };
};

/** The root of one complete subtree, from the nearest stored level at or below it. */
const subtreeRoot = (reader: HashReader, level: number, index: number): Hash => {
  const stored = level - (level % storedLevels);
  const width = 2 ** (level - stored);
  const start = index * width;
  const row = reader(stored, start, start + width);
  if (row.length !== width) {
    throw new RangeError(`the store gave ${row.length} of ${width} hashes of level ${stored} from ${start}`);
  }
  const subtree = emptyFrontier();
  for (const one of row) append(subtree, one);
  return rootOf(subtree);
};

/** The largest power of two below `size`, as its exponent; `size` is at least 2. */
const splitLevel = (size: number): number => {
  let level = 0;
  while (2 ** (level + 1) < size) level += 1;
  return level;
};

/**
 * The complete subtrees over the leaves from `start` up to `end`, largest first. `start` is a multiple of the largest
 * one's width, as every range that the recursion of RFC 9162 §2.1 arrives at is.
 */
const completeSubtrees = (reader: HashReader, start: number, end: number): Hash[] => {
  const hashes: Hash[] = [];
  let from = start;
  while (from < end) {
    const level = splitLevel(end - from + 1);
    const width = 2 ** level;
    hashes.push(subtreeRoot(reader, level, from / width));
    from += width;
  }
  return hashes;
};

/** MTH(D[start:end]) of RFC 9162 §2.1.1. */
const rangeRoot = (reader: HashReader, start: number, end: number): Hash =>
  foldSubtrees(completeSubtrees(reader, start, end));

/**
 * The frontier a tree had when it had `size` leaves, from the store: for continuing after a restart, or for comparing
 * what was kept with what the leaves say.
 *
 * @throws RangeError when the size is no size or the reader lacks a hash
 */
export const frontierFromReader = (reader: HashReader, size: number): Frontier => {
  requireSize(size);
  return { size, hashes: completeSubtrees(reader, 0, size) };
};

/** @returns the root of the first `size` leaves; throws as {@link frontierFromReader} */
export const rootFromReader = (reader: HashReader, size: number): Hash => rootOf(frontierFromReader(reader, size));

/**
 * PATH(index, D[0:size]) of RFC 9162 §2.1.3.1: what one needs besides the leaf to arrive at the root, lowest first.
 *
 * @throws RangeError unless 0 ≤ index < size, or when the reader lacks a hash
 */
export const inclusionProof = (reader: HashReader, index: number, size: number): Hash[] => {
  requireSize(size);
  if (!isSize(index) || index >= size) throw new RangeError(`a tree of ${size} leaves has no leaf ${index}`);
  const proof: Hash[] = [];
  let start = 0;
  let end = size;
  while (end - start > 1) {
    const middle = start + 2 ** splitLevel(end - start);
    if (index < middle) {
      proof.push(rangeRoot(reader, middle, end));
      end = middle;
    } else {
      proof.push(rangeRoot(reader, start, middle));
      start = middle;
    }
  }
  return proof.reverse();
};

/**
 * PROOF(from, D[0:to]) of RFC 9162 §2.1.4.1: that the first `from` leaves of the tree of `to` leaves are the tree of
 * `from` leaves. Empty when `from` is 0 or `to`: those need no proof.
 *
 * @throws RangeError unless 0 ≤ from ≤ to, or when the reader lacks a hash
 */
export const consistencyProof = (reader: HashReader, from: number, to: number): Hash[] => {
  requireSize(to);
  if (!isSize(from) || from > to) throw new RangeError(`a tree of ${to} leaves never had ${from}`);
  if (from === 0) return [];
  const proof: Hash[] = [];
  let start = 0;
  let end = to;
  while (end !== from) {
    const middle = start + 2 ** splitLevel(end - start);
    if (from <= middle) {
      proof.push(rangeRoot(reader, middle, end));
      end = middle;
    } else {
      proof.push(rangeRoot(reader, start, middle));
      start = middle;
    }
  }
  // As long as nothing on the left was cut off, what remains is the old tree itself, whose root the verifier has.
  if (start > 0) proof.push(rangeRoot(reader, start, end));
  return proof.reverse();
};

/** Halves both until the first is odd or 0: the levels where the path meets a lone right edge and takes no sibling. */
const skipLoneEdges = (first: number, second: number): [number, number] => {
  let [fn, sn] = [first, second];
  while (fn % 2 === 0 && fn !== 0) {
    fn /= 2;
    sn = Math.floor(sn / 2);
  }
  return [fn, sn];
};

/**
 * RFC 9162 §2.1.3.2 up to the comparison.
 *
 * @param leaf the {@link leafHash} of the entry, computed by the caller from the entry itself
 * @returns the root that leaf and proof lead to, or undefined when no tree of that size has such a proof
 */
export const rootOfInclusion = (index: number, size: number, leaf: Hash, proof: readonly Hash[]): Hash | undefined => {
  if (!isSize(index) || !isSize(size) || index >= size) return undefined;
  if (leaf.length !== hashBytes || proof.some((sibling) => sibling.length !== hashBytes)) return undefined;
  let fn = index;
  let sn = size - 1;
  let root = leaf;
  for (const sibling of proof) {
    if (sn === 0) return undefined;
    if (fn % 2 === 1 || fn === sn) {
      root = nodeHash(sibling, root);
      [fn, sn] = skipLoneEdges(fn, sn);
    } else {
      root = nodeHash(root, sibling);
    }
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  return sn === 0 ? root : undefined;
};

/**
 * RFC 9162 §2.1.3.2. `size` and `root` must come from one checkpoint: a proof alone does not tell apart sizes that give
 * the leaf the same path.
 *
 * @returns whether `proof` shows that `leaf` is the leaf `index` of the tree with `size` leaves and that root; false
 *   for anything malformed
 */
export const verifyInclusion = (
  index: number,
  size: number,
  leaf: Hash,
  proof: readonly Hash[],
  root: Hash,
): boolean => {
  const found = rootOfInclusion(index, size, leaf, proof);
  return found !== undefined && sameHash(found, root);
};

/**
 * RFC 9162 §2.1.4.2. Stricter at the edges, where the RFC is silent: the tree of size 0 has {@link emptyRoot} and
 * nothing else, trees of equal size have equal roots, and both take the empty proof only.
 *
 * @returns whether `proof` shows that the tree with `to` leaves and `toRoot` begins with the tree with `from` leaves and
 *   `fromRoot`; false for anything malformed
 */
export const verifyConsistency = (
  from: number,
  to: number,
  fromRoot: Hash,
  toRoot: Hash,
  proof: readonly Hash[],
): boolean => {
  if (!isSize(from) || !isSize(to) || from > to) return false;
  if ([fromRoot, toRoot, ...proof].some((one) => one.length !== hashBytes)) return false;
  if (from === 0 && !sameHash(fromRoot, emptyRoot)) return false;
  if (from === to) return proof.length === 0 && sameHash(fromRoot, toRoot);
  if (from === 0) return proof.length === 0;

  let fn = from - 1;
  let sn = to - 1;
  while (fn % 2 === 1) {
    fn = (fn - 1) / 2;
    sn = Math.floor(sn / 2);
  }
  // fn is 0 now just when `from` is a power of two; then the old tree is a node of the new one, and is left out.
  const path = fn === 0 ? [fromRoot, ...proof] : proof;
  const [seed, ...siblings] = path;
  if (seed === undefined) return false;
  let fr = seed;
  let sr = seed;
  for (const sibling of siblings) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      fr = nodeHash(sibling, fr);
      sr = nodeHash(sibling, sr);
      [fn, sn] = skipLoneEdges(fn, sn);
    } else {
      sr = nodeHash(sr, sibling);
    }
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  return sn === 0 && sameHash(fr, fromRoot) && sameHash(sr, toRoot);
};
