/**
 * Vault's transit engine as key service: a key that never leaves Vault wraps Warder's key-encryption keys. The context is
 * bound as associated data (AES-GCM), so that the key must be of a type with that: aes256-gcm96, the default, is.
 */
import { canonicalJson } from '../../src/domain/canonical-json.ts';
import type { SecretText } from '../../src/domain/secret-text.ts';
import { type KeyService, KmsRefused, KmsUnavailable } from '../../src/ports/kms.ts';
import { type Network, openNetwork } from '../network.ts';
import { openVaultClient, type VaultReply } from '../vault/client.ts';
import { VaultFailure } from '../vault/failure.ts';
import { encodePath } from '../vault/path.ts';
import { VaultSession } from '../vault/session.ts';

export interface VaultAccess {
  /** Scheme, host and port. */
  address: string;
  token: SecretText;
  namespace?: string | undefined;
  /** PEM. */
  ca?: string | undefined;
}

export interface VaultTransitOptions {
  /** Whoever configures the key service may place it anywhere: also on a private network. */
  network?: Network;
  /** The whole of a call, with its repetitions: a start waits for it. */
  patienceMs?: number;
}

const defaultPatienceMs = 8_000;
/** Pauses after "too many requests" (429), in ms: a rate limit of Vault's counts by the second. */
const pausesMs = [100, 300, 900, 2_000, 4_000];
/** How often the token is thought of while nobody asks for anything. */
const tokenCareMs = 60_000;
/** Keys are confirmed several times a day (docs/key-services.md): who has not asked for so long has moved away. */
const forgottenMs = 86_400_000;

/** What transit makes; anything else was never wrapped here, and needs no asking. */
const wrappedForm = /^vault:v[1-9]\d{0,8}:[A-Za-z0-9+/]+={0,2}$/;
const maxWrappedLength = 100_000;

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });

/**
 * Only a Vault that says no, in its own words, refuses: that seals Warder at once. A token that was revoked or has ended,
 * a policy that was taken away, a key that was deleted or whose version is too old (min_decryption_version) say so. What
 * is sealed, on standby, overloaded or not a Vault at all is an outage.
 */
const asKmsError = (error: unknown): unknown => {
  if (!(error instanceof VaultFailure)) return error;
  if (error.kind === 'timeout') return new KmsUnavailable('Vault did not answer in time', { cause: error });
  if (error.kind === 'unavailable' || error.status === undefined) {
    return new KmsUnavailable(`Vault: ${error.message}`, { cause: error });
  }
  const why =
    error.status === 403
      ? 'Vault does not let this token use the key (status 403)'
      : `Vault refuses to use the key for this (status ${error.status})`;
  return new KmsRefused(why, { cause: error });
};

/** @returns a key service named `vault-transit:<mount>/<key>` */
export const openVaultTransit = (
  { mount, key }: { mount: string; key: string },
  access: VaultAccess,
  { network = openNetwork(), patienceMs = defaultPatienceMs }: VaultTransitOptions = {},
): KeyService => {
  const session = new VaultSession(
    openVaultClient(network, {
      address: access.address.replace(/\/$/, ''),
      namespace: access.namespace,
      ca: access.ca === undefined ? undefined : [access.ca],
      allowPrivateNetwork: true,
    }),
    { how: 'given', token: access.token },
  );
  let usedAt = 0;
  let care: NodeJS.Timeout | undefined;
  const takeCare = (): void => {
    if (performance.now() - usedAt < forgottenMs) session.keepAlive();
    else {
      clearInterval(care);
      care = undefined;
    }
  };

  const call = async (action: 'encrypt' | 'decrypt', body: Record<string, string>): Promise<VaultReply> => {
    // From the first use on: a key service that is only named holds no timer.
    care ??= setInterval(takeCare, tokenCareMs).unref();
    usedAt = performance.now();
    const signal = AbortSignal.timeout(patienceMs);
    const path = `${encodePath(mount)}/${action}/${encodePath(key)}`;
    try {
      for (let tries = 0; ; tries += 1) {
        try {
          return await session.call({ method: 'POST', path, body }, signal);
        } catch (error) {
          const throttled = error instanceof VaultFailure && error.status === 429;
          const pauseMs = pausesMs[tries];
          if (!throttled || pauseMs === undefined) throw error;
          await pause(pauseMs, signal);
          if (signal.aborted) throw error;
        }
      }
    } catch (error) {
      throw asKmsError(error);
    }
  };

  const bound = (context: Record<string, string>): { associated_data: string } => ({
    associated_data: Buffer.from(canonicalJson(context)).toString('base64'),
  });

  return {
    name: `vault-transit:${mount}/${key}`,

    async wrap(plain, context) {
      const { data } = await call('encrypt', { plaintext: Buffer.from(plain).toString('base64'), ...bound(context) });
      const wrapped = data?.['ciphertext'];
      if (typeof wrapped === 'string' && wrappedForm.test(wrapped)) return wrapped;
      throw new KmsUnavailable('Vault: its answer has no wrapped key');
    },

    async unwrap(wrapped, context) {
      if (wrapped.length > maxWrappedLength || !wrappedForm.test(wrapped)) {
        throw new KmsRefused('this was not wrapped by the transit engine of a Vault');
      }
      const { data } = await call('decrypt', { ciphertext: wrapped, ...bound(context) });
      const plain = data?.['plaintext'];
      const bytes = Buffer.from(typeof plain === 'string' ? plain : '', 'base64');
      if (bytes.length > 0 && bytes.toString('base64') === plain) return bytes;
      throw new KmsUnavailable('Vault: its answer has no key');
    },
  };
};
