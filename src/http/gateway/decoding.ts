/**
 * Answers that come compressed although plain was asked for: decoded on the way, so that the mask can look into them.
 * The agent receives them plain.
 */
import type { Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib';

export interface DecoderSink {
  /** @returns false to pause until {@link Decoder.resume} */
  onData(chunk: Buffer): boolean;
  onEnd(): void;
  onError(): void;
  /** The decoder has room again after {@link Decoder.push} said false. */
  onDrain(): void;
}

export interface Decoder {
  /** The header fields as they are after decoding: without Content-Encoding and the length of the encoded body. */
  withoutEncoding(raw: readonly string[]): string[];
  start(sink: DecoderSink): void;
  push(chunk: Buffer): boolean;
  resume(): void;
  end(): void;
  destroy(): void;
}

const makers: Record<string, () => Transform> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
  zstd: createZstdDecompress,
};

const valuesOf = (raw: readonly string[], name: string): string[] => {
  const values: string[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) if (raw[i]?.toLowerCase() === name) values.push(raw[i + 1] ?? '');
  return values;
};

const emptyStatuses = new Set([204, 304]);

/** @returns undefined for a plain answer, `unknown` for an encoding (or several) that cannot be looked into */
export const decoderFor = (raw: readonly string[], method: string, status: number): Decoder | 'unknown' | undefined => {
  const encodings = valuesOf(raw, 'content-encoding')
    .join(',')
    .split(',')
    .map((one) => one.trim().toLowerCase())
    .filter((one) => one !== '' && one !== 'identity');
  const [encoding] = encodings;
  if (encoding === undefined || method === 'HEAD' || emptyStatuses.has(status)) return undefined;
  const make = encodings.length === 1 ? makers[encoding] : undefined;
  return make ? decoder(make()) : 'unknown';
};

const decoder = (stream: Transform): Decoder => {
  let drain = (): void => undefined;
  stream.on('drain', () => drain());
  return {
    withoutEncoding: (raw) => {
      const kept: string[] = [];
      for (let i = 0; i + 1 < raw.length; i += 2) {
        const name = raw[i] ?? '';
        if (
          !['content-encoding', 'content-length', 'content-md5', 'digest', 'content-digest'].includes(
            name.toLowerCase(),
          )
        ) {
          kept.push(name, raw[i + 1] ?? '');
        }
      }
      return kept;
    },
    start: (sink) => {
      drain = () => sink.onDrain();
      stream.on('data', (chunk: Buffer) => {
        if (!sink.onData(chunk)) stream.pause();
      });
      stream.on('end', () => sink.onEnd());
      stream.on('error', () => sink.onError());
    },
    push: (chunk) => stream.write(chunk),
    resume: () => {
      stream.resume();
    },
    end: () => {
      stream.end();
    },
    destroy: () => {
      stream.destroy();
    },
  };
};
