import { createPrivateKey, sign } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  checkpointBody,
  ed25519Algorithm,
  encodeVerifierKey,
  formatNote,
  keyHash,
  maxNoteBytes,
  maxSignatures,
  type NoteSigner,
  parseCheckpoint,
  parseNote,
  parseVerifierKey,
  signNote,
  type VerifierKey,
  verifyNote,
} from '../../src/domain/signed-note.ts';

// The published example of golang.org/x/mod/sumdb/note; the private seed is part of the example.
const peterKey = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW';
const peterSeed = Buffer.from('AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz', 'base64').subarray(1);
const peterLine =
  '— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n';
const enochKey = 'EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop';
const enochLine =
  '— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n';
const peterBody =
  "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const peterNote = `${peterBody}\n${peterLine}`;
// The example of c2sp.org/signed-note.
const fooKey = 'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k';
const fooNote =
  'This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n';
// A head of Go's checksum database, as sum.golang.org signed it, and the key that every Go has built in.
const sumdbKey = 'sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8';
const sumdbNote =
  'go.sum database tree\n6476701\nmb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=\n\n— sum.golang.org Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=\n';

/** The verifier key of a line that a test knows to be one. */
const keyOf = (line: string): VerifierKey => {
  const parsed = parseVerifierKey(line);
  if (!parsed.ok) throw new Error(parsed.problem);
  return parsed.value;
};

const peter = keyOf(peterKey);
const publicPart = Buffer.from(peter.publicKey).toString('base64url');
const peterPrivate = createPrivateKey({
  key: { kty: 'OKP', crv: 'Ed25519', d: peterSeed.toString('base64url'), x: publicPart },
  format: 'jwk',
});
const peterSigner: NoteSigner = { ...peter, sign: (bytes) => sign(null, bytes, peterPrivate) };

const signatureLine = (name: string, length: number): string =>
  `— ${name} ${Buffer.alloc(length, 7).toString('base64')}\n`;
const problemOf = (input: string | Uint8Array): string => {
  const parsed = parseNote(input);
  return parsed.ok ? 'none' : parsed.problem;
};

const spaces = [' ', '\u0085', '\u00a0', '\u1680', '\u2003', '\u2028', '\u3000'];
const anyOrigin = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 40 })
  .filter((text) => [...text].every((character) => character >= ' '));
const anyRoot = fc.uint8Array({ minLength: 32, maxLength: 32 });

describe('a key hash', () => {
  test('is the one other implementations have', () => {
    for (const line of [peterKey, enochKey, fooKey, sumdbKey]) {
      const { name, publicKey } = keyOf(line);
      expect(keyHash(name, ed25519Algorithm, publicKey).toString(16).padStart(8, '0')).toBe(line.split('+')[1]);
    }
  });

  test('depends on the name and the algorithm too', () => {
    expect(keyHash('PeterNeumann', ed25519Algorithm, peter.publicKey)).toBe(0xc74f20a3);
    expect(keyHash('PeterNeuman', ed25519Algorithm, peter.publicKey)).not.toBe(0xc74f20a3);
    expect(keyHash('PeterNeumann', 0x04, peter.publicKey)).not.toBe(0xc74f20a3);
  });

  test('is not given for a name that no note can carry, nor for what is no key', () => {
    const names = ['', 'a+b', 'a\nb', 'a\tb', '\ud800', ...spaces.map((space) => `a${space}b`)];
    for (const name of names) expect(() => keyHash(name, ed25519Algorithm, peter.publicKey)).toThrow(RangeError);
    expect(() => keyHash('a', ed25519Algorithm, peter.publicKey.subarray(1))).toThrow(RangeError);
    for (const algorithm of [-1, 1.5, 256]) {
      expect(() => keyHash('a', algorithm, peter.publicKey)).toThrow(RangeError);
    }
  });
});

