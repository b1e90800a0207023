/**
 * Cuts chunks of bytes into lines without copying them, except for a line that goes over the edge of a chunk: that one is
 * put together in a buffer that grows up to a fixed size. So memory does not depend on how much there is, nor on how it arrives.
 */
const newline = 0x0a;
/** Longer than nearly every line. */
const firstHeldBytes = 16 * 1024;

/**
 * Takes the line from `start` up to, not including, its line end at `end`; the bytes are lent for the call only.
 * @returns undefined to go on, anything else to stop
 */
export type TakeLine<T> = (buffer: Buffer, start: number, end: number) => T | undefined;

export class LineCutter {
  readonly #maxLineBytes: number;
  #held: Buffer;
  #length = 0;

  /** @param maxLineBytes without the line end */
  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes;
    this.#held = Buffer.allocUnsafe(Math.min(maxLineBytes, firstHeldBytes));
  }

  /** @returns what `take` stopped with, or 'line_too_long' */
  push<T>(chunk: Buffer, take: TakeLine<T>): T | 'line_too_long' | undefined {
    let start = 0;
    if (this.#length > 0) {
      const end = chunk.indexOf(newline);
      if (!this.#hold(chunk, 0, end < 0 ? chunk.length : end)) return 'line_too_long';
      if (end < 0) return undefined;
      const stop = take(this.#held, 0, this.#length);
      if (stop !== undefined) return stop;
      this.#length = 0;
      start = end + 1;
    }
    for (;;) {
      const end = chunk.indexOf(newline, start);
      if (end < 0) break;
      if (end - start > this.#maxLineBytes) return 'line_too_long';
      const stop = take(chunk, start, end);
      if (stop !== undefined) return stop;
      start = end + 1;
    }
    return this.#hold(chunk, start, chunk.length) ? undefined : 'line_too_long';
  }

  /** The last line, when no line end follows it. */
  rest(): Buffer {
    return this.#held.subarray(0, this.#length);
  }

  #hold(chunk: Buffer, start: number, end: number): boolean {
    const needed = this.#length + end - start;
    if (needed > this.#maxLineBytes) return false;
    if (needed > this.#held.length) {
      const larger = Buffer.allocUnsafe(Math.min(this.#maxLineBytes, Math.max(needed, 2 * this.#held.length)));
      this.#held.copy(larger, 0, 0, this.#length);
      this.#held = larger;
    }
    this.#length += chunk.copy(this.#held, this.#length, start, end);
    return true;
  }
}
