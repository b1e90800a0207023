/**
 * What the column `handle` of a grant holds: the provider's own handle, and beside it, under names that begin with `$`,
 * what Warder adds: the sealed box of what the provider keeps secret (`Minted.keep`), when a credential that could not
 * be taken back ends by itself (`LivesOn`), and how the clean-up upstream ended.
 */
import type { GrantStatus, SealedBox } from './model.ts';

type Stored = Readonly<Record<string, unknown>>;

/**
 * A box sealed as `{ purpose: 'grant-keep', grant: <id> }`. Only grants that are not `gone` upstream have one: it may be
 * needed to try again. A rotation of keys wraps those anew.
 */
export const sealedField = '$sealed';
/** Milliseconds since the epoch. The store asks for it by this name (`upstreamProgress`). */
export const endsByField = '$ends_by';
/** When the clean-up ended, in milliseconds since the epoch: it is gone since, or was given up on then. */
const endedAtField = '$ended_at';
/** Present when it was given up on: why, as public text. */
const failureField = '$failure';
/** And what a person can do instead. */
const byHandField = '$by_hand';
/** The status before it became `unrevocable`. */
const beforeField = '$before';

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

/** Gone upstream since `at`: what could end it is not needed any more. */
export const whenGone = (stored: Stored | null, at: number): Record<string, unknown> => ({
  ...withoutBox(stored),
  [endedAtField]: at,
});

/** Given up on at `at`. It keeps its box: somebody may have it tried again. */
export const whenUnrevocable = (
  stored: Stored | null,
  end: { at: number; failure: string; byHand: string; before: GrantStatus },
): Record<string, unknown> => ({
  ...stored,
  [endedAtField]: end.at,
  [failureField]: end.failure,
  [byHandField]: end.byHand,
  [beforeField]: end.before,
});

/** As before it was given up on. */
export const triedAgain = (stored: Stored | null): Record<string, unknown> | null => {
  if (stored === null) return null;
  const { [endedAtField]: _at, [failureField]: _why, [byHandField]: _hand, [beforeField]: _before, ...rest } = stored;
  return rest;
};

/** How the clean-up ended, as far as it was written down: rows of earlier versions have nothing. */
export interface Ending {
  at: number | null;
  failure: string | null;
  byHand: string | null;
  before: GrantStatus | null;
}
export const endingIn = (stored: Stored | null): Ending => {
  const text = (name: string): string | null => {
    const value = stored?.[name];
    return typeof value === 'string' ? value : null;
  };
  const at = stored?.[endedAtField];
  return {
    at: typeof at === 'number' ? at : null,
    failure: text(failureField),
    byHand: text(byHandField),
    // Only `whenUnrevocable` writes under this name.
    before: text(beforeField) as GrantStatus | null,
  };
};
