/**
 * Connections to addresses that somebody wrote down: judged when they are made, by the address really connected to, for
 * every library that an adapter uses.
 */
import type { LookupAddress, LookupOptions } from 'node:dns';
import { lookup as systemLookup } from 'node:dns';
import { once } from 'node:events';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { isIP, isIPv6, type Socket, connect as tcpConnect } from 'node:net';
import { Duplex } from 'node:stream';
import { Agent, buildConnector, fetch as undiciFetch } from 'undici';
import { judgeAddress, judgeHost } from '../src/domain/network-address.ts';

/** The address a connection would go to is not one it may go to. */
export class AddressRefused extends Error {
  override readonly name = 'AddressRefused';
}

/** Cloud metadata hands out credentials to whoever asks: refused even where private networks are allowed. */
const permitted = (address: string, allowPrivate: boolean): boolean => {
  const judged = judgeAddress(address);
  if (judged.kind === 'public') return true;
  return judged.kind === 'private' && allowPrivate && judged.range !== 'metadata';
};

/** As `dns.lookup` with `all`: how a test brings its own answers. */
export type Lookup = (
  hostname: string,
  options: LookupOptions & { all: true },
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

type LookupDone = (error: Error | null, address: string | LookupAddress[], family?: number) => void;

/** Resolves a name and keeps only addresses that may be connected to, so that not even a SYN goes elsewhere. */
const guardedLookup =
  (allowPrivate: boolean, lookup: Lookup) =>
  (hostname: string, options: LookupOptions, done: LookupDone): void => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return done(error, []);
      const good = addresses.filter(({ address }) => permitted(address, allowPrivate));
      const [first] = good;
      if (!first) return done(new AddressRefused(`${hostname} resolves to an address that is not allowed`), []);
      if (options.all) return done(null, good);
      done(null, first.address, first.family);
    });
  };

/**
 * undici takes a reset for the end of an answer that ends with its connection (it tells the two apart by this code), and
 * a part would pass for the whole. Must be called before undici listens.
 */
const resetIsNoEnd = (socket: Socket): void => {
  socket.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNRESET') error.code = 'EPROTO';
  });
};

/** Connects and, before a byte is sent, judges the address at the other end of the socket. */
export const guardedConnector = (
  allowPrivate: boolean,
  timeoutMs: number,
  lookup: Lookup,
): buildConnector.connector => {
  const connect = buildConnector({
    timeout: timeoutMs,
    lookup: guardedLookup(allowPrivate, lookup),
    // Both families at once, first answer wins (RFC 8305).
    autoSelectFamily: true,
    allowH2: false,
  });
  return (options, callback) => {
    const host = judgeHost(options.hostname);
    const literal = isIP(options.hostname.replace(/^\[|\]$/g, '')) !== 0;
    if (host.kind === 'invalid' || (literal && !permitted(options.hostname.replace(/^\[|\]$/g, ''), allowPrivate))) {
      callback(new AddressRefused(`${options.hostname} is not an address that is allowed`), null);
      return;
    }
    connect(options, (error, socket) => {
      if (error) return callback(error, null);
      if (!socket) return callback(new Error('no socket'), null);
      if (!permitted(socket.remoteAddress ?? '', allowPrivate)) {
        socket.destroy();
        return callback(new AddressRefused(`${options.hostname} led to an address that is not allowed`), null);
      }
      socket.setNoDelay(true);
      resetIsNoEnd(socket);
      callback(null, socket);
    });
  };
};

/** What may be connected to: public addresses, and private ones where a connection's settings say so. */
export interface Reach {
  allowPrivateNetwork: boolean;
}

