/** The authorization server of a connection: where its endpoints are, and how this client proves itself there. */

import { LRUCache } from 'lru-cache';
import {
  allowInsecureRequests,
  type ClientAuth,
  ClientSecretBasic,
  ClientSecretPost,
  Configuration,
  customFetch,
  discovery,
  None,
  PrivateKeyJwt,
  type ServerMetadata,
} from 'openid-client';
import type { CallContext, ConnectionSecret } from '../../../src/ports/call-context.ts';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import type { Network } from '../../network.ts';
import { boundedFetch, failureOf, untilAborted } from './answers.ts';
import { type Settings, signingKeyOf } from './settings.ts';

/** Endpoints move seldom; a server that moved one is asked again within the hour. */
const metadataLifeMs = 3_600_000;
const maxServers = 1_000;
const discoveryMs = 8_000;

const clientAuthOf = async (value: Settings, secret: ConnectionSecret | undefined): Promise<ClientAuth> => {
  if (value.client_auth === 'none') return None();
  const field = value.client_auth === 'private_key_jwt' ? 'private_key' : 'client_secret';
  const text = secret?.fields[field]?.reveal();
  if (text === undefined) {
    throw new ProviderFailure(
      'refused',
      `the secret of this connection has no ${field}, which ${value.client_auth} needs`,
    );
  }
  if (value.client_auth === 'client_secret_basic') return ClientSecretBasic(text);
  if (value.client_auth === 'client_secret_post') return ClientSecretPost(text);
  const kid = secret?.fields['key_id']?.reveal();
  const key = signingKeyOf(text);
  return PrivateKeyJwt(kid === undefined ? key : { key, kid });
};

/** Endpoints as settings name them. Without an issuer the token endpoint stands for it: what a client assertion is for. */
const explicit = (value: Settings, tokenEndpoint: string): ServerMetadata => ({
  issuer: value.issuer ?? tokenEndpoint,
  token_endpoint: tokenEndpoint,
  ...(value.authorization_endpoint === undefined ? {} : { authorization_endpoint: value.authorization_endpoint }),
  ...(value.revocation_endpoint === undefined ? {} : { revocation_endpoint: value.revocation_endpoint }),
  ...(value.introspection_endpoint === undefined ? {} : { introspection_endpoint: value.introspection_endpoint }),
});

/** How a connection's server is spoken to: a configuration of the protocol library, for one call. */
export class Servers {
  readonly #network: Network;
  readonly #known = new LRUCache<string, ServerMetadata>({ max: maxServers, ttl: metadataLifeMs });
  readonly #asking = new Map<string, Promise<ServerMetadata>>();

  constructor(network: Network) {
    this.#network = network;
  }

  /** @throws ProviderFailure */
  async configuration(value: Settings, context: CallContext): Promise<Configuration> {
    const metadata = await this.metadata(value, context);
    const auth = await clientAuthOf(value, await context.secret());
    const configuration = new Configuration(metadata, value.client_id, undefined, auth);
    configuration[customFetch] = this.#fetch(value, context.signal);
    // Ours is the deadline: the signal in the fetch.
    configuration.timeout = 0;
    if (value.allow_private_network) allowInsecureRequests(configuration);
    return configuration;
  }

  /** @throws ProviderFailure */
  async metadata(value: Settings, context: CallContext): Promise<ServerMetadata> {
    if (value.token_endpoint !== undefined) return explicit(value, value.token_endpoint);
    const { issuer } = value;
    if (issuer === undefined) throw new ProviderFailure('refused', 'this connection names no authorization server');
    const key = JSON.stringify([issuer, value.allow_private_network]);
    const found = this.#known.get(key) ?? (await untilAborted(context.signal, this.#discover(key, issuer, value)));
    return {
      ...found,
      ...(value.revocation_endpoint === undefined ? {} : { revocation_endpoint: value.revocation_endpoint }),
      ...(value.introspection_endpoint === undefined ? {} : { introspection_endpoint: value.introspection_endpoint }),
    };
  }

  #discover(key: string, issuer: string, value: Settings): Promise<ServerMetadata> {
    const asking = this.#asking.get(key);
    if (asking) return asking;
    // With a deadline of its own: several may wait for it, and the first of them may leave.
    const asked = this.#ask(issuer, value, AbortSignal.timeout(discoveryMs))
      .then((metadata) => {
        this.#known.set(key, metadata);
        return metadata;
      })
      .finally(() => this.#asking.delete(key));
    this.#asking.set(key, asked);
    return asked;
  }

  /** Both ways metadata are published: OpenID Connect Discovery 1.0 section 4, then RFC 8414 section 3. */
  async #ask(issuer: string, value: Settings, signal: AbortSignal): Promise<ServerMetadata> {
    let failure: unknown;
    for (const algorithm of ['oidc', 'oauth2'] as const) {
      try {
        const found = await discovery(new URL(issuer), value.client_id, undefined, None(), {
          algorithm,
          [customFetch]: this.#fetch(value, signal),
          ...(value.allow_private_network ? { execute: [allowInsecureRequests] } : {}),
        });
        return found.serverMetadata();
      } catch (error) {
        if (signal.aborted) throw failureOf(error, signal);
        failure ??= error;
      }
    }
    throw failureOf(failure, signal);
  }

  #fetch(value: Settings, signal: AbortSignal) {
    const fetch = this.#network.fetch({ allowPrivateNetwork: value.allow_private_network });
    return boundedFetch(fetch, signal, value.issuer === undefined ? ['id_token'] : []);
  }
}
