/** A Vault for tests: its HTTP API over what namespace.ts and engines.ts hold, strict where the real one is. */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { DatabaseEngine } from './engines.ts';
import { VaultError } from './errors.ts';
import { Namespace, type VaultCall } from './namespace.ts';

export interface TestVault {
  handler: RequestListener;
  rootToken: string;
  /** @param name of a namespace; the root's unless said */
  namespace(name?: string): Namespace;
  /** Makes a namespace, with the same root token. */
  addNamespace(name: string): Namespace;
  database(name?: string): DatabaseEngine;
  sealed: boolean;
  /** Headers of every request, as they came. */
  seen: { url: string; headers: NodeJS.Dict<string | string[]> }[];
  close(): void;
}

/** Node's server knows no LIST; `?list=true` says the same. */
const methods = { GET: 'GET', POST: 'POST', PUT: 'POST', DELETE: 'DELETE' } as const;

export const makeTestVault = (): TestVault => {
  const rootToken = `hvs.root${randomBytes(16).toString('hex')}`;
  const namespaces = new Map<string, Namespace>([['', new Namespace(rootToken)]]);
  const namespace = (name = ''): Namespace => {
    const found = namespaces.get(name.replace(/\/$/, ''));
    if (!found) throw new VaultError(404, `namespace not found: ${name}`);
    return found;
  };

  const vault: TestVault = {
    rootToken,
    namespace,
    addNamespace(name) {
      const made = new Namespace(rootToken);
      namespaces.set(name, made);
      return made;
    },
    database: (name) => namespace(name).engines.get('database') as DatabaseEngine,
    sealed: false,
    seen: [],
    close: () => {
      for (const one of namespaces.values()) one.tokens.close();
    },
    handler: (req, res) => {
      void serve(vault, namespace, req, res).catch(() => res.destroy());
    },
  };
  return vault;
};

const serve = async (
  vault: TestVault,
  namespace: (name: string) => Namespace,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> => {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  const answer = (status: number, body?: object): void => {
    res.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
    res.end(body === undefined ? '' : JSON.stringify(body));
  };
  try {
    vault.seen.push({ url: req.url ?? '', headers: req.headers });
    if (vault.sealed) throw new VaultError(503, 'Vault is sealed');
    const found = namespace(String(req.headers['x-vault-namespace'] ?? ''));
    const { status, body } = await found.handle(readCall(req.method, req.url, req.headers['x-vault-token'], chunks));
    answer(status, body);
  } catch (error) {
    if (error instanceof VaultError) answer(error.status, { errors: error.errors });
    else answer(500, { errors: ['internal error'] });
  }
};

const readCall = (
  method: string | undefined,
  target: string | undefined,
  token: string | string[] | undefined,
  chunks: Buffer[],
): VaultCall => {
  const url = new URL(target ?? '/', 'http://vault');
  const name = methods[(method ?? '') as keyof typeof methods];
  if (name === undefined || !url.pathname.startsWith('/v1/')) throw new VaultError(405, 'unsupported operation');
  const text = Buffer.concat(chunks).toString();
  let body: unknown = {};
  try {
    if (text !== '') body = JSON.parse(text);
  } catch {
    throw new VaultError(400, 'failed to parse JSON input: invalid character');
  }
  if (typeof body !== 'object' || body === null) throw new VaultError(400, 'failed to parse JSON input');
  return {
    method: name === 'GET' && url.searchParams.get('list') === 'true' ? 'LIST' : name,
    path: decodeURIComponent(url.pathname.slice('/v1/'.length)).replace(/\/$/, ''),
    query: url.searchParams,
    body: { ...body },
    token: typeof token === 'string' ? token : undefined,
  };
};