describe('a verifier key', () => {
  test('is written as it was read', () => {
    for (const line of [peterKey, enochKey, fooKey, sumdbKey]) expect(encodeVerifierKey(keyOf(line))).toBe(line);
  });

  test('of any name and bytes survives being written and read', () => {
    const anyName = anyOrigin.filter((name) => !/[\p{White_Space}+]/u.test(name));
    fc.assert(
      fc.property(anyName, anyRoot, (name, publicKey) => {
        expect(parseVerifierKey(encodeVerifierKey({ name, publicKey }))).toEqual({
          ok: true,
          value: { name, publicKey: Uint8Array.from(publicKey) },
        });
      }),
    );
  });

  test.each([
    ['bad_spelling', ''],
    ['bad_spelling', 'PeterNeumann'],
    ['bad_spelling', 'PeterNeumann+c74f20a3'],
    ['bad_spelling', 'PeterNeumann+c74f20a3+'],
    ['bad_spelling', peterKey.replace('c74f20a3', 'C74F20A3')],
    ['bad_spelling', peterKey.replace('c74f20a3', 'c74f20a')],
    ['bad_spelling', `${peterKey}\n`],
    ['bad_spelling', `${peterKey}=`],
    ['bad_spelling', peterKey.slice(0, -1)],
    ['bad_spelling', peterKey.replace('/', '_')],
    ['bad_spelling', 'PeterNeumann+c74f20a3+AQID'],
    ['bad_name', peterKey.replace('Neumann', ' Neumann')],
    ['bad_name', peterKey.replace('PeterNeumann', '')],
    ['unsupported_algorithm', peterKey.replace('+AR', '+BR')],
    ['wrong_key_hash', peterKey.replace('c74f20a3', 'c74f20a4')],
    ['wrong_key_hash', peterKey.replace('Peter', 'Petra')],
    ['wrong_key_hash', peterKey.replace('10TW', '10TX')],
  ])('is refused as %s: %j', (problem, line) => {
    expect(parseVerifierKey(line)).toEqual({ ok: false, problem });
  });
});

