/** RSA keys that vendors hand out as PEM. */
import { createPrivateKey, type KeyObject } from 'node:crypto';

/** GitHub and Google make keys of 2048 bits, and RS256 wants no less (RFC 7518 section 3.3). */
export const minModulusBits = 2048;

/** @returns undefined when this is no unencrypted RSA private key, or one too short to sign with */
export const rsaPrivateKey = (pem: string): KeyObject | undefined => {
  try {
    const key = createPrivateKey(pem);
    const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
    return key.asymmetricKeyType === 'rsa' && bits >= minModulusBits ? key : undefined;
  } catch {
    return undefined;
  }
};
