/** A core file of the broker holds none of its memory. */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { temporaryDir } from '../support/broker.ts';
import { serve } from './real-warder.ts';

const linux = existsSync('/proc/self/coredump_filter');

/** Processes that run `warder serve` with this working directory. */
const brokersIn = (cwd: string): string[] =>
  readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return words.includes('serve') && readlinkSync(`/proc/${pid}/cwd`) === cwd;
    } catch {
      // It ended while it was looked at.
      return false;
    }
  });

(linux ? test : test.skip)(
  `the broker asks the kernel to leave every mapping out of a core file${linux ? '' : ' (skipped: no /proc/self/coredump_filter here)'}`,
  async () => {
    const cwd = temporaryDir();
    const served = await serve(cwd);
    try {
      const filters = brokersIn(cwd).map((pid) => readFileSync(`/proc/${pid}/coredump_filter`, 'utf8').trim());
      expect(filters).toEqual(['00000000']);
    } finally {
      await served.stop();
      rmSync(cwd, { recursive: true, force: true });
    }
  },
);
