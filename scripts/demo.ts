/**
 * `npm run demo`: a tour in under a minute, on throw-away data and with real parts: a broker in a process of its own, an
 * HTTP service next door, a PostgreSQL, the real command line. Every step says what it will show and then checks it; the first one
 * that is not as told ends the tour with exit code 1.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { styleText } from 'node:util';
import { type DemoDatabase, startDemoDatabase } from './demo-database.ts';

const root = join(import.meta.dirname, '..');
const warder = join(root, 'bin', 'warder.cjs');
const theSecret = 'sk_live_51DemoSecretThatNoAgentEverSees';
const pace = process.stdout.isTTY ? 400 : 0;

const say = (text: string): void => console.log(text);
const heading = (number: number, text: string): void => say(styleText('bold', `\n${number}. ${text}`));
const shown = (text: string): void => say(styleText('dim', `   ${text.trimEnd().replaceAll('\n', '\n   ')}`));
const rest = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, pace));

/** The tour stops where it is not as told. */
const check = (told: string, so: boolean, found?: unknown): void => {
  if (!so) throw new Error(`${told}: it was not so${found === undefined ? '' : ` (${JSON.stringify(found)})`}`);
  say(`   ${styleText('green', 'ok')} ${told}`);
};

/** The JSON of an answer, as what the tour knows it to be. */
const bodyOf = async <T>(response: Response): Promise<T> => JSON.parse(await response.text());

/** @returns how it failed, or `done` */
const outcomeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(address !== null && typeof address === 'object' ? address.port : 0));
    });
  });

/** A service next door that wants an API key, in a process of its own. */
const serviceSource = `
const { createServer } = require('node:http');
const key = ${JSON.stringify(`Bearer ${theSecret}`)};
createServer((req, res) => {
  res.setHeader('content-type', 'application/json');
  if (req.headers.authorization !== key) { res.statusCode = 401; return res.end('{"error":"wrong key"}'); }
  // Careless on purpose: it answers with the headers it was sent.
  res.end(JSON.stringify({ charges: [{ id: 'ch_1', amount: 1200 }], you_sent: req.headers.authorization }));
}).listen(Number(process.argv[1]), '127.0.0.1', () => console.log('ready'));
`;

const dataDir = mkdtempSync(join(tmpdir(), 'warder-demo-'));
const children: ReturnType<typeof spawn>[] = [];
let databaseStart: Promise<DemoDatabase> | undefined;

