/**
 * A real authorization server (`oidc-provider`) in a process of its own: PKCE required, refresh tokens that rotate, with
 * reuse taken for theft, revocation, introspection, `iss` in the answers. Beside it a resource that its tokens open, and
 * `/control/…` for the test. Prints its address.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import Provider, { type KoaContextWithOIDC } from 'oidc-provider';
import { startTroubledServer } from '../../support/troubled-http.ts';
import { families, living, MemoryStore, storeOf } from './store.ts';

const clientId = 'warder';
const clientSecret = 'client-secret-of-warder-0123456789';

let rotates = true;
let accessTokenSeconds = 3600;
let account = 'ann@example.com';
let denies = false;
const redeemed: Record<string, number> = {};
const counts = { redemptions: 0, families_revoked: 0, token_requests: 0 };

const readJson = async (req: IncomingMessage): Promise<Record<string, unknown>> => {
  let text = '';
  for await (const chunk of req) text += String(chunk);
  return text === '' ? {} : JSON.parse(text);
};

let provider: Provider;

/** Secrets of clients that have several, as Entra and Okta give them: by client, then by the secret's id. */
const clientSecrets = new Map<string, Map<string, { name: string; secret: string }>>();
let secretsMade = 0;
const addSecret = (client: string, name: string): { keyId: string; secretText: string } => {
  secretsMade += 1;
  const [keyId, secretText] = [`secret-${secretsMade}`, `cs~${randomBytes(24).toString('base64url')}:%&+=`];
  const of = clientSecrets.get(client) ?? new Map();
  clientSecrets.set(client, of.set(keyId, { name, secret: secretText }));
  return { keyId, secretText };
};
const isSecretOf = (client: string, secret: unknown): boolean =>
  [...(clientSecrets.get(client)?.values() ?? [])].some((one) => one.secret === secret);

/** Where a client makes, lists and ends its own secrets, with a token of its own that has the scope `admin`. */
const manage = async (req: IncomingMessage, res: ServerResponse, path: string): Promise<void> => {
  const body = await readJson(req);
  const token = await provider.ClientCredentials.find(/^Bearer (.+)$/.exec(req.headers.authorization ?? '')?.[1] ?? '');
  const send = (status: number, answer?: object): void => {
    res.writeHead(status, { 'content-type': 'application/json' }).end(answer && JSON.stringify(answer));
  };
  if (!token?.isValid || !token.clientId) return send(401);
  if (!(token.scope ?? '').split(' ').includes('admin')) return send(403);
  const secrets = clientSecrets.get(token.clientId) ?? new Map();
  if (req.method === 'POST') return send(201, addSecret(token.clientId, String(body['displayName'])));
  if (req.method === 'DELETE') return send(secrets.delete(path.slice('/manage/secrets/'.length)) ? 204 : 404);
  return send(200, { secrets: [...secrets].map(([keyId, { name }]) => ({ keyId, displayName: name })) });
};

const resource = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
  const token = /^Bearer (.+)$/.exec(req.headers.authorization ?? '')?.[1] ?? '';
  const found = (await provider.AccessToken.find(token)) ?? (await provider.ClientCredentials.find(token));
  const wanted = req.method === 'GET' ? 'read' : 'write';
  req.resume();
  if (!found?.isValid) {
    res.writeHead(401, { 'WWW-Authenticate': 'Bearer error="invalid_token"' }).end();
    return;
  }
  const who = 'accountId' in found ? found.accountId : found.clientId;
  const may = (found.scope ?? '').split(' ').includes(wanted);
  res
    .writeHead(may ? 200 : 403, { 'content-type': 'application/json' })
    .end(JSON.stringify({ who, scope: found.scope }));
};

const interaction = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
  const details = await provider.interactionDetails(req, res);
  if (denies) {
    const refused = { error: 'access_denied', error_description: '<script>alert(1)</script>' };
    return provider.interactionFinished(req, res, refused, { mergeWithLastSubmission: false });
  }
  if (details.prompt.name === 'login') {
    return provider.interactionFinished(
      req,
      res,
      { login: { accountId: account } },
      { mergeWithLastSubmission: false },
    );
  }
  const grant = new provider.Grant({ accountId: details.session?.accountId ?? account, clientId });
  grant.addOIDCScope(String(details.params['scope'] ?? ''));
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(req, res, { consent }, { mergeWithLastSubmission: true });
};

