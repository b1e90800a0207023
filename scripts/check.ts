/**
 * `npm run check`: types, lint and format, and the direction of imports. Everything runs, then everything that
 * failed is named, so one look tells all there is to mend.
 */
import { spawnSync } from 'node:child_process';
import { wrongImports } from './import-direction.ts';

const failed: string[] = [];

for (const [name, args] of [
  ['types', ['node_modules/typescript/bin/tsc', '--noEmit']],
  ['lint and format', ['node_modules/@biomejs/biome/bin/biome', 'check', '--error-on-warnings']],
] as const) {
  const run = spawnSync(process.execPath, [...args], { stdio: 'inherit' });
  if (run.status !== 0) failed.push(name);
}

const wrong = wrongImports();
for (const line of wrong) console.error(line);
if (wrong.length > 0) failed.push('import direction');

if (failed.length > 0) {
  console.error(`check failed: ${failed.join(', ')}`);
  process.exit(1);
}
console.log('check passed: types, lint and format, import direction');
