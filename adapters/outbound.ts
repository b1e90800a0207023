/** Messages to registered endpoints, over undici. */
import { lookup as systemLookup } from 'node:dns';
import { Agent, type Dispatcher, request } from 'undici';
import { maxAnswerBytes, type Outbound, type OutboundAnswer } from '../src/ports/outbound.ts';
import { AddressRefused, guardedConnector, type Lookup } from './network.ts';

const connectTimeoutMs = 5_000;
/**
 * A socket is kept for a burst of messages and no longer: hours may lie between two, and one that the other side has
 * closed meanwhile would fail the next.
 */
const keepAliveMs = 1_000;

const refusedAddress = (error: unknown): boolean => {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause instanceof AddressRefused) return true;
  return false;
};

/** Reads what may be read and lets go of the rest. */
const beginning = async (body: Dispatcher.ResponseData['body']): Promise<string> => {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= maxAnswerBytes) break;
  }
  return Buffer.concat(chunks).subarray(0, maxAnswerBytes).toString('utf8');
};

const retryAfterOf = (value: string | string[] | undefined): string | undefined =>
  typeof value === 'string' ? value : value?.[0];

export const openOutbound = (lookup: Lookup = systemLookup): Outbound => {
  const agents = new Map<boolean, Agent>();
  const agentFor = (allowPrivate: boolean): Agent => {
    const known = agents.get(allowPrivate);
    if (known) return known;
    const agent = new Agent({
      connect: guardedConnector(allowPrivate, connectTimeoutMs, lookup),
      allowH2: false,
      keepAliveTimeout: keepAliveMs,
      keepAliveMaxTimeout: keepAliveMs,
      maxHeaderSize: 16 * 1024,
    });
    agents.set(allowPrivate, agent);
    return agent;
  };

  return {
    async post({ url, headers, body, allowPrivateNetwork, timeoutMs, signal }): Promise<OutboundAnswer> {
      const time = AbortSignal.timeout(timeoutMs);
      try {
        const response = await request(url, {
          dispatcher: agentFor(allowPrivateNetwork),
          method: 'POST',
          headers,
          body,
          signal: AbortSignal.any([signal, time]),
        });
        const text = await beginning(response.body);
        const retryAfter = retryAfterOf(response.headers['retry-after']);
        return { answered: true, status: response.statusCode, retryAfter, body: text };
      } catch (error) {
        if (time.aborted) return { answered: false, failure: 'timeout' };
        return { answered: false, failure: refusedAddress(error) ? 'address_refused' : 'unavailable' };
      }
    },
    close: async () => {
      await Promise.all([...agents.values()].map((agent) => agent.destroy()));
    },
  };
};
