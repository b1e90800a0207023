/**
 * How long a test goes on at what it repeats: `npm test` has the short form of each, `npm run test:faults` the long one
 * (docs/testing.md). Both are the same test; only how often and how much differs.
 */
export const long = process.env['WARDER_TEST_LONG'] === '1';

export const shortOrLong = <T>(short: T, whenLong: T): T => (long ? whenLong : short);
