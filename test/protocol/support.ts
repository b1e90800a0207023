/** What the protocol tests share: a broker with known clients, and requests as raw as the details need them. */
import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { connect } from 'node:net';
import { compact, type Signer } from '../corpora/tokens.ts';
import { type Answer, type Broker, type BrokerOptions, startBroker } from '../support/broker.ts';

export const assertionType = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

/**
 * Failures to authenticate are limited by address, and these tests fail hundreds of times: the broker believes
 * `X-Forwarded-For`, and each request comes from an address of its own.
 */
export const startProtocolBroker = (options: BrokerOptions = {}): Promise<Broker> =>
  startBroker({ ...options, env: { WARDER_TRUST_PROXY: '127.0.0.1', ...options.env } });

let lastAddress = 0;
export const newAddress = (): string => {
  lastAddress += 1;
  return `10.${(lastAddress >> 16) & 255}.${(lastAddress >> 8) & 255}.${lastAddress & 255}`;
};

export const basic = (clientId: string, secret: string): string =>
  `Basic ${Buffer.from(`${clientId}:${secret}`).toString('base64')}`;

export const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` });

export type Fields = Record<string, string> | [string, string][];

export const formOf = (fields: Fields): string => new URLSearchParams(fields).toString();

export const answerTo = async (url: string, init: RequestInit = {}): Promise<Answer> => {
  const headers = new Headers(init.headers);
  headers.set('x-forwarded-for', newAddress());
  const response = await fetch(url, { redirect: 'manual', ...init, headers });
  const text = await response.text();
  const json = response.headers.get('content-type')?.includes('json') === true && text !== '';
  return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : {}, text };
};

/** POSTs a form; a string goes as it is. */
export const post = (url: string, fields: Fields | string, headers: Record<string, string> = {}): Promise<Answer> =>
  answerTo(url, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    body: typeof fields === 'string' ? fields : formOf(fields),
  });

/** What no HTTP library would send: a request line and header lines, byte for byte; the connection closes after it. */
export const rawRequest = (url: string, lines: string[], body = ''): Promise<{ status: number; text: string }> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    // A server that has answered may reset what is still being sent.
    socket.on('error', (error) => (chunks.length > 0 ? undefined : reject(error)));
    socket.on('close', () => {
      const text = Buffer.concat(chunks).toString('latin1');
      resolve({ status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1] ?? 0), text });
    });
    socket.write(`${[...lines, 'Connection: close'].join('\r\n')}\r\n\r\n${body}`);
  });

export interface Listener {
  url: string;
  requests: IncomingMessage[];
  close(): Promise<void>;
}

/** A server on loopback; what `answer` returns is sent as JSON, undefined as 404. */
export const listen = async (answer: (req: IncomingMessage) => unknown): Promise<Listener> => {
  const requests: IncomingMessage[] = [];
  const server: Server = createServer((req, res) => {
    requests.push(req);
    const document = answer(req);
    res.writeHead(document === undefined ? 404 : 200, { 'content-type': 'application/json' });
    res.end(document === undefined ? '' : JSON.stringify(document));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return {
    url: `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};

const pairs = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  PS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  Ed25519: () => generateKeyPairSync('ed25519'),
  EdDSA: () => generateKeyPairSync('ed25519'),
};
export type Algorithm = keyof typeof pairs;
export const algorithms = Object.keys(pairs) as Algorithm[];

export interface ClientKey extends Signer {
  publicKey: KeyObject;
  publicJwk: Record<string, unknown>;
  privateJwk: Record<string, unknown>;
}

export const makeKey = (alg: Algorithm, kid = `${alg}-1`): ClientKey => {
  const { publicKey, privateKey } = pairs[alg]();
  return {
    alg,
    kid,
    key: privateKey,
    publicKey,
    publicJwk: { ...publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' },
    privateJwk: { ...privateKey.export({ format: 'jwk' }), kid, alg },
  };
};

/** Registers an agent that signs its assertions. */
export const jwtAgent = async (broker: Broker, name: string, auth: object): Promise<void> => {
  const made = await broker.admin('POST', '/agents', {
    name,
    owner: 'team@example.com',
    auth: { method: 'private_key_jwt', ...auth },
  });
  if (made.status !== 201) throw new Error(`agent ${name}: ${made.text}`);
};

export const seconds = (): number => Math.floor(Date.now() / 1000);

export const assertionClaims = (issuer: string, clientId: string): Record<string, unknown> => ({
  iss: clientId,
  sub: clientId,
  aud: issuer,
  iat: seconds(),
  exp: seconds() + 60,
  jti: randomUUID(),
});

/** A client assertion that is accepted, unless `claims` or `header` say otherwise. */
export const assertion = (
  issuer: string,
  clientId: string,
  key: Signer,
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
): string =>
  compact({ alg: key.alg, kid: key.kid, ...header }, { ...assertionClaims(issuer, clientId), ...claims }, key);

export const withAssertion = (jwt: string, more: Record<string, string> = {}): Record<string, string> => ({
  grant_type: 'client_credentials',
  client_assertion_type: assertionType,
  client_assertion: jwt,
  ...more,
});

/** A connection whose credentials are JWTs of the broker itself. */
export const jwtConnection = async (broker: Broker, name: string, settings: object): Promise<void> => {
  const made = await broker.admin('POST', '/connections', { name, provider: 'internal-jwt', settings });
  if (made.status !== 201) throw new Error(`connection ${name}: ${made.text}`);
};

export const must = (answer: Answer, status: number): Answer => {
  if (answer.status !== status) throw new Error(`${answer.status} instead of ${status}: ${answer.text}`);
  return answer;
};

export const tokenIn = (answer: Answer): string => String(must(answer, 200).body['access_token']);

/** The token of a credential POST /v1/grants gave. */
export const grantTokenIn = (answer: Answer): string => {
  const { credential } = must(answer, 201).body;
  return String((credential as { token?: unknown } | undefined)?.token);
};

/** Runs the work over all items, a few at a time, and gives the results in order. */
export const eachOf = async <T, R>(items: readonly T[], work: (item: T) => Promise<R>, width = 16): Promise<R[]> => {
  const results: R[] = new Array(items.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    for (;;) {
      const index = next;
      next += 1;
      const item = items[index];
      if (index >= items.length || item === undefined) return;
      results[index] = await work(item);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return results;
};

/** What a broker logged as an error: nothing a client sends is one. */
export const troubleIn = (log: string): string[] =>
  log.split('\n').filter((line) => line.startsWith('FATAL') || /"level":[56]0/.test(line));
