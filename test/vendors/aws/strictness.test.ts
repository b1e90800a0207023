/** The test's own AWS is as strict as the real one: otherwise what passes here proves nothing. */
import type { IncomingMessage } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { isAllowed, MalformedPolicy, parsePolicy } from './policy.ts';
import { type AwsServer, startAws } from './server.ts';
import { verify } from './sigv4.ts';

describe('signatures', () => {
  // The worked example of https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
  const signature = '5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7';
  const at = Date.UTC(2015, 7, 30, 12, 36, 0);
  const request = (more: { headers?: Record<string, string>; url?: string; method?: string } = {}): IncomingMessage =>
    ({
      method: 'GET',
      url: '/?Action=ListUsers&Version=2010-05-08',
      ...more,
      headers: {
        host: 'iam.amazonaws.com',
        'content-type': 'application/x-www-form-urlencoded; charset=utf-8',
        'x-amz-date': '20150830T123600Z',
        authorization: `AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=${signature}`,
        ...more.headers,
      },
    }) as unknown as IncomingMessage;
  const judge = (req: IncomingMessage, body = '', now = at) => {
    const secretOf = (id: string) => (id === 'AKIDEXAMPLE' ? 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' : undefined);
    const verified = verify(req, Buffer.from(body), now, secretOf);
    return verified.ok ? 'good' : verified.problem;
  };

  test('AWS’s own example is good', () => {
    expect(judge(request())).toBe('good');
  });

  test.each<[string, () => string, string]>([
    ['none', () => judge(request({ headers: { authorization: undefined as unknown as string } })), 'missing'],
    ['another body', () => judge(request(), 'x'), 'mismatch'],
    ['another query', () => judge(request({ url: '/?Action=DeleteUser&Version=2010-05-08' })), 'mismatch'],
    ['another path', () => judge(request({ url: '/x?Action=ListUsers&Version=2010-05-08' })), 'mismatch'],
    ['another method', () => judge(request({ method: 'POST' })), 'mismatch'],
    ['another host', () => judge(request({ headers: { host: 'sts.amazonaws.com' } })), 'mismatch'],
    [
      'a header of AWS that is not signed',
      () => judge(request({ headers: { 'x-amz-security-token': 'x' } })),
      'incomplete',
    ],
    ['a hash of another body', () => judge(request({ headers: { 'x-amz-content-sha256': '0' } })), 'incomplete'],
    ['a signature six minutes old', () => judge(request(), '', at + 360_000), 'skewed'],
    ['a signature of the future', () => judge(request(), '', at - 360_000), 'skewed'],
    ['no form', () => judge(request({ headers: { authorization: 'Bearer x' } })), 'incomplete'],
  ])('%s is not', (_what, judged, problem) => {
    expect(judged()).toBe(problem);
  });
});

describe('policies', () => {
  const policy = (...statements: object[]) =>
    parsePolicy(JSON.stringify({ Version: '2012-10-17', Statement: statements }));
  const all = policy({ Effect: 'Allow', Action: '*', Resource: '*' });
  const reads = policy({ Effect: 'Allow', Action: ['s3:Get*'], Resource: ['arn:aws:s3:::a/*'] });
  const asked = (action: string, resource: string, context: Record<string, string> = {}) => ({
    action,
    resource,
    context,
  });

  test('nothing is allowed that no policy allows, and a session policy narrows', () => {
    expect(isAllowed([reads], undefined, asked('s3:GetObject', 'arn:aws:s3:::a/b'))).toBe(true);
    expect(isAllowed([reads], undefined, asked('s3:PutObject', 'arn:aws:s3:::a/b'))).toBe(false);
    expect(isAllowed([reads], undefined, asked('s3:GetObject', 'arn:aws:s3:::ab/b'))).toBe(false);
    expect(isAllowed([all], [reads], asked('s3:PutObject', 'arn:aws:s3:::a/b'))).toBe(false);
    expect(isAllowed([reads], [all], asked('s3:PutObject', 'arn:aws:s3:::a/b'))).toBe(false);
    expect(isAllowed([all], [], asked('s3:GetObject', 'arn:aws:s3:::a/b'))).toBe(false);
  });

  test('a denial goes before every permission, on either side', () => {
    const no = policy({ Effect: 'Deny', Action: '*', Resource: '*' });
    expect(isAllowed([all, no], [all], asked('s3:GetObject', 'x'))).toBe(false);
    expect(isAllowed([all], [all, no], asked('s3:GetObject', 'x'))).toBe(false);
  });

  test('a condition on a key that the request has not holds only where it is negated or says so', () => {
    const under = (Condition: object) => policy({ Effect: 'Allow', Action: '*', Resource: '*', Condition });
    const may = (Condition: object) => isAllowed([under(Condition)], undefined, asked('a:b', 'c'));
    expect(may({ StringLike: { 'aws:userid': '*' } })).toBe(false);
    expect(may({ DateLessThan: { 'aws:TokenIssueTime': '2026-01-01T00:00:00Z' } })).toBe(false);
    expect(may({ StringNotLike: { 'aws:userid': 'x' } })).toBe(true);
    expect(may({ StringLikeIfExists: { 'aws:userid': 'x' } })).toBe(true);
    expect(may({ Null: { 'aws:userid': 'true' } })).toBe(true);
  });

  test.each([
    '',
    '{}',
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow"}]}',
    '{"Version":"2012-10-17","Statement":[]',
  ])('%j is malformed', (text) => {
    expect(() => parsePolicy(text)).toThrow(MalformedPolicy);
  });

  test('an unknown operator and a date that is none are malformed', () => {
    const under = (Condition: object) => () => policy({ Effect: 'Deny', Action: '*', Resource: '*', Condition });
    expect(under({ StringLikely: { a: 'b' } })).toThrow(MalformedPolicy);
    expect(under({ DateLessThan: { 'aws:CurrentTime': 'soon' } })).toThrow(MalformedPolicy);
  });
});

describe('the server', () => {
  let aws: AwsServer;
  beforeAll(async () => {
    aws = await startAws();
  });
  afterAll(() => aws.close());

  test('refuses what is not signed, in the language it was asked in', async () => {
    const query = await fetch(aws.url, { method: 'POST', body: 'Action=GetCallerIdentity&Version=2011-06-15' });
    expect([query.status, await query.text()]).toEqual([
      403,
      expect.stringContaining('<Code>MissingAuthenticationToken</Code>'),
    ]);
    const json = await fetch(aws.url, {
      method: 'POST',
      body: '{}',
      headers: { 'x-amz-target': 'TrentService.Encrypt' },
    });
    expect([json.status, await json.json()]).toEqual([
      400,
      expect.objectContaining({ __type: 'MissingAuthenticationTokenException' }),
    ]);
    expect(aws.calls).toEqual([]);
  });
});