const control = async (req: IncomingMessage, res: ServerResponse, what: string): Promise<void> => {
  const body = await readJson(req);
  const answer = (value: unknown): void => void res.end(JSON.stringify(value ?? {}));
  switch (what) {
    case 'set':
      if (typeof body['families_part'] === 'boolean') families.part = body['families_part'];
      if (typeof body['rotates'] === 'boolean') rotates = body['rotates'];
      if (typeof body['access_token_seconds'] === 'number') accessTokenSeconds = body['access_token_seconds'];
      if (typeof body['account'] === 'string') account = body['account'];
      if (typeof body['denies'] === 'boolean') denies = body['denies'];
      if (Array.isArray(body['redirect_uris'])) {
        const client = storeOf('Client').get(clientId);
        if (client) client['redirect_uris'] = body['redirect_uris'];
      }
      return answer({});
    case 'tokens':
      return answer([...living('AccessToken'), ...living('ClientCredentials')].map((row) => row.jti));
    case 'refresh-tokens':
      return answer(living('RefreshToken').map((row) => ({ id: row.jti, consumed: row.consumed !== undefined })));
    case 'elapse':
      for (const model of ['AccessToken', 'ClientCredentials']) storeOf(model).clear();
      return answer({});
    case 'forget':
      for (const model of ['AccessToken', 'ClientCredentials', 'RefreshToken', 'Grant']) storeOf(model).clear();
      return answer({});
    case 'client': {
      secretsMade += 1;
      const id = `client-${secretsMade}`;
      const { keyId, secretText } = addSecret(id, 'made by hand');
      storeOf('Client').set(id, { ...storeOf('Client').get(clientId), client_id: id, client_secret: secretText });
      return answer({ id, secret: secretText, key_id: keyId });
    }
    case 'client-secrets':
      return answer({
        count: clientSecrets.get(String(body['id']))?.size ?? 0,
        accepted: isSecretOf(String(body['id']), body['secret']),
      });
    case 'stats':
      return answer({ ...counts, redeemed });
    default:
      res.writeHead(404).end();
  }
};

const handler = (req: IncomingMessage, res: ServerResponse): void => {
  const path = (req.url ?? '').split('?', 1)[0] ?? '';
  if (path === '/token') counts.token_requests += 1;
  const work = async (): Promise<unknown> => {
    if (path === '/api/things') return resource(req, res);
    if (path.startsWith('/manage/')) return manage(req, res, path);
    if (path.startsWith('/interaction/')) return interaction(req, res);
    return provider.callback()(req, res);
  };
  work().catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    res.destroy();
  });
};

const server = await startTroubledServer(handler, (req) => !/^\/(?:token|manage)(?:\/|\?|$)/.test(req.url ?? ''));

provider = new Provider(server.url, {
  adapter: MemoryStore,
  scopes: ['openid', 'offline_access', 'read', 'write', 'admin'],
  claims: { openid: ['sub', 'email'] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  features: {
    devInteractions: { enabled: false },
    revocation: { enabled: true },
    introspection: { enabled: true },
    clientCredentials: { enabled: true },
  },
  rotateRefreshToken: () => rotates,
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: {
    AccessToken: () => accessTokenSeconds,
    ClientCredentials: () => accessTokenSeconds,
    AuthorizationCode: 60,
    Grant: 86_400,
    IdToken: 3600,
    Interaction: 600,
    RefreshToken: 86_400,
    Session: 3600,
  },
  cookies: { keys: ['a key of the tests'] },
  interactions: { url: (_ctx: KoaContextWithOIDC, { uid }: { uid: string }) => `/interaction/${uid}` },
  findAccount: async (_ctx: KoaContextWithOIDC, id: string) => ({
    accountId: id,
    claims: async () => ({ sub: id, email: id }),
  }),
});
storeOf('Client').set(clientId, {
  client_id: clientId,
  client_secret: clientSecret,
  redirect_uris: ['https://unset.example/oauth/callback'],
  grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
  response_types: ['code'],
  scope: 'openid offline_access read write admin',
  token_endpoint_auth_method: 'client_secret_basic',
});
const { compareClientSecret } = provider.Client.prototype;
provider.Client.prototype.compareClientSecret = function (actual: string) {
  return clientSecrets.has(this.clientId) ? isSecretOf(this.clientId, actual) : compareClientSecret.call(this, actual);
};
provider.on('grant.success', (ctx: KoaContextWithOIDC) => {
  const used = ctx.oidc.entities.RotatedRefreshToken ?? ctx.oidc.entities.RefreshToken;
  if (ctx.oidc.params?.['grant_type'] !== 'refresh_token' || !used) return;
  counts.redemptions += 1;
  redeemed[used.jti] = (redeemed[used.jti] ?? 0) + 1;
});
provider.on('grant.revoked', () => {
  counts.families_revoked += 1;
});

// Trouble is ordered from another port: what troubles the server must not trouble its control.
const controls = createServer((req, res) => {
  const [, first = '', second = '', ms = ''] = (req.url ?? '').split('/');
  const trouble = server.trouble as unknown as Record<string, (ms: number) => Promise<void>>;
  const work = async (): Promise<void> => {
    if (first === 'control') return control(req, res, second);
    await trouble[second]?.(Number(ms));
    res.end('{}');
  };
  work().catch(() => res.destroy());
}).listen(0, '127.0.0.1');
await once(controls, 'listening');
process.stdout.write(`${server.url} http://127.0.0.1:${(controls.address() as AddressInfo).port}\n`);
