/** A local issuer of tokens, for workloads and people, and requests with its tokens. */
import { randomUUID } from 'node:crypto';
import { compact } from '../corpora/tokens.ts';
import type { Answer, Broker } from '../support/broker.ts';
import { type Algorithm, type ClientKey, type Listener, listen, makeKey, must, post, seconds } from './support.ts';

export const grantTypes = {
  jwtBearer: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
  exchange: 'urn:ietf:params:oauth:grant-type:token-exchange',
};
export const tokenType = (name: string): string => `urn:ietf:params:oauth:token-type:${name}`;

export interface LocalIssuer {
  url: string;
  key: ClientKey;
  /** What is published; a test may change it. */
  published: { keys: unknown };
  /** As it is served at the well-known address; a test may change it. */
  metadata: Record<string, unknown>;
  /** How often its keys were asked for. */
  fetches(): number;
  /** A good token for this audience, unless claims or header say otherwise; undefined leaves a claim out. */
  token(aud: string, claims?: Record<string, unknown>, header?: Record<string, unknown>): string;
  close(): Promise<void>;
}

export const startIssuer = async (alg: Algorithm = 'ES256'): Promise<LocalIssuer> => {
  const key = makeKey(alg, 'issuer-1');
  const published: LocalIssuer['published'] = { keys: [key.publicJwk] };
  const metadata: Record<string, unknown> = {};
  const listener: Listener = await listen((req) => {
    if (req.url === '/.well-known/openid-configuration') return metadata;
    return req.url === '/jwks' ? published : undefined;
  });
  Object.assign(metadata, { issuer: listener.url, jwks_uri: `${listener.url}/jwks` });
  return {
    url: listener.url,
    key,
    published,
    metadata,
    fetches: () => listener.requests.filter(({ url }) => url === '/jwks').length,
    token: (aud, claims = {}, header = {}) =>
      compact(
        { alg: key.alg, kid: key.kid, ...header },
        { iss: listener.url, aud, sub: 'sam', iat: seconds(), exp: seconds() + 300, jti: randomUUID(), ...claims },
        key,
      ),
    close: listener.close,
  };
};

/** Registers it as trusted. */
export const trust = async (broker: Broker, name: string, issuer: LocalIssuer, more: object = {}): Promise<void> => {
  const body = { name, issuer: issuer.url, allow_private_network: true, uses: ['subject'], ...more };
  must(await broker.admin('POST', '/issuers', body), 201);
};

/** An agent that proves itself with tokens of this issuer. */
export const workloadAgent = async (broker: Broker, name: string, issuer: string, claims: object, more: object = {}) =>
  must(
    await broker.admin('POST', '/agents', {
      name,
      owner: 'team@example.com',
      auth: { method: 'workload', issuer, claims },
      ...more,
    }),
    201,
  );

export const withAssertionGrant = (
  broker: Broker,
  assertion: string,
  more: Record<string, string> = {},
  headers: Record<string, string> = {},
): Promise<Answer> => post(`${broker.url}/token`, { grant_type: grantTypes.jwtBearer, assertion, ...more }, headers);

/** An exchange of an ID token, unless `more` says otherwise. */
export const exchange = (
  broker: Broker,
  subjectToken: string,
  more: Record<string, string> = {},
  headers: Record<string, string> = {},
): Promise<Answer> =>
  post(
    `${broker.url}/token`,
    {
      grant_type: grantTypes.exchange,
      subject_token: subjectToken,
      subject_token_type: tokenType('id_token'),
      ...more,
    },
    headers,
  );
