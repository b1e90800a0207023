/** The conformance suite over the tests' own providers: the one for which every part of it applies. */
import type { Provider } from '../../../src/ports/provider.ts';
import { type ProviderUnderTest, providerConformance } from '../../conformance/provider.ts';
import { startUpstream, upstreamProviders } from '../../support/upstream-provider.ts';
import type { Behaviour } from '../../support/upstream-service.ts';

const setUp = async (provider: Provider): Promise<ProviderUnderTest> => {
  const upstream = await startUpstream();
  const all = async (behaviour: Behaviour): Promise<void> => {
    await upstream.behave('create', behaviour);
    await upstream.behave('delete', behaviour);
  };
  return {
    provider,
    settings: { url: upstream.url, scopes: ['read', 'write'] },
    ...(provider.type === 'test-rotating' ? { secret: { refresh: 'refresh-0' } } : {}),
    use: async (credential, scope) => (await upstream.use(credential, scope)) === 200,
    upstream: {
      artefacts: async () => (await upstream.accounts()).map(({ name }) => name),
      made: async () => (await upstream.stats()).made,
      trouble: {
        down: () => all({ kind: 'fail-before' }),
        slow: (ms) => all({ kind: 'slow', ms }),
        nonsense: () => upstream.behave('create', { kind: 'nonsense' }),
        halfDone: () => all({ kind: 'fail-after' }),
        late: () => upstream.behave('create', { kind: 'late', ms: 150 }),
        hangs: async () => {
          await all({ kind: 'hang' });
          await upstream.behave('redeem', { kind: 'hang' });
        },
        well: async () => {
          await all({ kind: 'ok' });
          await upstream.behave('redeem', { kind: 'ok' });
        },
      },
    },
    close: () => upstream.stop(),
  };
};

for (const provider of upstreamProviders) providerConformance(provider.type, () => setUp(provider), { creates: true });