describe('a checkpoint', () => {
  const root = Buffer.from('mb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=', 'base64');

  test('has three lines: origin, size in decimal, root in base64', () => {
    expect(checkpointBody({ origin: 'go.sum database tree', size: 6476701, root })).toBe(
      sumdbNote.slice(0, sumdbNote.indexOf('\n\n') + 1),
    );
  });

  test('survives being written and read', () => {
    fc.assert(
      fc.property(anyOrigin, fc.maxSafeNat(), anyRoot, (origin, size, hash) => {
        expect(parseCheckpoint(checkpointBody({ origin, size, root: hash }))).toEqual({
          ok: true,
          value: { origin, size, root: Uint8Array.from(hash), extensions: [] },
        });
      }),
    );
  });

  test('that is read is the only spelling of what it says', () => {
    const line = fc.constantFrom('0', '1', '01', '9007199254740991', root.toString('base64'), 'x', '', ' ', '\t', '-1');
    fc.assert(
      fc.property(fc.array(line, { maxLength: 4 }), (lines) => {
        const body = lines.map((one) => `${one}\n`).join('');
        const parsed = parseCheckpoint(body);
        if (parsed.ok)
          expect(checkpointBody(parsed.value) + parsed.value.extensions.map((one) => `${one}\n`).join('')).toBe(body);
      }),
      { numRuns: 2000 },
    );
  });

  test('keeps extension lines apart', () => {
    expect(parseCheckpoint(`o\n0\n${root.toString('base64')}\none\ntwo\n`)).toMatchObject({
      ok: true,
      value: { extensions: ['one', 'two'] },
    });
  });

  test.each([
    ['bad_lines', ''],
    ['bad_lines', '\n'],
    ['bad_lines', 'o\n5\n'],
    ['bad_lines', `o\n5\n${root.toString('base64')}`],
    ['bad_lines', `\n5\n${root.toString('base64')}\n`],
    ['bad_lines', `o\n\n${root.toString('base64')}\n`],
    ['bad_lines', `o\n5\n${root.toString('base64')}\n\n`],
    ['bad_lines', `o\n5\n${root.toString('base64')}\nextension\n\nextension\n`],
    ['bad_lines', `o\r\n5\r\n${root.toString('base64')}\r\n`],
    ['bad_lines', `\ud800\n5\n${root.toString('base64')}\n`],
    ['bad_size', `o\n05\n${root.toString('base64')}\n`],
    ['bad_size', `o\n00\n${root.toString('base64')}\n`],
    ['bad_size', `o\n+5\n${root.toString('base64')}\n`],
    ['bad_size', `o\n-5\n${root.toString('base64')}\n`],
    ['bad_size', `o\n5 \n${root.toString('base64')}\n`],
    ['bad_size', `o\n5.0\n${root.toString('base64')}\n`],
    ['bad_size', `o\n5e3\n${root.toString('base64')}\n`],
    ['bad_size', `o\n0x5\n${root.toString('base64')}\n`],
    ['bad_size', `o\n٥\n${root.toString('base64')}\n`],
    ['bad_size', `o\n9007199254740992\n${root.toString('base64')}\n`],
    ['bad_root', `o\n5\n${root.toString('base64url')}\n`],
    ['bad_root', `o\n5\n${root.toString('base64')} \n`],
    ['bad_root', `o\n5\n${root.toString('base64').replace('Wk=', 'Wl=')}\n`],
    ['bad_root', `o\n5\n${root.subarray(1).toString('base64')}\n`],
    ['bad_root', `o\n5\n${Buffer.concat([root, root]).toString('base64')}\n`],
  ])('is refused as %s: %j', (problem, body) => {
    expect(parseCheckpoint(body)).toEqual({ ok: false, problem });
  });

  test('is not written with an origin, size or root that could not be read', () => {
    for (const origin of ['', 'a\nb', 'a\tb', '\ud800']) {
      expect(() => checkpointBody({ origin, size: 1, root })).toThrow(RangeError);
    }
    for (const size of [-1, 0.5, Number.NaN, 2 ** 53]) {
      expect(() => checkpointBody({ origin: 'o', size, root })).toThrow(RangeError);
    }
    expect(() => checkpointBody({ origin: 'o', size: 1, root: root.subarray(1) })).toThrow(RangeError);
  });
});

