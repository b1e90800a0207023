/** Checks of this machine: the runtime, the configuration, who may read the data, and what a crash would write. */
import { readFileSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Context, LocalSettings } from '../context.ts';
import { errorCode } from '../failure.ts';
import { type Finding, finding } from './finding.ts';

const neededNodeMajor = 24;
/** Permission bits of the group and of others. */
const othersMask = 0o077;

const checkNode = (): Finding => {
  const major = Number(process.versions.node.split('.')[0]);
  return major >= neededNodeMajor
    ? finding('node', 'ok', process.version)
    : finding('node', 'failed', `${process.version}; Warder needs Node ${neededNodeMajor} or newer`);
};

const modeOf = (facts: Stats): string => (facts.mode & 0o777).toString(8).padStart(4, '0');

/** Whether a file or folder is its owner's alone, and the owner is who runs this. */
const checkPrivate = (check: string, path: string, ifMissing: Finding['result']): Finding => {
  let facts: Stats;
  try {
    facts = statSync(path);
  } catch (error) {
    const code = errorCode(error);
    return code === 'ENOENT'
      ? finding(check, ifMissing, `${path} is not there`)
      : finding(check, 'failed', `${path} cannot be looked at (${code})`);
  }
  if (process.platform === 'win32') return finding(check, 'skipped', `${path}: no modes on this system`);
  if ((facts.mode & othersMask) !== 0) {
    const fix = `chmod ${facts.isDirectory() ? '700' : '600'} ${path}`;
    return finding(check, 'failed', `${path} is open to others (mode ${modeOf(facts)}); run: ${fix}`);
  }
  const user = process.getuid?.();
  if (user !== undefined && user !== 0 && facts.uid !== user) {
    return finding(check, 'warning', `${path} belongs to user ${facts.uid}, this is user ${user}`);
  }
  return finding(check, 'ok', `${path} (mode ${modeOf(facts)})`);
};

const readOrUndefined = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    // Not there, not Linux, or another user's process: then there is nothing to say.
    return undefined;
  }
};

/** `serve` sets the filter to 0, so that a core file holds no memory; this looks whether the running one has it. */
const checkCoreDumps = ({ dataDir }: LocalSettings): Finding => {
  const pid = readOrUndefined(join(dataDir, 'warder.lock.pid'));
  if (process.platform !== 'linux') return finding('core dumps', 'skipped', 'only known on Linux');
  if (pid === undefined || !/^\d+$/.test(pid)) return finding('core dumps', 'skipped', 'no broker runs on this data');
  const filter = readOrUndefined(`/proc/${pid}/coredump_filter`);
  if (filter === undefined) return finding('core dumps', 'skipped', `process ${pid} is gone or another user's`);
  return Number.parseInt(filter, 16) === 0
    ? finding('core dumps', 'ok', `a core file of process ${pid} would hold no memory`)
    : finding(
        'core dumps',
        'failed',
        `a core file of process ${pid} would hold its memory; start it with warder serve`,
      );
};

/** @param configPath as given with `--config` */
export const checkLocally = (context: Context, configPath: string | undefined): Finding[] => {
  const configured = context.configure(configPath);
  if (!configured.ok) {
    return [checkNode(), ...configured.problems.map((problem) => finding('configuration', 'failed', problem))];
  }
  const { settings } = configured;
  const findings = [
    checkNode(),
    finding('configuration', 'ok', 'complete'),
    checkPrivate('data directory', settings.dataDir, 'skipped'),
  ];
  // Where there is no data, this is a machine to administer from, and the rest is not its business.
  if (findings.at(-1)?.result === 'skipped') return findings;
  return [
    ...findings,
    checkPrivate('database', settings.storePath, 'skipped'),
    settings.rootKeyPath === undefined
      ? finding('root key', 'skipped', 'a key service elsewhere keeps it')
      : checkPrivate('root key', settings.rootKeyPath, 'failed'),
    checkCoreDumps(settings),
  ];
};
