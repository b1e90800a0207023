/** Opens the key service that a name stands for. Nothing is asked of it yet. */
import { readFileSync } from 'node:fs';
import type { KeyServiceName } from '../../src/domain/key-service-name.ts';
import type { SecretText } from '../../src/domain/secret-text.ts';
import { type KeyService, KmsRefused } from '../../src/ports/kms.ts';
import { openAwsKms } from './aws-kms.ts';
import { openLocalKms } from './local.ts';
import { openVaultTransit } from './vault-transit.ts';

/** Warder's own identity at a Vault; AWS brings its own (environment, profile, instance or pod role). */
export interface VaultIdentity {
  address: string;
  namespace: string | undefined;
  caCertPath: string | undefined;
  token: SecretText;
}

const caOf = (path: string | undefined): string | undefined => {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new KmsRefused('the file that WARDER_VAULT_CACERT names cannot be read', { cause: error });
  }
};

/** @throws KmsRefused when what its kind needs is not configured */
export const openKms = (name: KeyServiceName, access: { vault: VaultIdentity | undefined }): KeyService => {
  switch (name.kind) {
    case 'local':
      return openLocalKms(name.path);
    case 'aws-kms':
      return openAwsKms(name.key);
    case 'vault-transit':
      if (!access.vault) throw new KmsRefused('WARDER_VAULT_ADDR and WARDER_VAULT_TOKEN are not set');
      return openVaultTransit(name, { ...access.vault, ca: caOf(access.vault.caCertPath) });
  }
};
