/**
 * Imports run one way: `http, cli -> services -> ports -> domain`; `adapters -> ports, domain`; only the composition
 * roots (`src/warder.ts`, `src/restore.ts`) know the adapters. This reads every import of `src` and `adapters` and lists the wrong ones.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');

/** What a room may import, by the first folders of its path. A room may always import from itself. */
const allowed: Record<string, readonly string[]> = {
  'src/domain': [],
  'src/ports': ['src/domain'],
  'src/services': ['src/ports', 'src/domain'],
  'src/http': ['src/services', 'src/ports', 'src/domain'],
  'src/cli': ['src/domain', 'src/services/audit/verify-audit.ts'],
  'src/config.ts': ['src/domain'],
  'src/warder.ts': ['src/http', 'src/services', 'src/ports', 'src/domain', 'src/config.ts', 'adapters'],
  'src/restore.ts': ['src/services', 'src/ports', 'src/domain', 'src/config.ts', 'adapters'],
  'src/main.ts': ['src/cli', 'src/config.ts', 'src/warder.ts', 'src/restore.ts', 'src/domain'],
  adapters: ['src/ports', 'src/domain'],
};

/** Packages that are pure functions over values: the only ones the domain may use. */
const pure = new Set(['ipaddr.js', 'node:crypto']);

const roomOf = (path: string): string | undefined =>
  Object.keys(allowed).find((room) => path === room || path.startsWith(`${room}/`));

const importsOf = (source: string): string[] =>
  [...source.matchAll(/(?:^|\n)\s*(?:import|export)[^'"]*?from\s+'([^']+)'|import\(\s*'([^']+)'\s*\)/g)].map(
    (found) => found[1] ?? found[2] ?? '',
  );

/** @returns one line for each import that goes the wrong way; empty when all is well */
export const wrongImports = (): string[] => {
  const wrong: string[] = [];
  const files = ['src', 'adapters'].flatMap((top) =>
    readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => join(top, name)),
  );
  for (const file of files) {
    const room = roomOf(file);
    if (!room) {
      wrong.push(`${file}: stands in no known room`);
      continue;
    }
    for (const target of importsOf(readFileSync(join(root, file), 'utf8'))) {
      if (!target.startsWith('.')) {
        if (room === 'src/domain' && !pure.has(target)) wrong.push(`${file}: domain may not import ${target}`);
        continue;
      }
      const path = relative(root, resolve(root, dirname(file), target));
      const targetRoom = roomOf(path);
      if (targetRoom === room) continue;
      const fine = (allowed[room] ?? []).some((other) => path === other || path.startsWith(`${other}/`));
      if (!fine) wrong.push(`${file}: ${room} may not import ${path}`);
    }
  }
  return wrong;
};
