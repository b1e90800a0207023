import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  checkpointLine,
  EntryPrefix,
  entryLine,
  leafLine,
  maxExportLineBytes,
} from '../../../src/domain/audit-export.ts';
import { leafHash } from '../../../src/domain/merkle.ts';
import { type AuditVerdict, type VerifyOptions, verifyAuditExport } from '../../../src/services/audit/verify-audit.ts';
import { shortOrLong } from '../../support/length.ts';
import { bodies, chunked, entryBody, exportLines, makeKey, noteFor } from './audit-log-fixture.ts';

const key = makeKey();
const ten = bodies(10);

const verify = (text: string, options: VerifyOptions = {}, chunk?: number): Promise<AuditVerdict> =>
  verifyAuditExport(chunked(text, chunk), options);

/** The verdict on an export of ten entries whose lines `change` has changed. */
const verifyChanged = (change: (lines: string[]) => void): Promise<AuditVerdict> => {
  const lines = exportLines(ten, key);
  change(lines);
  return verify(lines.join(''));
};

describe('an export nobody changed', () => {
  test('verifies, and says what was proven', async () => {
    const text = exportLines(ten, key).join('');
    expect(await verify(text, { key: key.verifier })).toMatchObject({
      ok: true,
      entries: 10,
      hashesOnly: 0,
      bytes: Buffer.byteLength(text),
      origin: 'warder.test/log',
      keyKnown: true,
      checkpoints: [{ source: 'export', size: 10 }],
    });
  });

  test('verifies with the key it brings along, and says that nobody vouched for that key', async () => {
    expect(await verify(exportLines(ten, key).join(''))).toMatchObject({ ok: true, keyKnown: false });
  });

  test('verifies without any entry', async () => {
    expect(await verify(exportLines([], key).join(''))).toMatchObject({ ok: true, entries: 0 });
  });

  test('verifies whatever the chunks it arrives in', async () => {
    const lines = exportLines(bodies(130), key).join('');
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 70_000 }), async (size) => {
        expect(await verify(lines, { key: key.verifier }, size)).toMatchObject({ ok: true, entries: 130 });
      }),
      { numRuns: 40, examples: [[1], [2], [lines.length]] },
    );
  });

  test('verifies at every length, where numbers get a digit more and trees are lopsided', async () => {
    for (const count of [1, 2, 3, 7, 8, 9, 11, 99, 100, 101, 1001]) {
      expect(await verify(exportLines(bodies(count), key).join(''))).toMatchObject({ ok: true, entries: count });
    }
  });

  test('verifies when the last line end was lost', async () => {
    expect(await verify(exportLines(ten, key).join('').trimEnd())).toMatchObject({ ok: true, entries: 10 });
  });

  test('verifies with entries of the largest size', async () => {
    const large = [`{"pad":"${'x'.repeat(65_525)}"}`];
    expect(large[0]?.length).toBe(65_535);
    expect(await verify(exportLines(large, key).join(''), {}, 4096)).toMatchObject({ ok: true, entries: 1 });
  });

  test('verifies entries of which only the hash was kept, and counts them', async () => {
    const verdict = await verifyChanged((lines) => {
      for (const seq of [0, 1, 2, 9]) lines[seq] = leafLine(seq, leafHash(ten[seq] ?? ''));
    });
    expect(verdict).toMatchObject({ ok: true, entries: 10, hashesOnly: 4 });
  });

  test('reports progress up to the end', async () => {
    const seen: number[] = [];
    await verify(exportLines(ten, key).join(''), { onProgress: (entries) => seen.push(entries) });
    expect(seen.at(-1)).toBe(10);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  });
});

