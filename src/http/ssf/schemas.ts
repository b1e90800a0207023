/** Requests of receivers: SSF 1.0 section 8, RFC 8936 section 2. Members that are not known are passed over, as both ask. */
import { z } from 'zod';
import { longestEndpointUrl } from '../../domain/endpoint-url.ts';
import { isPlainLine, isShowable, plainLineRule } from '../../domain/names.ts';
import { deliveryMethods, pollWindow } from '../../domain/signals.ts';
import { mentionsToken } from '../../domain/tokens.ts';

/** Recorded and shown. */
const text = (max: number) => z.string().refine((line) => isPlainLine(line, max), plainLineRule(max));

export const audience = text(500);
/** RFC 9110 section 5.5, without what an HTTP library would have to guess at. */
const headerValue = z
  .string()
  .min(1)
  .max(4096)
  .regex(/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/, 'a header value: printable ASCII')
  .refine((value) => !mentionsToken(value), 'that is a token of this broker');

export const pushTo = z.strictObject({
  endpoint_url: z.string().min(1).max(longestEndpointUrl),
  authorization_header: headerValue.optional(),
});

const delivery = z.union([
  z.object({
    method: z.literal(deliveryMethods.push),
    endpoint_url: z.string().min(1).max(longestEndpointUrl),
    authorization_header: headerValue.optional(),
  }),
  z.object({ method: z.literal(deliveryMethods.poll), endpoint_url: z.string().max(longestEndpointUrl).optional() }),
]);
const eventsRequested = z.array(text(500)).max(50);

/** What receivers supply. */
const supplied = {
  delivery: delivery.optional(),
  events_requested: eventsRequested.optional(),
  description: text(500).optional(),
};
/** What the transmitter supplies: read back and sent again, it has to be what it is. */
const transmitted = z.object({
  iss: z.unknown(),
  aud: z.unknown(),
  events_supported: z.unknown(),
  events_delivered: z.unknown(),
  min_verification_interval: z.unknown(),
});

export const streamBody = z.object(supplied);
export const changeBody = z.object({ ...supplied, ...transmitted.partial().shape, stream_id: z.string().max(100) });
export type StreamBody = z.infer<typeof streamBody>;
export type ChangeBody = z.infer<typeof changeBody>;

export const streamQuery = z.object({ stream_id: z.string().max(100).optional() });
export const statusBody = z.object({
  stream_id: z.string().max(100),
  status: z.enum(['enabled', 'paused', 'disabled']),
  reason: text(500).optional(),
});
/** Arbitrary, and echoed as it is (section 8.1.4.2); but it is recorded, so it has to be fit for that. */
const state = z.string().min(1).max(1000).refine(isShowable, 'visible characters only, and no token in it');
export const verifyBody = z.object({ stream_id: z.string().max(100), state: state.optional() });

/** One answer holds at most so many events: signing them takes the event loop. */
const mostEvents = 100;
const jti = z.string().max(100);
export const pollBody = z.object({
  maxEvents: z
    .int()
    .min(0)
    .max(Number.MAX_SAFE_INTEGER)
    .default(mostEvents)
    .transform((count) => Math.min(count, mostEvents)),
  returnImmediately: z.boolean().default(false),
  ack: z
    .array(jti)
    .max(5 * pollWindow)
    .default([]),
  setErrs: z
    .record(
      jti,
      z.object({
        err: z.string().regex(/^[a-z_]{1,40}$/, 'an error code'),
        description: z.string().max(2000).optional(),
      }),
    )
    .refine((errors) => Object.keys(errors).length <= 5 * pollWindow, `at most ${5 * pollWindow}`)
    .default({}),
});
