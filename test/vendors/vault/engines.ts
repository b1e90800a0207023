/** Secret engines: what answers below a mount. Each does what its name promises, in memory. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { pause } from '../../support/eventually.ts';
import { VaultError } from './errors.ts';
import { type Lease, seconds, type Token, type Tokens } from './tokens.ts';

export interface EngineRequest {
  method: 'GET' | 'POST' | 'DELETE' | 'LIST';
  /** Below the mount. */
  path: string;
  /** With the mount, for lease ids. */
  fullPath: string;
  query: URLSearchParams;
  body: Record<string, unknown>;
  token: Token;
}
export interface EngineReply {
  status?: number;
  data?: unknown;
  lease?: Lease;
}
export interface Engine {
  /** Whether a write would make something new: then the capability is `create` and not `update`. */
  creates(path: string): boolean;
  handle(request: EngineRequest): EngineReply | Promise<EngineReply>;
}

const noRoute = (): VaultError => new VaultError(405, 'unsupported operation');
const done: EngineReply = { status: 204 };

/** Accounts of a database that nobody but this file has: usable from `creds` until the lease ends. */
export class DatabaseEngine implements Engine {
  readonly roles = new Map<string, { ttl: number; max: number; statements: string; revocation: string }>();
  readonly accounts = new Map<string, { password: string; statements: string }>();
  readonly #tokens: Tokens;

  constructor(tokens: Tokens) {
    this.#tokens = tokens;
  }

  creates = (): boolean => false;

  async handle({ method, path, fullPath, body, token }: EngineRequest): Promise<EngineReply> {
    const [kind = '', name = ''] = path.split('/');
    if (kind === 'config' && method === 'POST') return done;
    if (kind === 'roles' && method === 'POST') {
      this.roles.set(name, {
        ttl: seconds(body['default_ttl'], 3600),
        max: seconds(body['max_ttl'], 86_400),
        statements: String(body['creation_statements']),
        revocation: String(body['revocation_statements']),
      });
      return done;
    }
    if (kind !== 'creds' || method !== 'GET') throw noRoute();
    const role = this.roles.get(name);
    if (!role) throw new VaultError(400, `unknown role: ${name}`);
    // As the real one does: what was begun is ended, and lent to a token that may be gone by then.
    await pause(Number(/pg_sleep\((\d+)\)/.exec(role.statements)?.[1] ?? 0) * 1000);
    const username = `v-${token.displayName}-${name}-${randomBytes(10).toString('hex')}`;
    const password = randomBytes(15).toString('base64url');
    this.accounts.set(username, { password, statements: role.statements });
    const lease = this.#tokens.lend(token, fullPath, role, () => {
      // As of now: what a role says of taking back is read when something is.
      if (!this.roles.get(name)?.revocation.includes('DROP ROLE')) {
        throw new VaultError(400, 'failed to revoke entry: resp: (*logical.Response)(nil) err: ERROR: syntax error');
      }
      this.accounts.delete(username);
    });
    return { data: { username, password }, lease };
  }

  /** @returns whether the account may do this */
  use({ username, password }: Record<string, unknown>, privilege: 'SELECT' | 'INSERT'): boolean {
    const account = this.accounts.get(String(username));
    return account?.password === password && account?.statements.includes(privilege) === true;
  }
}

interface KvVersion {
  data: Record<string, unknown> | null;
  deletedAt: string;
  createdAt: string;
}

/** KV, version 2. */
export class KvEngine implements Engine {
  readonly #values = new Map<string, KvVersion[]>();

  creates = (path: string): boolean => !this.#values.has(path.replace(/^data\//, ''));

  handle({ method, path, query, body }: EngineRequest): EngineReply {
    const [, kind, name = ''] = /^(data|metadata)\/(.+)$/.exec(path) ?? [];
    const versions = this.#values.get(name) ?? [];
    if (kind === 'metadata' && method === 'DELETE') {
      this.#values.delete(name);
      return done;
    }
    if (kind !== 'data') throw noRoute();
    if (method === 'POST') {
      const data = body['data'];
      if (typeof data !== 'object' || data === null) throw new VaultError(400, 'no data provided');
      versions.push({ data: { ...data }, deletedAt: '', createdAt: new Date().toISOString() });
      this.#values.set(name, versions);
      return { data: this.#metadata(versions, versions.length) };
    }
    const asked = query.get('version') ?? '0';
    if (!/^\d+$/.test(asked)) {
      throw new VaultError(400, 'Field validation failed: error converting input for field "version"');
    }
    const number = Number(asked) || versions.length;
    const version = versions[number - 1];
    if (!version) throw new VaultError(404);
    const metadata = this.#metadata(versions, number);
    if (method === 'DELETE') {
      version.deletedAt = new Date().toISOString();
      return done;
    }
    if (version.deletedAt !== '') return { status: 404, data: { data: null, metadata } };
    return { data: { data: version.data, metadata } };
  }

  #metadata(versions: KvVersion[], number: number) {
    const version = versions[number - 1];
    return {
      created_time: version?.createdAt,
      custom_metadata: null,
      deletion_time: version?.deletedAt,
      destroyed: false,
      version: number,
    };
  }
}

