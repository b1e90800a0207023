/** `vault` through the conformance suite: against the test's own Vault, or a real one (test/vendors/vault/bench.ts). */
import { providerConformance } from '../../conformance/provider.ts';
import { startVaultRig } from './vault-rig.ts';

providerConformance(
  'vault',
  async () => {
    const { bench, database, provider, settings, secret, close } = await startVaultRig();
    return {
      provider,
      settings,
      secret,
      // Until minting has journalled an accessor there is nothing to revoke, and Vault is not asked.
      journalled: { at: bench.url, accessor: 'Wm8i2Ce1TQ4nGmzZbD1ZbV0c', lease_id: 'database/creds/reader/none' },
      use: (credential, scope) => database.works(credential['data'] as Record<string, unknown>, scope),
      upstream: {
        // A token and the account made with it count once; either may be there without the other.
        artefacts: async () => {
          const [tokens, accounts] = await Promise.all([bench.grantTokens(), database.accounts()]);
          return tokens.length > accounts.length ? tokens : accounts;
        },
        trouble: bench.trouble,
      },
      close,
    };
  },
  { creates: true, scopesAtOnce: 'one' },
);
