/** Sockets as client libraries of databases need them to be safe with. */
import type { Duplex } from 'node:stream';

/** @returns what `work` does, or rejects when the stream closes first: not every library tells those who wait */
export const whileOpen = <T>(stream: Duplex, work: Promise<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    const lost = (): void => reject(new Error('the connection is over'));
    stream.once('close', lost);
    if (stream.destroyed) lost();
    work.then(resolve, reject).finally(() => stream.off('close', lost));
  });

/** Answers to what Warder asks are a few hundred bytes; a client has read enough after this. */
const maxBytes = 64 * 1024 * 1024;

/**
 * Libraries read what a database sends in a listener of its socket, and throw there when it makes no sense. Such a throw
 * belongs to nobody and would end the process: this ends the stream instead, with what was thrown as its error. So does
 * data without end.
 *
 * @param look what the library is given of what arrived; throws for what it must not be given
 */
export const guardParser = <T extends Duplex>(stream: T, look = (chunk: Buffer): Buffer => chunk): T => {
  const emit = stream.emit.bind(stream);
  let bytes = 0;
  const guarded = (event: string | symbol, ...args: unknown[]): boolean => {
    const [chunk] = args;
    if (event !== 'data' || !Buffer.isBuffer(chunk)) return emit(event, ...args);
    bytes += chunk.length;
    try {
      if (bytes > maxBytes) throw new Error('too much data');
      const given = look(chunk);
      return given.length === 0 || emit(event, given);
    } catch (error) {
      stream.destroy(error instanceof Error ? error : new Error('not the protocol'));
      return true;
    }
  };
  return Object.assign(stream, { emit: guarded });
};
