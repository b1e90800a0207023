/** The packets of MySQL's protocol, as a server reads and writes them (https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html). */
import type { Socket } from 'node:net';

export interface Reply {
  columns?: string[];
  rows?: (string | null)[][];
}

/** An error as the server sends it. */
export class SqlError extends Error {
  readonly number: number;
  readonly state: string;
  constructor(number: number, state: string, message: string) {
    super(message);
    this.number = number;
    this.state = state;
  }
}

const number = (value: number, bytes: number): Buffer => {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUIntLE(value, 0, bytes);
  return buffer;
};
const counted = (text: string): Buffer => {
  const bytes = Buffer.from(text);
  if (bytes.length < 251) return Buffer.concat([number(bytes.length, 1), bytes]);
  return Buffer.concat([Buffer.from([0xfc]), number(bytes.length, 2), bytes]);
};

export const capabilities = {
  longPassword: 1,
  connectWithDb: 8,
  protocol41: 0x200,
  ssl: 0x800,
  transactions: 0x2000,
  secureConnection: 0x8000,
  pluginAuth: 0x80000,
  pluginAuthLenenc: 0x200000,
} as const;
const offered = Object.entries(capabilities).reduce((all, [name, bit]) => (name === 'ssl' ? all : all | bit), 0);

export const greeting = (id: number, version: string, nonce: Buffer, plugin: string): Buffer =>
  Buffer.concat([
    Buffer.from([10]),
    Buffer.from(`${version}\0`),
    number(id, 4),
    nonce.subarray(0, 8),
    Buffer.from([0]),
    number(offered & 0xffff, 2),
    Buffer.from([45]),
    number(2, 2),
    number(offered >>> 16, 2),
    Buffer.from([21]),
    Buffer.alloc(10),
    nonce.subarray(8, 20),
    Buffer.from([0]),
    Buffer.from(`${plugin}\0`),
  ]);

/** HandshakeResponse41. @throws Error when it is something else */
export const readLogin = (packet: Buffer): { user: string; token: Buffer; plugin: string } => {
  const flags = packet.readUInt32LE(0);
  if (!(flags & capabilities.protocol41) || !(flags & capabilities.pluginAuth)) throw new Error('too old a client');
  let at = 32;
  const text = (): string => {
    const end = packet.indexOf(0, at);
    if (end === -1) throw new Error('not a login');
    const found = packet.toString('utf8', at, end);
    at = end + 1;
    return found;
  };
  const user = text();
  const length = packet.readUInt8(at);
  const token = packet.subarray(at + 1, at + 1 + length);
  at += 1 + length;
  if (flags & capabilities.connectWithDb) text();
  return { user, token, plugin: text() };
};

export const okPacket = Buffer.from([0, 0, 0, 2, 0, 0, 0]);
const endPacket = Buffer.from([0xfe, 0, 0, 2, 0]);

export const errorPacket = (error: SqlError): Buffer =>
  Buffer.concat([Buffer.from([0xff]), number(error.number, 2), Buffer.from(`#${error.state}${error.message}`)]);

const column = (name: string): Buffer =>
  Buffer.concat([
    ...['def', '', '', '', name, name].map(counted),
    Buffer.from([0x0c]),
    number(45, 2),
    number(1024, 4),
    Buffer.from([0xfd, 0, 0, 0, 0, 0]),
  ]);

export const replyPackets = ({ columns, rows = [] }: Reply): Buffer[] =>
  columns === undefined
    ? [okPacket]
    : [
        Buffer.from([columns.length]),
        ...columns.map(column),
        endPacket,
        ...rows.map((row) =>
          Buffer.concat(row.map((value) => (value === null ? Buffer.from([0xfb]) : counted(value)))),
        ),
        endPacket,
      ];

/** Cuts what arrives into packets, and numbers what is sent. */
export class Packets {
  readonly #socket: Socket;
  #rest: Buffer = Buffer.alloc(0);
  #sequence = 0;

  constructor(socket: Socket, take: (payload: Buffer) => void) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      this.#rest = Buffer.concat([this.#rest, chunk]);
      while (this.#rest.length >= 4 && this.#rest.length >= 4 + this.#rest.readUIntLE(0, 3)) {
        const end = 4 + this.#rest.readUIntLE(0, 3);
        const payload = this.#rest.subarray(4, end);
        this.#sequence = this.#rest.readUInt8(3) + 1;
        this.#rest = this.#rest.subarray(end);
        take(payload);
      }
    });
  }

  send(...payloads: Buffer[]): void {
    const framed = payloads.flatMap((payload) => {
      const head = Buffer.concat([number(payload.length, 3), number(this.#sequence & 0xff, 1)]);
      this.#sequence += 1;
      return [head, payload];
    });
    if (this.#socket.writable) this.#socket.write(Buffer.concat(framed));
  }
}
