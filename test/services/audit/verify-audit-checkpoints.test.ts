import { describe, expect, test } from '@jest/globals';
import { checkpointLine, entryLine } from '../../../src/domain/audit-export.ts';
import { type AuditVerdict, type VerifyOptions, verifyAuditExport } from '../../../src/services/audit/verify-audit.ts';
import { bodies, chunked, entryBody, exportLines, makeKey, noteFor } from './audit-log-fixture.ts';

const key = makeKey();
const ten = bodies(10);

const verify = (text: string, options: VerifyOptions = {}): Promise<AuditVerdict> =>
  verifyAuditExport(chunked(text), options);

describe('checkpoints and keys', () => {
  const other = makeKey();

  test('a key of the same name that is another key is told apart', async () => {
    expect(await verify(exportLines(ten, key).join(''), { key: other.verifier })).toMatchObject({
      fault: { fault: 'unknown_signer', source: 'export' },
    });
  });

  test('a log rewritten and signed anew with another key fails against the known one', async () => {
    const forged = exportLines(bodies(10, '-forged'), other).join('');
    expect(await verify(forged)).toMatchObject({ ok: true, keyKnown: false });
    expect(await verify(forged, { key: key.verifier })).toMatchObject({ fault: { fault: 'unknown_signer' } });
  });

  test('a false signature is told from an unknown one', async () => {
    const [body] = noteFor(ten, key).split('\n\n');
    const [, signature] = noteFor(bodies(10, '-x'), key).split('\n\n');
    const mixed = `${body}\n\n${signature}`;
    const swapped = [...ten.map((body, seq) => entryLine(seq, body)), checkpointLine(mixed, key.text)].join('');
    expect(await verify(swapped)).toMatchObject({ fault: { fault: 'bad_signature', source: 'export' } });
  });

  test('a malformed note or key is named', async () => {
    const lines = ten.map((body, seq) => entryLine(seq, body)).join('');
    expect(await verify(lines + checkpointLine('no note', key.text))).toMatchObject({
      fault: { fault: 'bad_checkpoint', source: 'export', problem: 'no_final_newline' },
    });
    expect(await verify(lines + checkpointLine(noteFor(ten, key), 'no key'))).toMatchObject({
      fault: { fault: 'bad_checkpoint', source: 'export', problem: 'bad_spelling' },
    });
  });

  test('an older checkpoint kept elsewhere is confirmed at its own size', async () => {
    const kept = [0, 1, 6, 10].map((size) => ({ source: `kept-${size}`, note: noteFor(ten.slice(0, size), key) }));
    expect(await verify(exportLines(ten, key).join(''), { key: key.verifier, checkpoints: kept })).toMatchObject({
      ok: true,
      checkpoints: [
        { source: 'kept-0', size: 0 },
        { source: 'kept-1', size: 1 },
        { source: 'kept-6', size: 6 },
        { source: 'kept-10', size: 10 },
        { source: 'export', size: 10 },
      ],
    });
  });

  test('a history rewritten by whoever holds the key fails against a checkpoint kept elsewhere', async () => {
    const kept = [{ source: 'kept', note: noteFor(bodies(6, '-true'), key) }];
    expect(await verify(exportLines(ten, key).join(''), { key: key.verifier, checkpoints: kept })).toMatchObject({
      fault: { fault: 'wrong_root', source: 'kept', size: 6, after: 0 },
    });
  });

  test('a change behind a confirmed checkpoint is narrowed down to what follows it', async () => {
    const kept = [{ source: 'kept', note: noteFor(ten.slice(0, 6), key) }];
    const lines = exportLines(ten, key);
    lines[8] = entryLine(8, entryBody(8, '-forged'));
    const verdict = await verify(lines.join(''), { checkpoints: kept });
    expect(verdict).toMatchObject({ fault: { fault: 'wrong_root', source: 'export', size: 10, after: 6 } });
  });

  test('a log cut back and signed anew fails against a newer checkpoint kept elsewhere', async () => {
    const kept = [{ source: 'kept', note: noteFor(bodies(12), key) }];
    expect(await verify(exportLines(ten, key).join(''), { checkpoints: kept })).toMatchObject({
      fault: { fault: 'wrong_size', source: 'kept', size: 12, entries: 10, seq: 10 },
    });
  });

  test('a checkpoint kept elsewhere stands in for one that is missing, as far as it goes', async () => {
    const lines = ten.map((body, seq) => entryLine(seq, body)).join('');
    const at = (size: number) => ({
      key: key.verifier,
      checkpoints: [{ source: 'kept', note: noteFor(ten.slice(0, size), key) }],
    });
    expect(await verify(lines, at(10))).toMatchObject({ ok: true, checkpoints: [{ source: 'kept', size: 10 }] });
    expect(await verify(lines, at(7))).toMatchObject({ fault: { fault: 'missing_checkpoint', seq: 7 } });
  });

  test('a checkpoint of another log is named, though the key is the same', async () => {
    const kept = [{ source: 'kept', note: noteFor(ten.slice(0, 6), key, 'other.test/log') }];
    expect(await verify(exportLines(ten, key).join(''), { checkpoints: kept })).toMatchObject({
      fault: { fault: 'other_log', source: 'kept', origin: 'other.test/log', expected: 'warder.test/log' },
    });
  });

  test('a checkpoint not signed with the known key fails before anything is read', async () => {
    const kept = [{ source: 'kept', note: noteFor(ten, other) }];
    expect(await verify(exportLines(ten, key).join(''), { key: key.verifier, checkpoints: kept })).toMatchObject({
      fault: { fault: 'unknown_signer', source: 'kept' },
      bytes: 0,
    });
  });
});
