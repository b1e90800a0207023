/**
 * `test-keyed`: makes accounts like `test-account`, signs in to its upstream with a key, and can replace that key. The
 * upstream (upstream-service.ts) says which keys it accepts; without one that it accepts nothing is made or undone.
 */
import type { Connection } from '../../src/domain/model.ts';
import { type Provider, type ProviderContext, ProviderFailure } from '../../src/ports/provider.ts';
import type { RotationContext, SecretFields, SecretRotation } from '../../src/ports/rotation.ts';
import { callUpstream, doneWith } from './upstream-provider.ts';

const keyOf = (fields: SecretFields): { id: string; value: string } => ({
  id: fields['id']?.reveal() ?? '',
  value: fields['value']?.reveal() ?? '',
});

const signedIn = async (context: Pick<ProviderContext, 'secret'>): Promise<{ id: string; value: string }> => {
  const secret = await context.secret();
  if (!secret) throw new ProviderFailure('refused', 'there is no key');
  return keyOf(secret.fields);
};

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';

/** All that was asked for in this rotation: journalled before, so that what nobody heard of can be removed. */
const namesIn = ({ handle }: RotationContext): string[] => {
  const names = handle?.['names'];
  return Array.isArray(names) ? names.map(String) : [];
};

const remove = async (id: string, as: SecretFields, context: RotationContext): Promise<void> => {
  const { url } = context.connection.settings;
  doneWith(await callUpstream(context, url, 'key-delete', id, { as: keyOf(as) }), 204, 404);
};

const rotation: SecretRotation = {
  methodSchema: { type: 'object' },
  checkMethod: (method) =>
    method === undefined ? { ok: true, value: {} } : { ok: false, problems: ['method: none is taken'] },
  destinations: (_method, settings) => [new URL(String(settings['url'])).origin],
  overlaps: () => true,
  create: async (context) => {
    const names = namesIn(context);
    // A second key at once would be one too many: what a try before made goes first.
    for (const name of names) await remove(name, context.current, context);
    const id = `${context.rotationId}-${names.length + 1}`;
    await context.journal({ names: [...names, id] });
    const as = keyOf(context.current);
    const made = await callUpstream(context, context.connection.settings['url'], 'key-create', id, { as });
    doneWith(made, 201);
    const { value } = made.body;
    if (!isText(value)) throw new ProviderFailure('unavailable', 'the test upstream answered nonsense');
    return { id, value };
  },
  // The upstream accepts a key from the moment it made it.
  set: async () => undefined,
  test: async (secret, context) => {
    const { url } = context.connection.settings;
    const answer = await callUpstream(context, url, 'key-test', keyOf(secret).id, { as: keyOf(secret) });
    doneWith(answer, 200);
  },
  undo: async (next, context) => {
    const names = new Set([...namesIn(context), ...(next ? [keyOf(next).id] : [])]);
    for (const name of names) await remove(name, context.current, context);
  },
  retire: async (previous, context) => remove(keyOf(previous).id, context.current, context),
};

const signed = async (
  context: ProviderContext,
  connection: Connection,
  operation: 'create' | 'delete' | 'renew',
  account: unknown,
  body: object = {},
) =>
  callUpstream(context, connection.settings['url'], operation, String(account), {
    ...body,
    as: await signedIn(context),
  });

export const keyedProvider: Provider = {
  type: 'test-keyed',
  enforcement: () => 'upstream',
  settingsSchema: { type: 'object' },
  checkSettings: (settings) => ({ ok: true, value: { ...(settings as object) } }),
  checkSecret: (secret) => {
    const { id, value } = (secret ?? {}) as { id?: unknown; value?: unknown };
    if (!isText(id) || !isText(value)) return { ok: false, problems: ['secret.id, secret.value: strings'] };
    return { ok: true, value: { id, value } };
  },
  secretDestination: (settings) => String(settings['url']),
  scopes: ({ scopes }) => (Array.isArray(scopes) ? scopes.map(String) : []),
  plan: ({ grantId }) => ({ credentialType: 'account', handle: { account: `wdr_${grantId}` } }),
  mint: async (request, { handle }, context) => {
    const wanted = { scopes: request.scopes, expires_at: request.expiresAt };
    const made = await signed(context, request.connection, 'create', handle?.['account'], wanted);
    doneWith(made, 201);
    const { password } = made.body;
    if (!isText(password)) throw new ProviderFailure('unavailable', 'the test upstream answered nonsense');
    return { credential: { type: 'account', username: String(handle?.['account']), password } };
  },
  revoke: async ({ handle }, connection, context) =>
    doneWith(await signed(context, connection, 'delete', handle?.['account']), 204, 404),
  renew: async ({ handle }, connection, expiresAt, context) =>
    doneWith(await signed(context, connection, 'renew', handle?.['account'], { expires_at: expiresAt }), 200),
  rotation,
};
