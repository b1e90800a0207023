/** What `postgres` does on the wire: TLS, servers that are not what they say, and answers that make no sense. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { type Network, openNetwork } from '../../../adapters/network.ts';
import { openMysqlProvider } from '../../../adapters/providers/mysql.ts';
import { openPostgresProvider } from '../../../adapters/providers/postgres.ts';
import type { Provider } from '../../../src/ports/provider.ts';
import { freePort, removeTemporaryDirs, temporaryDir } from '../../support/broker.ts';
import { directGrants } from './database-grants.ts';
import { admin, type PostgresRig, startPostgresRig } from './postgres-rig.ts';

let network: Network;
let provider: Provider;
let rig: PostgresRig;
beforeAll(async () => {
  network = openNetwork();
  provider = openPostgresProvider(network);
  rig = await startPostgresRig();
});
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});
afterAll(async () => {
  await network.close();
  await rig.stop();
  removeTemporaryDirs();
});

/** A server that does with each connection what the test says. @returns its port */
const serve = async (handle: (socket: Socket) => void): Promise<number> => {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    handle(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
};

const settings = (port: number, tls: object, host = '127.0.0.1'): object => ({
  host,
  port,
  database: 'postgres',
  tls,
  allow_private_network: true,
});
const minting = (port: number, tls: object, host?: string, patienceMs = 3_000): Promise<unknown> =>
  directGrants(provider, settings(port, tls, host), admin)
    .mint(['read'], { signal: AbortSignal.timeout(patienceMs) })
    .catch((error: unknown) => error);

const canSign = (() => {
  try {
    return execFileSync('openssl', ['version']).length > 0;
  } catch {
    return false;
  }
})();
const ifOpenssl = canSign ? test : test.skip;
const needing = (what: string): string => (canSign ? what : `${what} (needs openssl)`);

/** A certificate that signs itself, for these names. */
const certificate = (names: string): { key: string; cert: string } => {
  const directory = temporaryDir();
  const [key, cert] = [join(directory, 'key'), join(directory, 'cert')];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=test',
    ].concat(['-addext', `subjectAltName=${names}`, '-keyout', key, '-out', cert]),
    { stdio: 'ignore' },
  );
  return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
};

/** PostgreSQL's way into TLS, before the real server. */
const tlsBefore = (identity: { key: string; cert: string }, answer = 'S') =>
  serve((socket) => {
    socket.once('data', (request: Buffer) => {
      if (!request.equals(Buffer.from('0000000804d2162f', 'hex'))) return void socket.destroy();
      socket.write(answer);
      const secure = new TLSSocket(socket, { isServer: true, ...identity });
      secure.on('error', () => socket.destroy());
      const behind = connect(rig.server);
      behind.on('error', () => socket.destroy());
      secure.pipe(behind).pipe(secure);
    });
  });

describe('TLS', () => {
  ifOpenssl(
    needing('a server with a certificate of the settings’ authority is spoken to, one with another is not'),
    async () => {
      const [right, wrong] = [certificate('DNS:localhost,IP:127.0.0.1'), certificate('DNS:localhost,IP:127.0.0.1')];
      const port = await tlsBefore(right);
      for (const host of ['127.0.0.1', 'localhost']) {
        expect(await minting(port, { mode: 'verify-full', ca: right.cert }, host)).toMatchObject({
          // For the agent's own driver, as it was given.
          credential: { port, tls: { ca: right.cert } },
        });
        expect(await minting(port, { mode: 'verify-full', ca: wrong.cert }, host)).toMatchObject({
          kind: 'unavailable',
        });
        expect(await minting(port, { mode: 'verify-full' }, host)).toMatchObject({ kind: 'unavailable' });
        expect(await minting(port, { mode: 'require' }, host)).toMatchObject({ credential: { port } });
      }
    },
  );

  ifOpenssl(needing('a certificate for another name is not taken'), async () => {
    const other = certificate('DNS:other.example,IP:127.0.0.2');
    const port = await tlsBefore(other);
    expect(await minting(port, { mode: 'verify-full', ca: other.cert })).toMatchObject({ kind: 'unavailable' });
    expect(await minting(port, { mode: 'verify-full', ca: other.cert }, 'localhost')).toMatchObject({
      kind: 'unavailable',
    });
  });

  test('a server without TLS is not spoken to in clear', async () => {
    expect(await minting(rig.server.port, { mode: 'require' })).toMatchObject({ kind: 'unavailable' });
    const sent: Buffer[] = [];
    const port = await serve((socket) => {
      socket.on('data', (data: Buffer) => {
        sent.push(data);
        socket.write('N');
      });
    });
    expect(await minting(port, { mode: 'verify-full' })).toMatchObject({ kind: 'unavailable' });
    expect(Buffer.concat(sent).length).toBe(8);
  });

  ifOpenssl(needing('nothing that was said before TLS counts'), async () => {
    const identity = certificate('DNS:localhost,IP:127.0.0.1');
    const port = await tlsBefore(identity, 'SR\0\0\0\x08\0\0\0\0');
    expect(await minting(port, { mode: 'verify-full', ca: identity.cert })).toMatchObject({ kind: 'unavailable' });
  });

  test('a server that wants the password itself does not get it, where nobody knows who it is', async () => {
    const sent: Buffer[] = [];
    const port = await serve((socket) => {
      socket.on('data', (data: Buffer) => sent.push(data));
      socket.once('data', () => socket.write(Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 3])));
    });
    expect(await minting(port, { mode: 'disable' })).toMatchObject({ name: 'ProviderFailure' });
    expect(Buffer.concat(sent).toString()).not.toContain(admin.password);
  });
});

