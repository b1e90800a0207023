/** One namespace of the test Vault: policies, tokens, logins and engines of its own. */
import { randomUUID } from 'node:crypto';
import { DatabaseEngine, type Engine, KvEngine, TransitEngine } from './engines.ts';
import { denied, notFound, VaultError } from './errors.ts';
import { type Capability, defaultPolicy, type Policy, parsePolicy, permits } from './policy.ts';
import { type Lease, seconds, type Token, Tokens } from './tokens.ts';

export interface VaultCall {
  method: 'GET' | 'POST' | 'DELETE' | 'LIST';
  path: string;
  query: URLSearchParams;
  body: Record<string, unknown>;
  token: string | undefined;
}
export interface VaultAnswer {
  status: number;
  body?: object;
}

interface AppRole {
  roleId: string;
  /** By secret id. */
  secretIds: Map<string, { accessor: string; metadata: Record<string, string> }>;
  policies: string[];
  ttl: number;
  max: number;
}

const capabilityOf = { GET: 'read', POST: 'update', DELETE: 'delete', LIST: 'list' } as const;
const done: VaultAnswer = { status: 204 };
const list = (value: unknown): string[] =>
  Array.isArray(value)
    ? value.map(String)
    : String(value ?? '')
        .split(',')
        .filter(Boolean);

const envelope = (more: object): VaultAnswer => ({
  status: 200,
  body: {
    request_id: randomUUID(),
    lease_id: '',
    renewable: false,
    lease_duration: 0,
    data: null,
    wrap_info: null,
    warnings: null,
    auth: null,
    ...more,
  },
});

const leaseFields = (lease: Lease) => ({
  lease_id: lease.id,
  renewable: lease.renewable,
  lease_duration: Math.round((lease.expiresAt - Date.now()) / 1000),
});

export class Namespace {
  readonly tokens = new Tokens();
  readonly engines = new Map<string, Engine>();
  /** Calls that log in, by mount. */
  readonly logins: string[] = [];
  /** Service account tokens that Kubernetes would vouch for, and for whom. */
  readonly serviceAccounts = new Map<string, string>();
  readonly #policies = new Map<string, Policy>([['default', defaultPolicy]]);
  readonly #approles = new Map<string, AppRole>();
  readonly #kubernetesRoles = new Map<string, { accounts: string[]; policies: string[]; ttl: number }>();
  readonly #authMounts = new Map<string, string>();

  constructor(rootToken: string) {
    this.tokens.make({ id: rootToken, policies: ['root'], ttl: 0, path: 'auth/token/root' });
  }

  async handle(call: VaultCall): Promise<VaultAnswer> {
    const login = /^auth\/(.+)\/login$/.exec(call.path)?.[1];
    if (login !== undefined && call.method === 'POST') return this.#login(login, call.body);
    if (call.token === undefined) throw new VaultError(403, 'permission denied');
    const token = this.tokens.live(call.token);
    if (!token) throw denied('invalid token');
    const route = this.#route(call.path);
    const creates = call.method === 'POST' && route?.engine.creates(route.below) === true;
    this.#require(token, call.path, creates ? 'create' : capabilityOf[call.method]);
    if (call.path.startsWith('auth/token/')) return this.#tokenCall(call, token);
    if (call.path.startsWith('auth/')) return this.#authCall(call);
    if (call.path.startsWith('sys/')) return this.#sysCall(call);
    if (!route) throw new VaultError(404, `no handler for route "${call.path}". route entry not found.`);
    const reply = await route.engine.handle({ ...call, path: route.below, fullPath: call.path, token });
    if (reply.status === 204) return done;
    return {
      ...envelope({ data: reply.data, ...(reply.lease ? leaseFields(reply.lease) : {}) }),
      status: reply.status ?? 200,
    };
  }

