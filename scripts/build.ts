/**
 * `npm run build`: `dist/`, which mirrors the checkout: `dist/src/main.js`, `dist/adapters/…` with its presets,
 * `dist/migrations/…`, `dist/package.json`. A URL relative to a source file therefore names the same thing in both.
 *
 * tsc rewrites `./x.ts` to `./x.js` in imports, but not in other strings. A file that is started rather than imported
 * (a worker thread) takes the extension of the file that starts it:
 *
 *     new URL(import.meta.url.endsWith('.ts') ? './x.ts' : './x.js', import.meta.url)
 *
 * What would still ask for a `.ts` file in dist fails the build.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, globSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const dist = join(root, 'dist');

const fail = (message: string): never => {
  console.error(`build failed: ${message}`);
  process.exit(1);
};

rmSync(dist, { recursive: true, force: true });

const tsc = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '--project', 'tsconfig.build.json'], {
  cwd: root,
  stdio: 'inherit',
});
if (tsc.status !== 0) fail('types');

const sourcePath = /(?:\bfrom|\bimport|\bimport\(|\bnew URL\()\s*['"`]\.{1,2}\/[^'"`]*\.ts['"`]/;
const astray = globSync('**/*.js', { cwd: dist }).filter((name) =>
  sourcePath.test(readFileSync(join(dist, name), 'utf8')),
);
if (astray.length > 0) fail(`still naming .ts files: ${astray.join(', ')}`);

// What the program reads beside itself: tsc knows nothing of it.
const presets = globSync('adapters/catalog/*.yaml', { cwd: root });
if (presets.length === 0) fail('no presets in adapters/catalog');
for (const name of ['migrations', 'package.json', ...presets]) {
  cpSync(join(root, name), join(dist, name), { recursive: true });
}

console.log('built dist/');