describe('reading a note', () => {
  test('gives the body with its newline and the signatures with their keys', () => {
    const parsed = parseNote(peterNote + enochLine);
    expect(parsed).toMatchObject({
      ok: true,
      value: {
        body: peterBody,
        signatures: [
          { name: 'PeterNeumann', keyHash: 0xc74f20a3 },
          { name: 'EnochRoot', keyHash: 0xaf0cfe78 },
        ],
      },
    });
    expect(parsed.ok && parsed.value.signatures.every(({ signature }) => signature.length === 64)).toBe(true);
  });

  test('and writing it again gives the same text', () => {
    for (const note of [
      peterNote,
      peterNote + enochLine,
      fooNote,
      sumdbNote,
      `a\n\nb\n\n\n${peterLine}`,
      `\n\n${peterLine}`,
    ]) {
      const parsed = parseNote(note);
      if (!parsed.ok) throw new Error(parsed.problem);
      expect(formatNote(parsed.value.body, parsed.value.signatures)).toBe(note);
    }
  });

  test('takes the last empty line for the one that separates', () => {
    const parsed = parseNote(`a\n\n${peterLine}\n${enochLine}`);
    expect(parsed).toMatchObject({
      ok: true,
      value: { body: `a\n\n${peterLine}`, signatures: [{ name: 'EnochRoot' }] },
    });
  });

  test('never fails otherwise than with a reason, and reads nothing that it would write differently', () => {
    const piece = fc.constantFrom('\n', '\n\n', '— ', 'a', ' ', '+', 'AAAAAAA=', 'AAAAAAB=', '\t', '—', peterLine);
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const note = pieces.join('');
        const parsed = parseNote(note);
        if (parsed.ok) expect(formatNote(parsed.value.body, parsed.value.signatures)).toBe(note);
      }),
      { numRuns: 5000 },
    );
  });

  test('takes bytes and text alike', () => {
    expect(parseNote(Buffer.from(peterNote))).toEqual(parseNote(peterNote));
  });

  test('counts a byte order mark as part of the body', () => {
    expect(parseNote(Buffer.from(`\ufeff${peterNote}`))).toMatchObject({ value: { body: `\ufeff${peterBody}` } });
  });

  test.each([
    ['no_final_newline', ''],
    ['no_final_newline', peterNote.slice(0, -1)],
    ['no_signatures', peterBody],
    ['no_signatures', `${peterBody}\n`],
    ['no_signatures', peterLine],
    ['no_signatures', `\n${peterLine}`],
    ['no_signatures', `${peterNote}\n`],
    ['bad_signature_line', peterBody + peterNote.slice(peterBody.length - 1).replace('—', '-')],
    ['bad_signature_line', peterNote.replace('— ', '—')],
    ['bad_signature_line', peterNote.replace('— ', '—  ')],
    ['bad_signature_line', peterNote.replace('— ', '—\u00a0')],
    ['bad_signature_line', peterNote.replace('PeterNeumann', '')],
    ['bad_signature_line', peterNote.replace('PeterNeumann', 'Peter+Neumann')],
    ['bad_signature_line', peterNote.replace('PeterNeumann', 'Peter\u2003Neumann')],
    ['bad_signature_line', peterNote.replace('nAM=\n', 'nAM= \n')],
    ['bad_signature_line', peterNote.replace('nAM=\n', 'nAM\n')],
    ['bad_signature_line', peterNote.replace('nAM=\n', 'nAN=\n')],
    ['bad_signature_line', peterNote.replace('nAM=\n', 'nAM==\n')],
    ['bad_signature_line', peterNote.replace('x08go/', 'x08go_')],
    ['bad_signature_line', `${peterNote}trailing\n`],
    ['bad_signature_line', `a\n\n${signatureLine('x', 0)}`],
    ['bad_signature_line', `a\n\n${signatureLine('x', 4)}`],
    ['control_character', peterNote.replace('If', 'I\tf')],
    ['control_character', peterNote.replace('\n\n', '\r\n\r\n')],
    ['control_character', peterNote.replace('If', 'I\0f')],
    ['control_character', peterNote.replace('If', 'I\x1ff')],
    ['not_utf8', peterNote.replace('If', 'I\udc00f')],
  ])('is refused as %s: %j', (problem, note) => {
    expect(problemOf(note)).toBe(problem);
  });

  test('refuses bytes that are not UTF-8, overlong and surrogate forms included', () => {
    for (const bad of ['ff', 'c0af', 'c1bf', 'e08080', 'eda080', 'f5808080', 'e282']) {
      expect(problemOf(Buffer.concat([Buffer.from(bad, 'hex'), Buffer.from(peterNote)]))).toBe('not_utf8');
    }
  });

  test('stops at a limit of signatures and of bytes', () => {
    expect(problemOf(`a\n\n${signatureLine('x', 68).repeat(maxSignatures)}`)).toBe('none');
    expect(problemOf(`a\n\n${signatureLine('x', 68).repeat(maxSignatures + 1)}`)).toBe('too_many_signatures');
    const filler = (bytes: number): string => 'x'.repeat(bytes - Buffer.byteLength(`\n\n${peterLine}`));
    expect(problemOf(`${filler(maxNoteBytes)}\n\n${peterLine}`)).toBe('none');
    expect(problemOf(`${filler(maxNoteBytes + 1)}\n\n${peterLine}`)).toBe('too_large');
    expect(problemOf(Buffer.from(`${filler(maxNoteBytes + 1)}\n\n${peterLine}`))).toBe('too_large');
  });
});

