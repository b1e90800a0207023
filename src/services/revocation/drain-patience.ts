/** How patient the drain is with an upstream. */
export interface DrainPatience {
  /** Expired grants are looked for this often; what a change ended starts a round at once. */
  roundMs: number;
  /** Tries at the upstream before a grant is `unrevocable`. */
  tries: number;
  /** The pause after the first failure, give or take a quarter; each is twice the one before. */
  firstPauseMs: number;
  longestPauseMs: number;
  /** What an upstream may have made after it went silent while minting is looked for once more, after this time. */
  secondLookMs: number;
}

/** Ten tries with these pauses last eight minutes: an upstream that restarts meanwhile loses nothing. */
export const drainPatience: DrainPatience = {
  roundMs: 5_000,
  tries: 10,
  firstPauseMs: 1_000,
  longestPauseMs: 300_000,
  secondLookMs: 30_000,
};
