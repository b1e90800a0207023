/** Which providers this Warder has: an explicit list, so that no import has a side effect. */
import type { Provider } from '../src/ports/provider.ts';
import { apiKeyProvider } from './providers/api-key.ts';
import { internalJwtProvider } from './providers/internal-jwt.ts';

export const providers: ReadonlyMap<string, Provider> = new Map(
  [apiKeyProvider, internalJwtProvider].map((provider) => [provider.type, provider]),
);
