/**
 * The SDK's clients for one connection: its credentials, its addresses, over Warder's guarded network. Nothing is taken
 * from the environment or from files, unless a connection says `ambient`.
 */

import type { IAMClient } from '@aws-sdk/client-iam';
import type { STSClient } from '@aws-sdk/client-sts';
import type { ConnectionSecret } from '../../../src/ports/call-context.ts';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import type { Network } from '../../network.ts';
import { type AwsSettings, addressesOf } from './settings.ts';

export interface AwsKeys {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

/** 30 MB of memory, and a start that is longer: only for those who use it. */
export const loadSts = () => import('@aws-sdk/client-sts');
export const loadIam = () => import('@aws-sdk/client-iam');

/** With the SDK's pauses they fit into the ten seconds that an agent waits. */
const usualAttempts = 3;
const attemptMs = 4_000;
const connectMs = 2_000;

/** This machine's identity, by region: looked for once, and fetched anew by the SDK before it ends. */
const ambient = new Map<string, STSClient>();
const ambientKeys = async (region: string) => {
  const sdk = await loadSts();
  const known = ambient.get(region) ?? new sdk.STSClient({ region });
  ambient.set(region, known);
  return known.config.credentials;
};

const common = async (settings: AwsSettings, network: Network, keys: AwsKeys | undefined, maxAttempts: number) => {
  const agents = network.agents({ allowPrivateNetwork: settings.allow_private_network });
  return {
    credentials: keys ?? (await ambientKeys(settings.region)),
    maxAttempts,
    retryMode: 'standard' as const,
    useFipsEndpoint: false,
    useDualstackEndpoint: false,
    requestHandler: {
      httpAgent: agents.http,
      httpsAgent: agents.https,
      connectionTimeout: connectMs,
      requestTimeout: attemptMs,
      throwOnRequestTimeout: true,
    },
  };
};

/** Never `destroy()`ed: the agents are the network's. @param keys undefined: this machine's own identity */
export const openSts = async (
  settings: AwsSettings,
  network: Network,
  keys: AwsKeys | undefined,
): Promise<STSClient> => {
  const sdk = await loadSts();
  return new sdk.STSClient({
    ...(await common(settings, network, keys, usualAttempts)),
    region: settings.region,
    endpoint: addressesOf(settings).sts,
  });
};

export const openIam = async (
  settings: AwsSettings,
  network: Network,
  keys: AwsKeys | undefined,
  maxAttempts = usualAttempts,
): Promise<IAMClient> => {
  const sdk = await loadIam();
  const { iam, iamRegion } = addressesOf(settings);
  return new sdk.IAMClient({
    ...(await common(settings, network, keys, maxAttempts)),
    region: iamRegion,
    endpoint: iam,
  });
};

/** @returns the connection's access key, or undefined for `ambient`. @throws ProviderFailure when it has none */
export const keysOf = (settings: AwsSettings, secret: ConnectionSecret | undefined): AwsKeys | undefined => {
  if (settings.credentials === 'ambient') return undefined;
  const field = (name: string): string | undefined => secret?.fields[name]?.reveal();
  const [accessKeyId, secretAccessKey] = [field('access_key_id'), field('secret_access_key')];
  const sessionToken = field('session_token');
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    throw new ProviderFailure('refused', 'this connection has no access key yet');
  }
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
};
