/** How a Vault is spoken to: nothing of the environment, no redirect, no token where it does not belong. */
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { inspect } from 'node:util';
import { afterAll, afterEach, describe, expect, test } from '@jest/globals';
import { openNetwork } from '../../../adapters/network.ts';
import { openVaultClient } from '../../../adapters/vault/client.ts';
import { VaultFailure } from '../../../adapters/vault/failure.ts';
import type { VaultSite } from '../../../adapters/vault/transport.ts';
import { authority, certificate, privateKey } from '../../vendors/vault/certificates.ts';

const network = openNetwork();
const servers: (Server & { closeAllConnections?(): void })[] = [];
afterAll(() => network.close());
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections?.();
    server.close();
  }
});

const listening = async (server: Server): Promise<number> => {
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return (server.address() as AddressInfo).port;
};
const serve = async (handler: RequestListener): Promise<VaultSite> => ({
  address: `http://127.0.0.1:${await listening(createServer(handler))}`,
  allowPrivateNetwork: true,
});
const token = 'hvs.canary-token';
const ask = (site: VaultSite, over: object = {}, signal = AbortSignal.timeout(5_000)) =>
  openVaultClient(network, site).call({ method: 'GET', path: 'secret/data/x', token, ...over }, signal);
const failureOf = (call: Promise<unknown>): Promise<unknown> => call.catch((error: unknown) => error);

test('the token, the namespace and the body go where they belong, and nothing of the environment does', async () => {
  const environment = {
    VAULT_ADDR: 'http://127.0.0.1:9',
    VAULT_TOKEN: 'hvs.from-environment',
    VAULT_NAMESPACE: 'from-environment',
    VAULT_PREFIX: '/from-environment',
    VAULT_SKIP_VERIFY: '1',
    HTTP_PROXY: 'http://127.0.0.1:9',
    http_proxy: 'http://127.0.0.1:9',
    ALL_PROXY: 'http://127.0.0.1:9',
  };
  const before = Object.keys(environment).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, environment);
  try {
    const seen: { url: string | undefined; headers: IncomingHttpHeaders }[] = [];
    const site = await serve((req, res) => {
      seen.push({ url: req.url, headers: req.headers });
      res.writeHead(200, { 'Content-Type': 'application/json' }).end('{"data":{"a":1}}');
    });
    expect(await ask(site)).toEqual({ data: { a: 1 } });
    const { token: _none, ...login } = { token, method: 'POST' as const, path: 'auth/approle/login' };
    await openVaultClient(network, { ...site, namespace: 'team-a' }).call(login, AbortSignal.timeout(5_000));
    expect(seen.map(({ url }) => url)).toEqual(['/v1/secret/data/x', '/v1/auth/approle/login']);
    expect(seen[0]?.headers).toMatchObject({ 'x-vault-token': token, 'x-vault-request': 'true' });
    expect(seen[0]?.headers).not.toHaveProperty('x-vault-namespace');
    expect(seen[1]?.headers).toMatchObject({ 'x-vault-namespace': 'team-a' });
    expect(seen[1]?.headers).not.toHaveProperty('x-vault-token');
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
});

test('a redirect is never followed, not even to the same host', async () => {
  const elsewhere: string[] = [];
  const other = await serve((req, res) => {
    elsewhere.push(String(req.url));
    res.end('{}');
  });
  for (const status of [301, 302, 303, 307, 308]) {
    const site = await serve((req, res) => {
      if (req.url !== '/v1/secret/data/x') elsewhere.push(String(req.url));
      res.writeHead(status, { Location: status === 301 ? '/v1/other' : `${other.address}/v1/other` }).end();
    });
    expect(await failureOf(ask(site))).toMatchObject({ kind: 'unavailable', status });
  }
  expect(elsewhere).toEqual([]);
});

