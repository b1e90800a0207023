/** A declared call that shows whether a secret is valid: made with that very secret, where agents' requests go too. */
import { z } from 'zod';
import { ProviderFailure } from '../../src/ports/provider.ts';
import type { RotationContext, SecretFields } from '../../src/ports/rotation.ts';
import type { Network } from '../network.ts';
import { callShape, placeholdersOf, pointer, refusals, send, sending, unexpected } from './call.ts';
import { patiently } from './patiently.ts';
import { present, type Subject } from './subject.ts';
import { at } from './template.ts';

export const testCall = z.strictObject({
  ...callShape('GET', [200]),
  /** Statuses that mean: this secret is not valid. */
  refused: refusals([401, 403]),
  /** What must stand in the answer besides, by JSON pointer: for services that say 200 to everybody. */
  holds: z.record(pointer, z.union([z.string().max(200), z.number(), z.boolean(), z.null()])).default({}),
  /**
   * How long a new secret may take to be known at the service. Well within the half minute of a step: a refusal that
   * comes too late to be believed is in doubt, and then nobody would ever learn that a secret is dead.
   */
  patience_seconds: z.int().min(0).max(20).default(0),
});
export type TestCall = z.infer<typeof testCall>;

export const testProblems = (
  subject: Subject,
  declared: TestCall,
  settings: Readonly<Record<string, unknown>>,
): string[] => {
  const unknown = [...placeholdersOf(declared)].filter((name) => name !== 'connection' && name !== 'id');
  return [
    ...unknown.map((name) => `test: {{${name}}} is not known in this call`),
    ...(declared.json && declared.form ? ['test: json or form, not both'] : []),
    ...(declared.method === 'GET' && (declared.json || declared.form) ? ['test: GET has no body'] : []),
    ...(subject.baseUrl(settings) === undefined ? ['test: the connection has no base_url to call'] : []),
  ];
};

/** @throws ProviderFailure `refused` only for a status that says that the secret is not valid */
export const takeTest = async (
  subject: Subject,
  network: Network,
  declared: TestCall,
  secret: SecretFields,
  context: RotationContext,
): Promise<void> => {
  const { settings, name } = context.connection;
  const baseUrl = subject.baseUrl(settings);
  if (baseUrl === undefined)
    throw new ProviderFailure('unavailable', 'the connection has no base_url to test a secret at');
  const fetch = network.fetch({ allowPrivateNetwork: subject.allowsPrivateNetwork(settings) });
  const values = present({ connection: name, id: secret['id']?.reveal() });
  await patiently(declared.patience_seconds * 1000, context.signal, async () => {
    const credentials = await subject.credentials(secret, context, []);
    const answer = await sending('test', send({ fetch, baseUrl }, declared, values, credentials, context.signal));
    if (declared.expect.includes(answer.status)) {
      const asked = Object.entries(declared.holds);
      if (asked.every(([where, value]) => at(answer.body, where) === value)) return;
      const what = 'its answer to test does not hold what it must';
      // A page of somebody in between says nothing about the secret.
      if (answer.body === undefined) throw new ProviderFailure('unavailable', what);
      throw new ProviderFailure('refused', `the service does not accept the secret: ${what}`);
    }
    const said = unexpected(answer, 'test').message;
    if (!declared.refused.includes(answer.status)) throw new ProviderFailure('unavailable', said);
    throw new ProviderFailure('refused', `the service does not accept the secret: ${said}`);
  });
};
