import { Writable } from 'node:stream';
import { format, inspect } from 'node:util';
import { deserialize, serialize } from 'node:v8';
import { describe, expect, test } from '@jest/globals';
import { pino, stdSerializers } from 'pino';
import { redacted, SecretText } from '../../src/domain/secret-text.ts';

const canary = 'canary-7f3a9c51e0';
const secret = new SecretText(canary);

describe('a secret text', () => {
  test('reveals its value on request, unchanged', () => {
    expect(secret.reveal()).toBe(canary);
    expect(new SecretText('').reveal()).toBe('');
    expect(new SecretText(' é\u0000\n').reveal()).toBe(' é\u0000\n');
  });

  const prints: [string, () => string][] = [
    ['a template string', () => `${secret}`],
    ['String()', () => String(secret)],
    ['toString()', () => secret.toString()],
    // biome-ignore lint/style/useTemplate: the + operator is what is under test
    ['+ on the left', () => secret + ''],
    // biome-ignore lint/style/useTemplate: the + operator is what is under test
    ['+ on the right', () => '' + secret],
    ['join', () => [secret].join()],
    ['concat', () => ''.concat(String(secret))],
    ['JSON.stringify', () => JSON.parse(JSON.stringify(secret))],
    ['toLocaleString', () => secret.toLocaleString()],
    ['util.inspect', () => inspect(secret)],
    ['format %s', () => format('%s', secret)],
    ['format %o', () => format('%o', secret)],
    ['format %O', () => format('%O', secret)],
  ];
  test.each(prints)('prints as [redacted] through %s', (_, print) => {
    expect(print()).toBe(redacted);
  });

  const hides: [string, () => string][] = [
    ['JSON.stringify deep', () => JSON.stringify({ a: [{ secret }] })],
    ['JSON.stringify of a Map entry', () => JSON.stringify([...new Map([['secret', secret]])])],
    ['inspect deep', () => inspect({ a: [{ b: new Map([['c', new Set([secret])]]) }] }, { depth: null })],
    ['inspect with hidden properties', () => inspect({ secret }, { showHidden: true, depth: null })],
    ['inspect without custom functions', () => inspect({ secret }, { customInspect: false, showHidden: true })],
    ['inspect of a proxy', () => inspect(new Proxy(secret, {}), { showProxy: true })],
    ['format %j', () => format('%j', { secret })],
    ['format %d', () => format('%d', secret)],
    ['Number()', () => String(Number(secret))],
    ['Object.entries', () => JSON.stringify(Object.entries(secret))],
    ['own keys', () => Reflect.ownKeys(secret).map(String).join()],
    ['property descriptors', () => inspect(Object.getOwnPropertyDescriptors(secret), { showHidden: true })],
    ['spread', () => inspect({ ...secret }, { showHidden: true })],
    ['Object.assign', () => inspect(Object.assign({}, secret), { showHidden: true })],
    ['structuredClone', () => inspect(structuredClone(secret), { showHidden: true })],
    ['structuredClone deep', () => JSON.stringify(structuredClone({ secret }))],
    ['the v8 serialiser', () => serialize({ secret }).toString('latin1') + inspect(deserialize(serialize({ secret })))],
    ['an error message', () => inspect(new Error(`refused: ${secret}`))],
    ['an error cause', () => inspect(new Error('refused', { cause: secret }))],
    ['an error cause, nested', () => inspect(new Error('a', { cause: new Error('b', { cause: { secret } }) }))],
    ['an error with a field', () => inspect(Object.assign(new Error('refused'), { secret }))],
    ['an aggregate error', () => inspect(new AggregateError([secret], 'refused'))],
    ['URLSearchParams', () => new URLSearchParams([['token', String(secret)]]).toString()],
    ['Headers', () => inspect(new Headers({ authorization: `Bearer ${secret}` }))],
  ];
  test.each(hides)('is not shown by %s', (_, show) => {
    expect(show()).not.toContain(canary);
  });

  test('is not shown by console.log', () => {
    let written = '';
    const stream = new Writable({
      write(chunk, _encoding, done) {
        written += String(chunk);
        done();
      },
    });
    new console.Console(stream).log(secret, { secret }, '%s', secret);
    new console.Console(stream).table([{ secret }]);
    new console.Console(stream).dir({ secret }, { showHidden: true, depth: null });
    expect(written).toContain(redacted);
    expect(written).not.toContain(canary);
  });

  test('is not shown by pino, as a field, in a child, in an error and in the message', () => {
    let written = '';
    const log = pino(
      { level: 'trace', serializers: { err: stdSerializers.errWithCause } },
      {
        write(line: string) {
          written += line;
        },
      },
    );
    log.info({ secret, deep: { list: [secret] } }, 'with %s and %o and %j', secret, secret, { secret });
    log.child({ secret }).warn('from a child');
    log.error(Object.assign(new Error(`no: ${secret}`, { cause: new Error('why', { cause: secret }) }), { secret }));
    expect(written.trim().split('\n')).toHaveLength(3);
    expect(written).toContain(redacted);
    expect(written).not.toContain(canary);
  });

  test('cannot be made to print by changing the object', () => {
    expect(() => Object.assign(secret, { toString: () => 'mine' })).toThrow(TypeError);
    expect(() => Object.defineProperty(secret, 'toJSON', { value: () => 'mine' })).toThrow(TypeError);
  });

  test('gives nothing to an object that only looks like one', () => {
    expect(() => SecretText.prototype.reveal.call(structuredClone(secret))).toThrow(TypeError);
    expect(() => SecretText.prototype.reveal.call(Object.create(secret))).toThrow(TypeError);
  });
});
