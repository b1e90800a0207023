/**
 * An upstream of its own, as a process: it keeps accounts, and can be told to be slow, to fail before or after doing
 * what it was asked, to hang, to answer nonsense, or to wait until it is let go on. Prints its URL when it listens.
 *
 * It is strict where the systems it stands for are: an account cannot be made twice, a leased account is ended by its
 * lease only, a refresh token is redeemed once.
 */
import { randomBytes } from 'node:crypto';
import { writeSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type UpstreamKey, UpstreamKeys } from './upstream-keys.ts';

const operations = ['create', 'delete', 'renew', 'use', 'redeem', 'key-create', 'key-test', 'key-delete'] as const;
export type UpstreamOperation = (typeof operations)[number];

export type Behaviour =
  | { kind: 'ok' }
  | { kind: 'slow'; ms: number }
  /** 500, nothing done. */
  | { kind: 'fail-before' }
  /** 500, but done. */
  | { kind: 'fail-after' }
  /** 400, nothing done. */
  | { kind: 'refuse' }
  /** No answer, nothing done. */
  | { kind: 'hang' }
  /** The connection breaks at once; it is done after this time all the same. */
  | { kind: 'late'; ms: number }
  /** Done, and answered with something else than JSON. */
  | { kind: 'nonsense' }
  /** Waits before doing it until `/control/release`. */
  | { kind: 'hold' };

export interface Account {
  name: string;
  lease: string | null;
  password: string;
  scopes: string[];
  expires_at: number;
}

export interface UpstreamStats {
  /** Requests of each operation, and how many of them at once at most. */
  calls: Record<UpstreamOperation, number>;
  atOnce: Record<UpstreamOperation, number>;
  held: number;
  /** Names of all accounts that were ever made. */
  made: string[];
  /** Refresh tokens that were presented a second time. */
  reused: number;
}

const each = <T>(value: () => T): Record<UpstreamOperation, T> =>
  Object.fromEntries(operations.map((operation) => [operation, value()])) as Record<UpstreamOperation, T>;

const accounts = new Map<string, Account>();
const reserved = new Map<string, string>();
const redeemed = new Set<string>();
const keys = new UpstreamKeys();
let refresh = 'refresh-0';
let behaviours = each<Behaviour>(() => ({ kind: 'ok' }));
let stats: UpstreamStats = { calls: each(() => 0), atOnce: each(() => 0), held: 0, made: [], reused: 0 };
const running = each(() => 0);
let held: (() => void)[] = [];

type Reply = { status: number; body?: unknown };
type Input = Record<string, unknown>;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const create = (name: string, lease: string | null, input: Input): Reply => {
  if (accounts.has(name)) return { status: 409, body: { error: 'there is an account of this name' } };
  const account: Account = {
    name,
    lease,
    password: randomBytes(12).toString('base64url'),
    scopes: Array.isArray(input['scopes']) ? input['scopes'].map(String) : [],
    expires_at: Number(input['expires_at']),
  };
  accounts.set(name, account);
  stats.made.push(name);
  return { status: 201, body: account };
};

/** What an operation does; called once, when its behaviour lets it. */
const perform = (operation: UpstreamOperation, target: string, input: Input): Reply => {
  // Of whoever says who he is, the upstream wants to know it.
  if (input['as'] !== undefined && !keys.accepts(input['as'])) return { status: 401 };
  const byLease = [...accounts.values()].find((account) => account.lease === target);
  switch (operation) {
    case 'create': {
      const name = reserved.get(target);
      return name === undefined ? create(target, null, input) : create(name, target, input);
    }
    case 'delete': {
      reserved.delete(target);
      const account = byLease ?? accounts.get(target);
      if (!account) return { status: 404 };
      if (account.lease !== null && !byLease) return { status: 409, body: { error: 'end its lease' } };
      accounts.delete(account.name);
      return { status: 204 };
    }
    case 'renew': {
      const account = byLease ?? accounts.get(target);
      if (!account) return { status: 404 };
      account.expires_at = Number(input['expires_at']);
      return { status: 200, body: { expires_at: account.expires_at } };
    }
    case 'use': {
      const account = accounts.get(target);
      if (!account || account.password !== input['password'] || account.expires_at <= Date.now()) {
        return { status: 401 };
      }
      return { status: account.scopes.includes(String(input['scope'])) ? 200 : 403, body: {} };
    }
    case 'redeem': {
      const token = String(input['refresh']);
      if (redeemed.has(token)) stats.reused += 1;
      if (token !== refresh) return { status: 400, body: { error: 'invalid_grant' } };
      redeemed.add(token);
      refresh = `refresh-${redeemed.size}-${randomBytes(6).toString('base64url')}`;
      return { status: 200, body: { refresh } };
    }
    case 'key-create': {
      const key = keys.create(target);
      return key ? { status: 201, body: key } : { status: 409, body: { error: 'there is one, or there are too many' } };
    }
    case 'key-test':
      return { status: 200, body: {} };
    case 'key-delete':
      return { status: keys.delete(target) ? 204 : 404 };
  }
};

