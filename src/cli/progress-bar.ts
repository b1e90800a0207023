/** How far something has come, in one line: a bar, counts, the rate, and how long the rest takes at that rate. */
import { shownCount, shownDuration } from './screen.ts';

const barWidth = 24;
/** A rate is said when there is something to reckon it from. */
const reckonAfterMs = 500;

export class ProgressBar {
  readonly #now: () => number;
  #began: { at: number; done: number } | undefined;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** @returns e.g. `[############------------] 512 of 1,024, 103/s, 5s left` */
  show(done: number, total: number): string {
    const at = this.#now();
    this.#began ??= { at, done };
    const filled = total === 0 ? barWidth : Math.floor((barWidth * done) / total);
    const bar = `[${'#'.repeat(filled)}${'-'.repeat(barWidth - filled)}]`;
    const text = `${bar} ${shownCount(done)} of ${shownCount(total)}`;
    const elapsedMs = at - this.#began.at;
    const since = done - this.#began.done;
    if (elapsedMs < reckonAfterMs || since <= 0) return text;
    const perSecond = (since * 1000) / elapsedMs;
    const rate = perSecond < 10 ? perSecond.toFixed(1) : shownCount(Math.round(perSecond));
    const left = done < total ? `, ${shownDuration(Math.ceil((total - done) / perSecond))} left` : '';
    return `${text}, ${rate}/s${left}`;
  }
}