  #route(path: string): { engine: Engine; below: string } | undefined {
    for (const [mount, engine] of this.engines) {
      if (path.startsWith(`${mount}/`)) return { engine, below: path.slice(mount.length + 1) };
    }
    return undefined;
  }

  #require(token: Token, path: string, wanted: Capability): void {
    if (token.policies.includes('root')) return;
    const policies = token.policies.flatMap((name) => this.#policies.get(name) ?? []);
    if (!permits([policies], path, wanted)) throw denied();
  }

  #sysCall({ method, path, body }: VaultCall): VaultAnswer {
    const [, area = '', ...rest] = path.split('/');
    const name = rest.join('/');
    if (area === 'policies' && method === 'POST') {
      this.#policies.set(name.replace(/^acl\//, ''), parsePolicy(String(body['policy'])));
      return done;
    }
    if (area === 'mounts' && method === 'POST') {
      const makers = {
        database: () => new DatabaseEngine(this.tokens),
        kv: () => new KvEngine(),
        transit: () => new TransitEngine(),
      };
      const make = makers[body['type'] as keyof typeof makers];
      if (this.engines.has(name)) throw new VaultError(400, `path is already in use at ${name}/`);
      this.engines.set(name, make());
      return done;
    }
    if (area === 'auth' && method === 'POST') {
      this.#authMounts.set(name, String(body['type']));
      return done;
    }
    if (path === 'sys/leases/renew') {
      const lease = this.tokens.renewLease(body['lease_id'], seconds(body['increment']));
      return envelope(leaseFields(lease));
    }
    if (path === 'sys/leases/revoke') {
      if (!body['lease_id']) throw new VaultError(400, 'lease_id must be specified');
      this.tokens.revokeLease(String(body['lease_id']));
      return done;
    }
    throw notFound();
  }

  #tokenCall({ method, path, body }: VaultCall, caller: Token): VaultAnswer {
    const action = path.slice('auth/token/'.length);
    const spoken = (token: Token, text = '') => envelope({ auth: this.#authOf(token, text) });
    if (action === 'accessors' && method === 'LIST') {
      this.#require(caller, path, 'sudo');
      return envelope({ data: { keys: [...this.tokens.tokens.values()].map(({ accessor }) => accessor) } });
    }
    if (action === 'create' || action === 'create-orphan') {
      const token = this.#makeToken(caller, body, action === 'create-orphan');
      return spoken(token, token.id);
    }
    if (action === 'lookup-self' && method === 'GET') return envelope({ data: this.#lookup(caller) });
    if (action === 'renew-self') {
      this.tokens.renew(caller, seconds(body['increment']));
      return spoken(caller, caller.id);
    }
    if (action === 'revoke-self') {
      this.tokens.revoke(caller.id);
      return done;
    }
    const other = this.tokens.byAccessor(body['accessor']);
    if (action === 'revoke-accessor') {
      if (!other) return envelope({ warnings: ['No token found with this accessor'] });
      this.tokens.revoke(other.id);
      return done;
    }
    if (!other)
      throw new VaultError(action === 'lookup-accessor' ? 403 : 400, '1 error occurred:\n\t* invalid accessor\n\n');
    if (action === 'lookup-accessor') return envelope({ data: this.#lookup(other) });
    if (action === 'renew-accessor') {
      this.tokens.renew(other, seconds(body['increment']));
      return spoken(other);
    }
    throw notFound();
  }

  #makeToken(caller: Token, body: Record<string, unknown>, orphan: boolean): Token {
    const root = caller.policies.includes('root');
    if (body['id'] !== undefined && !root) throw new VaultError(400, 'root required to specify token id');
    const asked = body['policies'] === undefined ? caller.policies : list(body['policies']);
    if (!root && asked.some((name) => !caller.policies.includes(name))) {
      throw new VaultError(400, 'child policies must be subset of parent');
    }
    const policies = asked.filter((name) => name !== 'default' || body['no_default_policy'] !== true);
    if (body['no_default_policy'] !== true && !policies.includes('root')) policies.push('default');
    return this.tokens.make({
      policies: [...new Set(policies)],
      parent: orphan ? undefined : caller.id,
      ttl: seconds(body['ttl']),
      explicitMax: seconds(body['explicit_max_ttl']),
      renewable: body['renewable'] !== false,
      meta: (body['meta'] as Record<string, string> | undefined) ?? null,
      displayName: `token${body['display_name'] ? `-${String(body['display_name'])}` : ''}`,
      path: `auth/token/create${orphan ? '-orphan' : ''}`,
    });
  }

  #lookup(token: Token) {
    return {
      accessor: token.accessor,
      creation_ttl: token.expiresAt === undefined ? 0 : token.creationTtl,
      display_name: token.displayName,
      meta: token.meta,
      orphan: token.parent === undefined,
      path: token.path,
      policies: token.policies,
      renewable: token.renewable,
      ttl: this.tokens.ttlOf(token),
      type: 'service',
    };
  }

  #authOf(token: Token, text: string) {
    return {
      client_token: text,
      accessor: token.accessor,
      policies: token.policies,
      token_policies: token.policies,
      metadata: token.meta,
      lease_duration: token.expiresAt === undefined ? 0 : Math.round((token.expiresAt - Date.now()) / 1000),
      renewable: token.renewable && token.expiresAt !== undefined,
      entity_id: '',
      token_type: 'service',
      orphan: token.parent === undefined,
      num_uses: 0,
    };
  }

  #authCall({ method, path, body }: VaultCall): VaultAnswer {
    const [, mount = '', kind = '', name = '', what = '', action = ''] = path.split('/');
    const key = `${mount}/${name}`;
    const type = this.#authMounts.get(mount);
    if (type === 'approle' && kind === 'role') {
      const role = this.#approles.get(key);
      if (what === '' && method === 'POST') {
        const [policies, ttl, max] = [
          list(body['token_policies']),
          seconds(body['token_ttl'], 3600),
          seconds(body['token_max_ttl']),
        ];
        this.#approles.set(key, { roleId: randomUUID(), secretIds: new Map(), policies, ttl, max });
        return done;
      }
      if (!role) throw notFound();
      if (what === 'role-id' && method === 'GET') return envelope({ data: { role_id: role.roleId } });
      return this.#secretIdCall(role, [what, action].join('/'), method, body);
    }
    if (type === 'kubernetes' && kind === 'role' && method === 'POST') {
      const accounts = list(body['bound_service_account_names']);
      this.#kubernetesRoles.set(key, {
        accounts,
        policies: list(body['token_policies']),
        ttl: seconds(body['token_ttl'], 3600),
      });
      return done;
    }
    throw notFound();
  }

  /** developer.hashicorp.com/vault/api-docs/auth/approle: secret ids, by themselves and by their accessors. */
  #secretIdCall({ secretIds }: AppRole, what: string, method: string, body: Record<string, unknown>): VaultAnswer {
    if (what === 'secret-id/' && method === 'POST') {
      const [id, accessor] = [randomUUID(), randomUUID()];
      let metadata: Record<string, string>;
      try {
        metadata = JSON.parse(String(body['metadata'] ?? '{}'));
      } catch {
        throw new VaultError(400, 'failed to parse metadata: invalid character');
      }
      secretIds.set(id, { accessor, metadata });
      return envelope({ data: { secret_id: id, secret_id_accessor: accessor, secret_id_ttl: 0 } });
    }
    if (what === 'secret-id/' && method === 'LIST') {
      if (secretIds.size === 0) throw notFound();
      return envelope({ data: { keys: [...secretIds.values()].map(({ accessor }) => accessor) } });
    }
    if (method !== 'POST') throw notFound();
    if (what === 'secret-id/destroy') {
      // Nothing is said of one that is not there.
      secretIds.delete(String(body['secret_id']));
      return done;
    }
    const [id, found] = [...secretIds].find(([, one]) => one.accessor === body['secret_id_accessor']) ?? [];
    if (id === undefined || !found) {
      throw new VaultError(404, `failed to find accessor entry for secret_id_accessor: ${body['secret_id_accessor']}`);
    }
    if (what === 'secret-id-accessor/lookup') {
      return envelope({ data: { secret_id_accessor: found.accessor, metadata: found.metadata, cidr_list: [] } });
    }
    if (what !== 'secret-id-accessor/destroy') throw notFound();
    secretIds.delete(id);
    return done;
  }

  #login(mount: string, body: Record<string, unknown>): VaultAnswer {
    this.logins.push(mount);
    const entered = (policies: string[], ttl: number, max: number): VaultAnswer => {
      const given = [...new Set([...policies, 'default'])];
      const token = this.tokens.make({
        policies: given,
        ttl,
        explicitMax: max,
        path: `auth/${mount}/login`,
        displayName: mount,
      });
      return envelope({ auth: this.#authOf(token, token.id) });
    };
    const type = this.#authMounts.get(mount);
    if (type === 'approle') {
      const role = [...this.#approles]
        .filter(([key]) => key.startsWith(`${mount}/`))
        .map(([, one]) => one)
        .find((one) => one.roleId === body['role_id'] && one.secretIds.has(String(body['secret_id'])));
      if (!role) throw new VaultError(400, 'invalid role or secret ID');
      return entered(role.policies, role.ttl, role.max);
    }
    if (type === 'kubernetes') {
      const role = this.#kubernetesRoles.get(`${mount}/${String(body['role'])}`);
      if (!role) throw new VaultError(400, `invalid role name "${String(body['role'])}"`);
      const account = this.serviceAccounts.get(String(body['jwt']));
      if (account === undefined || !role.accounts.includes(account)) throw new VaultError(403, 'permission denied');
      return entered(role.policies, role.ttl, 0);
    }
    throw new VaultError(403, 'permission denied');
  }
}
