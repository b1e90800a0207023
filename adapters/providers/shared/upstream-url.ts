/** How settings name the base of an upstream's API. The gateway has rules of its own (api-key.ts). */
import { z } from 'zod';
import { judgeHost } from '../../../src/domain/network-address.ts';

/** @returns why this is not the base of an API that a secret may be sent to, or undefined */
export const upstreamUrlProblem = (text: string, allowPrivateNetwork: boolean): string | undefined => {
  if (!URL.canParse(text)) return 'not a URL';
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'http or https only';
  if (url.username !== '' || url.password !== '') return 'no credentials in a URL: they are a secret';
  if (url.search !== '' || url.hash !== '') return 'no query and no fragment';
  const judged = judgeHost(url.hostname);
  if (judged.kind === 'invalid') return 'not a host';
  if (judged.kind === 'private' && judged.range === 'metadata') {
    return 'this address hands out credentials of the machine; it is never an upstream';
  }
  if (allowPrivateNetwork) return undefined;
  if (judged.kind === 'private') {
    return 'this address is not on the public internet; set allow_private_network if that is meant';
  }
  return url.protocol === 'http:' ? 'https only: credentials would cross the public internet in clear' : undefined;
};

export const upstreamUrl = z.string().max(2000);

/** Without the slash at its end, so that a path can be put behind it. */
export const withoutSlash = (url: string): string => url.replace(/\/+$/, '');
