/** One Vault, as node-vault speaks to it: one call at a time, each with its own token. */
import type { client as NodeVaultClient } from 'node-vault';
import { z } from 'zod';
import type { Network } from '../network.ts';
import { failureOfAnswer, failureOfRequest, VaultFailure } from './failure.ts';
import { type VaultSite, vaultTransport } from './transport.ts';

export interface VaultRequest {
  method: 'GET' | 'POST' | 'PUT';
  /** Below `/v1/`, with every segment encoded already. */
  path: string;
  query?: Record<string, string>;
  body?: Record<string, unknown>;
  /** Left out for a login. */
  token?: string;
}

/** The envelope of all of Vault's answers; an answer without content is an empty one. */
const replySchema = z.object({
  data: z.record(z.string(), z.unknown()).nullish(),
  lease_id: z.string().nullish(),
  lease_duration: z.number().nullish(),
  renewable: z.boolean().nullish(),
  auth: z
    .object({
      /** Empty where a token is only spoken of, by its accessor. */
      client_token: z.string(),
      accessor: z.string(),
      lease_duration: z.number(),
      renewable: z.boolean(),
    })
    .nullish(),
});
export type VaultReply = z.infer<typeof replySchema>;

export interface VaultClient {
  /** @throws VaultFailure, and nothing else */
  call(request: VaultRequest, signal: AbortSignal): Promise<VaultReply>;
}

const statusOf = (error: unknown): { statusCode: number; body: unknown } | undefined => {
  const response = error instanceof Error && 'response' in error ? error.response : undefined;
  return typeof response === 'object' && response !== null && 'statusCode' in response && 'body' in response
    ? { statusCode: Number(response.statusCode), body: response.body }
    : undefined;
};

/** Loaded by those who use it: it brings a whole HTTP client that nobody here needs. */
const makeClient = async (network: Network, site: VaultSite): Promise<NodeVaultClient> => {
  const { default: nodeVault } = await import('node-vault');
  const client = nodeVault({
    endpoint: site.address,
    'request-promise': { defaults: () => vaultTransport(network, site) },
    // It writes requests with their secrets to the log when DEBUG is set.
    debug: () => undefined,
  });
  // What VAULT_TOKEN, VAULT_NAMESPACE and VAULT_PREFIX of the environment would have put there. Nothing else may: its
  // ready-made commands keep the token of an answer for the calls that follow, so that only `request` is used.
  return Object.assign(client, { token: '', namespace: site.namespace ?? '', pathPrefix: '' });
};

export const openVaultClient = (network: Network, site: VaultSite): VaultClient => {
  let made: Promise<NodeVaultClient> | undefined;
  return {
    async call({ method, path, query, body, token }, signal) {
      made ??= makeClient(network, site);
      const client = await made;
      let answer: unknown;
      try {
        signal.throwIfAborted();
        answer = await client.request({
          method,
          path: `/${path}${query ? `?${new URLSearchParams(query)}` : ''}`,
          headers: token === undefined ? {} : { 'X-Vault-Token': token },
          ...(body ? { json: body } : {}),
          signal,
        });
      } catch (error) {
        const response = statusOf(error);
        throw response ? failureOfAnswer(response.statusCode, response.body) : failureOfRequest(error, signal);
      }
      const reply = replySchema.safeParse(answer === null ? {} : answer);
      if (!reply.success) throw new VaultFailure('unavailable', 'its answer is not one of a Vault');
      return reply.data;
    },
  };
};