describe('answers that make no sense', () => {
  const mysqlProvider = (): Provider => openMysqlProvider(network);
  const clients = [
    ['postgres', (port: number) => minting(port, { mode: 'disable' }, undefined, 700)],
    [
      'mysql',
      (port: number) =>
        directGrants(mysqlProvider(), settings(port, { mode: 'disable' }), admin)
          .mint(['read'], { signal: AbortSignal.timeout(700) })
          .catch((error: unknown) => error),
    ],
  ] as const;
  /** Beginnings that parsers take for something. */
  const heads = [
    '',
    '52000000080000000052', // AuthenticationOk, and on
    '520000000800000063', // an authentication nobody knows
    '520000001700000000534352414d2d5348412d3235360000', // too short for what it says
    '45000000055300', // an error that ends early
    '5a0000000549', // ready for a query
    '450000000c534552524f5200', // an error without its end
    '450000000953455252', // one whose text has none
    '53000000087a6f6e', // a parameter without one
    '43000000054f', // a command without one
    '520000000a0000000a5343', // mechanisms without one
    '54000000080001616263', // a column's name without one
    '54ffffffff', // a row with a length below zero
    '540000000600ff', // more columns than there are
    '4a0000000a382e342e3700', // MySQL's greeting, cut
    '0a000000ff150448303430303020', // MySQL: an error
    '05000000fefefefefe',
    'ffffff00',
  ].map((hex) => Buffer.from(hex, 'hex'));

  test.each(clients)('%s says that the database cannot be reached, and the broker lives', async (_, mint) => {
    const broken: unknown[] = [];
    const count = (error: unknown): void => void broken.push(error);
    process.on('uncaughtException', count).on('unhandledRejection', count);
    try {
      const tries = heads.flatMap((head) => [0, 3, 200].map((length) => Buffer.concat([head, randomBytes(length)])));
      await Promise.all(
        tries.map(async (answer) => {
          const port = await serve((socket) => {
            socket.write(answer);
            socket.on('data', () => socket.end(answer));
          });
          expect([answer.toString('hex'), await mint(port)]).toEqual([
            answer.toString('hex'),
            expect.objectContaining({ name: 'ProviderFailure' }),
          ]);
        }),
      );
    } finally {
      process.off('uncaughtException', count).off('unhandledRejection', count);
    }
    expect(broken).toEqual([]);
  });

  test.each(clients)('%s gives up what never ends', async (_, mint) => {
    let sent = 0;
    const port = await serve((socket) => {
      // A notice of two gigabytes; to MySQL, a packet that goes on.
      socket.write(Buffer.from('4e7fffffff', 'hex'));
      const chunk = Buffer.alloc(1024 * 1024, 0x20);
      const more = (): void => {
        while (!socket.destroyed && sent < 500e6 && socket.write(chunk)) sent += chunk.length;
      };
      socket.on('drain', more);
      more();
    });
    expect(await mint(port)).toMatchObject({ name: 'ProviderFailure' });
    expect(sent).toBeLessThan(500e6);
  });
});

test('a host that is not there, and one that does not answer, are said to be so', async () => {
  const port = await serve((socket) => socket.destroy());
  expect(await minting(port, { mode: 'disable' })).toMatchObject({ kind: 'unavailable' });
  const silent = await serve(() => undefined);
  expect(await minting(silent, { mode: 'disable' }, undefined, 200)).toMatchObject({ kind: 'timeout' });
  expect(await minting(silent, { mode: 'require' }, undefined, 200)).toMatchObject({ kind: 'timeout' });
  expect(await minting(await freePort(), { mode: 'disable' })).toMatchObject({ kind: 'unavailable' });
});
