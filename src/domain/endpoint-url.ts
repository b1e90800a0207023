/** Addresses that messages are sent to: judged when they are written down, and once more when they are connected to. */
import { judgeHost } from './network-address.ts';

export const longestEndpointUrl = 2000;

/** @returns why nothing may be sent there, or undefined */
export const endpointUrlProblem = (text: string, allowPrivateNetwork: boolean): string | undefined => {
  if (text.length > longestEndpointUrl || !URL.canParse(text)) return 'not a URL';
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'https only';
  if (url.username !== '' || url.password !== '') return 'no credentials in a URL: they are a secret';
  if (text.includes('#')) return 'no fragment';
  const judged = judgeHost(url.hostname);
  if (judged.kind === 'invalid') return 'not a host';
  if (judged.kind === 'private' && judged.range === 'metadata') {
    return 'this address hands out credentials of the machine; nothing is sent there';
  }
  if (allowPrivateNetwork) return undefined;
  if (judged.kind === 'private') {
    return 'this address is not on the public internet; set allow_private_network if that is meant';
  }
  return url.protocol === 'http:' ? 'https only: it would cross the public internet in clear' : undefined;
};

/** The path or query of an endpoint may be a secret of it: this is what may be recorded and shown to everybody. */
export const endpointOrigin = (url: string): string => new URL(url).origin;
