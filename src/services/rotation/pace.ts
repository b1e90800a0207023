/** How long the engine waits for what. Tests hurry; everything else uses {@link rotationPace}. */
import type { Entropy } from '../../ports/clock.ts';

export interface RotationPace {
  /** How long whoever leads may lead without saying so again. */
  leaseMs: number;
  /** A provider's call may take this long. */
  callMs: number;
  /** The pause after a step that could not be done, or was in doubt; each is twice the one before. */
  firstPauseMs: number;
  longestPauseMs: number;
  /** What an upstream may still make after it went silent while it was asked to is removed after this time. */
  silenceMs: number;
  /** Tries of a step before what was begun is undone. */
  stepTries: number;
  /** Tries of undoing or retiring before somebody is called; it is tried on, at the longest pause. */
  cleanTries: number;
  /** The pause before the next attempt, with a new secret; each is four times the one before. */
  firstAttemptPauseMs: number;
  longestAttemptPauseMs: number;
  /** How many attempts somebody who asked gets. A schedule and a revocation go on. */
  askedAttempts: number;
}

/**
 * A call gets half a minute: scripts and clouds that are slow are, and the lease is twice that. Five tries of a step are
 * over within half a minute when the upstream says at once that it is away; the attempts after 1, 4, 16 minutes reach
 * past an outage of an hour.
 */
export const rotationPace: RotationPace = {
  leaseMs: 60_000,
  callMs: 30_000,
  firstPauseMs: 2_000,
  longestPauseMs: 30 * 60_000,
  silenceMs: 30_000,
  stepTries: 5,
  cleanTries: 8,
  firstAttemptPauseMs: 60_000,
  longestAttemptPauseMs: 4 * 3_600_000,
  askedAttempts: 4,
};

/** What is left of a lease after a call's deadline, for the commit of what came of it. */
export const leaseMarginMs = 5_000;

/** Half of it to all of it, so that those who failed together do not come back together. */
export const jittered = (entropy: Entropy, ms: number): number => {
  const [high = 0, low = 0] = entropy(2);
  return Math.round(ms * (0.5 + (high * 256 + low) / 131_072));
};

export const pauseAfter = (pace: RotationPace, tries: number): number =>
  Math.min(pace.firstPauseMs * 2 ** Math.min(tries - 1, 30), pace.longestPauseMs);

export const attemptPause = (pace: RotationPace, attempt: number): number =>
  Math.min(pace.firstAttemptPauseMs * 4 ** Math.min(attempt - 1, 15), pace.longestAttemptPauseMs);
