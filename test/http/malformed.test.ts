/**
 * Every route, with everything that is not what it takes: the answer is a refusal with a stable code, nothing changes,
 * and nothing of the inside is said.
 */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { isShowable } from '../../src/domain/names.ts';
import { adminTable } from '../../src/http/admin/router.ts';
import type { Broker } from '../support/broker.ts';
import {
  auditOf,
  type Body,
  closeConnections,
  eachOf,
  type Furniture,
  formType,
  furnish,
  jsonType,
  noneOf,
  oauthFault,
  problemFault,
  type Sent,
  send,
  startEdgeBroker,
  stateOf,
} from './support.ts';

let broker: Broker;
let furniture: Furniture;

beforeAll(async () => {
  broker = await startEdgeBroker();
  furniture = await furnish(broker);
  await broker.admin('POST', '/issuers', { name: 'corp', issuer: 'https://login.example.com', uses: ['workload'] });
});
afterAll(async () => {
  closeConnections();
  await broker.close();
});

interface Case {
  what: string;
  sent: Sent;
}

const basic = (): Record<string, string> => ({
  authorization: `Basic ${Buffer.from(`${furniture.agent.clientId}:${furniture.agent.clientSecret}`).toString('base64')}`,
});

/** Sends every case; what is wrong with its answer, or with what is left behind, is listed. */
const faultsOf = async (cases: Case[], faultIn = problemFault): Promise<string[]> => {
  const before = await stateOf(broker);
  const faults = await eachOf(cases, async ({ what, sent }) => {
    const fault = faultIn(await send(broker.url, sent));
    return fault === undefined ? undefined : `${sent.method} ${sent.path.slice(0, 80)} with ${what}: ${fault}`;
  });
  const after = await stateOf(broker);
  if (JSON.stringify(after) !== JSON.stringify(before)) faults.push(`the state changed: ${JSON.stringify(after)}`);
  const asked = performance.now();
  const health = await send(broker.url, { method: 'GET', path: '/healthz' });
  if (health.status !== 200 || performance.now() - asked > 500) faults.push('it is not alive and quick afterwards');
  return noneOf(faults);
};

const deep = (open: string, close: string, depth: number): string => open.repeat(depth) + close.repeat(depth);

/** Bodies that no route takes, whatever its schema. */
const badBodies = (): [string, Body, Record<string, string>?][] => [
  ['null', 'null'],
  ['an array', '[]'],
  ['an array of objects', '[{}]'],
  ['a string', '"text"'],
  ['a number', '5'],
  ['true', 'true'],
  ['white space', ' \n\t '],
  ['invalid JSON', '{'],
  ['truncated JSON', '{"name":"x","own'],
  ['a trailing comma', '{"name":"x",}'],
  ['single quotes', "{'name':'x'}"],
  ['a comment', '{} // x'],
  ['two documents', '{}{}'],
  ['NaN', '{"a":NaN}'],
  ['Infinity', '{"a":-Infinity}'],
  ['a number beyond all', '{"a":1e999}'],
  ['a leading zero', '{"a":01}'],
  ['a raw control character', '{"a":"\u0001"}'],
  ['duplicate keys', '{"name":"x","name":"y"}'],
  ['duplicate keys in another spelling', '{"name":"x","n\\u0061me":"y"}'],
  ['a byte order mark', '\ufeff{}'],
  ['UTF-16, little endian', Buffer.from('\ufeff{"name":"x"}', 'utf16le')],
  ['UTF-16 under its name', Buffer.from('{}', 'utf16le'), { 'content-type': 'application/json; charset=utf-16' }],
  ['invalid UTF-8', Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xff, 0xc0, 0x80]), Buffer.from('"}')])],
  ['an overlong encoding', Buffer.from([0x7b, 0xc0, 0xaf, 0x7d])],
  ['ten megabytes', Buffer.alloc(10_000_000, 0x20)],
  ['gzip', gzipSync('{}'), { 'content-encoding': 'gzip' }],
  ['gzip that nobody named', gzipSync('{}')],
  ['an encoding nobody knows', '{}', { 'content-encoding': 'identity, gzip' }],
  ['arrays nested 100 000 deep', deep('[', ']', 5_000) + ' '.repeat(10), {}],
  ['a hundred thousand open brackets', '['.repeat(60_000)],
  ['objects nested deep', `${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}`],
  ['a nested value 33 deep', `{"a":${deep('[', ']', 33)}}`],
  ['__proto__', '{"__proto__":{"admin":true}}'],
  ['constructor', '{"constructor":{"prototype":{"admin":true}}}'],
  ['prototype, nested', '{"a":[{"prototype":1}]}'],
  ['__proto__ in escapes', '{"\\u005f_proto__":1}'],
  ['an unknown key', '{"nobody_knows_this":1}'],
  ['half a character', '{"a":"\\ud800"}'],
  ['half a character as a key', '{"\\udfff":1}'],
  ['a form', 'name=x&owner=y', formType],
  ['text', '{}', { 'content-type': 'text/plain' }],
  ['no type', '{}', { 'content-type': '' }],
  ['a type like JSON', '{}', { 'content-type': 'application/json5' }],
  ['another JSON type', '{}', { 'content-type': 'application/vnd.api+json' }],
  ['two types', '{}', { 'content-type': 'application/json, text/plain' }],
  ['XML', '<?xml version="1.0"?><a/>', { 'content-type': 'application/xml' }],
  ['multipart', '--x\r\n\r\n{}\r\n--x--', { 'content-type': 'multipart/form-data; boundary=x' }],
];

