/** A value of Vault's KV engine, version 2, as the fields of a secret. */
import { z } from 'zod';
import { ProviderFailure, type SecretReference } from '../../../src/ports/provider.ts';
import { VaultFailure } from '../../vault/failure.ts';
import { encodePath } from '../../vault/path.ts';
import type { VaultSession } from '../../vault/session.ts';

/** @see https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version */
const answer = z.object({
  data: z.record(z.string(), z.unknown()),
  metadata: z.object({ version: z.int().min(1) }),
});

/** @throws VaultFailure, ProviderFailure */
export const readKvValue = async (
  session: VaultSession,
  { path, fields, version }: SecretReference,
  signal: AbortSignal,
): Promise<Record<string, string>> => {
  const query = version === null ? {} : { query: { version: String(version) } };
  const reply = await session.call({ method: 'GET', path: encodePath(path), ...query }, signal);
  const parsed = answer.safeParse(reply.data);
  if (!parsed.success) throw new VaultFailure('refused', 'it has no value of a KV engine, version 2,');
  if (version !== null && parsed.data.metadata.version !== version) {
    throw new VaultFailure('unavailable', 'its answer is of another version');
  }
  const read = Object.entries(fields).map(([name, field]): [string, string] => {
    const value = Object.hasOwn(parsed.data.data, field) ? parsed.data.data[field] : undefined;
    if (typeof value === 'string') return [name, value];
    throw new ProviderFailure('refused', `the value in Vault has no text under the field for ${name}`);
  });
  return Object.fromEntries(read);
};
