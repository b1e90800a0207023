/**
 * A method of rotation is told the secret, so it may lead nowhere the secret does not go already: whoever may write
 * connections but does not know the secret would have it sent to himself.
 */
import type { Connection, Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Core } from '../core.ts';
import { judgeMethod } from './method.ts';

/** Where this connection's secret goes: to its upstream, and where its rotation sends it. */
const destinationsOf = (core: Core, connection: Connection, method: unknown): string[] => {
  const own = core.providers.get(connection.provider)?.secretDestination?.(connection.settings);
  return [...(own === undefined ? [] : [own]), ...methodDestinations(core, connection, method)];
};

const methodDestinations = (core: Core, connection: Connection, method: unknown): string[] => {
  const judged = judgeMethod(core, connection, method);
  return judged.ok && judged.kind === 'secret' ? judged.rotation.destinations(judged.method, connection.settings) : [];
};

const writtenMethod = (core: Core, connection: Connection): unknown =>
  core.state.rotationPolicies.get(connection.id)?.method ?? undefined;

/**
 * @returns where the new method sends the secret beside where it goes now
 * @throws Refused `conflict` when that is anywhere, the secret was not given anew and this is no admin
 */
export const requireKnownDestinations = (
  core: Core,
  connection: Connection,
  method: unknown,
  { secretGiven, operator }: { secretGiven: boolean; operator: Pick<Operator, 'roles'> },
): string[] => {
  const known = new Set(destinationsOf(core, connection, writtenMethod(core, connection)));
  const added = methodDestinations(core, connection, method).filter((destination) => !known.has(destination));
  if (added.length === 0 || secretGiven || operator.roles.includes('admin')) return added;
  throw new Refused(
    'conflict',
    `this method would send the secret to ${added.join(', ')}; give the secret for it in the same request, or have an admin do it`,
  );
};

/**
 * New settings of a connection must not lead its rotation elsewhere either, nor break it.
 * @throws Refused `conflict`
 */
export const requireRotationFits = (
  core: Core,
  connection: Connection,
  settings: Record<string, unknown>,
  { secretGiven }: { secretGiven: boolean },
): void => {
  if (!core.state.rotationPolicies.get(connection.id)) return;
  const method = writtenMethod(core, connection);
  const after = { ...connection, settings };
  const before = judgeMethod(core, connection, method);
  const judged = judgeMethod(core, after, method);
  if (before.ok && !judged.ok) {
    throw new Refused(
      'conflict',
      `with these settings the secret could not be rotated as its policy says (${judged.problem}); change that first (warder rotate set ${connection.name})`,
    );
  }
  const known = new Set(destinationsOf(core, connection, method));
  const added = methodDestinations(core, after, method).filter((destination) => !known.has(destination));
  if (added.length > 0 && !secretGiven) {
    throw new Refused(
      'conflict',
      `with these settings the rotation would send the secret to ${added.join(', ')}; give the secret in the same request`,
    );
  }
};
