/**
 * Replaces the secret id of the AppRole that a connection logs in as. Each is made with the rotation's id in its metadata,
 * so that one whose answer was lost is found again by its accessor.
 * @see https://developer.hashicorp.com/vault/api-docs/auth/approle
 */
import { z } from 'zod';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import type { RotationContext, SecretFields, SecretRotation } from '../../../src/ports/rotation.ts';
import type { Network } from '../../network.ts';
import { openVaultClient, type VaultReply, type VaultRequest } from '../../vault/client.ts';
import { VaultFailure } from '../../vault/failure.ts';
import { encodePath } from '../../vault/path.ts';
import { checked, jsonSchemaOf } from '../shared/checking.ts';
import { asking } from './leases.ts';
import { parsedVaultSettings, siteOf } from './settings.ts';

const method = z.strictObject(
  { role: z.string().regex(/^[\w.-]{1,128}$/, 'the name of a role of the AppRole method') },
  { error: 'needs role: the name of the AppRole that the connection logs in as' },
);

const handleForm = z.object({ asked: z.boolean() });
const mayHaveMade = ({ handle }: RotationContext): boolean => handleForm.safeParse(handle).data?.asked === true;

/** The key of the metadata of a secret id. */
const mark = 'warder_rotation';

const accessor = z.string().regex(/^[\w-]{1,100}$/);
const made = z.object({ secret_id: z.string().regex(/^[\x21-\x7e]{1,4096}$/) });
const listed = z.object({ keys: z.array(accessor).default([]) });
const metadata = z.object({ metadata: z.record(z.string(), z.string()).nullish() });

/** Looking at each of them would take longer than a call may. */
const mostSecretIds = 500;

const read = <T>(schema: z.ZodType<T>, reply: VaultReply): T => {
  const found = schema.safeParse(reply.data ?? {});
  if (found.success) return found.data;
  throw new ProviderFailure('unavailable', 'Vault: its answer is not one about secret ids');
};

const isGone = (error: unknown): boolean =>
  error instanceof VaultFailure && error.kind === 'refused' && error.status === 404;

const unlessGone = async <T>(work: Promise<T>): Promise<T | undefined> => {
  try {
    return await work;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
};

type Call = (request: Omit<VaultRequest, 'token'>) => Promise<VaultReply>;

export const secretIdRotation = (network: Network): SecretRotation => {
  const mountOf = ({ connection }: RotationContext): string => {
    const { auth } = parsedVaultSettings(connection.settings);
    if (auth.method !== 'approle') throw new ProviderFailure('refused', 'the connection does not log in by an AppRole');
    return encodePath(auth.mount);
  };

  /** Logs in for this one call, and ends the token behind it. */
  const loggedIn = async <T>(
    secret: SecretFields,
    context: RotationContext,
    work: (call: Call) => Promise<T>,
  ): Promise<T> => {
    const client = openVaultClient(network, siteOf(parsedVaultSettings(context.connection.settings)));
    const { signal } = context;
    const body = { role_id: secret['role_id']?.reveal(), secret_id: secret['secret_id']?.reveal() };
    const { auth } = await client.call({ method: 'POST', path: `auth/${mountOf(context)}/login`, body }, signal);
    const token = auth?.client_token;
    if (!token) throw new ProviderFailure('unavailable', 'Vault: its answer to the login has no token');
    try {
      return await work((request) => client.call({ ...request, token }, signal));
    } finally {
      // A token that cannot be ended ends by itself, and nobody has it.
      await client.call({ method: 'POST', path: 'auth/token/revoke-self', token }, signal).catch(() => undefined);
    }
  };

  const pathOf = (context: RotationContext): string =>
    `auth/${mountOf(context)}/role/${encodeURIComponent(String(context.method['role']))}`;

  /** Ends what this rotation made, with or without its answer. */
  const endMade = async (call: Call, context: RotationContext): Promise<void> => {
    const role = pathOf(context);
    const reply = await unlessGone(call({ method: 'GET', path: `${role}/secret-id`, query: { list: 'true' } }));
    if (!reply) return;
    const { keys } = read(listed, reply);
    if (keys.length > mostSecretIds) {
      throw new ProviderFailure('refused', `Vault: the role has more than ${mostSecretIds} secret ids to look through`);
    }
    for (const secret_id_accessor of keys) {
      const about = { method: 'POST', body: { secret_id_accessor } } as const;
      const found = await unlessGone(call({ ...about, path: `${role}/secret-id-accessor/lookup` }));
      if (!found || read(metadata, found).metadata?.[mark] !== context.rotationId) continue;
      await unlessGone(call({ ...about, path: `${role}/secret-id-accessor/destroy` }));
    }
  };

  const destroy = async (call: Call, secret: SecretFields, context: RotationContext): Promise<void> => {
    const secretId = secret['secret_id']?.reveal();
    if (secretId === undefined || secretId === context.current['secret_id']?.reveal()) return;
    const body = { secret_id: secretId };
    await unlessGone(call({ method: 'POST', path: `${pathOf(context)}/secret-id/destroy`, body }));
  };

  return {
    methodSchema: jsonSchemaOf(method),
    checkMethod(given, settings) {
      const { auth } = parsedVaultSettings(settings);
      if (auth.method === 'approle') return checked<Record<string, unknown>>(method, given, 'method');
      const why = auth.method === 'token' ? 'a token is replaced by hand' : 'there is no secret to replace';
      return { ok: false, problems: [`method: the connection logs in by ${auth.method}: ${why}`] };
    },
    destinations: () => [],
    overlaps: () => true,

    create: (context) =>
      asking(
        'for a new secret id',
        loggedIn(context.current, context, async (call) => {
          if (mayHaveMade(context)) await endMade(call, context);
          await context.journal({ asked: true });
          const body = { metadata: JSON.stringify({ [mark]: context.rotationId }) };
          try {
            const reply = await call({ method: 'POST', path: `${pathOf(context)}/secret-id`, body });
            return { role_id: context.current['role_id']?.reveal() ?? '', secret_id: read(made, reply).secret_id };
          } catch (error) {
            if (error instanceof VaultFailure && error.kind === 'refused') await context.journal({ asked: false });
            throw error;
          }
        }),
      ),

    // A secret id works from the moment it is made.
    set: async () => undefined,

    async test(secret, context) {
      try {
        await loggedIn(secret, context, async () => undefined);
      } catch (error) {
        if (!(error instanceof VaultFailure)) throw error;
        const isNo =
          error.kind === 'refused' && error.says(/invalid (?:role or )?secret[ _]id|invalid role(?: id|_id)?\b/i);
        if (isNo) throw new ProviderFailure('refused', 'Vault does not accept the secret id', { cause: error });
        const kind = error.kind === 'timeout' ? 'timeout' : 'unavailable';
        throw new ProviderFailure(kind, `Vault: ${error.message} at a login`, { cause: error });
      }
    },

    async undo(next, context) {
      const asked = mayHaveMade(context);
      if (!asked && !next) return;
      await asking(
        'to end a secret id',
        loggedIn(context.current, context, async (call) => {
          if (next) await destroy(call, next, context);
          if (asked) await endMade(call, context);
        }),
      );
    },

    async retire(previous, context) {
      if (previous['secret_id']?.reveal() === context.current['secret_id']?.reveal()) return;
      await asking(
        'to end a secret id',
        loggedIn(context.current, context, (call) => destroy(call, previous, context)),
      );
    },
  };
};
