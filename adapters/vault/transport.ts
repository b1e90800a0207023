/**
 * How node-vault speaks HTTP here. Its own way (axios, fixed inside) follows redirects with the token, obeys proxies of
 * the environment and hangs requests on its errors; the option `request-promise` is its door for another one.
 */
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Network } from '../network.ts';
import { VaultFailure } from './failure.ts';

/** Where a Vault is, and what it is trusted by. */
export interface VaultSite {
  /** Scheme, host and port: `https://vault.example.com:8200`. */
  address: string;
  namespace?: string | undefined;
  /** Authorities, in PEM, instead of the usual ones. */
  ca?: string[] | undefined;
  allowPrivateNetwork: boolean;
}

/** What node-vault hands its transport, as far as it is used; `signal` is passed on from the caller of `request`. */
interface TransportOptions {
  method: string;
  uri: string;
  headers: Record<string, string>;
  json?: unknown;
  signal: AbortSignal;
}

interface TransportAnswer {
  statusCode: number;
  body: unknown;
  request: { path: string };
}

/** Far above any lease or KV value (Vault's own limit of an entry is 1 MiB), far below what would hurt. */
const maxAnswerBytes = 4 * 1024 * 1024;

const readText = async (answer: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxAnswerBytes) {
      answer.destroy();
      throw new VaultFailure('unavailable', 'its answer is too long', { status: answer.statusCode });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
};

/** @returns the text itself for what is no JSON: no envelope of Vault's looks like that */
const readJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

export const vaultTransport =
  (network: Network, site: VaultSite) =>
  async (options: TransportOptions): Promise<TransportAnswer> => {
    const url = new URL(options.uri);
    const agents = network.agents({ allowPrivateNetwork: site.allowPrivateNetwork });
    const body = options.json === undefined ? undefined : Buffer.from(JSON.stringify(options.json));
    const shared = {
      method: options.method,
      signal: options.signal,
      headers: {
        ...options.headers,
        // An agent or proxy of Vault may demand it, against requests that a browser can be made to send.
        'X-Vault-Request': 'true',
        ...(body ? { 'Content-Type': 'application/json', 'Content-Length': String(body.length) } : {}),
      },
    };
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent =
        url.protocol === 'https:'
          ? requestHttps(url, { ...shared, agent: agents.https, ...(site.ca ? { ca: site.ca } : {}) })
          : requestHttp(url, { ...shared, agent: agents.http });
      sent.once('response', resolve);
      sent.once('error', reject);
      sent.end(body);
    });
    const text = await readText(answer);
    return {
      statusCode: answer.statusCode ?? 0,
      // Only a 204 has nothing to say: an empty 200 is somebody else's.
      body: answer.statusCode === 204 ? null : readJson(text),
      // node-vault looks here for the health check, whose failures it takes for answers: nothing of ours is one.
      request: { path: '' },
    };
  };
