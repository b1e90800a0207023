/** Which providers this Warder has: an explicit list, so that no import has a side effect. */
import type { Provider } from '../src/ports/provider.ts';
import type { Network } from './network.ts';
import { apiKeyProvider } from './providers/api-key.ts';
import { internalJwtProvider } from './providers/internal-jwt.ts';

/** What providers are made from. */
export interface ProviderParts {
  network: Network;
}

export const openProviders = (_parts: ProviderParts): ReadonlyMap<string, Provider> =>
  new Map([apiKeyProvider, internalJwtProvider].map((provider) => [provider.type, provider]));
