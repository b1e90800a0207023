/** What the SDK throws becomes one of three kinds, with a message of ours and nothing of AWS's. */
import { inspect } from 'node:util';
import { expect, test } from '@jest/globals';
import { failureOf } from '../../../../adapters/providers/aws-sts/failure.ts';
import { ProviderFailure } from '../../../../src/ports/provider.ts';

const patient = new AbortController().signal;
const thrown = (name: string, status?: number, more: object = {}): Error =>
  Object.assign(new Error('User: arn:aws:iam::111122223333:user/warder is not authorized'), {
    name,
    ...(status === undefined ? {} : { $metadata: { httpStatusCode: status, attempts: 1 } }),
    $response: { headers: { authorization: 'AWS4-HMAC-SHA256 Credential=AKIA…' } },
    ...more,
  });

test.each<[string, Error, ProviderFailure['kind']]>([
  ['a refusal', thrown('AccessDenied', 403), 'refused'],
  ['a refusal with a name of its own', thrown('SomethingNewException', 400), 'refused'],
  ['a name of the prototype', thrown('constructor', 400), 'refused'],
  ['throttling', thrown('Throttling', 400), 'unavailable'],
  ['throttling by status', thrown('Unknown', 429), 'unavailable'],
  ['somebody else’s change at the same time', thrown('ConcurrentModificationException', 409), 'unavailable'],
  ['an outage', thrown('InternalFailure', 500), 'unavailable'],
  ['nonsense', thrown('SyntaxError', 200), 'unavailable'],
  ['no connection', thrown('Error', undefined, { code: 'ECONNREFUSED' }), 'unavailable'],
  ['an attempt that took too long', thrown('TimeoutError'), 'timeout'],
  ['an address that is not allowed', thrown('AddressRefused'), 'refused'],
])('%s', (_what, error, kind) => {
  const failure = failureOf(error, patient);
  expect(failure.kind).toBe(kind);
  expect(inspect(failure, { depth: 10, showHidden: true })).not.toMatch(/arn:aws|AWS4-HMAC|111122223333/);
});

test('whatever comes when the time is over is a timeout', () => {
  expect(failureOf(thrown('AccessDenied', 403), AbortSignal.abort()).kind).toBe('timeout');
});

test('a failure that is one already stays as it is, and what is no error is an outage', () => {
  const failure = new ProviderFailure('refused', 'no');
  expect(failureOf(failure, patient)).toBe(failure);
  for (const odd of [undefined, null, 'text', 7]) expect(failureOf(odd, patient).kind).toBe('unavailable');
});
