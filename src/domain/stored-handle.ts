/**
 * What the column `handle` of a grant holds: the provider's own handle, and beside it, under names that begin with `$`,
 * what Warder adds: the sealed box of what the provider keeps secret (`Minted.keep`), and when a credential that could
 * not be taken back ends by itself (`LivesOn`).
 */
import type { SealedBox } from './model.ts';

type Stored = Readonly<Record<string, unknown>>;

/**
 * A box sealed as `{ purpose: 'grant-keep', grant: <id> }`. Only grants that are `live` upstream have one: a rotation of
 * keys wraps those anew.
 */
export const sealedField = '$sealed';
/** Milliseconds since the epoch. The store asks for it by this name (`upstreamProgress`). */
export const endsByField = '$ends_by';

/** What the provider gave, without what Warder added. */
export const providersHandle = (stored: Stored | null): Record<string, unknown> | null =>
  stored && Object.fromEntries(Object.entries(stored).filter(([name]) => !name.startsWith('$')));

export const sealedBoxIn = (stored: Stored | null): SealedBox | undefined => {
  const box = stored?.[sealedField];
  // Only `withBox` writes under this name; one that was tampered with does not open.
  return box === undefined ? undefined : (box as SealedBox);
};

/** @returns undefined unless its provider said that it cannot be taken back */
export const endsByIn = (stored: Stored | null): number | undefined => {
  const endsBy = stored?.[endsByField];
  return typeof endsBy === 'number' ? endsBy : undefined;
};

export const withBox = (stored: Stored, box: SealedBox): Record<string, unknown> => ({ ...stored, [sealedField]: box });
/** For what is done with: a dead token has no business in the database. */
export const withoutBox = (stored: Stored | null): Record<string, unknown> | null => {
  if (stored === null) return null;
  const { [sealedField]: _box, ...rest } = stored;
  return rest;
};
export const withEnd = (stored: Stored | null, endsBy: number): Record<string, unknown> => ({
  ...stored,
  [endsByField]: endsBy,
});
