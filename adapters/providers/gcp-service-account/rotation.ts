/**
 * Replaces the key that a connection signs in with. Warder makes the pair itself and gives Google the public half
 * (`keys.upload`): the private one never travels, and what was made can be found again by its public half, which is
 * journalled before.
 */
import { createPublicKey, generateKeyPair, hash, type KeyObject, X509Certificate } from 'node:crypto';
import { promisify } from 'node:util';
import { z } from 'zod';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import type { RotationContext, SecretFields, SecretRotation } from '../../../src/ports/rotation.ts';
import type { Network } from '../../network.ts';
import { patiently } from '../../rotation/patiently.ts';
import { checked, jsonSchemaOf } from '../shared/checking.ts';
import type { JsonAnswer } from '../shared/json-call.ts';
import { callIam, clocksDiffer, signIn, sourceToken } from './api.ts';
import { selfSigned } from './certificate.ts';
import { parsed, readKey, type ServiceAccountKey, secret } from './settings.ts';

/** What Google's own keys have, and no certificate of theirs is larger. */
const modulusLength = 2048;
/** "It can take 60 seconds or more" (docs.cloud.google.com/iam/docs/keys-create-delete); mostly it takes a few. */
const usualPatienceMs = 20_000;

const method = z.strictObject({});
/**
 * Whose key was asked for, and its public half: SHA-256 of the SubjectPublicKeyInfo, base64url. `made: false`: Google
 * refused it, and there is nothing to look for.
 */
const handleForm = z.object({ account: z.string(), public_key: z.string(), made: z.literal(false).optional() });
const journalled = ({ handle }: RotationContext) => {
  const found = handleForm.safeParse(handle).data;
  return found?.made === false ? undefined : found;
};

const fingerprint = (key: KeyObject): string =>
  hash('sha256', key.export({ type: 'spki', format: 'der' }), 'base64url');

/** `projects/acme/serviceAccounts/warder@…/keys/0123abc`. */
const keyName = z.string().regex(/^projects\/[^/]+\/serviceAccounts\/[^/]+\/keys\/[A-Za-z0-9]{1,100}$/);
const idOf = (name: string): string => name.slice(name.lastIndexOf('/') + 1);
const uploadAnswer = z.object({ name: keyName });
const listAnswer = z.object({ keys: z.array(z.object({ name: keyName })).default([]) });
const keyAnswer = z.object({ publicKeyData: z.base64().optional() });

const read = <T>(schema: z.ZodType<T>, answer: JsonAnswer): T => {
  const found = schema.safeParse(answer.body);
  if (found.success) return found.data;
  throw new ProviderFailure('unavailable', 'the answer is not one that Google gives');
};

const unexpected = ({ status }: JsonAnswer): ProviderFailure => {
  if (status === 403) {
    return new ProviderFailure(
      'refused',
      'the service account may not manage its own keys, or the organisation’s policy forbids it',
    );
  }
  if (status === 404) return new ProviderFailure('refused', 'Google knows no such service account');
  if (status >= 400 && status < 500 && status !== 429) return new ProviderFailure('refused', 'Google refused it');
  return new ProviderFailure('unavailable', 'Google failed, or has too many keys of this account');
};

const generate = promisify(generateKeyPair);

