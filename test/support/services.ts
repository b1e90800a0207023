/** The services without the HTTP edge, over a real store: for what cannot be asked for over HTTP yet. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { openCatalog } from '../../adapters/catalog/load.ts';
import { makeRootKey, openLocalKms } from '../../adapters/kms/local.ts';
import { openKms } from '../../adapters/kms/open.ts';
import { openNetwork } from '../../adapters/network.ts';
import { openProviders } from '../../adapters/registry.ts';
import { openSqliteStore } from '../../adapters/stores/sqlite/store.ts';
import { systemClock, systemEntropy } from '../../adapters/system.ts';
import type { LedgerStore } from '../../src/ports/ledger.ts';
import type { Provider } from '../../src/ports/provider.ts';
import { Authorizations } from '../../src/services/accounts/authorizations.ts';
import { initialise } from '../../src/services/initialise.ts';
import type { CoreWithSecrets } from '../../src/services/issuing/provider-context.ts';
import { Keyring } from '../../src/services/keys/keyring.ts';
import { SigningKeys } from '../../src/services/keys/signing-keys.ts';
import { OpenedSecrets } from '../../src/services/secrets/secrets.ts';
import { State } from '../../src/services/state.ts';
import { temporaryDir } from './broker.ts';

const nowhere = (): void => undefined;

/** Opens everything in a directory of its own, initialised and unsealed. */
export const openServices = async (
  extraProviders: readonly Provider[] = [],
): Promise<{ core: CoreWithSecrets; store: LedgerStore; keyPath: string; close(): Promise<void> }> => {
  const folder = temporaryDir();
  const store = await openSqliteStore({
    databasePath: join(folder, 'warder.db'),
    migrationsFolder: join(import.meta.dirname, '../../migrations/sqlite'),
    onFatal: nowhere,
  });
  const clock = systemClock(0);
  makeRootKey(join(folder, 'root.key'));
  const kms = openLocalKms(join(folder, 'root.key'));
  await initialise({ clock, kms, ledger: store.ledger, entropy: systemEntropy }, undefined);
  const state = new State(await store.reader.snapshot(), store.ledger, store.reader);
  const network = openNetwork();
  const keyring = new Keyring(kms, clock, Number.POSITIVE_INFINITY);
  await keyring.unseal(state.keyEncryptionKeys.all());
  const providers = new Map([...openProviders({ network }), ...extraProviders.map((one) => [one.type, one] as const)]);
  const core: CoreWithSecrets = {
    clock,
    entropy: systemEntropy,
    ledger: store.ledger,
    reader: store.reader,
    state,
    keyring,
    openKeyService: (name) => openKms(name, { vault: undefined }),
    signingKeys: new SigningKeys(keyring, state, clock),
    secrets: new OpenedSecrets(keyring),
    authorizations: new Authorizations(keyring),
    providers,
    catalog: openCatalog({ customDir: undefined, providers }),
    issuer: 'http://127.0.0.1:7300',
    log: { debug: nowhere, info: nowhere, warn: nowhere, error: nowhere },
  };
  return {
    core,
    store,
    keyPath: join(folder, 'root.key'),
    close: async () => {
      await network.close();
      await store.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};
