/** The secret of a connection: set by hand, and compared with one that somebody holds. It goes in and never comes out. */
import type { Connection } from '../../domain/model.ts';
import type { ConnectionSecret } from '../../ports/call-context.ts';
import type { Provider } from '../../ports/provider.ts';
import { type Change, commitChanges } from '../change.ts';
import { type Caller, type Core, record } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { rotatedWrite } from '../rotation/rotation-rows.ts';
import { openSecretVersion, replaceSecretWrites } from '../secrets/secrets.ts';
import { named, providerOf } from './connection-parts.ts';

/** `{ "generate": true }` instead of a secret: one that no person ever sees. */
export const isToBeGenerated = (secret: unknown): boolean =>
  typeof secret === 'object' &&
  secret !== null &&
  'generate' in secret &&
  secret.generate === true &&
  Object.keys(secret).length === 1;

/** @returns its fields, as the provider keeps them; made here where that is asked for. @throws InvalidInput */
export const checkedSecret = (provider: Provider, secret: unknown): Record<string, string> => {
  if (isToBeGenerated(secret)) {
    if (provider.generateSecret) return provider.generateSecret();
    throw new InvalidInput(['secret: this provider cannot make one; give it']);
  }
  const checked = provider.checkSecret(secret);
  if (!checked.ok) throw new InvalidInput(checked.problems);
  if (checked.value === undefined) throw new InvalidInput(['secret: this provider takes none']);
  return checked.value;
};

/** Sets a new secret. Grants through the gateway follow it without noticing. @throws InvalidInput, Refused */
export const prepareSecret = async (
  core: Core,
  connection: Connection,
  secret: unknown,
  caller: Caller,
): Promise<{ change: Change; number: number }> => {
  const fields = checkedSecret(providerOf(core, connection.provider), secret);
  const { writes, number } = await replaceSecretWrites(core, connection, fields);
  const policy = core.state.rotationPolicies.get(connection.id);
  return {
    number,
    change: {
      // Set by hand it is as new as if it had been rotated.
      writes: [...writes, ...(policy ? rotatedWrite(policy, core.clock.now()) : [])],
      audit: [record(core, caller, { type: 'secret.set', ...named(connection), data: { version: number } })],
    },
  };
};

/** @returns whether this is the secret in force, compared after unsealing it */
export const secretIsInForce = async (core: CoreWithSecrets, connection: Connection, secret: unknown) => {
  if (connection.secret_source) return false;
  const provider = providerOf(core, connection.provider);
  // Generated means generated once: to apply the same file again does not replace an authority.
  if (isToBeGenerated(secret) && provider.generateSecret && connection.secret_version !== null) return true;
  const fields = checkedSecret(provider, secret);
  const held = await core.secrets.open(core.reader, connection);
  return held !== undefined && isSameSecret(held.fields, fields);
};

const isSameSecret = (held: ConnectionSecret['fields'], given: Record<string, string>): boolean => {
  const names = Object.keys(held);
  return names.length === Object.keys(given).length && names.every((name) => held[name]?.reveal() === given[name]);
};

/**
 * @returns whether this secret is not in force any more because a rotation replaced it: a file that still names it is
 * older than the rotation
 */
export const wasRotatedAway = async (
  core: CoreWithSecrets,
  connection: Connection,
  secret: unknown,
): Promise<boolean> => {
  if (isToBeGenerated(secret) || connection.secret_source) return false;
  const numbers = await core.reader.rotatedAway(connection.id);
  if (numbers.length === 0 || (await secretIsInForce(core, connection, secret))) return false;
  const fields = checkedSecret(providerOf(core, connection.provider), secret);
  for (const number of numbers) {
    if (isSameSecret(await openSecretVersion(core, connection.id, number), fields)) return true;
  }
  return false;
};

export const setSecret = async (
  core: Core,
  connection: Connection,
  secret: unknown,
  caller: Caller,
): Promise<number> => {
  const { change, number } = await prepareSecret(core, connection, secret, caller);
  await commitChanges(core, change);
  return number;
};
