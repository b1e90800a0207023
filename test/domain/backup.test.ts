/** The header and the end of a backup file, as anybody may have written them. */
import { describe, expect, test } from '@jest/globals';
import {
  type BackupHeader,
  headerDigest,
  headerLine,
  readHeader,
  readTrailer,
  trailerBytes,
  trailerOf,
} from '../../src/domain/backup.ts';

const header: BackupHeader = {
  warder_backup: 1,
  id: `bkp_${'0'.repeat(26)}`,
  created_at: '2026-11-23T00:00:00.000Z',
  issuer: 'https://warder.example.com',
  schema: 9,
  database_bytes: 4096,
  database_sha256: 'a'.repeat(64),
  entries: 3,
  root: Buffer.alloc(32).toString('base64'),
  checkpoint: 'warder.example.com/log\n3\n…\n',
  compression: 'zstd',
  key: { kms: 'aws-kms', wrapped: 'AAAA' },
};
const read = (text: string) => readHeader(Buffer.from(text));

describe('a header', () => {
  test('is read as it was written', () => {
    expect(readHeader(Buffer.from(headerLine(header)).subarray(0, -1))).toEqual({ ok: true, header });
  });

  test('that is none says so', () => {
    for (const text of ['', 'SQLite format 3', '{', '[]', 'null', '{}', '"x"', '\ufeff{}']) {
      expect([text, read(text)]).toEqual([text, { ok: false, problem: 'no_backup' }]);
    }
    expect(readHeader(Buffer.from([0x7b, 0xff, 0x7d]))).toEqual({ ok: false, problem: 'no_backup' });
  });

  test('of another version is told from a damaged one', () => {
    for (const version of [0, 2, '1', null, [1]]) {
      const text = JSON.stringify({ ...header, warder_backup: version });
      expect([version, read(text)]).toEqual([version, { ok: false, problem: 'other_version' }]);
    }
  });

  test('with any field missing, added or of another kind is malformed', () => {
    const malformed = { ok: false, problem: 'malformed' };
    for (const field of Object.keys(header).filter((name) => name !== 'warder_backup')) {
      const { [field as keyof BackupHeader]: _gone, ...rest } = header;
      expect([field, read(JSON.stringify(rest))]).toEqual([field, malformed]);
      for (const value of [null, -1, 1.5, '', {}, [], true, 'x'.repeat(20_000), '1', '__proto__']) {
        const text = JSON.stringify({ ...header, [field]: value });
        // Both are texts of which only the key service and the signature know whether they are right.
        if ((field === 'issuer' || field === 'checkpoint') && typeof value === 'string' && value.length < 9000 && value)
          continue;
        expect([field, value, read(text)]).toEqual([field, value, malformed]);
      }
    }
    expect(read(JSON.stringify({ ...header, more: 1 }))).toEqual(malformed);
    expect(read(JSON.stringify({ ...header, key: { ...header.key, more: 1 } }))).toEqual(malformed);
    expect(read(JSON.stringify({ ...header, key: { kms: 'local' } }))).toEqual(malformed);
    expect(read(JSON.stringify({ ...header, entries: 2 ** 53 }))).toEqual(malformed);
    expect(read(JSON.stringify({ ...header, created_at: '2026-11-23' }))).toEqual(malformed);
    // Another reader takes the first of two, or shows what is between them.
    const twice = JSON.stringify(header).replace('"issuer"', '"issuer":"https://other.example.com","issuer"');
    expect(read(twice)).toEqual(malformed);
    expect(read(JSON.stringify(header).replace(',', ',  '))).toEqual(malformed);
  });

  test('has a digest that every field but the wrapped key changes', () => {
    const digest = headerDigest(header);
    expect(headerDigest({ ...header, key: { kms: 'aws-kms' } })).toBe(digest);
    const others = [
      ...Object.keys(header)
        .filter((field) => field !== 'key')
        .map((field) => headerDigest({ ...header, [field]: 'x' })),
      headerDigest({ ...header, key: { kms: 'local' } }),
    ];
    expect(new Set([digest, ...others]).size).toBe(others.length + 1);
  });
});

describe('the end of a file', () => {
  test('names the digest of what is before it, and has one length', () => {
    const end = Buffer.from(trailerOf('b'.repeat(64)));
    expect(end.length).toBe(trailerBytes);
    expect(readTrailer(end)).toBe('b'.repeat(64));
  });

  test('is none when anything of it differs', () => {
    const good = trailerOf('b'.repeat(64));
    for (const bad of [
      good.slice(1),
      good.toUpperCase(),
      good.replace('b', 'g'),
      `${good}\n`,
      good.replace('\n', ' '),
    ]) {
      expect(readTrailer(Buffer.from(bad))).toBeUndefined();
    }
  });
});
