#!/usr/bin/env node
// The door. Plain old JavaScript, so that an old Node can read it and be told what is wrong instead of crashing
// inside a native module (better-sqlite3 13 needs Node >= 22, Warder is written for 24). Where the pinned runtime is
// installed beside the package, an old Node hands over to it.
'use strict';

const { spawn } = require('node:child_process');
const { existsSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..');
const source = join(root, 'src', 'main.ts');
const built = join(root, 'dist', 'src', 'main.js');
// A checkout runs its sources as they are; a published package has only dist.
const entry = existsSync(source) ? source : built;
// What was compiled (and stripped of types) once is read the next time: a third less time to start, and a seventh less
// memory. Beside the code itself, so that nobody else can put anything there; where that cannot be written, there is no
// cache. In the environment, because threads and the pinned Node below find it there.
process.env.NODE_COMPILE_CACHE ??= join(root, 'node_modules', '.cache', 'warder');
const major = Number(process.versions.node.split('.')[0]);

if (major >= 24) {
  require('node:module').enableCompileCache(process.env.NODE_COMPILE_CACHE);
  process.argv[1] = entry;
  import(require('node:url').pathToFileURL(entry).href);
} else {
  const pinned = join(root, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
  if (!existsSync(pinned)) {
    console.error(
      `warder needs Node 24 or newer; this is ${process.version}. Install Node 24, or run npm ci in the checkout.`,
    );
    process.exit(2);
  }
  if (process.stderr.isTTY) console.error(`warder: this is Node ${process.version}; running on the pinned Node 24.`);
  const child = spawn(pinned, [entry, ...process.argv.slice(2)], { stdio: 'inherit' });
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  const forward = (signal) => {
    // A terminal signals its whole foreground group: the child has had Ctrl-C already, and a second one says "at once".
    if (signal === 'SIGTERM' || !process.stdin.isTTY) child.kill(signal);
  };
  for (const signal of signals) process.on(signal, forward);
  child.on('error', (error) => {
    console.error(`warder: the pinned Node does not start (${error.code}): ${pinned}`);
    process.exit(2);
  });
  child.on('exit', (code, signal) => {
    if (!signal) process.exit(code);
    // Die as the child died, so that the caller's shell sees 128 + n; our own handlers would swallow the signal.
    for (const each of signals) process.off(each, forward);
    process.kill(process.pid, signal);
  });
}
