/** A disk that does not answer: nobody is kept waiting past two seconds, and what it took after all is heard of. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { repository, temporaryFolder } from '../adapters/stores/sqlite/temporary-store.ts';
import { canTrace, needing, runInjected, syncs } from './strace.ts';

let folder: ReturnType<typeof temporaryFolder>;
beforeAll(() => {
  folder = temporaryFolder();
});
afterAll(() => folder.remove());

(canTrace ? test : test.skip)(
  needing(canTrace, 'strace', 'a sync that hangs is a refusal within two seconds, for those behind it too, and passes'),
  async () => {
    const script = join(repository, 'test/faults/hanging-disk.ts');
    const fourSeconds = 4_000_000;
    const child = runInjected(
      `${syncs}:delay_enter=${fourSeconds}:when=12`,
      script,
      join(folder.path, 'data', 'warder.db'),
    );
    const { errors } = await child.ended;
    expect(errors).toBe('');
    const said = JSON.parse(child.lines.at(-1) ?? '{}');
    expect(said.hanging.outcome).toBe('LedgerUnavailable');
    expect(said.hanging.ms).toBeLessThan(2000);
    for (const one of said.waited) expect(one.ms).toBeLessThan(2000);
    expect(said.next).toMatchObject({ outcome: 'LedgerUnavailable' });
    expect(said.next.ms).toBeLessThan(50);
    expect(said.trouble).toContain('does not answer');
    // The disk took it in the end: the listeners heard of it in its order, without a gap, and the ledger goes on.
    expect(said.sizeAfter).toBeGreaterThan(said.size);
    expect(said.heard).toEqual(said.heard.map((_: number, i: number) => i * 2));
    expect(said.after.outcome).toBe(`ok ${said.heard.at(-1)}`);
    expect(said.sizeAfter).toBe(said.heard.length * 2);
    expect(said.fatal).toBe(0);
  },
  60_000,
);