describe('an answer', () => {
  const answering = (status: number, body: string) =>
    serve((_req, res) => void res.writeHead(status, { 'Content-Type': 'application/json' }).end(body));

  test.each([
    [400, '{"errors":["invalid role"]}', 'refused'],
    [403, '{"errors":["permission denied"]}', 'refused'],
    [404, '{"errors":[]}', 'refused'],
    [404, '{"data":{"data":null,"metadata":{"version":1}}}', 'refused'],
    [405, '{"errors":["unsupported operation"]}', 'refused'],
    [403, '<html>WAF</html>', 'unavailable'],
    [404, '', 'unavailable'],
    [408, '{"errors":[]}', 'unavailable'],
    [412, '{"errors":[]}', 'unavailable'],
    [429, '{"errors":["rate limit quota exceeded"]}', 'unavailable'],
    [472, '{"errors":[]}', 'unavailable'],
    [473, '{"errors":[]}', 'unavailable'],
    [500, '{"errors":["internal error"]}', 'unavailable'],
    [503, '{"errors":["Vault is sealed"]}', 'unavailable'],
    [200, '<<<', 'unavailable'],
    [200, '', 'unavailable'],
    [200, '"hello"', 'unavailable'],
    [200, '{"data":7}', 'unavailable'],
    [200, '{"auth":{"client_token":7}}', 'unavailable'],
    [206, '{}', 'unavailable'],
  ])('%i %s is %s', async (status, body, kind) => {
    const failure = await failureOf(ask(await answering(status, body)));
    expect(failure).toBeInstanceOf(VaultFailure);
    expect(failure).toMatchObject({ kind });
  });

  test('without content is one, where the status says so', async () => {
    expect(await ask(await serve((_req, res) => void res.writeHead(204).end()))).toEqual({});
  });

  test('without end is given up', async () => {
    const site = await serve((_req, res) => {
      res.writeHead(200);
      const fill = (): void => {
        while (!res.destroyed && res.write('x'.repeat(65_536)));
        if (!res.destroyed) res.once('drain', fill);
      };
      res.on('error', () => undefined);
      fill();
    });
    expect(await failureOf(ask(site))).toMatchObject({ kind: 'unavailable' });
  });

  test('that never comes, or stops in the middle, is a time-out as soon as the signal says', async () => {
    for (const handler of [() => undefined, ((_req, res) => void res.writeHead(200).write('{')) as RequestListener]) {
      const began = performance.now();
      const failure = await failureOf(ask(await serve(handler), {}, AbortSignal.timeout(200)));
      expect(failure).toMatchObject({ kind: 'timeout' });
      expect(performance.now() - began).toBeLessThan(1_500);
    }
  });

  test('that says too much leaves nothing of it, or of the request, in the failure', async () => {
    const site = await answering(403, '{"errors":["canary-said hvs.canary-other"]}');
    const failure = await failureOf(ask(site, { method: 'POST', body: { secret_id: 'canary-body' } }));
    const shown = `${inspect(failure, { depth: 20, showHidden: true })} ${JSON.stringify(failure)} ${String(failure)}`;
    expect(shown).not.toMatch(/canary|X-Vault|secret\/data/i);
  });
});

describe('the address', () => {
  test('is judged when it is connected to: no private one unasked, never the metadata of a cloud', async () => {
    const site = await serve((_req, res) => void res.end('{}'));
    expect(await failureOf(ask({ ...site, allowPrivateNetwork: false }))).toMatchObject({ kind: 'refused' });
    const metadata = { address: 'http://169.254.169.254', allowPrivateNetwork: true };
    expect(await failureOf(ask(metadata))).toMatchObject({ kind: 'refused' });
  });

  test('that nobody listens at is an outage', async () => {
    const gone = { address: 'http://127.0.0.1:9', allowPrivateNetwork: true };
    expect(await failureOf(ask(gone))).toMatchObject({ kind: 'unavailable' });
  });

  test('is believed by the authority that is named, and by no other', async () => {
    const tls = createTlsServer({ cert: certificate, key: privateKey }, (_req, res) => void res.end('{"data":{}}'));
    const address = `https://127.0.0.1:${await listening(tls)}`;
    const site = { address, allowPrivateNetwork: true };
    expect(await ask({ ...site, ca: [authority] })).toEqual({ data: {} });
    expect(await failureOf(ask(site))).toMatchObject({ kind: 'unavailable' });
    // Not by way of a connection that is open already either.
    expect(await failureOf(ask({ ...site, ca: [certificate] }))).toMatchObject({ kind: 'unavailable' });
  });
});
