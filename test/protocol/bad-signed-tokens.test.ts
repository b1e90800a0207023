/** Bad assertions of workloads, bad subject and actor tokens, bad proofs of possession: all refused, in the same words. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { badForeignTokens, badProofs, type GoodToken } from '../corpora/signed-tokens.ts';
import { type BadToken, compact } from '../corpora/tokens.ts';
import type { Answer, Broker } from '../support/broker.ts';
import {
  exchange,
  type LocalIssuer,
  startIssuer,
  tokenType,
  trust,
  withAssertionGrant,
  workloadAgent,
} from './issuers.ts';
import { makeProofKey, type ProofKey, proofOf } from './proofs.ts';
import {
  answerTo,
  basic,
  eachOf,
  type Listener,
  listen,
  makeKey,
  must,
  post,
  seconds,
  startProtocolBroker,
  tokenIn,
  troubleIn,
  withAssertion,
} from './support.ts';

/** HTTP takes blanks away at the ends of a field: there such a proof is the good one. */
const fitsInHeader = (token: string): boolean =>
  /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(token) && token.length < 12_000;

describe('a bad token', () => {
  let broker: Broker;
  let issuer: LocalIssuer;
  let trap: Listener;
  let upstream: Listener;
  let agent: { clientId: string; clientSecret: string };
  let key: ProofKey;
  let stranger: ProofKey;
  let foreign: BadToken[];
  let nobody: ReturnType<typeof makeKey>;

  beforeAll(async () => {
    trap = await listen(() => ({ keys: [nobody.publicJwk] }));
    upstream = await listen(() => ({ ok: true }));
    issuer = await startIssuer();
    nobody = makeKey('ES256', issuer.key.kid);
    broker = await startProtocolBroker();
    await trust(broker, 'corp', issuer, { uses: ['subject', 'workload'] });
    await workloadAgent(broker, 'pod', 'corp', { sub: 'sam' });
    agent = await broker.agent('helper');
    must(await broker.connection('echo', upstream.url), 201);
    for (const name of ['helper', 'pod']) {
      must(await broker.entitle(name, 'echo', ['all'], { on_behalf_of: ['corp:sam'] }), 201);
    }
    key = await makeProofKey();
    stranger = await makeProofKey();
    const good: GoodToken = {
      what: 'a token of an issuer',
      key: issuer.key,
      stranger: nobody,
      header: { alg: 'ES256', kid: issuer.key.kid },
      claims: () => ({
        iss: issuer.url,
        sub: 'sam',
        aud: broker.url,
        iat: seconds(),
        exp: seconds() + 280,
        jti: randomUUID(),
      }),
      trap: trap.url,
    };
    foreign = badForeignTokens(good, broker.url, seconds());
  });
  afterAll(async () => {
    await broker.close();
    await Promise.all([issuer.close(), trap.close(), upstream.close()]);
  });

  const as = () => ({ authorization: basic(agent.clientId, agent.clientSecret) });
  /** What was not refused in these words, with the answer, to read in a failure. */
  const others = (tokens: readonly BadToken[], answers: readonly Answer[], status: number, error: string): string[] =>
    answers.flatMap((answer, index) =>
      answer.status === status && answer.body['error'] === error
        ? []
        : [`${tokens[index]?.name}: ${answer.status} ${answer.text}`],
    );
  const issued = async (): Promise<number> =>
    (must(await broker.admin('GET', '/audit?type=token.issued&limit=500'), 200).body['items'] as unknown[]).length;

  test('comes in more than two hundred forms', () => {
    expect(foreign.length).toBeGreaterThan(230);
    expect(new Set(foreign.map(({ token }) => token)).size).toBe(foreign.length);
  });

  test('is made from good ones, which are accepted where they belong', async () => {
    must(await withAssertionGrant(broker, issuer.token(broker.url)), 200);
    must(await exchange(broker, issuer.token(broker.url), {}, as()), 200);
    for (const claims of [
      { aud: [broker.url] },
      { exp: seconds() + 60.5 },
      { iat: undefined },
      { nbf: seconds() },
      { jti: undefined },
    ]) {
      must(await withAssertionGrant(broker, issuer.token(broker.url, claims)), 200);
    }
    for (const header of [{ typ: 'JWT' }, { typ: 'application/jwt' }, { kid: undefined }]) {
      must(await withAssertionGrant(broker, issuer.token(broker.url, {}, header)), 200);
      must(await exchange(broker, issuer.token(broker.url, {}, header), {}, as()), 200);
    }
  });

  test('is no assertion of a workload', async () => {
    const before = await issued();
    const answers = await eachOf(foreign, ({ token }) => withAssertionGrant(broker, token));
    expect(others(foreign, answers, 400, 'invalid_grant')).toEqual([]);
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(await issued()).toBe(before);
  });

  test('does not authenticate a workload as a client', async () => {
    const answers = await eachOf(foreign, ({ token }) => post(`${broker.url}/token`, withAssertion(token)));
    expect(others(foreign, answers, 401, 'invalid_client')).toEqual([]);
  });

  test('is no subject token, of whatever type it is said to be', async () => {
    const before = await issued();
    const texts = new Set<string>();
    for (const type of ['id_token', 'jwt', 'access_token']) {
      // As a JWT or access token, `at+jwt` is what it should be.
      const tokens = foreign.filter(({ name }) => type === 'id_token' || !/typ "(application\/)?at\+jwt"/i.test(name));
      const answers = await eachOf(tokens, ({ token }) =>
        exchange(broker, token, { subject_token_type: tokenType(type) }, as()),
      );
      expect(others(tokens, answers, 400, 'invalid_request')).toEqual([]);
      for (const { text } of answers) texts.add(text);
    }
    expect(texts.size).toBe(1);
    expect(await issued()).toBe(before);
  });

  test('is no actor token', async () => {
    const answers = await eachOf(foreign, ({ token }) =>
      exchange(broker, issuer.token(broker.url), { actor_token: token, actor_token_type: tokenType('jwt') }),
    );
    expect(others(foreign, answers, 400, 'invalid_request')).toEqual([]);
  });

  describe('of possession', () => {
    const good = (method: string, url: string, ath?: string): GoodToken => ({
      what: 'a proof',
      key: { ...key, publicJwk: key.bare },
      stranger: { ...stranger, publicJwk: stranger.bare },
      header: { typ: 'dpop+jwt', alg: 'ES256', jwk: key.bare },
      claims: () => ({
        jti: randomUUID(),
        htm: method,
        htu: url,
        iat: seconds(),
        ...(ath === undefined ? {} : { ath }),
      }),
      trap: trap.url,
    });

    test('comes in more than two hundred forms, made from good ones', async () => {
      const url = `${broker.url}/token`;
      const { header, claims } = good('POST', url);
      const tokens = badProofs(good('POST', url), { method: 'POST', url }, seconds());
      expect(tokens.filter(({ token }) => fitsInHeader(token)).length).toBeGreaterThan(200);
      for (const more of [
        {},
        { htu: `${url}?x=1#y` },
        { htu: url.replace('http:', 'HTTP:') },
        { exp: seconds() + 60 },
        { nonce: 'x' },
      ]) {
        const dpop = compact(header, { ...claims(), ...more }, key);
        must(await post(url, { grant_type: 'client_credentials' }, { ...as(), dpop }), 200);
      }
    });

    test('obtains no token', async () => {
      const url = `${broker.url}/token`;
      const tokens = badProofs(good('POST', url), { method: 'POST', url }, seconds()).filter(({ token }) =>
        fitsInHeader(token),
      );
      const before = await issued();
      const answers = await eachOf(tokens, ({ token }) =>
        post(url, { grant_type: 'client_credentials' }, { ...as(), dpop: token }),
      );
      expect(others(tokens, answers, 400, 'invalid_dpop_proof')).toEqual([]);
      expect(await issued()).toBe(before);
    });

    test.each(['/v1/connections', '/gateway/echo/x'])('does not open %s', async (path) => {
      const target = path.startsWith('/v1') ? {} : { resource: `${broker.url}/connections/echo`, scope: 'all' };
      const dpop = proofOf(key, 'POST', `${broker.url}/token`);
      const token = tokenIn(
        await post(`${broker.url}/token`, { grant_type: 'client_credentials', ...target }, { ...as(), dpop }),
      );
      const url = `${broker.url}${path}`;
      const { ath } = JSON.parse(
        Buffer.from(proofOf(key, 'GET', url, token).split('.')[1] ?? '', 'base64url').toString(),
      );
      const made = good('GET', url, ath);
      const hashes = [undefined, null, '', 1, [ath], `${ath}=`, ath.slice(1), 'A'.repeat(43), token];
      const tokens = [
        ...badProofs(made, { method: 'GET', url }, seconds()),
        ...hashes.map((value) => ({
          name: `ath ${JSON.stringify(value)?.slice(0, 8)}`,
          token: compact(made.header, { ...made.claims(), ath: value }, key),
        })),
      ].filter(({ token: proof }) => fitsInHeader(proof));
      const before = upstream.requests.length;
      const ask = (proof: string) => answerTo(url, { headers: { authorization: `DPoP ${token}`, dpop: proof } });
      const answers = await eachOf(tokens, ({ token: proof }) => ask(proof));
      const wrong = answers.flatMap((answer, index) =>
        answer.status === 401 && answer.body['code'] === 'invalid_dpop_proof'
          ? []
          : [`${tokens[index]?.name}: ${answer.status}`],
      );
      expect(wrong).toEqual([]);
      expect(upstream.requests).toHaveLength(before);
      must(await ask(proofOf(key, 'GET', url, token)), 200);
    });
  });

  test('and any mixture of parameters is answered as RFC 6749 says, never with a failure of the broker', async () => {
    const urn = 'urn:ietf:params:oauth:';
    const own = await broker.agentToken(agent);
    const values = [
      ...[
        '',
        ' ',
        'x',
        '\0',
        '\ud83d',
        '{}',
        '[]',
        'null',
        '-1',
        own,
        own.slice(0, 40),
        'wdr_at_',
        'eyJ',
        'eyJ.eyJ.eyJ',
        '..',
        '%00',
      ],
      ...['client_credentials', `${urn}grant-type:jwt-bearer`, `${urn}grant-type:token-exchange`],
      ...['id_token', 'jwt', 'access_token', 'refresh_token'].map(tokenType),
      ...['helper', 'pod', 'corp', 'echo', 'all', `${broker.url}/v1`, `${broker.url}/connections/echo`, '__proto__'],
      '[{"type":"warder_connection","connection":"echo","scopes":["all"]}]',
      '[{"type":"warder_connection"}]',
    ];
    const names = [
      ...['grant_type', 'assertion', 'subject_token', 'subject_token_type', 'actor_token', 'actor_token_type'],
      ...[
        'requested_token_type',
        'audience',
        'resource',
        'scope',
        'authorization_details',
        'client_id',
        'client_secret',
      ],
      ...['client_assertion', 'client_assertion_type'],
    ];
    const grantType = fc.constantFrom(
      ...values.filter((value) => value.includes('grant-type') || value.startsWith('client_')),
    );
    const form = fc.record(Object.fromEntries(names.map((name) => [name, fc.constantFrom(...values)])), {
      requiredKeys: [],
    });
    const forms = fc.sample(
      fc.tuple(form, fc.option(grantType), fc.boolean(), fc.option(fc.constantFrom(...values.filter(fitsInHeader)))),
      400,
    );
    const answers = await eachOf(forms, ([fields, grant, authenticates, proof]) =>
      post(
        `${broker.url}/token`,
        { ...(fields as Record<string, string>), ...(grant === null ? {} : { grant_type: grant }) },
        { ...(authenticates ? as() : {}), ...(proof === null ? {} : { dpop: proof }) },
      ),
    );
    const wrong = answers.flatMap(({ status, body, text }, index) => {
      const error = String(body['error']);
      const fine = status === 200 ? 'access_token' in body : [400, 401].includes(status) && /^[a-z_]+$/.test(error);
      const plain = status === 200 || /^[\x20\x21\x23-\x5b\x5d-\x7e]+$/.test(String(body['error_description']));
      return fine && plain ? [] : [`${JSON.stringify(forms[index])}: ${status} ${text}`];
    });
    expect(wrong).toEqual([]);
  });

  test('never leads the broker to an address in its header, and is no trouble', () => {
    expect(trap.requests).toEqual([]);
    expect(troubleIn(broker.log())).toEqual([]);
  });
});
