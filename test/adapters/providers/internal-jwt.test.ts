/** `internal-jwt` through the conformance suite: a service checks the signature and asks whether the token is alive. */
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { internalJwtProvider } from '../../../adapters/providers/internal-jwt.ts';
import { providerConformance } from '../../conformance/provider.ts';
import type { Broker } from '../../support/broker.ts';

const audience = 'https://orders.example';

/** The service that is called, as a client of the introspection endpoint; one for each broker. */
const services = new WeakMap<Broker, Promise<{ clientId: string; clientSecret: string }>>();
const serviceOf = (broker: Broker) => {
  const known = services.get(broker) ?? broker.agent('orders');
  services.set(broker, known);
  return known;
};

providerConformance(
  'internal-jwt',
  async () => ({
    provider: internalJwtProvider,
    settings: { audience, scopes: ['read', 'write'], introspectors: ['orders'] },
    use: async (credential, scope, broker) => {
      const token = String(credential['token']);
      const keys = createRemoteJWKSet(new URL(`${broker.url}/jwks`));
      let granted: unknown;
      try {
        const { payload } = await jwtVerify(token, keys, { audience, issuer: broker.url, typ: 'at+jwt' });
        granted = payload['scope'];
      } catch {
        return false;
      }
      const answer = await broker.form('/introspect', { token }, await serviceOf(broker));
      return answer.body['active'] === true && String(granted).split(' ').includes(scope);
    },
    close: async () => undefined,
  }),
  { creates: false },
);
