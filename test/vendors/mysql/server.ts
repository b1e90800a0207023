/**
 * A small server that speaks MySQL 8's protocol: logins by `caching_sha2_password`, the quick way and the whole one with
 * the server's RSA key, and text queries over accounts.ts.
 */
import { constants, generateKeyPairSync, privateDecrypt, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { Accounts, type SqlSession } from './accounts.ts';
import { errorPacket, greeting, okPacket, Packets, readLogin, replyPackets, SqlError } from './wire.ts';

const plugin = 'caching_sha2_password';
const keys = generateKeyPairSync('rsa', { modulusLength: 2048 });
const publicKey = keys.publicKey.export({ type: 'spki', format: 'pem' }).toString();
const accessDenied = (user: string): SqlError => new SqlError(1045, '28000', `Access denied for user '${user}'`);

export const startMysqlServer = async (): Promise<{ url: string; stop(): Promise<void> }> => {
  const accounts = new Accounts();
  accounts.add('super', 'superuser', ['ALL']);
  const sockets = new Set<Socket>();
  let lastId = 0;

  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    lastId += 1;
    const session: SqlSession = { id: lastId, user: '', end: () => socket.destroy() };
    socket
      .on('error', () => undefined)
      .on('close', () => {
        sockets.delete(socket);
        accounts.closed(session.id);
      });
    const nonce = randomBytes(20).map((byte) => (byte % 94) + 33) as Buffer;
    let step: 'login' | 'key' | 'password' | 'in' = 'login';
    let user = '';

    const letIn = (): void => {
      accounts.admit(user);
      session.user = user;
      accounts.opened(session);
      step = 'in';
      packets.send(okPacket);
    };
    const take = async (packet: Buffer): Promise<void> => {
      switch (step) {
        case 'login': {
          const login = readLogin(packet);
          ({ user } = login);
          if (login.plugin !== plugin) throw accessDenied(user);
          const quick = accounts.quickLogin(user, login.token, nonce);
          if (quick === false) throw accessDenied(user);
          if (quick) {
            packets.send(Buffer.from([1, 3]));
            return letIn();
          }
          step = 'key';
          return packets.send(Buffer.from([1, 4]));
        }
        case 'key':
          // Without TLS the client asks for the key; the password in clear is not taken.
          if (!packet.equals(Buffer.from([2]))) throw accessDenied(user);
          step = 'password';
          return packets.send(Buffer.concat([Buffer.from([1]), Buffer.from(publicKey)]));
        case 'password': {
          const masked = privateDecrypt({ key: keys.privateKey, padding: constants.RSA_PKCS1_OAEP_PADDING }, packet);
          const plain = Buffer.from(masked.map((byte, at) => byte ^ (nonce[at % nonce.length] ?? 0)));
          if (!accounts.fullLogin(user, plain.subarray(0, -1).toString())) throw accessDenied(user);
          return letIn();
        }
        default:
          if (packet[0] === 1) return void socket.end();
          if (packet[0] === 14) return packets.send(okPacket);
          if (packet[0] !== 3) throw new SqlError(1047, '08S01', 'Unknown command');
          packets.send(...replyPackets(await accounts.query(session, packet.toString('utf8', 1))));
      }
    };
    // One after another, as they came.
    let before = Promise.resolve();
    const packets = new Packets(socket, (packet) => {
      before = before
        .then(() => take(packet))
        .catch((error: unknown) => {
          packets.send(errorPacket(error instanceof SqlError ? error : new SqlError(1105, 'HY000', 'Unknown error')));
          if (step !== 'in') socket.end();
        });
    });
    packets.send(greeting(session.id, '8.4.7', nonce, plugin));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `mysql://super:superuser@127.0.0.1:${port}`,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
};
