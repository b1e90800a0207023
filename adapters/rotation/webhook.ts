/**
 * Rotation by a webhook: each step is a signed request to a service of the operator's own, as Standard Webhooks has it
 * (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md), with JSON in and out.
 */
import { createHmac, randomUUID } from 'node:crypto';
import { z } from 'zod';
import { ProviderFailure } from '../../src/ports/provider.ts';
import type { RotationContext, SecretFields } from '../../src/ports/rotation.ts';
import { AddressRefused, type Network } from '../network.ts';
import { addressProblems } from '../providers/shared/gateway-settings.ts';
import {
  type About,
  askedFor,
  mayHaveMade,
  newSecretIn,
  question,
  reasonIn,
  requireAnswer,
  type Step,
} from './answers.ts';
import type { Subject, Way } from './subject.ts';

export const webhook = z.strictObject({
  url: z.string().max(2000),
  allow_private_network: z.boolean().default(false),
  /** Whether the old secret works until the step `retire`. */
  overlaps: z.boolean().default(true),
});
export type Webhook = z.infer<typeof webhook>;

const maxAnswerBytes = 64 * 1024;

/**
 * @param secret `whsec_…`
 * @param seconds since the epoch
 */
export const signature = (secret: string, id: string, seconds: number, body: string): string => {
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  return `v1,${createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64')}`;
};

const readText = async (response: Response): Promise<string> => {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > maxAnswerBytes) {
      throw new ProviderFailure('unavailable', `the webhook answered with more than ${maxAnswerBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
};

const failureOf = (error: unknown, signal: AbortSignal): ProviderFailure => {
  if (error instanceof ProviderFailure) return error;
  // Errors of HTTP clients may carry requests: only what kind of error it was goes on.
  let cause = error;
  while (cause instanceof Error && cause.cause instanceof Error) cause = cause.cause;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  const plain = new Error(`the call failed ${code}`.trim());
  if (signal.aborted) return new ProviderFailure('timeout', 'the webhook did not answer in time', { cause: plain });
  if (cause instanceof AddressRefused) {
    return new ProviderFailure('refused', 'the address of the webhook is not one that is allowed', { cause: plain });
  }
  return new ProviderFailure('unavailable', 'the webhook could not be reached or broke off', { cause: plain });
};

/** Steps that are asked for again have their id again, so that the receiver can tell; a test may be taken any number of times. */
const idOf = (step: Step, rotationId: string): string =>
  step === 'test' ? `${rotationId}.test.${randomUUID()}` : `${rotationId}.${step}`;

export const webhookWay = (subject: Subject, network: Network): Way<Webhook> => {
  const take = async (method: Webhook, step: Step, context: RotationContext, about: About): Promise<string> => {
    const key = context.current['webhook_secret']?.reveal();
    if (key === undefined) throw new ProviderFailure('refused', 'the secret of this connection has no webhook_secret');
    const fetch = network.fetch({ allowPrivateNetwork: method.allow_private_network });
    const body = question(step, context, about);
    const id = idOf(step, context.rotationId);
    const seconds = Math.floor(context.now() / 1000);
    const headers = {
      'content-type': 'application/json',
      accept: 'application/json',
      'webhook-id': id,
      'webhook-timestamp': String(seconds),
      'webhook-signature': signature(key, id, seconds, body),
    };
    let status: number;
    let text: string;
    try {
      const response = await fetch(method.url, {
        method: 'POST',
        headers,
        body,
        redirect: 'manual',
        signal: context.signal,
      });
      status = response.status;
      text = await readText(response);
    } catch (error) {
      throw failureOf(error, context.signal);
    }
    const known = [context.current, about.next, about.previous, about.secret];
    if (status === 422) throw new ProviderFailure('refused', `the webhook refused ${step}${reasonIn(text, known)}`);
    if (status < 200 || status > 299) {
      throw new ProviderFailure('unavailable', `the webhook answered ${status} to ${step}${reasonIn(text, known)}`);
    }
    requireAnswer('the webhook', text);
    return text;
  };

  return {
    problems: ({ url, allow_private_network: allow }) => {
      // Any query is the receiver's own; nothing else about the address is different.
      const withoutQuery = URL.canParse(url) && !url.includes('#') ? url.replace(/\?.*$/s, '') : url;
      return addressProblems(withoutQuery, allow).map((problem) => `url: ${problem}`);
    },
    // The whole of it: on one host there may be webhooks of many. With its slash, or the root would be called as the
    // origin is where agents' requests go, and there the secret is not in a body.
    destinations: ({ url }) => [new URL(url).href],
    overlaps: ({ overlaps }) => overlaps,
    async create(method, context) {
      const answer = await askedFor(context, () => take(method, 'create', context, {}));
      return newSecretIn('the webhook', answer, subject, context.current);
    },
    set: async (method, next, context) => void (await take(method, 'set', context, { next })),
    test: async (method, secret: SecretFields, context) => void (await take(method, 'test', context, { secret })),
    async undo(method, next, context) {
      if (mayHaveMade(next, context)) await take(method, 'undo', context, { next });
    },
    retire: async (method, previous, context) => void (await take(method, 'retire', context, { previous })),
  };
};
