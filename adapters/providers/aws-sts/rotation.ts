/**
 * Replaces the access key of the IAM user that a connection signs as. A user has two access keys at most, so there must
 * be one at the start; IAM names a key only in the answer that makes it, so that one whose answer was lost is found by
 * comparing with the keys that were there before.
 */
import type { IAMClient } from '@aws-sdk/client-iam';
import { z } from 'zod';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import type { RotationContext, SecretFields, SecretRotation } from '../../../src/ports/rotation.ts';
import type { Network } from '../../network.ts';
import { patiently } from '../../rotation/patiently.ts';
import { checked, jsonSchemaOf } from '../shared/checking.ts';
import { type AwsKeys, keysOf, loadIam, loadSts, openIam, openSts } from './clients.ts';
import { errorOf, failureOf, isClearNo } from './failure.ts';
import type { AwsSettings } from './settings.ts';

/** IAM and STS quotas: "Access keys assigned to an IAM user". */
const mostKeys = 2;
/** "The change may take some seconds to be known everywhere": IAM troubleshooting, eventual consistency. */
const usualPatienceMs = 20_000;
/** AWS takes no request from a clock that is further off (Signature Version 4), so neither is a date it gives. */
const clockSkewMs = 5 * 60_000;

/** Of all that AWS refuses, what says that the key itself is not valid. */
const notValid = new Set(['InvalidClientTokenId', 'SignatureDoesNotMatch', 'ExpiredToken', 'ExpiredTokenException']);

const method = z.strictObject({});

/**
 * `before`: the ids of all keys of the user when a new one was about to be asked for, at `at` (ms since the epoch).
 * `made: false`: AWS refused it, and what is new there is somebody else's.
 */
const handleForm = z.object({
  user: z.string(),
  before: z.array(z.string()),
  at: z.number(),
  made: z.literal(false).optional(),
});
type Journalled = z.infer<typeof handleForm>;
const journalled = ({ handle }: RotationContext): Journalled | undefined => handleForm.safeParse(handle).data;

interface ListedKey {
  id: string;
  createdAt: number | undefined;
}

