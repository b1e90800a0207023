/** Keys that somebody else publishes: fetched when they are needed, and kept for a while. */

/** How long what was fetched is believed: a key that was withdrawn works on for so long at most. */
const keptMs = 300_000;
/** Anybody can send a token with a key id nobody knows: for that they are fetched again this often at most. */
const unknownKeyPauseMs = 30_000;
/** After a fetch that failed: soon enough for whoever waits, seldom enough for a server in trouble. */
const failedPauseMs = 2_000;

interface Asked<T> {
  /** Milliseconds since the epoch. */
  at: number;
  failed: boolean;
  /** Under way or done: whoever asks meanwhile waits for the same answer. */
  keys: Promise<T>;
}

export class KeptFetch<T> {
  readonly #fetch: () => Promise<T>;
  #asked: Asked<T> | undefined;
  /** The last that went well. A stranger's key id at a moment when the server is down or slow costs nobody these. */
  #believed: Asked<T> | undefined;

  constructor(fetch: () => Promise<T>) {
    this.#fetch = fetch;
  }

  /**
   * @param now milliseconds since the epoch
   * @param again the keys that are kept do not have the one that is needed
   * @throws what the fetch throws
   */
  get(now: number, again: boolean): Promise<T> {
    const [asked, believed] = [this.#asked, this.#believed];
    if (!again && believed && now - believed.at < keptMs) return believed.keys;
    if (asked) {
      const pauseMs = asked.failed ? failedPauseMs : again ? unknownKeyPauseMs : keptMs;
      if (now - asked.at < pauseMs) return asked.keys;
    }
    const asking: Asked<T> = { at: now, failed: false, keys: this.#fetch() };
    this.#asked = asking;
    asking.keys.then(
      () => {
        this.#believed = asking;
      },
      () => {
        asking.failed = true;
      },
    );
    return asking.keys;
  }
}
