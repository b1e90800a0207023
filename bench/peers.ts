/**
 * What Warder is measured against, each in a process of its own: `node bench/peers.ts <which> <port> [upstream]`.
 * - `echo`: a bare `node:http` server that parses a JSON body and answers JSON.
 * - `upstream`: a bare `node:http` server that answers a small JSON document.
 * - `forwarder`: a bare `node:http` forwarder to the upstream, with keep-alive.
 * - `oidc`: oidc-provider issuing access tokens by client credentials: opaque, or ES256 JWTs for a resource.
 */
import { Agent, createServer, type IncomingMessage, request } from 'node:http';

const [which, port = '0', upstream = ''] = process.argv.slice(2);

const bodyOf = (req: IncomingMessage): Promise<string> =>
  new Promise((resolve) => {
    let text = '';
    req.setEncoding('utf8');
    req.on('data', (piece: string) => {
      text += piece;
    });
    req.on('end', () => resolve(text));
  });

const echo = () =>
  createServer(async (req, res) => {
    const text = await bodyOf(req);
    const body = JSON.stringify({ received: text === '' ? null : JSON.parse(text) });
    res.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
    res.end(body);
  });

const answer = JSON.stringify({
  object: 'list',
  data: Array.from({ length: 10 }, (_, i) => ({ id: `ch_${i}`, amount: i })),
});
const plain = () =>
  createServer((req, res) => {
    req.resume();
    res.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(answer) });
    res.end(answer);
  });

const forwarder = () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 128 });
  const { hostname, port: to } = new URL(upstream);
  return createServer((req, res) => {
    const out = request(
      { agent, hostname, port: to, method: req.method, path: req.url, headers: req.headers },
      (back) => {
        res.writeHead(back.statusCode ?? 502, back.headers);
        back.pipe(res);
      },
    );
    out.on('error', () => res.destroy());
    req.pipe(out);
  });
};

const oidc = async () => {
  const { default: Provider } = await import('oidc-provider');
  const { generateKeyPair, exportJWK } = await import('jose');
  const pair = await generateKeyPair('ES256', { extractable: true });
  const jwk = { ...(await exportJWK(pair.privateKey)), alg: 'ES256', use: 'sig', kid: 'bench' };
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [
      {
        client_id: 'bench',
        client_secret: 'bench-secret-bench-secret-bench-secret',
        id_token_signed_response_alg: 'ES256',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
    ],
    jwks: { keys: [jwk] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'orders:read',
          audience: 'https://orders.internal',
          accessTokenFormat: 'jwt',
          accessTokenTTL: 900,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  });
  return createServer(provider.callback());
};

const server =
  which === 'echo' ? echo() : which === 'upstream' ? plain() : which === 'forwarder' ? forwarder() : await oidc();
server.keepAliveTimeout = 65_000;
server.listen(Number(port), '127.0.0.1', () => process.send?.({ ready: true }));
