/**
 * Jest's `globalSetup`: whatever tests put into the temporary directory goes into one folder, which `remove.ts` takes away
 * at the end. Nothing is left of a run, and nothing of one before is met. Workers start after this, with its environment.
 */
import { chmodSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export default (): void => {
  // Compiled code stays where the next run finds it (test/faults/child-process.ts).
  process.env['NODE_COMPILE_CACHE'] ??= join(tmpdir(), 'node-compile-cache');
  const root = mkdtempSync(join(tmpdir(), 'warder-tests-'));
  // As /tmp is: servers that run as users of their own put theirs there, too.
  chmodSync(root, 0o1777);
  process.env['TMPDIR'] = root;
  process.env['WARDER_TEST_ROOT'] = root;
};