export const serviceAccountKeyRotation = (network: Network, patienceMs = usualPatienceMs): SecretRotation => {
  const keyOf = (fields: SecretFields): ServiceAccountKey => {
    const key = readKey(fields['key_json']?.reveal() ?? '');
    if (!key) throw new ProviderFailure('refused', 'the secret of this connection is not a service account’s key');
    return key;
  };

  /** Calls about the keys of one account, with a token of its key in force. */
  const keysAt = async (context: RotationContext) => {
    const settings = parsed(context.connection.settings);
    const fetch = network.fetch({ allowPrivateNetwork: settings.allow_private_network });
    const key = keyOf(context.current);
    const calling = { now: context.now, signal: context.signal, signJwt: notHere };
    const token = await sourceToken(fetch, settings, { key }, calling);
    const call = (verb: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<JsonAnswer> =>
      callIam(fetch, settings, token, { method: verb, account: key.client_email, path, body }, context.signal);
    const remove = async (id: string): Promise<void> => {
      const answer = await call('DELETE', `keys/${id}`);
      if (answer.status !== 200 && answer.status !== 404) throw unexpected(answer);
    };
    /** The keys whose public half this is: one, or several where an upload was repeated. */
    const find = async (publicKey: string): Promise<string[]> => {
      const answer = await call('GET', 'keys?keyTypes=USER_MANAGED');
      if (answer.status !== 200) throw unexpected(answer);
      const found: string[] = [];
      for (const id of read(listAnswer, answer).keys.map(({ name }) => idOf(name))) {
        if (id === key.private_key_id) continue;
        const one = await call('GET', `keys/${id}?publicKeyType=TYPE_X509_PEM_FILE`);
        if (one.status === 404) continue;
        if (one.status !== 200) throw unexpected(one);
        if (isOf(publicKey, read(keyAnswer, one).publicKeyData)) found.push(id);
      }
      return found;
    };
    return { key, call, remove, find };
  };

  const create = async (context: RotationContext): Promise<Record<string, string>> => {
    const { key, call, remove, find } = await keysAt(context);
    const before = journalled(context);
    if (before?.account === key.client_email) for (const id of await find(before.public_key)) await remove(id);
    const pair = await generate('rsa', { modulusLength });
    const handle = { account: key.client_email, public_key: fingerprint(pair.publicKey) };
    await context.journal(handle);
    const certificate = selfSigned(pair.publicKey, pair.privateKey, context.now());
    const publicKeyData = Buffer.from(certificate).toString('base64');
    const answer = await call('POST', 'keys:upload', { publicKeyData });
    if (answer.status !== 200) {
      const failure = unexpected(answer);
      if (failure.kind === 'refused') await context.journal({ ...handle, made: false });
      throw failure;
    }
    const id = idOf(read(uploadAnswer, answer).name);
    const next = {
      ...key,
      private_key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      private_key_id: id,
    };
    const fields = checked<Record<string, string> | undefined>(secret, { key_json: JSON.stringify(next) }, 'secret');
    if (!fields.ok || !fields.value)
      throw new ProviderFailure('unavailable', 'the answer is not one that Google gives');
    return fields.value;
  };

  return {
    methodSchema: jsonSchemaOf(method),
    checkMethod(given, settings) {
      if (parsed(settings).workload_identity !== undefined) {
        return { ok: false, problems: ['method: with workload_identity there is no key to replace'] };
      }
      return checked<Record<string, unknown>>(method, given === undefined ? {} : given, 'method');
    },
    destinations: () => [],
    overlaps: () => true,
    create,
    // A key works from the moment it is known.
    set: async () => undefined,

    test: (fields, context) =>
      patiently(patienceMs, context.signal, async () => {
        const settings = parsed(context.connection.settings);
        const fetch = network.fetch({ allowPrivateNetwork: settings.allow_private_network });
        const calling = { now: context.now, signal: context.signal, signJwt: notHere };
        const answer = await signIn(fetch, settings, keyOf(fields), calling);
        if (answer.status === 200) return;
        const error = z.object({ error: z.string() }).safeParse(answer.body).data?.error;
        const isNo =
          answer.status >= 400 && answer.status < 500 && (error === 'invalid_grant' || error === 'invalid_client');
        if (isNo && !clocksDiffer(answer, context.now())) {
          throw new ProviderFailure('refused', 'Google did not accept the service account’s key');
        }
        throw new ProviderFailure('unavailable', 'Google does not say whether the key is valid');
      }),

    async undo(next, context) {
      const before = journalled(context);
      if (!next && !before) return;
      const { key, remove, find } = await keysAt(context);
      const made = next && keyOf(next);
      const ids = new Set(before?.account === key.client_email ? await find(before.public_key) : []);
      if (made && made.client_email === key.client_email) ids.add(made.private_key_id);
      ids.delete(key.private_key_id);
      for (const id of ids) await remove(id);
    },

    async retire(previous, context) {
      const old = keyOf(previous);
      const current = keyOf(context.current);
      // A key of another account is not this rotation's, nor is the one in force.
      if (old.client_email !== current.client_email || old.private_key_id === current.private_key_id) return;
      const { remove } = await keysAt(context);
      await remove(old.private_key_id);
    },
  };
};

const isOf = (publicKey: string, certificate: string | undefined): boolean => {
  if (certificate === undefined) return false;
  try {
    const pem = Buffer.from(certificate, 'base64').toString('ascii');
    return (
      fingerprint(createPublicKey(new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'pem' }))) ===
      publicKey
    );
  } catch {
    // Some other kind of key: not one that was uploaded from here.
    return false;
  }
};

/** Only connections without a key sign in by Warder's own assertion. */
const notHere = async (): Promise<string> => {
  throw new ProviderFailure('refused', 'this connection signs in with a key');
};
