/** Whatever library an adapter uses, the address it really connects to is judged, and nothing is sent to another. */
import { once } from 'node:events';
import { createServer, get as httpGet, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, isIP } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { AddressRefused, type Lookup, type Network, openNetwork } from '../../adapters/network.ts';
import { ADDRESSES } from '../corpora/addresses.ts';

let server: Server;
let port: number;
let requests = 0;
const networks: Network[] = [];

beforeAll(async () => {
  server = createServer((req, res) => {
    requests += 1;
    if (req.url === '/elsewhere') res.writeHead(302, { Location: 'http://169.254.169.254/latest/' }).end();
    else res.end('hello');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});
afterEach(async () => {
  requests = 0;
  await Promise.all(networks.splice(0).map((network) => network.close()));
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

const open = (lookup?: Lookup): Network => {
  const network = openNetwork(lookup);
  networks.push(network);
  return network;
};

/** A resolver with these answers in turn, the last one for ever. */
const resolver = (...answers: string[]): Lookup => {
  let asked = 0;
  return (_hostname, _options, done) => {
    const address = answers[Math.min(asked, answers.length - 1)] ?? '';
    asked += 1;
    done(null, [{ address, family: isIP(address) }]);
  };
};

/** The three ways out; each answers with what it got, or rejects. */
const ways: Record<string, (network: Network, host: string, allowPrivateNetwork: boolean) => Promise<string>> = {
  agents: async (network, host, allowPrivateNetwork) => {
    const { http } = network.agents({ allowPrivateNetwork });
    const asked = httpGet({ host, port, agent: http });
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString();
  },
  fetch: async (network, host, allowPrivateNetwork) => {
    const response = await network.fetch({ allowPrivateNetwork })(`http://${host}:${port}/`);
    return response.text();
  },
  connect: async (network, host, allowPrivateNetwork) => {
    const socket = await network.connect({ host, port, allowPrivateNetwork }, AbortSignal.timeout(5_000));
    socket.end('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString().split('\r\n\r\n')[1]?.match(/hello/)?.[0] ?? '';
  },
};

const refusedBy = async (call: Promise<unknown>): Promise<boolean> => {
  const error = await call.then(
    () => undefined,
    (failure: unknown) => failure,
  );
  return error instanceof AddressRefused || (error instanceof Error && error.cause instanceof AddressRefused);
};

describe.each(Object.entries(ways))('%s', (_name, call) => {
  test('reaches a private address where the settings say so', async () => {
    expect(await call(open(), '127.0.0.1', true)).toBe('hello');
    expect(await call(open(resolver('127.0.0.1')), 'inside.example.com', true)).toBe('hello');
  });

  test('reaches none where they do not, written as an address or behind a name', async () => {
    expect(await refusedBy(call(open(), '127.0.0.1', false))).toBe(true);
    expect(await refusedBy(call(open(resolver('127.0.0.1')), 'inside.example.com', false))).toBe(true);
    expect(await refusedBy(call(open(resolver('::ffff:127.0.0.1')), 'inside.example.com', false))).toBe(true);
    expect(requests).toBe(0);
  });

  test('never reaches the metadata of a cloud', async () => {
    for (const metadata of ['169.254.169.254', 'fd00:ec2::254', '::ffff:a9fe:a9fe', '100.100.100.200']) {
      expect([metadata, await refusedBy(call(open(resolver(metadata)), 'inside.example.com', true))]).toEqual([
        metadata,
        true,
      ]);
    }
    expect(await refusedBy(call(open(), '169.254.169.254', true))).toBe(true);
  });

  test('judges a name anew at each connection', async () => {
    const network = open(resolver('127.0.0.1', '169.254.169.254'));
    expect(await call(network, 'inside.example.com', true)).toBe('hello');
    await networks.splice(0)[0]?.close();
    expect(await refusedBy(call(open(resolver('169.254.169.254')), 'inside.example.com', true))).toBe(true);
  });

  test('refuses every private address of the corpus without a connection', async () => {
    const network = open();
    // Octal, short and decimal spellings are no addresses to Warder, and are to a resolver.
    const hosts = ADDRESSES.filter(
      ({ direct, text }) => direct !== 'public' && (direct !== 'invalid' || /^[0-9a-fx.]+$/i.test(text)),
    ).map(({ text }) => text);
    expect(hosts.length).toBeGreaterThan(50);
    const reached: string[] = [];
    for (const host of hosts) {
      const outcome = await call(network, host, false).then(
        () => 'reached',
        () => 'refused',
      );
      if (outcome === 'reached') reached.push(host);
    }
    expect(reached).toEqual([]);
    expect(requests).toBe(0);
  });
});

test('a redirect is an answer, not a way to go', async () => {
  const response = await open().fetch({ allowPrivateNetwork: true })(`http://127.0.0.1:${port}/elsewhere`);
  expect(response.status).toBe(302);
  expect(requests).toBe(1);
});

test('connecting ends when its signal says so', async () => {
  // A lookup that never answers: the socket does not even begin.
  const network = open(() => undefined);
  const call = network.connect({ host: 'slow.example.com', port, allowPrivateNetwork: true }, AbortSignal.timeout(50));
  await expect(call).rejects.toThrow('the time for connecting is over');
});
