/** What a webhook is sent, and how: alerts as Standard Webhooks messages. */
import { messageId, retryAfterMs } from '../../domain/delivery.ts';
import { Refused } from '../../domain/refusals.ts';
import { type LoggedEvent, type Webhook, wantedTypes, webhookPayload, webhookSignature } from '../../domain/webhook.ts';
import type { Outbound, OutboundAnswer } from '../../ports/outbound.ts';
import type { EntryToTell } from '../../ports/readers/alerts.ts';
import type { Core } from '../core.ts';
import { namedFact } from './named-facts.ts';
import type { Outcome, OutletKind, Step } from './outlet.ts';
import { openSecrets } from './sealed.ts';

/** Standard Webhooks advises 15 to 30 seconds. */
export const sendTimeoutMs = 15_000;

const entryOf = (body: string): LoggedEvent => JSON.parse(body);

const idIn = (data: Record<string, unknown> | undefined, noun: string): unknown => {
  const named = data?.[noun];
  return typeof named === 'object' && named !== null && 'id' in named ? named.id : undefined;
};

/**
 * Trouble of an endpoint is not told to that endpoint; and that such news did not arrive is no news for the others, or two
 * broken ones would go on telling each other of it.
 */
const isEcho = (webhook: Webhook, { type, data }: LoggedEvent): boolean =>
  idIn(data, 'webhook') === webhook.id ||
  (/^(?:webhook|stream)\.failed$/.test(type) && /^(?:webhook|stream)\./.test(String(data?.['message_type'])));

const stepOf = (core: Core, webhook: Webhook, { seq, type, at, body }: EntryToTell): Step<string> => {
  const step = { seq, part: '', last: true, type, at };
  if (body === null) return { ...step, dropped: true };
  const entry = entryOf(body);
  if (isEcho(webhook, entry)) return step;
  const content = webhookPayload(seq, entry, (fact, value) => namedFact(core, fact, value));
  return { ...step, message: { id: messageId(seq, body), content } };
};

const failureOf = (answer: OutboundAnswer): string => (answer.answered ? `status_${answer.status}` : answer.failure);

/** What an endpoint's answer means (Standard Webhooks, "Delivery success and failure"). */
export const outcomeOf = (answer: OutboundAnswer, now: number): Outcome => {
  if (!answer.answered) return { ok: false, failure: failureOf(answer) };
  const { status } = answer;
  if (status >= 200 && status < 300) return { ok: true, status };
  const asked = status === 429 || status === 503 ? retryAfterMs(answer.retryAfter, now) : undefined;
  return {
    ok: false,
    status,
    failure: failureOf(answer),
    retryAfterMs: asked,
    ...(status === 410 ? { gone: true as const } : {}),
  };
};

/** One message, signed as of now, sent once. */
export const sendToWebhook = async (
  core: Core,
  outbound: Outbound,
  webhook: Webhook,
  message: { id: string; content: string },
  signal: AbortSignal,
): Promise<Outcome> => {
  const now = core.clock.now();
  let signing: string[];
  try {
    const { current, previous } = openSecrets(core.keyring, webhook);
    const both = previous !== null && webhook.previous_until !== null && webhook.previous_until > now;
    signing = both ? [current, previous] : [current];
  } catch (error) {
    if (error instanceof Refused) return { ok: false, failure: error.refusal.code, waits: true };
    core.log.error({ err: error, webhook: webhook.name }, 'the secret of a webhook does not open');
    return { ok: false, failure: 'secret_unreadable' };
  }
  const seconds = Math.floor(now / 1000);
  const answer = await outbound.post({
    url: webhook.url,
    headers: {
      'content-type': 'application/json',
      'user-agent': 'warder',
      'webhook-id': message.id,
      'webhook-timestamp': String(seconds),
      'webhook-signature': webhookSignature(signing, message.id, seconds, message.content),
    },
    body: message.content,
    allowPrivateNetwork: webhook.allow_private_network,
    timeoutMs: sendTimeoutMs,
    signal,
  });
  return outcomeOf(answer, core.clock.now());
};

export const webhookOutlet = (core: Core, outbound: Outbound, id: string): OutletKind<Webhook, string> => ({
  noun: 'webhook',
  row: () => core.state.webhooks.get(id),
  ready: ({ status }) => status === 'active',
  steps: async (row, from, limit) => {
    const entries = await core.reader.entriesToTell(wantedTypes(row.events), from.seq, limit);
    return entries.map((entry) => stepOf(core, row, entry));
  },
  send: (row, message, signal) => sendToWebhook(core, outbound, row, message, signal),
  move: (row, set, progress) => ({ write: 'update', table: 'webhooks', id: row, set, from: { progress } }),
  disable: (row, because, set, progress) => ({
    write: 'update',
    table: 'webhooks',
    id: row.id,
    set: {
      ...set,
      status: 'disabled',
      disabled_because: because,
      version: row.version + 1,
      updated_at: core.clock.now(),
    },
    from: { progress, version: row.version },
  }),
});