describe('verifying a note', () => {
  test.each([
    [peterKey, peterNote],
    [fooKey, fooNote],
    [sumdbKey, sumdbNote],
  ])('accepts what others signed: %s', (line, note) => {
    const key = keyOf(line);
    expect(verifyNote(note, [key])).toEqual({
      ok: true,
      body: note.slice(0, note.lastIndexOf('\n\n') + 1),
      signers: [key],
    });
  });

  test('names each known signer once, in the order of the lines, and ignores strangers', () => {
    const [enoch, foo] = [keyOf(enochKey), keyOf(fooKey)];
    const note = peterNote + enochLine + peterLine;
    expect(verifyNote(note, [enoch, foo, peter])).toMatchObject({ ok: true, signers: [peter, enoch] });
    expect(verifyNote(note, [enoch])).toMatchObject({ ok: true, signers: [enoch] });
    expect(verifyNote(note, [foo])).toEqual({ ok: false, problem: 'no_known_key' });
    expect(verifyNote(note, [])).toEqual({ ok: false, problem: 'no_known_key' });
  });

  test('ignores a signature that shares only the name or only the hash with a known key', () => {
    const otherName = peterNote.replace('— PeterNeumann', '— PeterNeuman');
    const otherHash = peterNote.replace('x08go', 'x08gp');
    expect(verifyNote(otherName, [peter])).toEqual({ ok: false, problem: 'no_known_key' });
    expect(verifyNote(otherHash, [peter])).toEqual({ ok: false, problem: 'no_known_key' });
    expect(verifyNote(peterNote + otherName.slice(peterBody.length + 1), [peter])).toMatchObject({ ok: true });
  });

  test('refuses a note in which any one known key signed falsely, whoever else signed well', () => {
    const refusal = { ok: false, problem: 'bad_signature', signer: 'EnochRoot' };
    const keys = [peter, keyOf(enochKey)];
    const flipped = enochLine.replace('5n2t', '5n3t');
    expect(verifyNote(peterNote + flipped, keys)).toEqual(refusal);
    expect(verifyNote(peterNote + enochLine + flipped, keys)).toEqual(refusal);
  });

  test('refuses a body with any bit changed', () => {
    const bytes = Buffer.from(peterNote);
    fc.assert(
      fc.property(fc.nat({ max: 8 * peterBody.length - 1 }), (bit) => {
        const changed = Buffer.from(bytes);
        changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(verifyNote(changed, [peter]).ok).toBe(false);
      }),
    );
  });

  test('refuses a signature with any bit changed', () => {
    const parsed = parseNote(peterNote);
    if (!parsed.ok) throw new Error(parsed.problem);
    const { body, signatures } = parsed.value;
    fc.assert(
      fc.property(fc.nat({ max: 511 }), (bit) => {
        const changed = signatures.map((one) => ({
          ...one,
          signature: one.signature.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte)),
        }));
        expect(verifyNote(formatNote(body, changed), [peter])).toMatchObject({ problem: 'bad_signature' });
      }),
    );
  });

  test('refuses a signature of another length', () => {
    const parsed = parseNote(peterNote);
    if (!parsed.ok) throw new Error(parsed.problem);
    const [first] = parsed.value.signatures;
    if (!first) throw new Error('no signature');
    for (const signature of [first.signature.subarray(1), Buffer.concat([first.signature, Buffer.alloc(1)])]) {
      const note = formatNote(peterBody, [{ ...first, signature }]);
      expect(verifyNote(note, [peter])).toMatchObject({ problem: 'bad_signature' });
    }
  });

  test('takes a key that is no point of the curve for one that signed nothing', () => {
    const key = { name: 'PeterNeumann', publicKey: new Uint8Array(32).fill(0xff) };
    const forged = {
      name: key.name,
      keyHash: keyHash(key.name, ed25519Algorithm, key.publicKey),
      signature: Buffer.alloc(64),
    };
    expect(verifyNote(formatNote(peterBody, [forged]), [key])).toMatchObject({ problem: 'bad_signature' });
  });

  test('passes on why a note cannot be read', () => {
    expect(verifyNote('', [peter])).toEqual({ ok: false, problem: 'no_final_newline' });
  });

  test('is refused with two keys that no note could tell apart', () => {
    // Found by trying counters: with this name, both have the key hash 6170f12a.
    const keys = [17_346, 75_898].map((counter) => {
      const publicKey = new Uint8Array(32);
      new DataView(publicKey.buffer).setUint32(28, counter);
      return { name: 'x', publicKey };
    });
    expect(() => verifyNote(peterNote, keys)).toThrow('two different keys are called x+6170f12a');
  });

  test('accepts the same key twice', () => {
    expect(verifyNote(peterNote, [peter, keyOf(peterKey)])).toMatchObject({ ok: true, signers: [peter] });
  });
});