interface TransitKey {
  versions: Buffer[];
  minDecryption: number;
  deletable: boolean;
}

/** Transit with aes256-gcm96 keys: 96-bit nonces, associated data bound. */
export class TransitEngine implements Engine {
  readonly #keys = new Map<string, TransitKey>();

  creates = (path: string): boolean => path.startsWith('encrypt/') && !this.#keys.has(path.slice('encrypt/'.length));

  handle({ method, path, body }: EngineRequest): EngineReply {
    const [kind = '', name = '', action] = path.split('/');
    if (kind === 'keys') return this.#manage(method, name, action, body);
    if (method !== 'POST' || action !== undefined) throw noRoute();
    if (kind === 'encrypt') return { data: this.#encrypt(name, body) };
    if (kind === 'decrypt') return { data: { plaintext: this.#decrypt(name, body) } };
    throw noRoute();
  }

  #manage(method: string, name: string, action: string | undefined, body: Record<string, unknown>): EngineReply {
    const key = this.#keys.get(name);
    if (method === 'POST' && action === undefined) {
      if (!key) this.#keys.set(name, { versions: [randomBytes(32)], minDecryption: 1, deletable: false });
      return done;
    }
    if (!key) throw new VaultError(404);
    if (method === 'DELETE') {
      if (!key.deletable) throw new VaultError(400, 'deletion is not allowed for this key');
      this.#keys.delete(name);
      return done;
    }
    if (action === 'rotate') key.versions.push(randomBytes(32));
    else if (action === 'config') {
      if (body['deletion_allowed'] !== undefined) key.deletable = body['deletion_allowed'] === true;
      if (body['min_decryption_version'] !== undefined) key.minDecryption = Number(body['min_decryption_version']);
    } else throw noRoute();
    return done;
  }

  #encrypt(name: string, body: Record<string, unknown>) {
    const key = this.#keys.get(name) ?? { versions: [randomBytes(32)], minDecryption: 1, deletable: false };
    this.#keys.set(name, key);
    const number = key.versions.length;
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', key.versions[number - 1] as Buffer, nonce);
    cipher.setAAD(bytesOf(body['associated_data']));
    const sealed = Buffer.concat([
      nonce,
      cipher.update(bytesOf(body['plaintext'])),
      cipher.final(),
      cipher.getAuthTag(),
    ]);
    return { ciphertext: `vault:v${number}:${sealed.toString('base64')}`, key_version: number };
  }

  #decrypt(name: string, body: Record<string, unknown>): string {
    const text = body['ciphertext'];
    if (typeof text !== 'string' || text === '') throw new VaultError(400, 'missing ciphertext to decrypt');
    const key = this.#keys.get(name);
    if (!key) throw new VaultError(400, 'encryption key not found');
    const [, number, payload = ''] = /^vault:v(\d+):(.*)$/.exec(text) ?? [];
    if (number === undefined) throw new VaultError(400, 'invalid ciphertext: no prefix');
    if (Number(number) > key.versions.length) throw new VaultError(400, 'invalid ciphertext: version is too new');
    if (Number(number) < key.minDecryption) {
      throw new VaultError(400, 'ciphertext or signature version is disallowed by policy (too old)');
    }
    const sealed = Buffer.from(payload, 'base64');
    if (sealed.length < 28) throw new VaultError(400, 'invalid ciphertext length');
    try {
      const decipher = createDecipheriv(
        'aes-256-gcm',
        key.versions[Number(number) - 1] as Buffer,
        sealed.subarray(0, 12),
      );
      decipher.setAAD(bytesOf(body['associated_data']));
      decipher.setAuthTag(sealed.subarray(-16));
      return Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]).toString('base64');
    } catch {
      throw new VaultError(400, 'cipher: message authentication failed');
    }
  }
}

const bytesOf = (text: unknown): Buffer => {
  const bytes = Buffer.from(String(text ?? ''), 'base64');
  if (bytes.toString('base64') !== String(text ?? '')) throw new VaultError(400, 'failed to base64-decode');
  return bytes;
};
