/** Ranges of rows that an index answers. */
import { sql } from 'kysely';
import { idEntropyBytes, makeId } from '../../../../src/domain/ids.ts';

/** Entries get their time before the ledger orders them: neighbours may be swapped by this much, never more. */
export const disorderMs = 60_000;

const noRandom = new Uint8Array(idEntropyBytes);
const latestIdMs = 2 ** 48 - 1;
/** @returns the least id of a grant made at `ms`: ids begin with the time, so a span of time is a range of ids */
export const firstGrantId = (ms: number): string => makeId('grt', Math.min(Math.max(0, ms), latestIdMs), noRandom);

/** Said beside `upstream = 'live'`, word for word as the partial index says it. */
export const isLeftUpstream = sql<boolean>`upstream <> 'gone'`;