describe('signing a note', () => {
  test('gives byte for byte what the reference implementation gives', () => {
    expect(signNote(peterBody, peterSigner)).toBe(peterNote);
  });

  test('gives the signer the body in UTF-8 and nothing else', () => {
    const seen: string[] = [];
    signNote('é\n', {
      ...peterSigner,
      sign: (bytes) => {
        seen.push(Buffer.from(bytes).toString('hex'));
        return peterSigner.sign(bytes);
      },
    });
    expect(seen).toEqual(['c3a90a']);
  });

  test('makes a checkpoint that verifies and reads back', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), anyRoot, (size, root) => {
        const note = signNote(checkpointBody({ origin: peter.name, size, root }), peterSigner);
        const opened = verifyNote(note, [peter]);
        expect(opened.ok && parseCheckpoint(opened.body)).toMatchObject({ ok: true, value: { size } });
      }),
    );
  });

  test('fails when the signer holds another key than it says, rather than publish what nobody can verify', () => {
    const mistaken = { ...peterSigner, publicKey: keyOf(enochKey).publicKey };
    expect(() => signNote(peterBody, mistaken)).toThrow(RangeError);
    expect(() => signNote(peterBody, { ...peterSigner, sign: () => new Uint8Array(0) })).toThrow(RangeError);
  });

  test('fails for a body that a reader would refuse', () => {
    for (const body of ['', 'no newline', 'tab\t\n', 'lone \ud800\n', `${'x'.repeat(maxNoteBytes)}\n`]) {
      expect(() => signNote(body, peterSigner)).toThrow(RangeError);
    }
  });
});

describe('formatting a note', () => {
  const good = { name: 'x', keyHash: 1, signature: new Uint8Array(64) };

  test('refuses what a reader would refuse', () => {
    expect(() => formatNote('a\n', [])).toThrow(RangeError);
    expect(() => formatNote(`a\n\n${signatureLine('x', 68).trimEnd()}`, [good])).toThrow(RangeError);
    expect(() => formatNote('a\n', [{ ...good, name: 'a b' }])).toThrow(RangeError);
    expect(() => formatNote('a\n', [{ ...good, name: 'a\n\n— b' }])).toThrow(RangeError);
    expect(() => formatNote('a\n', [{ ...good, signature: new Uint8Array(0) }])).toThrow(RangeError);
    expect(() =>
      formatNote(
        'a\n',
        Array.from({ length: maxSignatures + 1 }, () => good),
      ),
    ).toThrow(RangeError);
    for (const id of [-1, 0.5, 2 ** 32])
      expect(() => formatNote('a\n', [{ ...good, keyHash: id }])).toThrow(RangeError);
  });

  test('writes key hashes big-endian, the highest included', () => {
    const parsed = parseNote(formatNote('a\n', [{ ...good, keyHash: 0xffff_fffe }]));
    expect(parsed).toMatchObject({ ok: true, value: { signatures: [{ keyHash: 0xffff_fffe }] } });
  });
});
