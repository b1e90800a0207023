/**
 * A service with API keys, as many have it: accounts hold keys under names, a key makes and deletes keys of its account,
 * lists come in pages. One more kind of account has a single secret that whoever knows it replaces.
 */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';

export interface Key {
  id: string;
  name: string;
  secret: string;
}

export interface KeyAccount {
  /** May make and delete keys, and nothing else. */
  admin: string;
  keys: Map<string, Key>;
  hostile: boolean;
}

const pageSize = 2;

const readJson = async (req: IncomingMessage): Promise<Record<string, unknown>> => {
  let text = '';
  for await (const chunk of req) text += String(chunk);
  try {
    const body: unknown = JSON.parse(text);
    return typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {};
  } catch {
    return {};
  }
};

/** Every character that may stand in a header, but blanks. */
const oddities = Array.from({ length: 94 }, (_, index) => String.fromCharCode(0x21 + index)).join('');

export class KeyService {
  readonly accounts: KeyAccount[] = [];
  /** Answers with keys that are not the ones it made. */
  confused = false;
  #made = 0;

  addKey(account: KeyAccount, name: string): Key {
    this.#made += 1;
    const id = account.hostile ? `../${this.#made}/%2e%2e/?a=b&c#"{{secret}}'\\` : `key_${this.#made}`;
    const secret = `sk_${randomBytes(18).toString('base64url')}${account.hostile ? oddities : ''}`;
    const key = { id, name, secret };
    account.keys.set(id, key);
    return key;
  }

  addAccount(hostile = false): { account: KeyAccount; key: Key } {
    const account: KeyAccount = { admin: `admin_${randomBytes(18).toString('base64url')}`, keys: new Map(), hostile };
    this.accounts.push(account);
    return { account, key: this.addKey(account, 'made by hand') };
  }

  /** Whose secret it is. */
  find(secret: string): { account: KeyAccount; key: Key | undefined } | undefined {
    for (const account of this.accounts) {
      if (secret === account.admin) return { account, key: undefined };
      for (const key of account.keys.values()) if (key.secret === secret) return { account, key };
    }
    return undefined;
  }

  readonly handler: RequestListener = (req, res) => {
    this.#answer(req, res).catch(() => res.writeHead(500).end());
  };

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const body = await readJson(req);
    const url = req.url ?? '/';
    const [path = '', query = ''] = url.split(/\?(.*)/s);
    const send = (status: number, answer?: object): void => {
      res.writeHead(status, { 'Content-Type': 'application/json' }).end(answer ? JSON.stringify(answer) : undefined);
    };
    const who = this.find(/^Bearer (.*)$/.exec(req.headers.authorization ?? '')?.[1] ?? '');
    // As bad as services are: what was sent comes back with the error.
    if (!who) return send(401, { error: `unknown key ${req.headers.authorization}` });
    const { account, key } = who;
    const [, id] = /^\/v1\/keys\/([^/]+)$/.exec(path) ?? [];
    if (req.method === 'GET' && path === '/v1/me') {
      return key ? send(200, { key: { id: key.id } }) : send(403, { error: 'not for admin keys' });
    }
    if (req.method === 'POST' && path === '/v1/keys') {
      const made = this.addKey(account, String(body['name']));
      return send(201, { data: { id: made.id, key: this.confused ? `not_${made.secret}` : made.secret } });
    }
    if (req.method === 'GET' && path === '/v1/keys') {
      const from = Number(new URLSearchParams(query).get('cursor') ?? 0);
      const all = [...account.keys.values()].map(({ id: one, name }) => ({ id: one, name }));
      const next = from + pageSize < all.length ? { next_cursor: String(from + pageSize) } : {};
      return send(200, { data: all.slice(from, from + pageSize), ...next });
    }
    if (req.method === 'DELETE' && id !== undefined) {
      return send(account.keys.delete(decodeURIComponent(id)) ? 204 : 404);
    }
    if (req.method === 'PUT' && path === '/v1/secret' && key && typeof body['secret'] === 'string') {
      key.secret = body['secret'];
      return send(204);
    }
    return send(404, { error: 'no such route' });
  }
}