describe('an export somebody changed', () => {
  test('fails when one byte of an entry is another', async () => {
    const verdict = await verifyChanged((lines) => {
      lines[4] = (lines[4] ?? '').replace('reporter', 'reportex');
    });
    expect(verdict).toMatchObject({ ok: false, fault: { fault: 'wrong_root', source: 'export', size: 10, after: 0 } });
  });

  // Seven and eight have no common factor: each bit of a byte has its turn.
  const step = shortOrLong(7, 1);
  test(`fails whichever bit is changed${step === 1 ? '' : `, one of ${step} tried`}`, async () => {
    const bytes = Buffer.from(exportLines(bodies(3), key).join(''));
    // The caller's key counts, so the one in the export may be spelled otherwise.
    const end = bytes.length - `${key.text}"}\n`.length;
    for (let bit = 0; bit < end * 8; bit += step) {
      const changed = Buffer.from(bytes);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const verdict = await verifyAuditExport(chunked(changed, 500), { key: key.verifier });
      if (verdict.ok) throw new Error(`a change of bit ${bit} went unnoticed`);
    }
  });

  test('fails when white space is added to an entry', async () => {
    const verdict = await verifyChanged((lines) => {
      lines[4] = (lines[4] ?? '').replace('":"', '": "');
    });
    expect(verdict).toMatchObject({ ok: false, fault: { fault: 'wrong_root' } });
  });

  test('names the first entry that was deleted', async () => {
    expect(await verifyChanged((lines) => void lines.splice(3, 2))).toMatchObject({
      fault: { fault: 'wrong_seq', seq: 3, found: 5 },
      entries: 3,
    });
  });

  test('fails when the rest was renumbered after a deletion', async () => {
    const kept = ten.filter((_, seq) => seq !== 3);
    const note = noteFor(ten, key);
    const text = [...kept.map((body, seq) => entryLine(seq, body)), checkpointLine(note, key.text)].join('');
    expect(await verify(text)).toMatchObject({ fault: { fault: 'wrong_size', size: 10, entries: 9, seq: 9 } });
  });

  test('fails when entries were inserted at the end and the checkpoint left as it was', async () => {
    const text = [...bodies(12).map((body, seq) => entryLine(seq, body)), checkpointLine(noteFor(ten, key), key.text)];
    expect(await verify(text.join(''))).toMatchObject({
      fault: { fault: 'wrong_size', size: 10, entries: 12, seq: 10 },
    });
  });

  test('names the place of an entry that was inserted or repeated', async () => {
    expect(await verifyChanged((lines) => void lines.splice(3, 0, lines[2] ?? ''))).toMatchObject({
      fault: { fault: 'wrong_seq', seq: 3, found: 2 },
    });
  });

  test('names the place where entries were swapped', async () => {
    const swap = (lines: string[]): void => {
      [lines[6], lines[7]] = [lines[7] ?? '', lines[6] ?? ''];
    };
    expect(await verifyChanged(swap)).toMatchObject({ fault: { fault: 'wrong_seq', seq: 6, found: 7 } });
  });

  test('fails when entries were swapped and renumbered', async () => {
    const swapped = [...ten];
    [swapped[6], swapped[7]] = [ten[7] ?? '', ten[6] ?? ''];
    const lines = [...swapped.map((body, seq) => entryLine(seq, body)), checkpointLine(noteFor(ten, key), key.text)];
    expect(await verify(lines.join(''))).toMatchObject({ fault: { fault: 'wrong_root' } });
  });

  test('fails when a hash was put for an entry that has another one', async () => {
    const verdict = await verifyChanged((lines) => {
      lines[4] = leafLine(4, leafHash(entryBody(5)));
    });
    expect(verdict).toMatchObject({ fault: { fault: 'wrong_root' } });
  });

  test.each([
    ['without its checkpoint', (text: string[]) => text.slice(0, -1).join(''), { fault: 'missing_checkpoint', seq: 0 }],
    ['in the middle of an entry', (text: string[]) => text.join('').slice(0, 1000), { fault: 'cut_off' }],
    ['in the middle of the checkpoint', (text: string[]) => text.join('').slice(0, -30), { fault: 'cut_off', seq: 10 }],
    ['to nothing', () => '', { fault: 'missing_checkpoint', seq: 0 }],
  ] as const)('fails when it was cut off %s', async (_where, cut, fault) => {
    expect(await verify(cut(exportLines(ten, key)))).toMatchObject({ ok: false, fault });
  });

  test('fails when something follows the checkpoint', async () => {
    for (const more of ['\n', 'x', entryLine(10, entryBody(10))]) {
      expect(await verifyChanged((lines) => void lines.push(more))).toMatchObject({
        fault: { fault: 'after_checkpoint', seq: 10 },
      });
    }
  });

  test('names CR LF for what it is', async () => {
    const text = exportLines(ten, key).join('').replaceAll('\n', '\r\n');
    expect(await verify(text)).toMatchObject({ fault: { fault: 'carriage_return', seq: 0 } });
  });

  test.each([
    ['an empty line', '\n'],
    ['a blank before the line', ` ${entryLine(4, entryBody(4))}`],
    ['a byte order mark', `\ufeff${entryLine(4, entryBody(4))}`],
    ['fields in another order', `{"entry":${entryBody(4)},"seq":4}\n`],
    ['a number with a leading zero', entryLine(4, entryBody(4)).replace(':4', ':04')],
    ['an entry that is no object', '{"seq":4,"entry":"text"}\n'],
    ['an empty entry', '{"seq":4,"entry":}\n'],
    ['a hash that is too short', '{"seq":4,"leaf":"AAAA"}\n'],
    ['a hash with spare bits', leafLine(4, leafHash('x')).replace(/.="/, 'B="')],
    ['a checkpoint that is no text', '{"checkpoint":1,"key":"x"}\n'],
    ['CSV', '4,2026-11-22T10:00:00.000Z,grant.issued\n'],
    ['bytes that are no text', '\x00\x01\xff\n'],
  ])('names the line that is %s', async (_what, line) => {
    const verdict = await verifyChanged((lines) => {
      lines[4] = line;
    });
    expect(verdict).toMatchObject({ ok: false, fault: { fault: 'garbage', seq: 4 }, entries: 4 });
  });

  test('refuses a line longer than any entry, without keeping it in memory', async () => {
    const endless = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from('{"seq":0,"entry":{"a":"');
      for (let i = 0; i < 1_000_000; i += 1) yield Buffer.alloc(1000, 'x');
    };
    expect(await verifyAuditExport(endless())).toMatchObject({ fault: { fault: 'line_too_long', seq: 0 } });
    const line = entryLine(0, `{"a":"${'x'.repeat(maxExportLineBytes)}"}`);
    expect(await verify(line, {}, 1_000_000)).toMatchObject({ fault: { fault: 'line_too_long', seq: 0 } });
  });
});

describe('the prefix that counts in its own bytes', () => {
  test('spells every number as a line does', () => {
    const prefix = new EntryPrefix();
    for (let seq = 0; seq < 12_000; seq += 1) {
      const line = Buffer.from(entryLine(seq, '{}'));
      if (prefix.entryStart(line, 0, line.length - 1) !== line.length - 4) throw new Error(`no match at ${seq}`);
      expect(prefix.seq).toBe(seq);
      prefix.advance();
    }
  });
});