export const awsKeyRotation = (
  parsed: (settings: object) => AwsSettings,
  network: Network,
  patienceMs = usualPatienceMs,
): SecretRotation => {
  const settingsOf = ({ connection }: RotationContext): AwsSettings => parsed(connection.settings);
  const required = (fields: SecretFields, context: RotationContext): AwsKeys => {
    const keys = keysOf(settingsOf(context), { version: 0, fields });
    if (!keys) throw new ProviderFailure('refused', 'this connection has no access key of its own');
    return keys;
  };

  const failing = async <T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw failureOf(error, signal);
    }
  };

  const identity = async (keys: AwsKeys, context: RotationContext): Promise<string> => {
    const sdk = await loadSts();
    const sts = await openSts(settingsOf(context), network, keys);
    const { Arn } = await sts.send(new sdk.GetCallerIdentityCommand({}), { abortSignal: context.signal });
    if (Arn === undefined) throw new ProviderFailure('unavailable', 'AWS answered nonsense');
    return Arn;
  };

  /** Every key may ask who it is: AWS lets nobody deny that. */
  const test = async (keys: AwsKeys, context: RotationContext): Promise<void> => {
    try {
      await identity(keys, context);
    } catch (error) {
      const failure = failureOf(error, context.signal);
      if (failure.kind !== 'refused' || notValid.has(errorOf(error).name)) throw failure;
      throw new ProviderFailure('unavailable', failure.message, { cause: failure.cause });
    }
  };

  /** Whose keys they are: the name IAM's calls take, which is the last part of the user's path. */
  const userOf = async (keys: AwsKeys, context: RotationContext): Promise<string> => {
    if (keys.sessionToken !== undefined) {
      throw new ProviderFailure(
        'refused',
        'the access key is of a session, which ends by itself: only a user’s can be replaced',
      );
    }
    const [, path] = /^arn:[\w-]+:iam::\d{12}:user\/(.+)$/.exec(await identity(keys, context)) ?? [];
    if (path === undefined) {
      throw new ProviderFailure('refused', 'the access key is not an IAM user’s: only a user’s can be replaced');
    }
    return path.slice(path.lastIndexOf('/') + 1);
  };

  const iamOf = (context: RotationContext): Promise<IAMClient> =>
    openIam(settingsOf(context), network, required(context.current, context));

  const listed = async (iam: IAMClient, UserName: string, signal: AbortSignal): Promise<ListedKey[]> => {
    const sdk = await loadIam();
    const answer = await iam.send(new sdk.ListAccessKeysCommand({ UserName }), { abortSignal: signal });
    return (answer.AccessKeyMetadata ?? []).flatMap(({ AccessKeyId: id, CreateDate }) =>
      id === undefined ? [] : [{ id, createdAt: CreateDate?.getTime() }],
    );
  };

  const remove = async (iam: IAMClient, UserName: string, AccessKeyId: string, signal: AbortSignal): Promise<void> => {
    const sdk = await loadIam();
    try {
      await iam.send(new sdk.DeleteAccessKeyCommand({ UserName, AccessKeyId }), { abortSignal: signal });
    } catch (error) {
      if (!errorOf(error).name.startsWith('NoSuchEntity')) throw error;
    }
  };

  /** Keys that came after the journal was written, and that are not in force. */
  const strays = async (iam: IAMClient, known: Journalled, current: string, signal: AbortSignal): Promise<string[]> =>
    (await listed(iam, known.user, signal))
      .filter(({ id, createdAt }) => {
        const isLater = createdAt === undefined || createdAt >= known.at - clockSkewMs;
        return id !== current && !known.before.includes(id) && isLater;
      })
      .map(({ id }) => id);

  const makeKey = async (handle: Journalled, context: RotationContext) => {
    await context.journal(handle);
    const sdk = await loadIam();
    const command = new sdk.CreateAccessKeyCommand({ UserName: handle.user });
    try {
      // Never sent again by the SDK: the first may have made one, and two are the limit.
      const once = await openIam(settingsOf(context), network, required(context.current, context), 1);
      return (await once.send(command, { abortSignal: context.signal })).AccessKey;
    } catch (error) {
      if (isClearNo(error)) await context.journal({ ...handle, made: false });
      throw error;
    }
  };

  const create = async (context: RotationContext): Promise<Record<string, string>> => {
    const { signal } = context;
    const keys = required(context.current, context);
    const user = await userOf(keys, context);
    const iam = await iamOf(context);
    const before = journalled(context);
    if (before?.user === user && before.made !== false) {
      for (const id of await strays(iam, before, keys.accessKeyId, signal)) await remove(iam, user, id, signal);
    }
    const there = (await listed(iam, user, signal)).map(({ id }) => id);
    if (!there.includes(keys.accessKeyId)) {
      throw new ProviderFailure('unavailable', 'AWS does not list the access key in force among the user’s');
    }
    if (there.length >= mostKeys) {
      throw new ProviderFailure(
        'refused',
        'the user has two access keys already, and AWS allows no third: delete the one that Warder does not use',
      );
    }
    const AccessKey = await makeKey({ user, before: there, at: context.now() }, context);
    const { AccessKeyId, SecretAccessKey } = AccessKey ?? {};
    if (AccessKeyId === undefined || SecretAccessKey === undefined) {
      throw new ProviderFailure('unavailable', 'AWS answered nonsense');
    }
    return { access_key_id: AccessKeyId, secret_access_key: SecretAccessKey };
  };

  const undo = async (next: SecretFields | undefined, context: RotationContext): Promise<void> => {
    const { signal } = context;
    const known = journalled(context);
    if (!known) return;
    const current = required(context.current, context).accessKeyId;
    const iam = await iamOf(context);
    const made = next?.['access_key_id']?.reveal();
    // Whose id is known is looked for no further: a key that came since may be the one that somebody makes by hand to mend this.
    const ids = made === undefined && known.made !== false ? await strays(iam, known, current, signal) : [made];
    for (const id of ids) if (id !== undefined && id !== current) await remove(iam, known.user, id, signal);
  };

  const retire = async (previous: SecretFields, context: RotationContext): Promise<void> => {
    const old = required(previous, context).accessKeyId;
    const keys = required(context.current, context);
    // Whatever is called previous: what is in force stays.
    if (old === keys.accessKeyId) return;
    const user = journalled(context)?.user ?? (await userOf(keys, context));
    await remove(await iamOf(context), user, old, context.signal);
  };

  return {
    methodSchema: jsonSchemaOf(method),
    checkMethod(given, value) {
      if (parsed(value).credentials === 'ambient') {
        return { ok: false, problems: ['method: with credentials: ambient there is no access key to replace'] };
      }
      return checked<Record<string, unknown>>(method, given === undefined ? {} : given, 'method');
    },
    destinations: () => [],
    overlaps: () => true,
    create: (context) => failing(context.signal, () => create(context)),
    // A key works from the moment it is made.
    set: async () => undefined,
    test: (secret, context) => patiently(patienceMs, context.signal, () => test(required(secret, context), context)),
    undo: (next, context) => failing(context.signal, () => undo(next, context)),
    retire: (previous, context) => failing(context.signal, () => retire(previous, context)),
  };
};
