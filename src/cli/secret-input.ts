/**
 * Where a secret comes from. Never from the command line itself: arguments are in the shell's history, in `ps`, and in
 * every process list that monitoring keeps.
 */
import { readFileSync } from 'node:fs';
import { isInteractive, readAllInput, readHidden } from './ask.ts';
import type { Context } from './context.ts';
import { errorCode, usage } from './failure.ts';

/** What the value of `--secret`, or of `secret:` in an access file, must look like. */
export const secretReferenceRule = 'env:NAME or file:PATH';

/** Larger than any key, certificate chain or service account file. */
const maxSecretBytes = 1_000_000;

/** Editors and `echo` end a file with a line end that is not part of the secret. */
const withoutLineEnd = (text: string): string => text.replace(/\r?\n$/, '');

/** @returns whether a text names where a secret is, instead of being one */
export const isSecretReference = (text: string): boolean => /^env:[A-Za-z_]\w*$/.test(text) || /^file:./s.test(text);

/**
 * Reads `env:NAME` or `file:PATH`.
 * @param where names the option or field, for messages: they never repeat what was given, which may be a secret
 * @throws Failure 2
 */
export const resolveSecret = (reference: string, env: Context['env'], where: string): string => {
  if (!isSecretReference(reference)) {
    throw usage(`${where} takes ${secretReferenceRule}, never the secret itself`);
  }
  const [kind, name] = [reference.slice(0, reference.indexOf(':')), reference.slice(reference.indexOf(':') + 1)];
  if (kind === 'env') {
    const value = env[name];
    if (!value) throw usage(`${where}: the environment variable ${name} is not set or empty`);
    return value;
  }
  let text: string;
  try {
    text = readFileSync(name, 'utf8');
  } catch (error) {
    throw usage(`${where}: the file cannot be read (${errorCode(error)})`);
  }
  if (withoutLineEnd(text) === '') throw usage(`${where}: the file is empty`);
  return withoutLineEnd(text);
};

/** As {@link resolveSecret}, and `-` for standard input; a person at a terminal types it unseen. */
export const readSecretOption = async (
  given: string,
  context: Pick<Context, 'env' | 'stdin' | 'stderr'>,
): Promise<string> => {
  if (given !== '-') {
    if (isSecretReference(given)) return resolveSecret(given, context.env, '--secret');
    throw usage(
      `--secret takes ${secretReferenceRule}, or - for standard input, never the secret itself:`,
      'the command line is visible to every process on this machine. If that was a secret, replace it.',
    );
  }
  const text = isInteractive(context)
    ? await readHidden(context, 'Secret: ')
    : await readAllInput(context.stdin, maxSecretBytes);
  const secret = withoutLineEnd(text);
  if (secret === '') throw usage('--secret -: nothing came from standard input');
  return secret;
};

/** Collects `--secret`, which may be given once for each field. */
export const collectSecret = (text: string, before: readonly string[] = []): readonly string[] => [...before, text];

/** The one source that is no source: Warder shall make the secret, and nobody sees it. */
export const generatedSecret = 'generate';

/**
 * Reads every `--secret [FIELD=]SOURCE`; without a field it is `value`, the one field of an API key.
 * @returns the secret's fields by name; `{ generate: true }` for `--secret generate`
 * @throws Failure 2
 */
export const readSecretFields = async (
  given: readonly string[],
  context: Pick<Context, 'env' | 'stdin' | 'stderr'>,
): Promise<Record<string, string> | { generate: true }> => {
  if (given.length === 1 && given[0] === generatedSecret) return { generate: true };
  const named = given.map((text): [string, string] => {
    const [, field, source] = /^([a-z]\w{0,99})=((?:env:|file:).*|-)$/s.exec(text) ?? [];
    return field === undefined || source === undefined ? ['value', text] : [field, source];
  });
  const fields = named.map(([field]) => field);
  const twice = fields.find((field, index) => fields.indexOf(field) !== index);
  if (twice !== undefined) throw usage(`--secret: the field ${twice} is given twice`);
  if (named.filter(([, source]) => source === '-').length > 1) {
    throw usage('--secret: only one field can come from standard input');
  }
  const read: [string, string][] = [];
  for (const [field, source] of named) read.push([field, await readSecretOption(source, context)]);
  return Object.fromEntries(read);
};