const send = (res: ServerResponse, { status, body }: Reply): void => {
  res.writeHead(status, { 'Content-Type': 'application/json' });
  res.end(body === undefined ? undefined : JSON.stringify(body));
};

const behave = async (operation: UpstreamOperation, target: string, input: Input, res: ServerResponse) => {
  const behaviour = behaviours[operation];
  const work = (): Reply => perform(operation, target, input);
  const failure: Reply = { status: 500, body: { error: 'something went wrong' } };
  switch (behaviour.kind) {
    case 'ok':
      return send(res, work());
    case 'slow':
      await pause(behaviour.ms);
      return send(res, work());
    case 'fail-before':
      return send(res, failure);
    case 'fail-after':
      work();
      return send(res, failure);
    case 'refuse':
      return send(res, { status: 400, body: { error: 'no' } });
    case 'hang':
      await new Promise<void>((resolve) => res.once('close', resolve));
      return;
    case 'late':
      res.destroy();
      await pause(behaviour.ms);
      work();
      return;
    case 'nonsense':
      work();
      res.writeHead(200, { 'Content-Type': 'text/html' });
      res.end('<html>all is well</html>');
      return;
    case 'hold':
      stats.held += 1;
      await new Promise<void>((resolve) => held.push(resolve));
      stats.held -= 1;
      return send(res, work());
  }
};

const readJson = async (req: IncomingMessage): Promise<Input> => {
  let text = '';
  for await (const chunk of req) text += String(chunk);
  return text === '' ? {} : JSON.parse(text);
};

const control = async (req: IncomingMessage, res: ServerResponse, path: string): Promise<void> => {
  const input = await readJson(req);
  if (path === '/control/accounts') return send(res, { status: 200, body: [...accounts.values()] });
  if (path === '/control/keys') {
    if (input['id'] !== undefined) keys.put(input as unknown as UpstreamKey);
    return send(res, { status: 200, body: keys.all });
  }
  if (path === '/control/stats') return send(res, { status: 200, body: stats });
  if (path === '/control/behaviour') Object.assign(behaviours, input);
  if (path === '/control/release') for (const release of held.splice(0)) release();
  if (path === '/control/reset') {
    behaviours = each(() => ({ kind: 'ok' }));
    accounts.clear();
    reserved.clear();
    for (const release of held) release();
    held = [];
    stats = { calls: each(() => 0), atOnce: each(() => 0), held: 0, made: [], reused: 0 };
  }
  send(res, { status: 204 });
};

// No connection ends because it was idle: that would be a fault nobody asked for.
const server = createServer({ keepAliveTimeout: 600_000 }, async (req, res) => {
  const path = req.url ?? '';
  if (path.startsWith('/control/')) return control(req, res, path);
  const [, operation = '', target = ''] = path.split('/');
  const input = await readJson(req);
  if (operation === 'reserve') {
    const lease = `lease-${randomBytes(6).toString('base64url')}`;
    reserved.set(lease, decodeURIComponent(target));
    return send(res, { status: 201, body: { lease } });
  }
  const known = operations.find((one) => one === operation);
  if (!known) return send(res, { status: 404 });
  stats.calls[known] += 1;
  running[known] += 1;
  stats.atOnce[known] = Math.max(stats.atOnce[known], running[known]);
  try {
    await behave(known, decodeURIComponent(target), input, res);
  } finally {
    running[known] -= 1;
  }
});
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  const address = server.address();
  writeSync(1, `http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}\n`);
});
// Whoever started it went away.
process.stdin.on('end', () => process.exit(0)).resume();
