/**
 * `access.yaml`: agents, connections and entitlements, written down. Secrets are named in it, never in it:
 *
 *     connections:
 *       - name: stripe
 *         provider: api-key
 *         secret: { value: env:STRIPE_KEY }
 *
 * Only the frame is checked here, and what must not leave this machine unseen; the broker knows what else is right.
 */
import type { Context } from './context.ts';
import { Failure, usage } from './failure.ts';
import { generatedSecret, isSecretReference, resolveSecret, secretReferenceRule } from './secret-input.ts';
import { readSecretReference } from './secret-reference.ts';
import { isMapping, type Mapping } from './yaml-input.ts';

export interface AccessFile {
  agents: Mapping[];
  connections: Mapping[];
  entitlements: Mapping[];
}

const sections = ['agents', 'connections', 'entitlements'] as const;

const readSection = (value: unknown, section: string, problems: string[]): Mapping[] => {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) {
    problems.push(`${section}: must be a list`);
    return [];
  }
  return value.flatMap((item: unknown, index) => {
    if (isMapping(item)) return [item];
    problems.push(`${section}[${index}]: must be a mapping`);
    return [];
  });
};

/** A connection with what its secret is read from, where that is written in one line. */
const withReference = (connection: Mapping, index: number, problems: string[]): Mapping => {
  const { secret_from: reference } = connection;
  if (typeof reference !== 'string') return connection;
  try {
    return { ...connection, secret_from: { ...readSecretReference(reference, `connections[${index}].secret_from`) } };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    problems.push(...error.lines);
    return connection;
  }
};

/** A connection with every field of its secret read from where it says. */
const withSecret = (connection: Mapping, index: number, env: Context['env'], problems: string[]): Mapping => {
  const { secret } = connection;
  if (secret === undefined || secret === null) return connection;
  const where = `connections[${index}].secret`;
  if (!isMapping(secret)) {
    problems.push(`${where}: must be a mapping such as { value: env:NAME }`);
    return connection;
  }
  // `{ generate: true }`: Warder makes it once; there is nothing to read.
  if (secret[generatedSecret] === true && Object.keys(secret).length === 1) return connection;
  const resolved = Object.entries(secret).map(([field, reference]): [string, string] => {
    try {
      if (typeof reference !== 'string' || !isSecretReference(reference)) {
        throw usage(
          `${where}.${field}: must be ${secretReferenceRule}; a secret itself does not belong into this file`,
        );
      }
      return [field, resolveSecret(reference, env, `${where}.${field}`)];
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      problems.push(...error.lines);
      return [field, ''];
    }
  });
  return { ...connection, secret: Object.fromEntries(resolved) };
};

/**
 * @param document the parsed YAML
 * @param name how to call the file in messages
 * @throws Failure 2 with every problem, none of which repeats a value
 */
export const readAccess = (document: unknown, name: string, env: Context['env']): AccessFile => {
  const problems: string[] = [];
  const root = document ?? {};
  if (!isMapping(root)) throw usage(`${name}: must be a mapping with ${sections.join(', ')}`);
  for (const key of Object.keys(root)) {
    if (!sections.some((section) => section === key))
      problems.push(`unknown section; there are ${sections.join(', ')}`);
  }
  const access: AccessFile = {
    agents: readSection(root['agents'], 'agents', problems),
    connections: readSection(root['connections'], 'connections', problems).map((connection, index) =>
      withReference(withSecret(connection, index, env, problems), index, problems),
    ),
    entitlements: readSection(root['entitlements'], 'entitlements', problems),
  };
  if (problems.length > 0) throw usage(...problems.map((problem) => `${name}: ${problem}`));
  return access;
};
