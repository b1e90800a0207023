/**
 * Reads the catalogue: the presets beside this file, and those of a folder of the user's. Of that folder all or nothing:
 * a broker that starts with half of its presets would refuse tomorrow what it took today.
 */
import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, realpathSync } from 'node:fs';
import { basename, dirname, join, sep } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { z } from 'zod';
import { canonicalJson } from '../../src/domain/canonical-json.ts';
import { isShowable } from '../../src/domain/names.ts';
import type { Preset } from '../../src/domain/preset.ts';
import type { Catalog, CatalogEntry } from '../../src/ports/catalog.ts';
import type { Provider } from '../../src/ports/provider.ts';
import { type Fault, presetFaults } from './faults.ts';
import { readYaml } from './read-yaml.ts';
import { presetSchema } from './schema.ts';

/** A preset is a page or two; the largest of ours has 6 KiB. */
const maxFileBytes = 64 * 1024;
/** Ours and a company's own; not a home directory that was named by mistake. */
const maxFiles = 500;

/** Every problem of every file, a line each: `path line N: what`. */
export class CatalogRefused extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.name = 'CatalogRefused';
    this.problems = problems;
  }
}

export interface CatalogParts {
  /** WARDER_CATALOG_DIR; undefined: only what is shipped. */
  customDir: string | undefined;
  /** They judge what each preset expands to. */
  providers: ReadonlyMap<string, Provider>;
}

/** @throws CatalogRefused with every problem of the custom folder */
export const openCatalog = ({ customDir, providers }: CatalogParts): Catalog => {
  const problems: string[] = [];
  const known = new Map<string, CatalogEntry>();
  const builtIn = new Set(presetFiles(import.meta.dirname, problems).map((file) => basename(file, '.yaml')));
  for (const file of customDir === undefined ? [] : presetFiles(customDir, problems)) {
    const preset = readPreset(file, providers, problems);
    if (!preset) continue;
    if (builtIn.has(preset.name) || known.has(preset.name)) {
      problems.push(`${file}: there is a preset ${preset.name} already; give this one another name`);
    } else known.set(preset.name, { preset, digest: digestOf(preset), source: 'custom' });
  }
  if (problems.length > 0) throw new CatalogRefused(problems);
  const names = [...builtIn, ...known.keys()].sort();
  const named = (name: string): CatalogEntry | undefined => {
    const found = known.get(name);
    if (found || !builtIn.has(name)) return found;
    const wrong: string[] = [];
    const preset = readPreset(join(import.meta.dirname, `${name}.yaml`), providers, wrong);
    if (!preset) throw new CatalogRefused(wrong);
    const entry: CatalogEntry = { preset, digest: digestOf(preset), source: 'built-in' };
    known.set(name, entry);
    return entry;
  };
  return {
    named,
    entries: async () => {
      const entries: CatalogEntry[] = [];
      for (const name of names) {
        const entry = named(name);
        if (entry) entries.push(entry);
        await setImmediate();
      }
      return entries;
    },
  };
};

const digestOf = (preset: Preset): string => createHash('sha256').update(canonicalJson(preset)).digest('hex');

const errorCode = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : 'unknown error';

/** A key that may be a value, a secret after a forgotten colon, is not repeated. */
const shownKey = (key: PropertyKey): string =>
  typeof key !== 'string' || (/^[a-z][\w.:/*-]{0,47}$/i.test(key) && isShowable(key)) ? String(key) : '…';

/** @returns the paths of the files of a folder that are presets by their name, in order */
const presetFiles = (folder: string, problems: string[]): string[] => {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    problems.push(`${folder}: cannot be read as a folder (${errorCode(error)})`);
    return [];
  }
  // Names with a dot before them are of editors, version control and Kubernetes (`..data`).
  const files = names.filter((name) => /\.ya?ml$/i.test(name) && !name.startsWith('.')).sort();
  if (files.length <= maxFiles) return files.map((name) => join(folder, name));
  problems.push(`${folder}: more than ${maxFiles} presets`);
  return [];
};

/** @returns the preset of a file; undefined when anything is wrong with it, which `problems` tells then */
const readPreset = (
  place: string,
  providers: ReadonlyMap<string, Provider>,
  problems: string[],
): Preset | undefined => {
  const bytes = readSmallFile(place);
  if (typeof bytes === 'string') {
    problems.push(`${place}: ${bytes}`);
    return undefined;
  }
  const yaml = readYaml(bytes);
  if (!yaml.ok) {
    problems.push(...capped(place, yaml.problems, ({ line, message }) => `${place} line ${line}: ${message}`));
    return undefined;
  }
  const { value, lineOf } = yaml.file;
  const parsed = presetSchema.safeParse(value);
  const faults = parsed.success ? presetFaults(parsed.data, providers) : schemaFaults(parsed.error.issues);
  if (parsed.success && ![`${parsed.data.name}.yaml`, `${parsed.data.name}.yml`].includes(basename(place))) {
    faults.push({ path: ['name'], message: 'must be the name of the file' });
  }
  const shown = ({ path, message }: Fault): string => {
    const field = path.length > 0 ? `${path.map(shownKey).join('.')}: ` : '';
    return `${place} line ${lineOf(path)}: ${field}${message}`;
  };
  problems.push(...capped(place, faults, shown));
  return parsed.success && faults.length === 0 ? parsed.data : undefined;
};

/** As many as somebody mends before trying again: a file that is something else altogether has thousands. */
const maxShown = 20;

const capped = <T>(place: string, all: readonly T[], shown: (one: T) => string): string[] => {
  const lines = all.slice(0, maxShown).map(shown);
  return all.length > maxShown ? [...lines, `${place}: and ${all.length - maxShown} more problems`] : lines;
};

const schemaFaults = (issues: readonly z.core.$ZodIssue[]): Fault[] =>
  issues.flatMap((issue): Fault[] => {
    const { path } = issue;
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({ path: [...path, key], message: 'unknown key' }));
    }
    if (issue.code === 'invalid_key') return issue.issues.map(({ message }) => ({ path, message }));
    return [{ path, message: issue.message.endsWith('received undefined') ? 'is needed' : issue.message }];
  });

/**
 * A link is followed within its folder only: that is how Kubernetes mounts a ConfigMap. One that leads elsewhere could
 * show the first lines of any file in a message.
 * @returns the bytes, or why not
 */
const readSmallFile = (place: string): Uint8Array | string => {
  let descriptor: number | undefined;
  try {
    const path = realpathSync(place);
    if (!path.startsWith(join(realpathSync(dirname(place)), sep))) return 'a link that leads elsewhere';
    // Not blocking: the other end of a FIFO may never come.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { size } = fstatSync(descriptor);
    if (!fstatSync(descriptor).isFile()) return 'not a file';
    if (size > maxFileBytes) return `larger than ${maxFileBytes} bytes`;
    const bytes = Buffer.alloc(maxFileBytes + 1);
    const length = readSync(descriptor, bytes);
    return length > maxFileBytes ? `larger than ${maxFileBytes} bytes` : bytes.subarray(0, length);
  } catch (error) {
    return `cannot be read (${errorCode(error)})`;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
};
