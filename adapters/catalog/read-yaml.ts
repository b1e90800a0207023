/**
 * Reads a preset's YAML as what it is: somebody's file, from a folder that others may write to. Only the plain part of
 * YAML 1.2 is taken: mappings, lists, scalars. Messages name lines, never what stands there.
 */
import { type Document, isAlias, isMap, isNode, isPair, isScalar, LineCounter, parseDocument, visit } from 'yaml';
import { maxJsonDepth } from '../../src/domain/json-limits.ts';

export interface YamlFile {
  value: unknown;
  /** The line where a path of keys and indexes stands, or the nearest one above it; from 1. */
  lineOf(path: readonly PropertyKey[]): number;
}

export interface YamlProblem {
  line: number;
  message: string;
}

export type YamlRead = { ok: true; file: YamlFile } | { ok: false; problems: YamlProblem[] };

/** These reach a prototype in careless readers; no preset needs them as names. */
const dangerous = new Set(['__proto__', 'constructor', 'prototype']);

/** Brackets nest no deeper than JSON may (json-limits.ts); judged before a parser that recurses sees them. */
const nestsTooDeep = (text: string): boolean => {
  let depth = 0;
  for (const character of text) {
    if (character === '[' || character === '{') depth += 1;
    else if ((character === ']' || character === '}') && depth > 0) depth -= 1;
    if (depth > maxJsonDepth) return true;
  }
  // Block collections nest by indentation, and compact ones (`- - - x`) on one line.
  return text.split('\n').some((line) => (/^[ \-?:]*/.exec(line)?.[0] ?? '').length > 4 * maxJsonDepth);
};

/** What is YAML and still not taken, with its offset in the text. */
const refusedParts = (document: Document.Parsed): { offset: number; message: string }[] => {
  const found: { offset: number; message: string }[] = [];
  const offsetOf = (node: unknown): number => (isNode(node) ? (node.range?.[0] ?? 0) : 0);
  visit(document, (_key, node) => {
    if (isAlias(node)) found.push({ offset: offsetOf(node), message: 'no aliases: write it out' });
    else if (isPair(node)) {
      const { key } = node;
      if (!isScalar(key) || typeof key.value !== 'string') {
        found.push({ offset: offsetOf(key), message: 'a key must be a plain text' });
      } else if (dangerous.has(key.value)) found.push({ offset: offsetOf(key), message: 'this key is not allowed' });
    } else if (isNode(node)) {
      if (node.tag !== undefined) found.push({ offset: offsetOf(node), message: 'no tags' });
      if ('anchor' in node && node.anchor !== undefined) found.push({ offset: offsetOf(node), message: 'no anchors' });
    }
  });
  // `%YAML 1.1` would make other values of the same words: `no` is false there.
  if (document.directives.yaml.explicit || Object.keys(document.directives.tags).length > 1) {
    found.push({ offset: 0, message: 'no directives' });
  }
  return found;
};

const lineLocator = (document: Document.Parsed, lines: LineCounter): YamlFile['lineOf'] => {
  const lineAt = (offset: number): number => lines.linePos(offset).line;
  return (path) => {
    let line = lineAt(document.contents?.range?.[0] ?? 0);
    let node: unknown = document.contents;
    for (const step of path) {
      if (isMap(node)) {
        const pair = node.items.find(({ key }) => isScalar(key) && key.value === step);
        if (pair && isNode(pair.key) && pair.key.range) line = lineAt(pair.key.range[0]);
        node = pair?.value;
      } else if (isNode(node) && 'items' in node && Array.isArray(node.items) && typeof step === 'number') {
        node = node.items[step];
        if (isNode(node) && node.range) line = lineAt(node.range[0]);
      } else break;
    }
    return line;
  };
};

/** @returns plain data, and where in the file each part of it stands; or every problem with its line */
export const readYaml = (bytes: Uint8Array): YamlRead => {
  const lines = new LineCounter();
  const refuse = (...problems: YamlProblem[]): YamlRead => ({ ok: false, problems });
  let document: Document.Parsed;
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes);
    if (nestsTooDeep(text)) return refuse({ line: 1, message: `nested deeper than ${maxJsonDepth} levels` });
    // Pretty errors quote the source.
    document = parseDocument(text, { prettyErrors: false, lineCounter: lines, schema: 'core', version: '1.2' });
  } catch {
    return refuse({ line: 1, message: 'not YAML in UTF-8' });
  }
  const errors = [...document.errors, ...document.warnings].map(({ code, pos }) => ({
    line: lines.linePos(pos[0]).line,
    message: code === 'DUPLICATE_KEY' ? 'the same key twice' : `not valid YAML (${code})`,
  }));
  const parts = refusedParts(document).map(({ offset, message }) => ({ line: lines.linePos(offset).line, message }));
  if (errors.length + parts.length > 0) return refuse(...errors, ...parts);
  return { ok: true, file: { value: document.toJS({ maxAliasCount: 0 }), lineOf: lineLocator(document, lines) } };
};
