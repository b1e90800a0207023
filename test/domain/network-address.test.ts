import { isIP } from 'node:net';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type HostJudgement, judgeAddress, judgeHost } from '../../src/domain/network-address.ts';
import { ADDRESSES, INVALID_HOSTS, PRIVATE_NAMES, PUBLIC_LOOKING_NAMES } from '../corpora/addresses.ts';

function word(judgement: HostJudgement): string {
  return judgement.kind === 'private' ? judgement.range : judgement.kind;
}

/** The host that the WHATWG parser makes of it, or undefined where it refuses. */
function hostOf(text: string): string | undefined {
  const host = text.includes(':') && !text.includes('@') ? `[${text}]` : text;
  return URL.canParse(`http://${host}/`) ? new URL(`http://${host}/`).hostname : undefined;
}

/** Quoted for the test's name, as some hold control characters. */
const DIRECT = ADDRESSES.map(({ text, direct }) => [JSON.stringify(text), direct, text] as const);
const HOSTS = ADDRESSES.map(({ text, host }) => [JSON.stringify(text), host, text] as const);

describe('judging addresses', () => {
  test('the corpus has at least 300 forms, none twice', () => {
    expect(new Set(ADDRESSES.map((each) => each.text)).size).toBe(ADDRESSES.length);
    expect(ADDRESSES.length).toBeGreaterThanOrEqual(300);
  });

  test.each(DIRECT)('reads %s as %s', (_, direct, text) => {
    expect(word(judgeAddress(text))).toBe(direct);
  });

  test.each(HOSTS)('judges the host of a URL written with %s as %s', (_, host, text) => {
    const hostname = hostOf(text);
    expect(hostname === undefined ? 'unparsable' : word(judgeHost(hostname))).toBe(host);
  });

  test('only text that the operating system also reads as an address without zone is an address', () => {
    const pieces = ['0', '1', '00', '7f', 'ffff', '127', '255', '256', '10000', '.', ':', '::', 'g', '%', 'x', ' '];
    const texts = fc.oneof(
      fc.array(fc.constantFrom(...pieces), { maxLength: 17 }).map((parts) => parts.join('')),
      fc.ipV4(),
      fc.ipV4Extended(),
      fc.ipV6(),
      fc.string({ maxLength: 46 }),
    );
    fc.assert(
      fc.property(texts, (text) => {
        const valid = isIP(text) !== 0 && !text.includes('%');
        expect(judgeAddress(text).kind !== 'invalid').toBe(valid);
      }),
      { numRuns: 5000 },
    );
  });

  test('every spelling of one IPv6 address gets one judgement', () => {
    const group = fc.oneof(
      fc.constant(0),
      fc.integer({ min: 0, max: 0xffff }),
      fc.constantFrom(0x2001, 0xffff, 0x5efe),
    );
    fc.assert(
      fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
        const long = groups.map((each) => each.toString(16).padStart(4, '0')).join(':');
        const expected = judgeAddress(long);
        expect(judgeAddress(long.toUpperCase())).toEqual(expected);
        expect(judgeAddress(groups.map((each) => each.toString(16)).join(':'))).toEqual(expected);
        expect(judgeHost(new URL(`http://[${long}]/`).hostname)).toEqual(expected);
      }),
    );
  });

  test('a mapped address is judged as the IPv4 address it reaches', () => {
    fc.assert(
      fc.property(fc.ipV4(), (quad) => {
        expect(judgeAddress(`::ffff:${quad}`)).toEqual(judgeAddress(quad));
      }),
    );
  });

  test('nothing outside 2000::/3 and mapped IPv4 is public', () => {
    fc.assert(
      fc.property(fc.ipV6(), (text) => {
        const first = Number.parseInt(new URL(`http://[${text}]/`).hostname.slice(1).split(':')[0] || '0', 16);
        fc.pre(first >> 13 !== 1 && first !== 0);
        expect(judgeAddress(text).kind).toBe('private');
      }),
    );
  });

  test('hostile lengths are refused without work', () => {
    expect(judgeAddress(':'.repeat(1_000_000))).toEqual({ kind: 'invalid' });
    expect(judgeHost('a.'.repeat(1_000_000))).toEqual({ kind: 'invalid' });
    expect(judgeHost(`[${'1:'.repeat(1_000_000)}]`)).toEqual({ kind: 'invalid' });
  });
});

describe('judging hosts', () => {
  test.each(PRIVATE_NAMES)('calls %s private without resolving it', (name) => {
    expect(judgeHost(new URL(`https://${name}/`).hostname).kind).toBe('private');
  });

  test.each(PUBLIC_LOOKING_NAMES)('leaves %s to its address', (name) => {
    expect(judgeHost(new URL(`https://${name}/`).hostname)).toEqual({ kind: 'name' });
  });

  test.each(INVALID_HOSTS)('refuses %j, which is no host of a parsed URL', (host) => {
    expect(judgeHost(host)).toEqual({ kind: 'invalid' });
  });

  test('tells metadata services from other private names', () => {
    expect(judgeHost('metadata.google.internal')).toEqual({ kind: 'private', range: 'metadata' });
    expect(judgeHost('db.internal')).toEqual({ kind: 'private', range: 'localName' });
    expect(judgeHost('db')).toEqual({ kind: 'private', range: 'singleLabel' });
    expect(judgeHost('localhost')).toEqual({ kind: 'private', range: 'localName' });
  });

  test('answers for whatever host a URL can have', () => {
    fc.assert(
      fc.property(fc.webUrl({ withQueryParameters: true }), (url) => {
        expect(['public', 'private', 'invalid', 'name']).toContain(judgeHost(new URL(url).hostname).kind);
      }),
    );
  });
});
