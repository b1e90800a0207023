/** Jest's `globalTeardown`: takes away what `make.ts` made, and all that is in it. */
import { rmSync } from 'node:fs';

export default (): void => {
  const root = process.env['WARDER_TEST_ROOT'];
  if (root !== undefined) rmSync(root, { recursive: true, force: true });
};
