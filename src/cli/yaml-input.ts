/** Reads a YAML or JSON document from a file or standard input. Messages name places, never what stands there. */
import { readFileSync } from 'node:fs';
import { LineCounter, parseDocument } from 'yaml';
import { readAllInput } from './ask.ts';
import type { Context } from './context.ts';
import { errorCode, usage } from './failure.ts';

/** A list of everything a large company has fits; a mistaken log file does not. */
const maxDocumentBytes = 10_000_000;

export type Mapping = Record<string, unknown>;

export const isMapping = (value: unknown): value is Mapping =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** @param path of a file, or `-` @throws Failure 2 */
export const readText = async (path: string, stdin: Context['stdin']): Promise<string> => {
  if (path === '-') return readAllInput(stdin, maxDocumentBytes);
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw usage(`${path} cannot be read (${errorCode(error)})`);
  }
};

/**
 * Parses YAML 1.2 (of which JSON is a part).
 * @param name how to call the document in messages
 * @throws Failure 2 naming every line that is wrong
 */
export const parseYaml = (text: string, name: string): unknown => {
  const lines = new LineCounter();
  // Pretty errors quote the source, in which somebody may have left a secret.
  const document = parseDocument(text, { prettyErrors: false, lineCounter: lines, stringKeys: true });
  const errors = [...document.errors, ...document.warnings];
  if (errors.length > 0) {
    throw usage(
      ...errors.map(({ code, pos }) => `${name} line ${lines.linePos(pos[0]).line}: not valid YAML (${code})`),
    );
  }
  try {
    const value: unknown = document.toJS({ maxAliasCount: 100 });
    return value;
  } catch {
    throw usage(`${name}: its aliases cannot be resolved`);
  }
};

/** A document that is a mapping. @throws Failure 2 */
export const readMapping = async (path: string, stdin: Context['stdin']): Promise<Mapping> => {
  const name = path === '-' ? 'standard input' : path;
  const value = parseYaml(await readText(path, stdin), name);
  if (!isMapping(value)) throw usage(`${name}: must be a mapping of names to values`);
  return value;
};