/** Values that no field takes. */
const badValues: [string, string][] = [
  ['a number below zero', '-1'],
  ['a fraction', '1.5'],
  ['a huge number', '1e21'],
  ['a number beyond all', '1e999'],
  ['minus zero', '-0'],
  ['an object', '{"a":1}'],
  ['an array of arrays', '[[]]'],
  ['an array of null', '[null]'],
  ['an empty string', '""'],
  ['a space', '" "'],
  ['NUL', '"a\\u0000b"'],
  ['ANSI', '"\\u001b[31mred"'],
  ['a line break', '"a\\r\\nb: c"'],
  ['a bidirectional override', '"a\\u202eb"'],
  ['a zero-width space', '"a\\u200bb"'],
  ['a byte order mark', '"\\ufeffa"'],
  ['half a character', '"\\ud800"'],
  ['a hundred kilobytes', JSON.stringify('x'.repeat(100_000))],
  ['an operator token', JSON.stringify(`wdr_op_${'0'.repeat(26)}${'Ab_-'.repeat(11).slice(0, 43)}`)],
  ['a nest', deep('[', ']', 31)],
];

/** A body each route takes: its fields are spoiled one by one. */
const examples = (): Record<string, Record<string, unknown>> => {
  const rules = { charge: [{ methods: ['GET'], path: '/v1/**' }] };
  const settings = {
    base_url: 'https://api.example.com',
    inject: { header: 'Authorization', value: 'Bearer {secret}' },
    scopes: rules,
    allow_private_network: false,
    timeouts_ms: { connect: 1000, headers: 1000, idle: 1000 },
  };
  const jwks = { keys: [{ kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo', kid: 'k1' }] };
  const limits = {
    max_ttl_seconds: 60,
    approval: 'none',
    hours: { from: '08:00', to: '18:00' },
    budget: { grants: 5, per_seconds: 60 },
    reason: 'ticket 7',
    on_behalf_of: ['corp:*@example.com'],
    expires_at: '2099-01-01T00:00:00Z',
  };
  const issuer = {
    issuer: 'https://login.example.org',
    jwks_uri: 'https://login.example.org/jwks',
    allow_private_network: false,
    audiences: ['https://warder.example.com'],
    algorithms: ['ES256'],
    uses: ['workload', 'subject'],
    subject_claim: 'sub',
    claims: { sub: 'repo:acme/*', '/kubernetes.io/namespace': ['a', 'b'] },
    max_token_age_seconds: 600,
    single_use: true,
  };
  const { jwks_uri: _, ...withoutAddress } = issuer;
  const workload = { method: 'workload', issuer: 'corp', claims: { sub: 'system:pod' } };
  const auth = { method: 'private_key_jwt', jwks, algorithms: ['Ed25519'] };
  return {
    'POST /agents': { name: 'new-agent', owner: 'a@example.com', purpose: 'reports', auth, dpop: 'required' },
    'PATCH /agents/:name': {
      owner: 'b@example.com',
      purpose: 'other',
      status: 'suspended',
      auth: { method: 'private_key_jwt', jwks_uri: 'https://example.com/jwks', allow_private_network: true },
    },
    'POST /issuers': { name: 'new-issuer', ...issuer },
    'PATCH /issuers/:name': { ...withoutAddress, jwks, status: 'suspended' },
    'POST /connections': { name: 'new-one', provider: 'api-key', owner: 'a@x', settings, secret: { value: 'sk_new' } },
    'PATCH /connections/:name': { owner: 'b@x', settings, status: 'suspended' },
    'POST /connections/:name/connect': { subject: 'corp:ann', expires_in_seconds: 600 },
    'PUT /connections/:name/secret': { value: 'sk_other_0123456789' },
    'POST /entitlements': { agent: 'reporter', connection: 'stripe', scopes: ['read'], ...limits },
    'PATCH /entitlements/:id': { scopes: ['read'], ...limits },
    'POST /operators': { name: 'new-op', roles: ['auditor'], expires_at: '2099-01-01T00:00:00Z' },
    'PATCH /operators/:name': { roles: ['auditor'], status: 'suspended', expires_at: '2099-01-01T00:00:00Z' },
    'POST /rotations': { connection: 'stripe', reason: 'a drill', now: true, fence: true, dry_run: false, due: false },
    'PUT /connections/:name/rotation': {
      every_seconds: 86_400,
      window: { from: '22:00', to: '04:00', days: ['mon', 'tue'] },
      grace_seconds: 60,
      fence: true,
      method: { webhook: { url: 'https://hook.example.com' } },
    },
    'PUT /keys/rotation/:which': { cron: '0 3 1 * *', time_zone: 'UTC', window: { from: '22:00', to: '04:00' } },
    'POST /audit/witness': { checkpoint: 'log\n1\nAAAA\n\n— log AAAA\n' },
    'POST /revocations': {
      selector: {
        agent: 'reporter',
        connection: 'stripe',
        provider: 'api-key',
        owner: 'a',
        subject: 's',
        issuer: 'corp',
      },
      reason: 'incident 7',
      suspend: true,
      rotate: false,
      dry_run: false,
    },
    'POST /freezes': { selector: { agent: 'reporter', connection: 'stripe', owner: 'a' }, reason: 'incident 7' },
    'POST /freezes/:id/lift': { reason: 'over' },
    'POST /incidents': {
      title: 'a token in a log',
      severity: 'high',
      selector: { agent: 'reporter', subject: 's', issuer: 'corp' },
      window: { from: '2026-01-01T00:00:00Z', to: '2026-01-02T00:00:00Z' },
      reason: 'seen in CI',
      drill: false,
    },
    'POST /incidents/:id/contain': { revoke: true, suspend: true, freeze: true, rotate: false, reason: 'seen in CI' },
    'POST /incidents/:id/items': { text: 'call the bank', kind: 'other', assigned_to: 'ann' },
    'PATCH /incidents/:id/items/:number': { status: 'done', assigned_to: 'ann', note: 'called' },
    'POST /incidents/:id/recover': {
      reason: 'clean',
      lift: true,
      resume: true,
      narrow: [{ entitlement: 'ent_1', scopes: ['read'], max_ttl_seconds: 60, expires_at: '2099-01-01T00:00:00Z' }],
      narrow_unused: false,
    },
    'POST /incidents/:id/notes': { note: 'the log is public' },
    'POST /incidents/:id/close': { summary: 'a debug line' },
    'POST /webhooks': {
      name: 'new-hook',
      url: 'https://hooks.example.com/warder',
      events: ['rotation.*', 'incident.opened'],
      allow_private_network: false,
    },
    'PATCH /webhooks/:name': { url: 'https://hooks.example.com/x', events: ['*'], status: 'disabled' },
    'POST /webhooks/:name/secret': { grace_seconds: 60 },
    'POST /webhooks/:name/replay': { from: 0 },
    'POST /streams': {
      name: 'new-stream',
      aud: ['https://rp.example.com'],
      events: ['session-revoked'],
      allow_private_network: false,
      share_reasons: true,
      delivery: { method: 'push', endpoint_url: 'https://rp.example.com/e', authorization_header: 'Bearer x' },
    },
    'POST /streams/:name/replay': { from: 0 },
    'POST /keys/migrate': { to: 'local:/nowhere/root.key', dry_run: true },
    'POST /apply': {
      agents: [
        { name: 'applied', owner: 'a@x', purpose: 'p', auth },
        { name: 'pod', owner: 'a@x', auth: workload, dpop: 'optional' },
      ],
      connections: [{ name: 'applied', provider: 'api-key', owner: 'a@x', settings, secret: { value: 'sk_x' } }],
      entitlements: [{ agent: 'applied', connection: 'applied', scopes: ['charge'], ...limits }],
      plan: false,
      prune: true,
    },
    'POST /v1/grants': { connection: 'stripe', scopes: ['read'], ttl_seconds: 60, reason: 'report' },
    'POST /v1/grants/:id/renew': { ttl_seconds: 60 },
  };
};

type Path = (string | number)[];

/** Every place in a document, the root left out. */
const placesIn = (value: unknown, at: Path = []): Path[] => {
  if (typeof value !== 'object' || value === null) return [];
  const entries: [string | number, unknown][] = Array.isArray(value) ? [...value.entries()] : Object.entries(value);
  return entries.flatMap(([key, item]) => [[...at, key], ...placesIn(item, [...at, key])]);
};

/** The document as text, with the value at a place given as raw JSON. */
const spoiled = (document: unknown, at: Path, raw: string): string => {
  const mark = '@@spoiled@@';
  const copy = structuredClone(document);
  let parent: unknown = copy;
  for (const key of at.slice(0, -1)) parent = (parent as Record<string | number, unknown>)[key];
  (parent as Record<string | number, unknown>)[at.at(-1) ?? ''] = mark;
  return JSON.stringify(copy).replace(`"${mark}"`, () => raw);
};

/** The document with a key more in the object at a place. */
const withKey = (document: unknown, at: Path, key: string): string => {
  let text: unknown = structuredClone(document);
  const root = text;
  for (const step of at) text = (text as Record<string | number, unknown>)[step];
  Object.defineProperty(text, key, { value: 1, enumerable: true });
  return JSON.stringify(root);
};

const objectsIn = (document: unknown): Path[] => {
  const at = (path: Path): unknown =>
    path.reduce((value, key) => (value as Record<string | number, unknown>)[key], document);
  return [[], ...placesIn(document)].filter((path) => {
    const value = at(path);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  });
};

/** Keys of these objects are an operator’s own words: what is not in a schema there is another name. */
const namesOwnKeys = (path: Path): boolean =>
  ['scopes', 'claims'].includes(String(path.at(-1))) || path.includes('keys');

const bodyCases = (method: string, path: string, token: string): Case[] =>
  badBodies().flatMap(([what, body, headers]) => [
    { what, sent: { method, path, token, body, headers: { ...jsonType, ...headers } } },
    {
      what: `${what}, in chunks`,
      sent: { method, path, token, body, headers: { ...jsonType, ...headers }, chunked: true },
    },
  ]);

const fieldCases = (method: string, path: string, token: string, example: object): Case[] => {
  const cases: Case[] = [];
  const add = (what: string, body: string): void => {
    cases.push({ what, sent: { method, path, token, body, headers: jsonType } });
  };
  for (const place of placesIn(example)) {
    // The name of a scope may be anything that is a scope's name; its rules are spoiled below it.
    for (const [what, raw] of badValues) {
      // The secret of a connection may be any text, a token of another Warder too.
      if (what === 'an operator token' && place.at(-1) === 'value' && !place.includes('inject')) continue;
      add(`${what} as ${place.join('.')}`, spoiled(example, place, raw));
    }
  }
  for (const place of objectsIn(example)) {
    for (const key of ['__proto__', 'constructor', 'prototype']) {
      add(`${key} in ${place.join('.')}`, withKey(example, place, key));
    }
    if (!namesOwnKeys(place)) add(`an unknown key in ${place.join('.')}`, withKey(example, place, 'nobody_knows'));
  }
  return cases;
};

const params: Record<string, () => string> = {
  '/agents': () => 'reporter',
  '/connections': () => 'stripe',
  '/entitlements': () => furniture.entitlementId,
  '/operators': () => 'olga',
  '/issuers': () => 'corp',
  '/grants': () => furniture.grantId,
  '/revocations': () => 'rev_00000000000000000000000000',
  '/freezes': () => 'frz_00000000000000000000000000',
  '/incidents': () => 'inc_00000000000000000000000000',
  '/webhooks': () => 'hook',
  '/streams': () => 'receiver',
  '/audit': () => '0',
};
const pathOf = (path: string): string =>
  `/admin/v1${path.replace(/:[a-z]+/, () => params[`/${path.split('/')[1]}`]?.() ?? '')}`;

const badQueries = [
  'nobody_knows=1',
  'limit=1&limit=2',
  'cursor=&cursor=',
  'limit=0',
  'limit=-1',
  'limit=1e9',
  'limit=1e1',
  'limit=0x10',
  'limit=%205',
  'limit=1.0',
  'limit=NaN',
  'limit=99999999999999999999',
  'limit=',
  'limit=%00',
  'limit[]=5',
  'cursor=garbage',
  'cursor=%00',
  'cursor=-1',
  `cursor=${'9'.repeat(99)}`,
  'cursor=grt_',
  'cursor=%ff%fe',
  '__proto__=x',
  'constructor=x',
  'a[__proto__][x]=1',
  `x=${'y'.repeat(8000)}`,
  Array.from({ length: 1200 }, (_, i) => `k${i}=`).join('&'),
];

describe('the operators’ API', () => {
  test('has an example here for every route that takes a body', () => {
    const withBody = adminTable.filter((entry) => entry.body).map(({ method, path }) => `${method} ${path}`);
    expect(
      Object.keys(examples())
        .filter((route) => !route.includes('/v1/'))
        .sort(),
    ).toEqual(withBody.sort());
  });

  test.each(adminTable.filter((entry) => entry.method !== 'GET').map((entry) => [entry.method, entry.path]))(
    'refuses bodies of every wrong kind at %s %s',
    async (method, path) => {
      expect(await faultsOf(bodyCases(method, pathOf(path), broker.adminToken))).toEqual([]);
    },
  );

  test.each(adminTable.filter((entry) => entry.body).map((entry) => [entry.method, entry.path]))(
    'refuses each field spoiled in every way at %s %s',
    async (method, path) => {
      const example = examples()[`${method} ${path}`] ?? {};
      const cases = fieldCases(method, pathOf(path), broker.adminToken, example);
      expect(cases.length).toBeGreaterThan(20);
      expect(await faultsOf(cases)).toEqual([]);
    },
  );

  test('refuses a body where there is none but should be, and one where there should be none', async () => {
    const cases = adminTable
      .filter((entry) => entry.method !== 'GET')
      .flatMap(({ method, path, body }) => {
        const sent = { method, path: pathOf(path), token: broker.adminToken };
        const extra = { what: 'a body', sent: { ...sent, body: '{"a":1}', headers: jsonType } };
        return body
          ? [
              { what: 'no body', sent },
              { what: 'an empty body', sent: { ...sent, body: '', headers: jsonType } },
              extra,
            ]
          : [extra];
      });
    expect(await faultsOf(cases)).toEqual([]);
  });

  test('refuses queries it does not know on every route, before it changes anything', async () => {
    const cases = adminTable.flatMap(({ method, path }) =>
      ['nobody_knows=1', 'limit=0', '__proto__=x', 'constructor=1&constructor=2'].map((query) => {
        const body = examples()[`${method} ${path}`];
        return {
          what: query,
          sent: {
            method,
            path: `${pathOf(path)}?${query}`,
            token: broker.adminToken,
            ...(body === undefined ? {} : { body: JSON.stringify(body), headers: jsonType }),
          },
        };
      }),
    );
    expect(await faultsOf(cases)).toEqual([]);
  });

  test('refuses cursors, limits and filters that are none on every list', async () => {
    const lists = ['/agents', '/connections', '/entitlements', '/operators', '/grants', '/revocations', '/audit'];
    const cases = lists.flatMap((list) =>
      badQueries.map((query) => ({
        what: query.slice(0, 60),
        sent: { method: 'GET', path: `/admin/v1${list}?${query}`, token: broker.adminToken },
      })),
    );
    for (const filter of ['agent', 'connection', 'grant', 'type', 'from', 'to']) {
      for (const value of [
        '',
        '%00',
        '%20',
        'a%E2%80%8Bb',
        '%1b[31m',
        'x'.repeat(300),
        '%F0%9F%92%A9',
        "'--",
        '*',
        '%25',
      ]) {
        for (const list of ['/audit', '/audit/export']) {
          const path = `/admin/v1${list}?${filter}=${value}`;
          cases.push({ what: value, sent: { method: 'GET', path, token: broker.adminToken } });
        }
      }
    }
    for (const value of [
      '2026-02-30',
      '2026-13-01',
      '1',
      '-1',
      '2026-01-01T25:00:00Z',
      '2026-01-01T00:00:00',
      'now',
      '9e99',
    ]) {
      for (const filter of ['from', 'to']) {
        for (const list of ['/audit', '/audit/export', '/grants']) {
          const path = `/admin/v1${list}?${filter}=${value}`;
          cases.push({ what: value, sent: { method: 'GET', path, token: broker.adminToken } });
        }
      }
    }
    cases.push({
      what: 'xml',
      sent: { method: 'GET', path: '/admin/v1/audit/export?format=xml', token: broker.adminToken },
    });
    expect(await faultsOf(cases)).toEqual([]);
  });

  test('finds nothing under names that are none', async () => {
    const names = [
      '%00',
      'reporter%00',
      '%zz',
      '%',
      '%ff',
      '%c0%af',
      'REPORTER',
      'reporter%20',
      'repоrter',
      '..%2f..',
      '%2e%2e%2freporter',
      'a%0d%0ab',
      '%E2%80%AEreporter',
      'x'.repeat(8000),
      '1e999',
      '-1',
      '__proto__',
      'constructor',
      'toString',
      '00',
      '1.0',
      '%31%00',
    ];
    const cases = adminTable
      .filter(({ path }) => path.includes(':'))
      .flatMap(({ method, path }) =>
        names.map((name) => ({
          what: name.slice(0, 40),
          sent: {
            method,
            path: `/admin/v1${path.replace(/:[a-z]+/, encodeURI(name).replaceAll('%25', '%'))}`,
            token: broker.adminToken,
            ...(examples()[`${method} ${path}`]
              ? { body: JSON.stringify(examples()[`${method} ${path}`]), headers: jsonType }
              : {}),
          },
        })),
      );
    expect(await faultsOf(cases)).toEqual([]);
  });

  test('has no other methods and no other routes', async () => {
    const paths = [...new Set(adminTable.map(({ path }) => path))];
    const cases: Case[] = paths.flatMap((path) => {
      const known = adminTable.filter((entry) => entry.path === path).map(({ method }) => method as string);
      return ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'QUERY']
        .filter((method) => !known.includes(method))
        .map((method) => ({ what: 'another method', sent: { method, path: pathOf(path), token: broker.adminToken } }));
    });
    for (const path of [
      '',
      '/',
      '/agents/',
      '//agents',
      '/Agents',
      '/agents/a/b',
      '/agents;x',
      '/%61gents/x/y',
      '/users',
    ]) {
      cases.push({
        what: 'another route',
        sent: { method: 'GET', path: `/admin/v1${path}`, token: broker.adminToken },
      });
    }
    for (const path of [
      '/admin',
      '/admin/',
      '/ADMIN/v1/agents',
      '/admin/v2/agents',
      '/admin/v1/../v1/agents',
      '/v2/grants',
    ]) {
      cases.push({ what: 'another route', sent: { method: 'GET', path, token: broker.adminToken } });
    }
    expect(await faultsOf(cases)).toEqual([]);
  });
});

describe('the agents’ API', () => {
  const routes = (): [string, string][] => [
    ['POST', '/v1/grants'],
    ['POST', `/v1/grants/${furniture.grantId}/renew`],
  ];

  test('refuses bodies of every wrong kind', async () => {
    const cases = routes().flatMap(([method, path]) => bodyCases(method, path, furniture.agentToken));
    expect(await faultsOf(cases)).toEqual([]);
  });

  test('refuses each field spoiled in every way', async () => {
    const [grants, renew] = [examples()['POST /v1/grants'] ?? {}, examples()['POST /v1/grants/:id/renew'] ?? {}];
    const cases = [
      ...fieldCases('POST', '/v1/grants', furniture.agentToken, grants),
      ...fieldCases('POST', `/v1/grants/${furniture.grantId}/renew`, furniture.agentToken, renew),
    ];
    for (const raw of ['0', '31536001', '9007199254740993', '"60"', 'null', 'true', '[60]', '6e1000']) {
      const body = `{"ttl_seconds":${raw}}`;
      cases.push({
        what: raw,
        sent: {
          method: 'POST',
          path: `/v1/grants/${furniture.grantId}/renew`,
          token: furniture.agentToken,
          body,
          headers: jsonType,
        },
      });
      cases.push({
        what: raw,
        sent: {
          method: 'POST',
          path: '/v1/grants',
          token: furniture.agentToken,
          body: spoiled(grants, ['ttl_seconds'], raw),
          headers: jsonType,
        },
      });
    }
    expect(await faultsOf(cases)).toEqual([]);
  });

  test('refuses queries, unknown grants, other methods and other routes', async () => {
    const token = furniture.agentToken;
    const cases: Case[] = [];
    for (const query of badQueries) {
      cases.push({ what: query.slice(0, 50), sent: { method: 'GET', path: `/v1/connections?${query}`, token } });
      cases.push({
        what: query.slice(0, 50),
        sent: { method: 'DELETE', path: `/v1/grants/${furniture.grantId}?${query}`, token },
      });
      const body = JSON.stringify(examples()['POST /v1/grants']);
      cases.push({
        what: query.slice(0, 50),
        sent: { method: 'POST', path: `/v1/grants?${query}`, token, body, headers: jsonType },
      });
    }
    for (const id of [
      '%00',
      '%zz',
      '%ff',
      'x',
      furniture.grantId.toUpperCase(),
      `${furniture.grantId}%00`,
      `${furniture.grantId}%20`,
      '..%2f..',
      'x'.repeat(8000),
      '__proto__',
      'grt_00000000000000000000000000',
    ]) {
      for (const [method, rest] of [
        ['GET', ''],
        ['DELETE', ''],
        ['POST', '/renew'],
      ] as const) {
        cases.push({ what: id.slice(0, 40), sent: { method, path: `/v1/grants/${id}${rest}`, token } });
      }
    }
    for (const [method, path] of [
      ['GET', '/v1/grants'],
      ['PUT', '/v1/grants'],
      ['POST', '/v1/connections'],
      ['PATCH', `/v1/grants/${furniture.grantId}`],
      ['GET', `/v1/grants/${furniture.grantId}/renew`],
      ['GET', '/v1'],
      ['GET', '/v1/'],
      ['POST', '/v1/Grants'],
      ['POST', '/v1/grants/'],
    ] as const) {
      cases.push({ what: method, sent: { method, path, token } });
    }
    expect(await faultsOf(cases)).toEqual([]);
  });

  test('looks at no body before it knows the agent', async () => {
    const cases: Case[] = [undefined, 'nobody', broker.adminToken, furniture.gatewayToken].flatMap((token) =>
      routes().flatMap(([method, path]) =>
        bodyCases(method, path, token ?? '').map(({ what, sent }) => ({ what, sent: { ...sent, token } })),
      ),
    );
    const faults = await faultsOf(cases, (received) =>
      received.status === 401 && received.json?.['code'] === 'unauthenticated'
        ? problemFault(received)
        : `${received.status}: ${received.text}`,
    );
    expect(faults).toEqual([]);
  });
});

describe('the OAuth endpoints', () => {
  const endpoints = ['/token', '/introspect', '/revoke'];
  const good: Record<string, string> = {
    '/token': 'grant_type=client_credentials',
    '/introspect': 'token=wdr_at_x',
    '/revoke': 'token=wdr_at_x',
  };

  const cases = (headers: () => Record<string, string>): Case[] =>
    endpoints.flatMap((path) => {
      const form = good[path] ?? '';
      const bodies: [string, Body | undefined, Record<string, string>?][] = [
        ['no body', undefined],
        ['an empty body', ''],
        ['JSON', '{"grant_type":"client_credentials","token":"x"}', jsonType],
        ['JSON that says it is a form', '{"grant_type":"client_credentials"}'],
        ['no type', form, { 'content-type': '' }],
        ['a form in parts', form, { 'content-type': 'multipart/form-data; boundary=x' }],
        ['another charset', form, { 'content-type': 'application/x-www-form-urlencoded; charset=utf-16' }],
        ['gzip', gzipSync(form), { 'content-encoding': 'gzip' }],
        ['invalid UTF-8', Buffer.from([...Buffer.from('token='), 0xff, 0xfe])],
        ['ten megabytes', Buffer.alloc(10_000_000, 0x61)],
        ['forty kilobytes', `${form}&x=${'y'.repeat(40_000)}`],
        ['a parameter twice', `${form}&${form}`],
        ['a client twice', `${form}&client_id=a&client_id=b`],
        ['a hundred parameters twice', Array.from({ length: 100 }, (_, i) => `k${i}=1&k${i}=2`).join('&')],
        ['two ways to authenticate', `${form}&client_secret=x&client_assertion=y&client_id=z`],
        ['NUL', 'token=%00&grant_type=%00'],
        ['controls', 'token=%1b%5b31m&grant_type=%0d%0aSet-Cookie:x'],
        ['bad escapes', 'token=%zz&grant_type=%'],
        ['prototype keys', '__proto__=1&constructor=2&__proto__[x]=3'],
      ];
      return bodies.flatMap(([what, body, more]) => {
        const sent = { method: 'POST', path, body, headers: { ...formType, ...headers(), ...more } };
        return [
          { what, sent },
          { what: `${what}, in chunks`, sent: { ...sent, chunked: true } },
        ];
      });
    });

  test('refuse every wrong body of a stranger', async () => {
    expect(
      await faultsOf(
        cases(() => ({})),
        oauthFault,
      ),
    ).toEqual([]);
  });

  test('refuse every wrong body of a client', async () => {
    // A token nobody knows is no error at /introspect and /revoke (RFC 7662 section 2.2, RFC 7009 section 2.2).
    const harmless = new Set(['NUL', 'controls', 'bad escapes']);
    const wrong = cases(basic).filter(
      ({ what, sent }) => sent.path === '/token' || !harmless.has(what.replace(', in chunks', '')),
    );
    expect(await faultsOf(wrong, oauthFault)).toEqual([]);
  });

  test('refuse broken client authentication', async () => {
    const broken = [
      'Basic',
      'Basic ',
      'Basic %',
      'Basic !!!',
      'Basic Og==',
      'Basic OnB3',
      'Basic eA==',
      `Basic ${Buffer.from('a%zz:b').toString('base64')}`,
      `Basic ${Buffer.from([0xff, 0x3a, 0xfe]).toString('base64')}`,
      `Basic ${Buffer.from('reporter\u0000:x').toString('base64')}`,
      `Basic ${'A'.repeat(9000)}`,
      'Bearer x',
      'Digest x',
      'Negotiate',
      ',',
    ];
    const list: Case[] = endpoints.flatMap((path) =>
      broken.map((authorization) => ({
        what: authorization.slice(0, 30),
        sent: { method: 'POST', path, body: good[path], headers: { ...formType, authorization } },
      })),
    );
    for (const path of endpoints) {
      for (const assertion of ['x', 'a.b.c', '..', 'eyJhbGciOiJub25lIn0.e30.', `${'e'.repeat(20_000)}.e30.x`, '%00']) {
        const body = `${good[path]}&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=${assertion}`;
        list.push({ what: assertion.slice(0, 30), sent: { method: 'POST', path, body, headers: formType } });
      }
    }
    expect(await faultsOf(list, oauthFault)).toEqual([]);
  });

  test('refuse scopes and resources that are none', async () => {
    const resource = encodeURIComponent(`${broker.url}/connections/stripe`);
    const values = [
      '%00',
      '%1b[31m',
      '%20',
      '%E2%80%8B',
      'x'.repeat(5000),
      '%01'.repeat(10_000),
      'a"b',
      'read%0d%0a',
      '%ED%A0%80',
      Array.from({ length: 3000 }, (_, i) => `s${i}`).join('+'),
    ];
    const list: Case[] = values.flatMap((value) =>
      [
        `scope=${value}&resource=${resource}`,
        `scope=read&resource=${value}`,
        `scope=read&resource=${resource}${value}`,
        `scope=read&resource=${resource}&resource=${value}`,
        `scope=${value}`,
      ].map((rest) => ({
        what: rest.slice(0, 60),
        sent: {
          method: 'POST',
          path: '/token',
          body: `grant_type=client_credentials&${rest}`,
          headers: { ...formType, ...basic() },
        },
      })),
    );
    expect(await faultsOf(list, oauthFault)).toEqual([]);
  });

  test('take POST only', async () => {
    const list: Case[] = endpoints.flatMap((path) =>
      ['GET', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE'].map((method) => ({ what: method, sent: { method, path } })),
    );
    const faults = await faultsOf(list, (received) =>
      received.status === 405 && received.headers['allow'] === 'POST' ? oauthFault(received) : `${received.status}`,
    );
    expect(faults).toEqual([]);
  });
});

describe('the rest', () => {
  test('has no other routes and methods, whatever comes with them', async () => {
    const list: Case[] = [];
    for (const path of [
      '/',
      '/favicon.ico',
      '/healthz/',
      '/HEALTHZ',
      '/nothing',
      '/%00',
      '/%zz',
      '//healthz',
      '/healthz%2f',
      '/.env',
      '/.well-known/openid-configuration',
      '/connections/stripe',
      `/${'x'.repeat(8000)}`,
    ]) {
      for (const [what, body, headers] of [['nothing', undefined, {}], ...badBodies().slice(0, 12)] as [
        string,
        Body | undefined,
        Record<string, string>?,
      ][]) {
        list.push({
          what,
          sent: { method: body === undefined ? 'GET' : 'POST', path, body, headers: { ...jsonType, ...headers } },
        });
      }
    }
    for (const path of [
      '/healthz',
      '/readyz',
      '/metrics',
      '/openapi.json',
      '/jwks',
      '/.well-known/oauth-authorization-server',
    ]) {
      for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'TRACE'])
        list.push({ what: method, sent: { method, path, body: '{', headers: jsonType } });
    }
    for (const token of [undefined, 'x', furniture.agentToken, furniture.gatewayToken]) {
      list.push({ what: 'no operator', sent: { method: 'GET', path: '/metrics', token } });
    }
    list.push({ what: 'basic', sent: { method: 'GET', path: '/metrics', headers: basic() } });
    expect(await faultsOf(list)).toEqual([]);
  });

  test('answers /healthz and /readyz whatever comes with them', async () => {
    for (const path of ['/healthz', '/readyz', '/jwks', '/openapi.json']) {
      for (const query of ['', '?', '?x=1', '?__proto__=1', '?%00']) {
        const received = await send(broker.url, {
          method: 'GET',
          path: `${path}${query}`,
          body: '{',
          headers: jsonType,
        });
        expect(received.status).toBe(200);
      }
    }
  });
});

test('nothing of all this reached the log as an error, or the audit log as a line that is not one', async () => {
  const errors = broker
    .log()
    .split('\n')
    .filter((line) => /"level":(50|60)/.test(line));
  expect(errors).toEqual([]);
  for (const line of broker.log().split('\n')) if (line !== '') expect(() => JSON.parse(line)).not.toThrow();
  for (const entry of await auditOf(broker)) expect(isShowable(JSON.stringify(entry))).toBe(true);
});
