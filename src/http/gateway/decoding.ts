/**
 * Answers that come compressed although plain was asked for: decoded on the way, so that the mask can look into them.
 * The agent receives them plain.
 */
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

type Decompressor =
  | ReturnType<typeof createGunzip>
  | ReturnType<typeof createInflate>
  | ReturnType<typeof createBrotliDecompress>
  | ReturnType<typeof createZstdDecompress>;

const makers: Record<string, () => Decompressor> = {
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

const codingsOf = (raw: readonly string[], name: string, plain: string): string[] =>
  valuesOf(raw, name)
    .join(',')
    .split(',')
    .map((one) => one.trim().toLowerCase())
    .filter((one) => one !== '' && one !== 'identity' && one !== plain);

/** @returns undefined for a plain answer, `unknown` for an encoding (or several) that cannot be looked into */
export const decoderFor = (raw: readonly string[], method: string, status: number): Decoder | 'unknown' | undefined => {
  if (method === 'HEAD' || emptyStatuses.has(status)) return undefined;
  // Transfer codings other than chunked stay in the body: nobody asked for them (no TE was sent).
  if (codingsOf(raw, 'transfer-encoding', 'chunked').length > 0) return 'unknown';
  const encodings = codingsOf(raw, 'content-encoding', 'identity');
  const [encoding] = encodings;
  if (encoding === undefined) return undefined;
  const make = encodings.length === 1 && Object.hasOwn(makers, encoding) ? makers[encoding] : undefined;
  return make ? decoder(make()) : 'unknown';
};

/** Of the encoded body, and so not true of what the agent receives. */
const encodedOnly = new Set(['content-encoding', 'content-length', 'content-md5', 'digest', 'content-digest']);

const decoder = (stream: Decompressor): Decoder => {
  let drain = (): void => undefined;
  let sink: DecoderSink | undefined;
  let pushed = 0;
  stream.on('drain', () => drain());
  return {
    withoutEncoding: (raw) => {
      const kept: string[] = [];
      for (let i = 0; i + 1 < raw.length; i += 2) {
        const name = raw[i] ?? '';
        if (!encodedOnly.has(name.toLowerCase())) kept.push(name, raw[i + 1] ?? '');
      }
      return kept;
    },
    start: (to) => {
      sink = to;
      drain = () => to.onDrain();
      stream.on('data', (chunk: Buffer) => {
        if (!to.onData(chunk)) stream.pause();
      });
      // What stands behind the end of the compressed data (a second frame) was not decoded: the answer would be a part.
      stream.on('end', () => (stream.bytesWritten === pushed ? to.onEnd() : to.onError()));
      stream.on('error', () => to.onError());
    },
    push: (chunk) => {
      pushed += chunk.length;
      return stream.write(chunk);
    },
    resume: () => {
      stream.resume();
    },
    end: () => {
      // Servers label empty bodies too, and nothing is not a valid stream of any encoding.
      if (pushed === 0) sink?.onEnd();
      else stream.end();
    },
    destroy: () => {
      stream.destroy();
    },
  };
};
