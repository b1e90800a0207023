/**
 * AWS KMS as the key service: Encrypt and Decrypt under one symmetric key that never leaves it. The context is the
 * encryption context, which KMS binds to the ciphertext and writes to CloudTrail:
 * https://docs.aws.amazon.com/kms/latest/developerguide/encrypt_context.html
 *
 * Warder's own identity asks: credentials, region and endpoint come from where every AWS tool takes them (environment,
 * profile, web identity, container, instance), never from a connection's settings.
 */
import type { KMSClient } from '@aws-sdk/client-kms';
import { type KeyService, KmsRefused, KmsUnavailable } from '../../src/ports/kms.ts';

export interface AwsKmsOptions {
  /** A call is over after this time, retries included: an unsealing waits for it. */
  patienceMs?: number;
  /** One attempt. */
  attemptMs?: number;
}

/** A start without the service must not take longer than a person waits. */
const defaultPatienceMs = 8_000;
/** KMS answers within tens of milliseconds; three attempts fit into the patience. */
const defaultAttemptMs = 2_500;
const connectMs = 1_500;
/** The first and three more, with the SDK's pauses between them. */
const maxAttempts = 4;

/**
 * What KMS says when the answer is no, and will be no again. Everything else (throttling, 5xx, no connection, expired
 * credentials) says nothing about the key: an outage. KMSInvalidStateException is both: of a key that is to be deleted, and
 * of any trouble with a custom key store. It seals, until KMS answers again.
 */
const refusals: Readonly<Record<string, string>> = {
  AccessDeniedException: 'it does not let Warder use the key',
  DisabledException: 'the key is disabled',
  IncorrectKeyException: 'the key is not the one this data was sealed with',
  InvalidArnException: 'there is no such key',
  InvalidCiphertextException: 'the key is not the one this data was sealed with, or the data was changed',
  InvalidKeyUsageException: 'the key is not for encrypting',
  KMSInvalidStateException: 'the key is not in a state to be used: it may be scheduled for deletion',
  NotFoundException: 'there is no such key',
  UnrecognizedClientException: 'it does not know the access key Warder has',
  UnsupportedOperationException: 'the key is not for encrypting',
  ValidationException: 'it does not take this for something it sealed',
};

const described = (error: unknown): { name: string; code: string; status: number | undefined } => {
  const given = (typeof error === 'object' && error !== null ? error : {}) as Record<string, unknown>;
  const metadata = given['$metadata'];
  const status =
    typeof metadata === 'object' && metadata !== null ? Reflect.get(metadata, 'httpStatusCode') : undefined;
  const word = (value: unknown): string => (typeof value === 'string' && /^\w{1,60}$/.test(value) ? value : '');
  return {
    name: word(given['name']),
    code: word(given['code']),
    status: typeof status === 'number' ? status : undefined,
  };
};

/** The SDK's error carries the answer, and the request's headers with it: only its name, code and status go on. */
const failure = (error: unknown): KmsRefused | KmsUnavailable => {
  if (error instanceof KmsRefused || error instanceof KmsUnavailable) return error;
  const { name, code, status } = described(error);
  const refusal = Object.hasOwn(refusals, name) ? refusals[name] : undefined;
  const cause = new Error(`AWS KMS: ${[name, code, status].filter(Boolean).join(' ') || 'no answer'}`);
  if (refusal !== undefined) return new KmsRefused(refusal, { cause });
  if (name === 'TimeoutError') return new KmsUnavailable('it did not answer in time', { cause });
  if (name === 'ThrottlingException') return new KmsUnavailable('it says that it is asked too often', { cause });
  return new KmsUnavailable('it cannot be reached, or does not work', { cause });
};

const missing = (what: string) => (): never => {
  throw new KmsUnavailable(`Warder has no AWS ${what}`);
};

/** 30 MB of memory, and a start that is 50 ms longer: only for those who use it. */
const loadSdk = () => import('@aws-sdk/client-kms');
type Sdk = Awaited<ReturnType<typeof loadSdk>>;

/** Ends the wait when the time is over, also where the SDK is busy finding credentials and hears no signal. */
const within = async <T>(patienceMs: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> => {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new KmsUnavailable('it did not answer in time'));
      controller.abort();
    }, patienceMs);
  });
  try {
    return await Promise.race([work(controller.signal), over]);
  } catch (error) {
    throw failure(error);
  } finally {
    clearTimeout(timer);
  }
};

/** @returns whether an answer names the key that was asked for; of an alias only KMS knows which key it names */
const isAnswerOf = (keyId: string, answered: string | undefined): boolean => {
  if (answered === undefined) return false;
  if (keyId.includes('alias/')) return true;
  return answered === keyId || (!keyId.startsWith('arn:') && answered.endsWith(`:key/${keyId.replace(/^key\//, '')}`));
};

/** @param keyId key id, alias, or the ARN of either; the region is that of the ARN, otherwise the environment's */
export const openAwsKms = (keyId: string, options: AwsKmsOptions = {}): KeyService => {
  const { patienceMs = defaultPatienceMs, attemptMs = defaultAttemptMs } = options;
  const region = keyId.startsWith('arn:') ? keyId.split(':')[3] : undefined;
  let opened: { sdk: Sdk; client: KMSClient } | undefined;
  const open = async (): Promise<{ sdk: Sdk; client: KMSClient }> => {
    const sdk = await loadSdk();
    opened ??= {
      sdk,
      client: new sdk.KMSClient({
        ...(region === undefined ? {} : { region }),
        maxAttempts,
        retryMode: 'standard',
        requestHandler: { connectionTimeout: connectMs, requestTimeout: attemptMs, throwOnRequestTimeout: true },
      }),
    };
    const { config } = opened.client;
    // What is missing here, said as such: the SDK's own errors name files and variables.
    await config.region().catch(missing('region'));
    await config.credentials().catch(missing('credentials'));
    return opened;
  };

  return {
    name: `aws-kms:${keyId}`,

    wrap: (key, context) =>
      within(patienceMs, async (abortSignal) => {
        const { sdk, client } = await open();
        const command = new sdk.EncryptCommand({ KeyId: keyId, Plaintext: key, EncryptionContext: context });
        const answer = await client.send(command, { abortSignal });
        if (answer.CiphertextBlob === undefined) throw new KmsUnavailable('it answered nonsense');
        if (!isAnswerOf(keyId, answer.KeyId)) throw new KmsRefused('it answered with another key');
        return Buffer.from(answer.CiphertextBlob).toString('base64');
      }),

    unwrap: (wrapped, context) =>
      within(patienceMs, async (abortSignal) => {
        const { sdk, client } = await open();
        const CiphertextBlob = Buffer.from(wrapped, 'base64');
        // The key is named: otherwise KMS would use whichever key the ciphertext says, of any account that lets it.
        const command = new sdk.DecryptCommand({ KeyId: keyId, CiphertextBlob, EncryptionContext: context });
        const answer = await client.send(command, { abortSignal });
        if (answer.Plaintext === undefined) throw new KmsUnavailable('it answered nonsense');
        if (!isAnswerOf(keyId, answer.KeyId)) throw new KmsRefused('it answered with another key');
        return answer.Plaintext;
      }),
  };
};
