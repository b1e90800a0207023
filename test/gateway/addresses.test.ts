/** Which addresses an upstream may have: judged when it is registered, and again at the address really connected to. */
import type { LookupAddress } from 'node:dns';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Lookup } from '../../adapters/network.ts';
import { openUpstream } from '../../adapters/upstream.ts';
import { judgeAddress, judgeHost } from '../../src/domain/network-address.ts';
import type { Egress } from '../../src/ports/egress.ts';
import type { Upstream as UpstreamPort } from '../../src/ports/upstream.ts';
import { ADDRESSES, PRIVATE_NAMES, PUBLIC_LOOKING_NAMES } from '../corpora/addresses.ts';
import { httpUpstream, type Rig, startRig, type Upstream } from './rig.ts';

let rig: Rig;
let local: Upstream;
let requests = 0;
const ports: (UpstreamPort & Egress)[] = [];

const open = (lookup?: Lookup): UpstreamPort & Egress => {
  const made = openUpstream(lookup);
  ports.push(made);
  return made;
};

/** A resolver that gives these answers in turn, the last one for ever; and how often it was asked. */
const resolver = (...answers: string[][]): { lookup: Lookup; asked: () => number } => {
  let asked = 0;
  return {
    asked: () => asked,
    lookup: (_hostname, _options, done) => {
      const addresses = answers[Math.min(asked, answers.length - 1)] ?? [];
      asked += 1;
      done(
        null,
        addresses.map((address): LookupAddress => ({ address, family: isIP(address) })),
      );
    },
  };
};

/** How one call ends: the status, or why it failed. */
const outcome = (upstream: UpstreamPort, origin: string, allowPrivateNetwork: boolean): Promise<number | string> =>
  new Promise((resolve) => {
    let status = 0;
    upstream.forward(
      {
        origin,
        method: 'GET',
        path: '/',
        headers: ['Host', new URL(origin).host],
        body: null,
        allowPrivateNetwork,
        timeouts: { connectMs: 2_000, headersMs: 2_000, idleMs: 2_000 },
      },
      {
        onHead: (head) => {
          status = head;
        },
        onData: () => true,
        // A moment later, when the connection is free again.
        onEnd: () => setTimeout(() => resolve(status), 10),
        onFailure: resolve,
      },
    );
  });

beforeAll(async () => {
  local = await httpUpstream((_req, res) => {
    requests += 1;
    res.end('{"here":true}');
  });
  rig = await startRig();
});
afterAll(async () => {
  await Promise.all(ports.map((port) => port.close()));
  await rig.close();
  await local.close();
});

/** As the host of a URL, and what the WHATWG parser makes of it. */
const urlOf = (text: string): string => `https://${text.includes(':') && !text.includes('@') ? `[${text}]` : text}/`;
const hostOf = (text: string): string | undefined => URL.parse(urlOf(text))?.hostname;

/** Settings must be readable by people: what no font shows is refused for itself. */
const statusOf = (text: string): number => (/[\u00ad\u200b\u2060\t\r\n]/.test(text) ? 400 : 201);
const spellings = ADDRESSES.map(({ text }) => text);

describe('registering an upstream', () => {
  let made = 0;
  const register = async (baseUrl: string, allow: boolean): Promise<number> => {
    made += 1;
    const answer = await rig.broker.connection(`adr-${made}`, baseUrl, { settings: { allow_private_network: allow } });
    return answer.status;
  };
  /** All at once: they share their commits. */
  const registerAll = (texts: readonly string[], allow: boolean): Promise<[string, number][]> =>
    Promise.all(texts.map(async (text) => [text, await register(urlOf(text), allow)] as [string, number]));

  test('the corpus has at least 400 spellings', () => {
    expect(ADDRESSES.length).toBeGreaterThanOrEqual(400);
  });

  test('by any spelling of an address that is not public is refused', async () => {
    const answers = await registerAll(spellings, false);
    expect(answers).toEqual(
      ADDRESSES.map(({ text, host }) => [text, host === 'public' || host === 'name' ? statusOf(text) : 400]),
    );
  });

  test('by a private one is taken where private networks are allowed, by a metadata one never', async () => {
    const answers = await registerAll(spellings, true);
    expect(answers).toEqual(
      ADDRESSES.map(({ text, host }) => {
        const url = URL.parse(urlOf(text));
        const more = `${url?.username}${url?.password}${url?.search}${url?.hash}` !== '';
        return [text, more || ['unparsable', 'invalid', 'metadata'].includes(host) ? 400 : statusOf(text)];
      }),
    );
  });

  test('by a name that only means something inside is refused, by a public-looking one taken', async () => {
    const all = (names: readonly string[], status: number) => names.map((name) => [name, status]);
    expect(await registerAll(PRIVATE_NAMES, false)).toEqual(all(PRIVATE_NAMES, 400));
    expect(await registerAll(PUBLIC_LOOKING_NAMES, false)).toEqual(all(PUBLIC_LOOKING_NAMES, 201));
    const metadata = ['metadata.google.internal', 'METADATA.goog.', 'instance-data'];
    expect(await registerAll(metadata, true)).toEqual(all(metadata, 400));
  });

  test.each([
    'http://api.example.com/',
    'ftp://api.example.com/',
    'file:///etc/passwd',
    'https://user:pw@api.example.com/',
    'https://api.example.com/?x=1',
    'https://api.example.com/#x',
    'https:',
    'https://',
    '//api.example.com',
    'data:,x',
  ])('as %s is refused', async (baseUrl) => {
    expect(await register(baseUrl, false)).toBe(400);
  });
});

