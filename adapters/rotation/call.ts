/** One HTTP call as an operator declares it: checked strictly when it is written, and sent over the guarded network. */
import { z } from 'zod';
import { ProviderFailure } from '../../src/ports/provider.ts';
import { callJson, type JsonAnswer } from '../providers/shared/json-call.ts';
import {
  at,
  filled,
  filledJson,
  NothingKnown,
  type Placeholder,
  placeholdersIn,
  pointerForm,
  textsOf,
  type Values,
} from './template.ts';

const visibleAscii = /^[\x20-\x7e]*$/;
/** RFC 3986 section 3.3 and 3.4, and the braces of placeholders. */
const pathForm = /^\/[A-Za-z0-9._~!$&'()*+,;=:@%/?{}-]*$/;

const pathProblem = (path: string): string | undefined => {
  // Placeholders stand for what is encoded: a plain letter has the same effect on how the rest is read.
  const sample = filled(path, { rotation_id: 'x', connection: 'x', id: 'x', secret: 'x' });
  const url = URL.parse(`https://host.example${sample}`);
  return url?.host === 'host.example' && `${url.pathname}${url.search}` === sample && !sample.startsWith('//')
    ? undefined
    : 'must be a path that stays as it is: no dot segments, no double slash at its start';
};

const templated = (schema: z.ZodString) =>
  schema.superRefine((text, context) => {
    const found = placeholdersIn(text);
    if ('problem' in found) context.addIssue({ code: 'custom', message: found.problem });
  });

const path = templated(
  z.string().max(2000).regex(pathForm, 'must begin with a slash, and have characters of a URL only'),
)
  .refine(
    (text) => 'problem' in placeholdersIn(text) || pathProblem(text) === undefined,
    'must be a path that stays as it is',
  )
  .refine((text) => {
    const found = placeholdersIn(text);
    return 'problem' in found || !found.names.has('secret');
  }, 'a secret does not belong into a path: paths are logged');

const headerName = /^[A-Za-z0-9-]{1,100}$/;
/** Headers that frame or route a message, or that Warder itself writes. */
const notYours =
  /^(?:host|content-length|content-type|transfer-encoding|connection|keep-alive|upgrade|te|trailer|expect|cookie|proxy-.*)$/i;

const headers = z
  .record(z.string(), templated(z.string().max(1000).regex(visibleAscii, 'printable ASCII only')))
  .superRefine((given, context) => {
    for (const name of Object.keys(given)) {
      if (!headerName.test(name)) context.addIssue({ code: 'custom', message: 'not the name of a header' });
      else if (notYours.test(name)) context.addIssue({ code: 'custom', message: `${name} is not yours to set` });
    }
  })
  .default({});

/** Deep enough for every service, and far from what would exhaust a stack. */
const maxDepth = 10;
const maxCharacters = 16_384;
const isWithin = (value: unknown, levels: number): boolean =>
  typeof value !== 'object' ||
  value === null ||
  (levels > 0 && Object.values(value).every((one) => isWithin(one, levels - 1)));

const jsonBody = z.record(z.string(), z.unknown()).superRefine((body, context) => {
  const problem = (message: string): void => context.addIssue({ code: 'custom', message });
  if (!isWithin(body, maxDepth)) return problem(`at most ${maxDepth} levels`);
  if (JSON.stringify(body).length > maxCharacters) return problem(`at most ${maxCharacters} characters`);
  for (const text of textsOf(body)) {
    const found = placeholdersIn(text);
    if ('problem' in found) return problem(found.problem);
  }
});

const status = z.int().min(200).max(299);
const refusal = z.int().min(400).max(499);

export const pointer = z.string().max(500).regex(pointerForm, 'a JSON pointer (RFC 6901): /data/key');

/** @param usual the statuses that mean "done", unless the operator says otherwise */
export const callShape = (method: 'GET' | 'POST' | 'PUT' | 'DELETE', usual: readonly number[]) => ({
  method: z.enum(['GET', 'POST', 'PUT', 'PATCH', 'DELETE']).default(method),
  path,
  headers,
  json: jsonBody.optional(),
  form: z.record(z.string().min(1).max(200), templated(z.string().max(4000))).optional(),
  expect: z
    .array(status)
    .min(1)
    .max(20)
    .default([...usual]),
});

export const refusals = (usual: readonly number[]) =>
  z
    .array(refusal)
    .max(20)
    .default([...usual]);

export interface DeclaredCall {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  path: string;
  headers: Record<string, string>;
  json?: Record<string, unknown> | undefined;
  form?: Record<string, string> | undefined;
  expect: number[];
}

/** @returns where which placeholders stand in a call */
export const placeholdersOf = (call: DeclaredCall): Set<Placeholder> => {
  const names = new Set<Placeholder>();
  for (const text of [call.path, ...Object.values(call.headers), ...textsOf(call.json), ...textsOf(call.form)]) {
    const found = placeholdersIn(text);
    if ('names' in found) for (const name of found.names) names.add(name);
  }
  return names;
};

/** How a call proves who asks. */
export type Credentials = { in: 'header' | 'query'; name: string; value: string };

export interface Site {
  fetch: typeof globalThis.fetch;
  /** Without a slash at its end. */
  baseUrl: string;
}

/** An answer to a call of a rotation is a few kilobytes; a page of a list of keys is some hundreds. */
const maxAnswerBytes = 1024 * 1024;

/** One path segment or one value of a query: a value that is only dots would be taken as a step up. */
const encodedPart = (value: string): string => {
  if (/^\.{1,2}$/.test(value)) throw new ProviderFailure('unavailable', 'the service names a key by dots');
  return encodeURIComponent(value).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
};

const withQuery = (url: string, name: string, value: string): string =>
  `${url}${url.includes('?') ? '&' : '?'}${encodeURIComponent(name)}=${encodeURIComponent(value)}`;

const bodyOf = (call: DeclaredCall, values: Values): { type: string; text: string } | undefined => {
  if (call.json) return { type: 'application/json', text: JSON.stringify(filledJson(call.json, values)) };
  if (!call.form) return undefined;
  const fields = Object.entries(call.form).map(([name, text]): [string, string] => [name, filled(text, values)]);
  return { type: 'application/x-www-form-urlencoded', text: new URLSearchParams(fields).toString() };
};

/**
 * @param more query parameters, of pages
 * @throws ProviderFailure, NothingKnown
 */
export const send = async (
  site: Site,
  call: DeclaredCall,
  values: Values,
  credentials: Credentials | undefined,
  signal: AbortSignal,
  more: readonly [name: string, value: string][] = [],
): Promise<JsonAnswer> => {
  const body = bodyOf(call, values);
  const query = credentials?.in === 'query' ? [...more, [credentials.name, credentials.value] as const] : more;
  const url = query.reduce(
    (made, [name, value]) => withQuery(made, name, value),
    `${site.baseUrl}${filled(call.path, values, encodedPart)}`,
  );
  // In one spelling of their names, so that one replaces the other.
  const header = credentials?.in === 'header' ? { [credentials.name.toLowerCase()]: credentials.value } : {};
  const extra = Object.entries(call.headers).map(([name, text]) => [
    name.toLowerCase(),
    filled(text, values, headerValue),
  ]);
  return callJson(
    site.fetch,
    {
      upstream: 'the service',
      method: call.method,
      url,
      headers: {
        accept: 'application/json',
        ...(body ? { 'content-type': body.type } : {}),
        ...Object.fromEntries(extra),
        ...header,
      },
      ...(body ? { body: body.text } : {}),
      maxAnswerBytes,
    },
    signal,
  );
};

const headerValue = (value: string): string => {
  if (visibleAscii.test(value)) return value;
  throw new ProviderFailure('unavailable', 'the service names a key by characters that fit no header');
};

/** @throws ProviderFailure, also in place of what a template says */
export const sending = async <T>(step: string, work: Promise<T>): Promise<T> => {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof NothingKnown)) throw error;
    const what = error.placeholder === 'id' ? 'the id of the key is not known' : `${error.placeholder} is not known`;
    throw new ProviderFailure('refused', `${step}: ${what}`);
  }
};

/** Statuses after which the same call may succeed later (RFC 9110, RFC 6585). */
const passing = [408, 409, 423, 425, 429];

/** What an answer that was not expected means. @param step as people know it: `create` */
export const unexpected = ({ status: got }: JsonAnswer, step: string): ProviderFailure => {
  if (got >= 300 && got < 400) {
    return new ProviderFailure('unavailable', `the service answered ${got} to ${step}; redirects are not followed`);
  }
  const no = got >= 400 && got < 500 && !passing.includes(got);
  return new ProviderFailure(no ? 'refused' : 'unavailable', `the service answered ${got} to ${step}`);
};

/** A name or number by which a service knows a key: it goes into paths, headers and records. */
export const idAt = (document: unknown, where: string): string | undefined => {
  const found = at(document, where);
  if (typeof found === 'number' && Number.isSafeInteger(found)) return String(found);
  return typeof found === 'string' && /^[\x21-\x7e]{1,500}$/.test(found) ? found : undefined;
};
