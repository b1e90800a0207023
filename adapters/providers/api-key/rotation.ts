/** How the key of an `api-key` connection is replaced: by a recipe, a webhook or a script. There is no usual way. */
import type { Provider } from '../../../src/ports/provider.ts';
import type { SecretRotation } from '../../../src/ports/rotation.ts';
import { type MethodParts, rotationBy } from '../../rotation/method.ts';
import { type GatewaySettings, targetOf } from '../shared/gateway-settings.ts';
import { withoutSlash } from '../shared/upstream-url.ts';

export const apiKeyRotation = (
  parsed: (settings: object) => GatewaySettings,
  checkSecret: Provider['checkSecret'],
  parts: MethodParts,
): SecretRotation =>
  rotationBy(
    {
      field: 'value',
      checkSecret,
      baseUrl: (settings) => withoutSlash(parsed(settings).base_url),
      allowsPrivateNetwork: (settings) => parsed(settings).allow_private_network,
      // As the gateway puts it into the requests of agents.
      credentials: async (secret, { connection }) =>
        targetOf(parsed(connection.settings), secret['value']?.reveal() ?? '').inject,
      asksForTokens: false,
    },
    parts,
  );