/** The outside world, as adapters may reach it. Nothing here follows a redirect to another host unasked. */
export interface Network {
  /** For libraries that are built over `node:http`. */
  agents(reach: Reach): { http: HttpAgent; https: HttpsAgent };
  /** As the global `fetch`, without following redirects. Rejects with {@link AddressRefused} as the `cause`. */
  fetch(reach: Reach): typeof globalThis.fetch;
  /**
   * A connected TCP socket, for protocols that are not HTTP; IPv6 addresses with or without brackets.
   * @throws AddressRefused, or what Node says
   */
  connect(address: { host: string; port: number } & Reach, signal: AbortSignal): Promise<Socket>;
  /** Ends what is open. */
  close(): Promise<void>;
}

const connectTimeoutMs = 5_000;
/** A socket on which nothing moves for so long is given up; each call has a signal of its own besides. */
const idleMs = 30_000;

/** Refuses what is written as an address and may not be connected to; names are judged when they are resolved. */
const judgeLiteral = (host: string, { allowPrivateNetwork }: Reach): Error | undefined => {
  const bare = host.replace(/^\[|\]$/g, '');
  const fine =
    judgeHost(isIPv6(host) ? `[${host}]` : host).kind !== 'invalid' &&
    (isIP(bare) === 0 || permitted(bare, allowPrivateNetwork));
  return fine ? undefined : new AddressRefused(`${host} is not an address that is allowed`);
};

/** Node asks no lookup about an address written as one: it is judged before the socket is made. */
const judging = <T extends HttpAgent>(agent: T, reach: Reach): T => {
  const create = agent.createConnection.bind(agent);
  agent.createConnection = (options, callback) => {
    const refused = judgeLiteral(options.host ?? '', reach);
    if (!refused) return create(options, callback);
    process.nextTick(() => callback?.(refused, new Duplex()));
    return undefined;
  };
  return agent;
};

export const openNetwork = (lookup: Lookup = systemLookup): Network => {
  const known = new Map<boolean, { http: HttpAgent; https: HttpsAgent; dispatcher: Agent }>();
  const sockets = new Set<Socket>();
  const of = (reach: Reach) => {
    const allow = reach.allowPrivateNetwork;
    const found = known.get(allow);
    if (found) return found;
    const options = { keepAlive: true, lookup: guardedLookup(allow, lookup), timeout: idleMs };
    const made = {
      http: judging(new HttpAgent(options), reach),
      https: judging(new HttpsAgent(options), reach),
      dispatcher: new Agent({ connect: guardedConnector(allow, connectTimeoutMs, lookup), allowH2: false }),
    };
    known.set(allow, made);
    return made;
  };

  return {
    agents: (reach) => ({ http: of(reach).http, https: of(reach).https }),

    fetch(reach) {
      const { dispatcher } = of(reach);
      const guarded = (input: unknown, init: object | undefined) =>
        undiciFetch(input as string, { redirect: 'manual', ...init, dispatcher });
      // undici's own types and those of Node's global describe the same objects.
      return guarded as unknown as typeof globalThis.fetch;
    },

    async connect({ host, port, ...reach }, signal) {
      const refused = judgeLiteral(host, reach);
      if (refused) throw refused;
      signal.throwIfAborted();
      const socket = tcpConnect({
        host: host.replace(/^\[|\]$/g, ''),
        port,
        lookup: guardedLookup(reach.allowPrivateNetwork, lookup),
      });
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      const stop = (): void => void socket.destroy(new Error('the time for connecting is over'));
      const patience = AbortSignal.any([signal, AbortSignal.timeout(connectTimeoutMs)]);
      patience.addEventListener('abort', stop, { once: true });
      try {
        await once(socket, 'connect');
      } catch (error) {
        socket.destroy();
        throw error;
      } finally {
        patience.removeEventListener('abort', stop);
      }
      if (!permitted(socket.remoteAddress ?? '', reach.allowPrivateNetwork)) {
        socket.destroy();
        throw new AddressRefused(`${host} led to an address that is not allowed`);
      }
      socket.setNoDelay(true);
      return socket;
    },

    async close() {
      for (const socket of sockets) socket.destroy();
      for (const { http, https, dispatcher } of known.values()) {
        http.destroy();
        https.destroy();
        await dispatcher.destroy();
      }
    },
  };
};
