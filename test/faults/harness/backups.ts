/**
 * Backups that are taken under load, and restored beside the data: whatever was issued before is dead there. The restored
 * broker shares the upstream with the one it is a copy of, so nothing is allowed to be taken away there meanwhile.
 */
import { copyFileSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brokerClient, freePort, temporaryDir } from '../../support/broker.ts';
import { spawnBroker } from '../../support/child-broker.ts';
import type { UpstreamOperation } from '../../support/upstream-service.ts';
import { run } from '../child-process.ts';
import type { Held, HeldToken } from './memory.ts';
import { useGrant, useToken } from './probes.ts';
import { count, type Work } from './work.ts';

/** A backup, and what was alive when it was asked for. */
export interface TakenBackup {
  file: string;
  grants: Held[];
  tokens: HeldToken[];
}

/** So many of those that lived and of those that were dead are tried at the restored broker. */
const tried = 16;
const changing: readonly UpstreamOperation[] = ['create', 'delete', 'renew', 'key-create', 'key-delete'];
const commandLine = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));

let taken = 0;

export const takeBackup = async (work: Work): Promise<void> => {
  const { broker, world } = work;
  const { memory } = world;
  const [grants, tokens] = [[...memory.living].slice(-200), [...memory.tokens]];
  const headers = { authorization: `Bearer ${broker.adminToken}` };
  const response = await broker.fetch('/admin/v1/backups', { method: 'POST', headers });
  const bytes = Buffer.from(await response.arrayBuffer());
  const text = response.status === 200 ? '' : bytes.toString();
  const answer = {
    status: response.status,
    headers: response.headers,
    body: text === '' ? {} : JSON.parse(text),
    text,
  };
  if (!count(work, 'backup', answer)) return;
  taken += 1;
  const file = join(world.scratchDir, `${taken}.warder-backup`);
  await writeFile(file, bytes);
  if (memory.backup) rmSync(memory.backup.file);
  memory.backup = { file, grants, tokens };
};

/** @returns the token of the admin that the restore made */
const restore = async (file: string, env: Readonly<Record<string, string>>): Promise<string> => {
  const settings = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const child = run('env', [...settings, process.execPath, commandLine, 'restore', file, '--json']);
  const { code, errors } = await child.ended;
  if (code !== 0) throw new Error(`warder restore ended with ${code}: ${errors}`);
  return (JSON.parse(child.lines.join('\n')) as { fenced: { admin_token: string } }).fenced.admin_token;
};

/** 10: restores the newest backup in a directory of its own, and uses there what lived and what did not. */
export const restoredIsDead = async (work: Work): Promise<void> => {
  const { world, figures, found, chance } = work;
  const { memory, upstream } = world;
  const { backup } = memory;
  if (!backup) return;
  memory.backup = undefined;
  const dataDir = temporaryDir();
  copyFileSync(join(world.dataDir, 'root.key'), join(dataDir, 'root.key'));
  const WARDER_PUBLIC_URL = world.issuer;
  const adminToken = await restore(backup.file, { WARDER_DATA_DIR: dataDir, WARDER_PUBLIC_URL });
  for (const operation of changing) await upstream.behave(operation, { kind: 'fail-before' });
  const child = spawnBroker({ dataDir, port: await freePort(), env: { WARDER_PUBLIC_URL } });
  try {
    const { url } = JSON.parse(await child.line('{')) as { url: string };
    const broker = brokerClient(url, adminToken);
    const { status } = await broker.admin('GET', '/agents');
    if (status !== 200) found(10, `the admin that the restore made is answered ${status}`);
    const before = await broker.admin('GET', '/agents', undefined, work.broker.adminToken);
    if (before.status !== 401) found(10, `an operator from before is answered ${before.status} after a restore`);
    for (const held of [...chance.sample(backup.grants, tried), ...chance.sample(memory.dead, tried)]) {
      for (const { point, works, answer } of await useGrant(world, broker, held)) {
        figures.checked.add(`10 restored, ${point}`);
        if (works) found(10, `${held.id} (${held.connection}) works at ${point} after a restore: ${answer}`);
      }
    }
    for (const held of chance.sample(backup.tokens, 4)) {
      for (const { point, works, answer } of await useToken(world, broker, held)) {
        figures.checked.add(`10 restored, token at ${point}`);
        if (works) found(10, `a token of ${held.agent.name} works at ${point} after a restore: ${answer}`);
      }
    }
    figures.done.add('restore');
  } finally {
    child.process.kill('SIGKILL');
    await child.ended;
    for (const operation of changing) await upstream.behave(operation, { kind: 'ok' });
    // What they hold now is of the wrong broker, if anything.
    for (const agent of memory.agents) agent.token = undefined;
    rmSync(dataDir, { recursive: true, force: true });
    rmSync(backup.file);
  }
};