const startService = async (port: number): Promise<void> => {
  const child = spawn(process.execPath, ['-e', serviceSource, String(port)], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  if (child.stdout) await once(child.stdout, 'data');
};

/** @returns the admin token, as the first start prints it */
const startBroker = async (port: number): Promise<string> => {
  const child = spawn(process.execPath, [warder, 'serve'], {
    env: {
      PATH: process.env['PATH'] ?? '',
      WARDER_DATA_DIR: dataDir,
      WARDER_LISTEN: `127.0.0.1:${port}`,
      WARDER_LOG_LEVEL: 'warn',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  for await (const line of createInterface({ input: child.stdout })) {
    const token = /wdr_op_[A-Za-z0-9_-]+/.exec(line)?.[0];
    if (token !== undefined) {
      child.stdout.resume();
      return token;
    }
  }
  throw new Error('the broker ended before it printed its admin token');
};

const untilReady = async (url: string): Promise<void> => {
  for (let tries = 0; tries < 100; tries += 1) {
    const answer = await fetch(`${url}/readyz`).catch(() => undefined);
    if (answer?.status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('the broker did not become ready');
};

const tour = async (): Promise<void> => {
  const servicePort = await freePort();
  const brokerPort = await freePort();
  const url = `http://127.0.0.1:${brokerPort}`;

  heading(1, 'A payments service and a PostgreSQL next door, and a broker with an empty data directory');
  databaseStart = startDemoDatabase();
  const [database, adminToken] = await Promise.all([databaseStart, startBroker(brokerPort), startService(servicePort)]);
  await untilReady(url);
  check('the broker is ready and printed its first admin token, once', true);
  await rest();

  const environment = {
    PATH: process.env['PATH'] ?? '',
    WARDER_URL: url,
    WARDER_TOKEN: adminToken,
    DEMO_KEY: theSecret,
    DB_USER: database.admin.username,
    DB_PASSWORD: database.admin.password,
  };
  /** Runs the real command line; what it prints is shown. */
  const cli = (args: string[], expectStatus = 0): string => {
    shown(`$ warder ${args.map((arg) => (/[ *{]/.test(arg) ? `'${arg}'` : arg)).join(' ')}`);
    const run = spawnSync(process.execPath, [warder, ...args], { env: environment, encoding: 'utf8' });
    shown(run.stdout + run.stderr);
    if (run.status !== expectStatus) throw new Error(`warder ${args[0]} ended with ${run.status}, not ${expectStatus}`);
    return run.stdout;
  };

  heading(2, 'Ops register two connections, an agent, and what it may do');
  cli([
    'connection',
    'add',
    'payments',
    '--provider',
    'api-key',
    '--base-url',
    `http://127.0.0.1:${servicePort}`,
    '--allow-private-network',
    '--scope',
    'charges:read=GET /v1/charges/**',
    '--secret',
    'env:DEMO_KEY',
  ]);
  const settingsFile = join(dataDir, 'billing-db.json');
  writeFileSync(settingsFile, JSON.stringify(database.settings));
  cli([
    ...['connection', 'add', 'billing-db', '--provider', 'postgres', '--settings', settingsFile],
    ...['--secret', 'username=env:DB_USER', '--secret', 'password=env:DB_PASSWORD'],
  ]);
  const agentText = cli(['agent', 'add', 'reporter', '--owner', 'finance@example.com', '--json']);
  const agent: { client_id: string; client_secret: string } = JSON.parse(agentText);
  cli(['entitlement', 'add', '--agent', 'reporter', '--connection', 'payments', '--scope', 'charges:read']);
  cli(['entitlement', 'add', '--agent', 'reporter', '--connection', 'billing-db', '--scope', 'read']);
  check('connections, agent and entitlements are there', agent.client_secret.startsWith('wdr_cs_'));
  await rest();

  heading(3, 'The agent asks for a credential at the moment it needs one');
  const basic = Buffer.from(`${agent.client_id}:${agent.client_secret}`).toString('base64');
  const tokenAnswer = await fetch(`${url}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${basic}`, 'content-type': 'application/x-www-form-urlencoded' },
    body: 'grant_type=client_credentials',
  });
  const { access_token: agentToken } = await bodyOf<{ access_token: string }>(tokenAnswer);
  const ask = (connection: string, scopes: string[]) =>
    fetch(`${url}/v1/grants`, {
      method: 'POST',
      headers: { authorization: `Bearer ${agentToken}`, 'content-type': 'application/json' },
      body: JSON.stringify({ connection, scopes, ttl_seconds: 300, reason: 'monthly report' }),
    });
  const issued = await ask('payments', ['charges:read']);
  const { grant, credential } = await bodyOf<{
    grant: { expires_at: string };
    credential: { token: string; base_url: string };
  }>(issued);
  shown(`POST /v1/grants -> ${issued.status}, a gateway token that ends at ${grant.expires_at}`);
  check('a credential for five minutes and one scope was issued', issued.status === 201, issued.status);
  check('a scope nobody granted is refused', (await ask('payments', ['charges:write'])).status === 403);
  await rest();

  heading(4, 'It calls the service through the gateway, without ever holding the key');
  const call = (path: string, method = 'GET') =>
    fetch(`${credential.base_url}${path}`, { method, headers: { authorization: `Bearer ${credential.token}` } });
  const allowed = await call('/v1/charges/ch_1');
  const body = await allowed.text();
  shown(`GET ${credential.base_url}/v1/charges/ch_1 -> ${allowed.status}\n${body}`);
  check('the service answered', allowed.status === 200 && body.includes('ch_1'), allowed.status);
  check('the key the service echoed came back masked', !body.includes(theSecret) && body.includes('****'));
  const deleted = await call('/v1/charges/ch_1', 'DELETE');
  const outside = await call('/v1/refunds');
  const tricky = await call('/v1/charges/..%2f..%2frefunds');
  shown(
    `DELETE -> ${deleted.status}; /v1/refunds -> ${outside.status}; /v1/charges/..%2f..%2frefunds -> ${tricky.status}`,
  );
  check(
    'another method, another path, a path with two readings: refused',
    [deleted, outside].every((r) => r.status === 403) && tricky.status === 400,
  );
  await rest();

  heading(5, 'It asks for the database too: a role made for this act, by the database itself');
  const { credential: role } = await bodyOf<{ credential: { url: string; username: string; password: string } }>(
    await ask('billing-db', ['read']),
  );
  shown(`POST /v1/grants -> role ${role.username}`);
  const rows = await database.query(role, 'SELECT customer, cents FROM invoices ORDER BY id');
  shown(rows.map(({ customer, cents }) => `${customer}  ${cents}`).join('\n'));
  check('the role reads what its scope says', rows.length === 2, rows);
  const written = await outcomeOf(database.query(role, 'DELETE FROM invoices'));
  check('the database refuses it the rest', written.includes('permission denied'), written);
  const session = await database.session(role);
  await rest();

  heading(6, 'Ops rotate the password of the database: made, set, tried, and only then in force');
  cli(['rotate', 'billing-db', '--now', '--wait', '--reason', 'it was in somebody’s notes']);
  const withOldPassword = await outcomeOf(
    database.query({ url: database.urlOfAdmin(database.admin.password) }, 'SELECT 1'),
  );
  check('the password from before does not log in', withOldPassword.includes('authentication failed'), withOldPassword);
  check('the role of the agent does not notice', (await database.query(role, 'SELECT 1')).length === 1);
  check('and another role is made with the new one', (await ask('billing-db', ['read'])).status === 201);
  await rest();

  heading(7, 'Something is wrong: one call takes everything back');
  const revocation: { id: string } = JSON.parse(
    cli([
      ...['revoke-all', '--agent', 'reporter', '--reason', 'odd behaviour at night', '--suspend', '--wait'],
      ...['--yes', '--json'],
    ]),
  );
  const after = await call('/v1/charges/ch_1');
  shown(`GET ${credential.base_url}/v1/charges/ch_1 -> ${after.status} ${after.headers.get('warder-error')}`);
  check('the credential is dead', after.status === 401, after.status);
  await Promise.race([session.cut, sleep(5_000).then(() => Promise.reject(new Error('the session lives on')))]);
  check('the session it had open in the database was cut', true);
  const again = await outcomeOf(database.query(role, 'SELECT 1'));
  check('its role cannot log in', again.includes('authentication failed'), again);
  const logins = await database.logins();
  shown(`roles that can log in: ${logins.join(', ')}`);
  check('and is gone from the database', !logins.includes(role.username), logins);
  check('the agent’s own token is dead', [401, 403].includes((await ask('payments', ['charges:read'])).status));
  await rest();

  heading(8, 'The receipt says what is dead, and can be checked without Warder');
  const [receipt, keys] = [join(dataDir, 'receipt.json'), join(dataDir, 'jwks.json')];
  writeFileSync(keys, await (await fetch(`${url}/jwks`)).text());
  cli(['revocation', 'receipt', revocation.id, '-o', receipt]);
  cli(['revocation', 'verify', receipt, '--jwks', keys]);
  check('the receipt verifies', true);
  const changed = join(dataDir, 'changed.json');
  writeFileSync(changed, readFileSync(receipt, 'utf8').replace('billing-db', 'staging-db'));
  cli(['revocation', 'verify', changed, '--jwks', keys], 1);
  check('with one name changed, it does not', true);
  await rest();

  heading(9, 'An incident is rehearsed before there is one');
  cli(['incident', 'drill']);
  check('from opening to closing, every step did what it should', true);
  await rest();

  heading(10, 'What did this agent do? The log answers, and proves itself');
  const listed = cli(['audit', 'list', '--agent', 'reporter', '--limit', '20']);
  check('the log has the call, with path and status', listed.includes('gateway.completed'));
  const exported = join(dataDir, 'audit.jsonl');
  cli(['audit', 'export', '--format', 'jsonl', '-o', exported]);
  cli(['audit', 'verify', exported]);
  check('the export verifies', true);
  const forged = join(dataDir, 'forged.jsonl');
  writeFileSync(forged, readFileSync(exported, 'utf8').replace('/v1/charges/ch_1', '/v1/charges/ch_2'));
  cli(['audit', 'verify', forged], 1);
  check('with one character changed, it does not', true);
  await rest();

  heading(11, 'A backup, and what an intruder finds in it and in the data directory');
  const backup = join(dataDir, 'warder.backup');
  cli(['backup', '-o', backup]);
  const files = readdirSync(dataDir).filter((name) => statSync(join(dataDir, name)).isFile());
  const secrets = {
    'the service’s key': theSecret,
    'the gateway token': credential.token,
    'the database’s password': database.admin.password,
    'the role’s password': role.password,
    'the agent’s secret': agent.client_secret,
    'the admin token': adminToken,
  };
  for (const [what, secret] of Object.entries(secrets)) {
    const where = files.filter((name) => readFileSync(join(dataDir, name)).includes(secret));
    check(`${what}: in none of ${files.length} files`, where.length === 0, where);
  }
};

const started = performance.now();
try {
  await tour();
  say(
    styleText(
      'bold',
      `\nEvery step was as told, in ${((performance.now() - started) / 1000).toFixed(1)} s. Now yours: npm start\n`,
    ),
  );
} catch (error) {
  console.error(
    styleText('red', `\nThe tour is not as told: ${error instanceof Error ? error.message : String(error)}\n`),
  );
  process.exitCode = 1;
} finally {
  for (const child of children) child.kill('SIGTERM');
  await Promise.all(
    children.map((child) => (child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined)),
  );
  await databaseStart?.then((database) => database.stop()).catch(() => undefined);
  rmSync(dataDir, { recursive: true, force: true });
}
