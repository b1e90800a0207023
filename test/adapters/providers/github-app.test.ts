/** `github-app` through the conformance suite; with WARDER_TEST_GITHUB_… set, against a real GitHub. */
import { afterAll } from '@jest/globals';
import { openNetwork } from '../../../adapters/network.ts';
import { openGithubAppProvider } from '../../../adapters/providers/github-app.ts';
import { providerConformance } from '../../conformance/provider.ts';
import { isReal, readsFile, startGitHub, writesFile } from '../../vendors/github/rig.ts';

const network = openNetwork();
afterAll(() => network.close());

providerConformance(
  isReal ? 'github-app, a real GitHub' : 'github-app',
  async () => {
    const github = await startGitHub();
    const repositories = [github.repository];
    return {
      provider: openGithubAppProvider(network),
      settings: {
        app_id: github.appId,
        installation_id: github.installationId,
        base_url: github.url,
        allow_private_network: github.url.startsWith('http:'),
        scopes: {
          read: { permissions: { contents: 'read' }, repositories },
          write: { permissions: { contents: 'write' }, repositories },
        },
      },
      secret: { private_key: github.privateKey },
      keep: { token: 'ghs_000000000000000000000000000000000000' },
      use: async (credential, scope) =>
        scope === 'read' ? readsFile(github, credential['token']) : writesFile(github, credential['token']),
      ...(github.upstream ? { upstream: github.upstream } : {}),
      close: github.close,
    };
  },
  { creates: true, insight: !isReal, unheard: 'lives_on' },
);
