/** Which providers this Warder has: an explicit list, so that no import has a side effect. */
import type { Provider } from '../src/ports/provider.ts';
import type { Network } from './network.ts';
import { openApiKeyProvider } from './providers/api-key.ts';
import { openAwsStsProvider } from './providers/aws-sts.ts';
import { openGcpServiceAccountProvider } from './providers/gcp-service-account.ts';
import { openGithubAppProvider } from './providers/github-app.ts';
import { internalJwtProvider } from './providers/internal-jwt.ts';
import { openMysqlProvider } from './providers/mysql.ts';
import { openOauth2Provider } from './providers/oauth2.ts';
import { openPostgresProvider } from './providers/postgres.ts';
import { sshProvider } from './providers/ssh.ts';
import { openVaultProvider } from './providers/vault.ts';

/** What providers are made from. */
export interface ProviderParts {
  network: Network;
  /** The folder of the operator's rotation scripts; undefined: none are run. */
  scripts?: string | undefined;
}

export const openProviders = ({ network, scripts }: ProviderParts): ReadonlyMap<string, Provider> =>
  new Map(
    [
      openApiKeyProvider({ network, scripts }),
      openAwsStsProvider(network),
      openGcpServiceAccountProvider(network),
      openGithubAppProvider(network),
      internalJwtProvider,
      sshProvider,
      openOauth2Provider(network, scripts),
      openPostgresProvider(network),
      openMysqlProvider(network),
      openVaultProvider(network),
    ].map((provider) => [provider.type, provider]),
  );
