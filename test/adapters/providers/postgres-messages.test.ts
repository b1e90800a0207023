/** Messages are cut and checked before pg reads them: whatever arrives and however it is split. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { wholeMessages } from '../../../adapters/providers/postgres/messages.ts';

const message = (type: string, body: Buffer): Buffer => {
  const head = Buffer.alloc(5);
  head.write(type, 'latin1');
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
const text = fc.string({ maxLength: 20 }).map((value) => Buffer.from(`${value.replaceAll('\0', '')}\0`));
const number = (bytes: number) => fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((all) => Buffer.from(all));
const zero = Buffer.from([0]);

const good = fc.oneof(
  fc
    .array(fc.tuple(fc.constantFrom('S', 'C', 'M'), text), { maxLength: 5 })
    .chain((fields) =>
      fc
        .constantFrom('E', 'N')
        .map((type) =>
          message(type, Buffer.concat([...fields.flatMap(([letter, value]) => [Buffer.from(letter), value]), zero])),
        ),
    ),
  fc.tuple(text, text).map((both) => message('S', Buffer.concat(both))),
  text.map((tag) => message('C', tag)),
  fc.tuple(number(4), text, text).map((parts) => message('A', Buffer.concat(parts))),
  fc
    .array(fc.tuple(text, number(18)), { maxLength: 4 })
    .map((columns) => message('T', Buffer.concat([Buffer.from([0, columns.length]), ...columns.flat()]))),
  fc.constant(message('R', Buffer.concat([Buffer.from([0, 0, 0, 10]), Buffer.from('SCRAM-SHA-256\0\0')]))),
  fc.constant(message('Z', Buffer.from('I'))),
  number(9).map((body) => message('D', body)),
);

/** The same bytes in pieces that end anywhere. */
const split = (bytes: Buffer, cuts: number[]): Buffer[] => {
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end));
};

test('whole messages pass as they are, whatever pieces they come in', () => {
  fc.assert(
    fc.property(fc.array(good, { maxLength: 8 }), fc.array(fc.nat(500), { maxLength: 8 }), (messages, cuts) => {
      const bytes = Buffer.concat(messages);
      const look = wholeMessages();
      const given = split(bytes, cuts).map((piece) => {
        const whole = look(piece);
        return Buffer.from(whole);
      });
      expect(Buffer.concat(given).toString('hex')).toBe(bytes.toString('hex'));
    }),
  );
});

test('nothing passes of a message that is cut short', () => {
  fc.assert(
    fc.property(good, fc.nat(40), (whole, cut) => {
      const bytes = whole.subarray(0, Math.max(0, whole.length - 1 - cut));
      expect(wholeMessages()(bytes)).toHaveLength(0);
    }),
  );
});

test('a message whose strings have no end never passes', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('A', 'C', 'E', 'N', 'S', 'T'),
      fc.uint8Array({ minLength: 3, maxLength: 60 }).map((body) => Buffer.from(body.map((byte) => byte || 1))),
      (type, body) => expect(() => wholeMessages()(message(type, body))).toThrow(),
    ),
  );
});

test('lengths that cannot be are refused before anything is kept for them', () => {
  for (const length of ['00000000', '00000003', 'ffffffff', '7fffffff']) {
    expect(() => wholeMessages()(Buffer.from(`44${length}`, 'hex'))).toThrow();
  }
});
