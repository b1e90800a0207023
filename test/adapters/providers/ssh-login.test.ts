/** A real sshd that trusts a connection's authority and fetches its revocation list, and a real ssh client. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Broker, freePort, removeTemporaryDirs, startBroker } from '../../support/broker.ts';
import { eventually } from '../../support/eventually.ts';
import { folder, makeKey, sshdPath } from '../../support/ssh-tools.ts';

const withSshd: typeof test.skip = sshdPath === undefined ? test.skip : test;
const unless = sshdPath === undefined ? ' (skipped: no sshd on this machine)' : '';
const user = userInfo().username;
const privilegeSeparation = '/run/sshd';

interface Server {
  port: number;
  at: string;
  process: ChildProcess;
  log(): string;
}

const startSshd = async (authority: string): Promise<Server> => {
  const [at, port] = [folder(), await freePort()];
  writeFileSync(join(at, 'ca.pub'), authority);
  writeFileSync(join(at, 'principals'), 'deployers\n');
  writeFileSync(
    join(at, 'config'),
    [
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${makeKey(['-t', 'ed25519']).path}`,
      `PidFile ${join(at, 'pid')}`,
      'StrictModes no',
      'UsePAM no',
      'PermitRootLogin yes',
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      'AuthorizedKeysFile none',
      `TrustedUserCAKeys ${join(at, 'ca.pub')}`,
      `AuthorizedPrincipalsFile ${join(at, 'principals')}`,
      `RevokedKeys ${join(at, 'krl')}`,
      'LogLevel VERBOSE',
      '',
    ].join('\n'),
  );
  const root = process.getuid?.() === 0;
  if (root && !existsSync(privilegeSeparation)) mkdirSync(privilegeSeparation, { mode: 0o755 });
  let log = '';
  const child = spawn(String(sshdPath), ['-D', '-e', '-f', join(at, 'config')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.stderr?.on('data', (data: Buffer) => {
    log += data.toString();
  });
  await eventually(
    'sshd listens',
    () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
        socket.once('connect', () => socket.destroy());
      }),
    Boolean,
  );
  return { port, at, process: child, log: () => log };
};

let broker: Broker;
let server: Server;
let token: string;

/** As the script in docs/providers/ssh.md: fetched beside the list in force, then put in its place. */
const fetchList = async (): Promise<void> => {
  const list = await broker.fetch('/ssh/servers/krl');
  writeFileSync(join(server.at, 'krl.new'), new Uint8Array(await list.arrayBuffer()));
  renameSync(join(server.at, 'krl.new'), join(server.at, 'krl'));
};

const issue = async (scope: string, more: object = {}) => {
  const { status, body, text } = await broker.grant(token, { connection: 'servers', scopes: [scope], ...more });
  if (status !== 201) throw new Error(text);
  const credential = body['credential'] as Record<string, string>;
  return { id: (body['grant'] as { id: string }).id, credential };
};

/** Logs in and runs a command. @returns what it printed, or undefined when the server refused */
const login = async (credential: Record<string, string>, command: string): Promise<string | undefined> => {
  const at = folder();
  const key = join(at, 'id');
  writeFileSync(key, String(credential['private_key']), { mode: 0o600 });
  writeFileSync(join(at, 'id-cert.pub'), `${credential['certificate']}\n`);
  const options = ['-F', 'none', '-i', key, '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes'];
  const unknownHost = ['-o', 'StrictHostKeyChecking=no', '-o', `UserKnownHostsFile=${join(at, 'known')}`];
  const args = [...options, ...unknownHost, '-p', String(server.port), `${user}@127.0.0.1`, command];
  try {
    return (await promisify(execFile)('ssh', args, { timeout: 20_000 })).stdout.trim();
  } catch (error) {
    const { code } = error as { code?: unknown };
    // 255 is ssh's own; anything else came from the command.
    if (code === 255) return undefined;
    throw error;
  }
};

beforeAll(async () => {
  if (sshdPath === undefined) return;
  broker = await startBroker();
  await broker.admin('POST', '/connections', {
    name: 'servers',
    provider: 'ssh',
    secret: { generate: true },
    settings: {
      scopes: {
        shell: { principals: ['deployers'] },
        elsewhere: { principals: ['others'] },
        uptime: { principals: ['deployers'], critical_options: { 'force-command': 'echo forced' } },
        'far-away': { principals: ['deployers'], critical_options: { 'source-address': ['192.0.2.0/24'] } },
      },
    },
  });
  const agent = await broker.agent('deployer');
  await broker.entitle('deployer', 'servers', ['shell', 'elsewhere', 'uptime', 'far-away']);
  token = await broker.agentToken(agent);
  server = await startSshd(await (await broker.fetch('/ssh/servers/ca.pub')).text());
  await fetchList();
});
afterAll(async () => {
  server?.process.kill();
  await broker?.close();
  removeTemporaryDirs();
});

withSshd(`a certificate logs in, and sshd’s log names the grant and the agent${unless}`, async () => {
  const { credential, id } = await issue('shell');
  expect(await login(credential, 'echo in')).toBe('in');
  expect(server.log()).toContain(`ID ${id}:deployer (serial ${credential['serial']})`);
});

withSshd(`one for other principals, or from elsewhere, does not${unless}`, async () => {
  expect(await login((await issue('elsewhere')).credential, 'echo in')).toBeUndefined();
  expect(await login((await issue('far-away')).credential, 'echo in')).toBeUndefined();
});

withSshd(`a forced command is what runs${unless}`, async () => {
  expect(await login((await issue('uptime')).credential, 'echo in')).toBe('forced');
});

withSshd(`one that has ended does not log in${unless}`, async () => {
  const { credential } = await issue('shell', { ttl_seconds: 2 });
  await eventually('it has ended', Date.now, (now) => now > Date.parse(String(credential['expires_at'])) + 100);
  expect(await login(credential, 'echo in')).toBeUndefined();
});

withSshd(`a revoked one logs in until the server has fetched the list, and not afterwards${unless}`, async () => {
  const [revoked, other] = [await issue('shell'), await issue('shell')];
  const answer = await broker.admin('POST', '/revocations', { selector: { grant: revoked.id }, reason: 'test' });
  expect(answer.status).toBe(201);
  expect(await login(revoked.credential, 'echo in')).toBe('in');
  await fetchList();
  expect(await login(revoked.credential, 'echo in')).toBeUndefined();
  expect(await login(other.credential, 'echo in')).toBe('in');
});