describe('connecting', () => {
  test('to a literal address that is not allowed is refused without a look-up, however it got here', async () => {
    const { lookup, asked } = resolver([]);
    const upstream = open(lookup);
    for (const { text, host } of ADDRESSES) {
      const hostname = hostOf(text);
      if (hostname === undefined || host === 'public' || host === 'name') continue;
      const origin = `http://${hostname}:${local.port}`;
      if (!URL.canParse(origin)) continue;
      expect([text, await outcome(upstream, origin, false)]).toEqual([text, 'address_refused']);
      if (host !== 'metadata') continue;
      expect([text, await outcome(upstream, origin, true)]).toEqual([text, 'address_refused']);
    }
    expect(asked()).toBe(0);
    expect(requests).toBe(0);
  });

  test('to a name is judged by each address it resolves to', async () => {
    for (const { text } of ADDRESSES) {
      const judged = judgeAddress(text);
      if (isIP(text) === 0 || judged.kind === 'public') continue;
      const upstream = open(resolver([text]).lookup);
      const origin = `http://api.example.com:${local.port}`;
      expect([text, await outcome(upstream, origin, false)]).toEqual([text, 'address_refused']);
      if (judged.kind !== 'private' || judged.range !== 'metadata') continue;
      expect([text, await outcome(upstream, origin, true)]).toEqual([text, 'address_refused']);
    }
    expect(requests).toBe(0);
  });

  test('goes to the addresses that are allowed, where a name has several', async () => {
    const upstream = open(resolver(['169.254.169.254', 'fd00:ec2::254', '127.0.0.1']).lookup);
    const before = requests;
    expect(await outcome(upstream, `http://api.example.com:${local.port}`, true)).toBe(200);
    expect(requests).toBe(before + 1);
  });

  // dns.lookup is getaddrinfo, which no test can point to a server of its own: a stub stands in for the resolver.
  test('asks once for each connection, and what was judged is what is connected to (rebinding)', async () => {
    const rebinding = resolver(['127.0.0.1'], ['169.254.169.254']);
    const upstream = open(rebinding.lookup);
    const origin = `http://rebinding.example.com:${local.port}`;
    const before = requests;
    expect(await outcome(upstream, origin, true)).toBe(200);
    expect([rebinding.asked(), requests]).toEqual([1, before + 1]);
    // The kept connection is used again without asking.
    expect(await outcome(upstream, origin, true)).toBe(200);
    expect([rebinding.asked(), requests]).toEqual([1, before + 2]);
    // Where private addresses are not allowed, a connection made for those who may is not shared.
    expect(await outcome(upstream, origin, false)).toBe('address_refused');
    expect([rebinding.asked(), requests]).toEqual([2, before + 2]);

    const other = resolver(['169.254.169.254'], ['127.0.0.1']);
    expect(await outcome(open(other.lookup), origin, true)).toBe('address_refused');
    expect(other.asked()).toBe(1);
  });

  test('to names of this machine is refused with the real resolver, too', async () => {
    const upstream = open();
    const hosts = readFileSync('/etc/hosts', 'utf8')
      .split('\n')
      .flatMap((line) => (line.split('#')[0] ?? '').trim().split(/\s+/).slice(1));
    const names = new Set(['localhost', 'LOCALHOST', 'localhost.', 'a.localhost', ...hosts]);
    let refused = 0;
    for (const name of names) {
      const origin = `http://${name}:${local.port}`;
      if (!URL.canParse(origin) || judgeHost(new URL(origin).hostname).kind === 'invalid') continue;
      // What does not resolve here is not reached either.
      const result = await outcome(upstream, new URL(origin).origin, false);
      expect(['address_refused', 'unavailable', 'timeout']).toContain(result);
      if (result === 'address_refused') refused += 1;
    }
    expect(refused).toBeGreaterThan(0);
    const before = requests;
    expect(await outcome(upstream, `http://localhost:${local.port}`, true)).toBe(200);
    expect(requests).toBe(before + 1);
  });

  test('for Warder’s own requests follows the same law', async () => {
    const own = open(resolver(['127.0.0.1']).lookup);
    const url = `http://keys.example.com:${local.port}/jwks`;
    await expect(own.getJson(url, { allowPrivateNetwork: false })).rejects.toThrow('not allowed');
    await expect(own.getJson(`http://127.0.0.1:${local.port}/`, { allowPrivateNetwork: false })).rejects.toThrow();
    await expect(own.getJson(url, { allowPrivateNetwork: true })).resolves.toEqual({ here: true });
  });
});

describe('a redirect', () => {
  test.each(['http://169.254.169.254/latest/meta-data/', 'http://localhost:1/', '//127.0.0.1/', 'http://[::1]/'])(
    'to %s is handed back and not followed',
    async (location) => {
      const upstream = await httpUpstream((_req, res) => res.writeHead(302, { Location: location }).end());
      const before = upstream.connections();
      const access = await rig.access(upstream.url);
      const reply = await access.use('/x');
      expect([reply.status, reply.headers.location]).toEqual([302, location]);
      expect(upstream.connections()).toBe(before + 1);
      await upstream.close();
    },
  );

  test('to this machine is not followed by the gateway, nor by Warder’s own requests', async () => {
    const upstream = await httpUpstream((_req, res) => res.writeHead(307, { Location: `${local.url}/stolen` }).end());
    const before = requests;
    const access = await rig.access(upstream.url);
    expect((await access.use('/x', { method: 'POST', body: 'x' })).status).toBe(307);
    await expect(open().getJson(upstream.url, { allowPrivateNetwork: true })).rejects.toThrow('answered 307');
    expect(requests).toBe(before);
    await upstream.close();
  });
});
