/** `gcp-service-account` through the conformance suite; with WARDER_TEST_GCP_… set, against the real Google Cloud. */
import { afterAll } from '@jest/globals';
import { openNetwork } from '../../../adapters/network.ts';
import { openGcpServiceAccountProvider } from '../../../adapters/providers/gcp-service-account.ts';
import { type ProviderUnderTest, providerConformance } from '../../conformance/provider.ts';
import { createObject, devstorage, type Gcp, isReal, readObject, startGcp } from '../../vendors/gcp/rig.ts';

const network = openNetwork();
afterAll(() => network.close());

const where = isReal ? ', a real Google' : '';
const traits = { creates: true, insight: !isReal, revocation: 'life', unheard: 'lives_on' } as const;

const underTest = (gcp: Gcp, scopes: object): ProviderUnderTest => ({
  provider: openGcpServiceAccountProvider(network),
  settings: { ...gcp.settings, scopes },
  secret: { key_json: gcp.keyJson },
  use: async (credential, scope) =>
    (scope === 'read' ? await readObject(gcp, credential['token']) : await createObject(gcp, credential['token'])) ===
    200,
  ...(gcp.upstream ? { upstream: gcp.upstream } : {}),
  close: gcp.close,
});

providerConformance(
  `gcp-service-account, narrowed by OAuth scopes${where}`,
  async () =>
    underTest(await startGcp(), {
      read: { oauth_scopes: [`${devstorage}read_only`] },
      write: { oauth_scopes: [`${devstorage}read_write`] },
    }),
  traits,
);

providerConformance(
  `gcp-service-account, narrowed by an access boundary${where}`,
  async () => {
    const gcp = await startGcp('downscoped', /^\/v1\/token$/);
    const scope = (role: string) => ({
      oauth_scopes: [`${devstorage}read_write`],
      access_boundary: [
        {
          available_resource: `//storage.googleapis.com/projects/_/buckets/${gcp.bucket}`,
          available_permissions: [`inRole:roles/${role}`],
        },
      ],
    });
    return underTest(gcp, { read: scope('storage.objectViewer'), write: scope('storage.objectCreator') });
  },
  traits,
);
