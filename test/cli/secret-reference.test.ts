/** `--secret-from`: the line that says where a secret is read. */
import { describe, expect, test } from '@jest/globals';
import { readAccess } from '../../src/cli/access-file.ts';
import { Failure } from '../../src/cli/failure.ts';
import { readSecretReference } from '../../src/cli/secret-reference.ts';
import { run, startWire, type Wire } from './harness.ts';

const read = (text: string): unknown => readSecretReference(text, '--secret-from');

describe('a reference', () => {
  test.each([
    [
      'vault:corp-vault/secret/data/stripe#api_key',
      { connection: 'corp-vault', path: 'secret/data/stripe', fields: { value: 'api_key' } },
    ],
    [
      'vault:v/team/kv/data/db#username=user,password=pass word',
      { connection: 'v', path: 'team/kv/data/db', fields: { username: 'user', password: 'pass word' } },
    ],
    [
      'vault:v/secret/data/a b?version=3&max_age=0#k',
      { connection: 'v', path: 'secret/data/a b', fields: { value: 'k' }, version: 3, max_age_seconds: 0 },
    ],
  ])('%s', (text, reference) => {
    expect(read(text)).toEqual(reference);
  });

  test.each([
    'sk_live_canary',
    'vault:corp-vault',
    'vault:corp-vault/secret/data/canary',
    'vault:/secret/data/canary#k',
    'vault:Corp/secret/data/canary#k',
    'vault:v/canary#',
    'vault:v/canary#a,',
    'vault:v/canary#a,b',
    'vault:v/canary#a=b,a=c',
    'vault:v/canary#a=b=c',
    'vault:v/canary?version=x#k',
    'vault:v/canary?version=1&version=2#k',
    'vault:v/canary?__proto__=1#k',
    'vault:v/canary?max_age=-1#k',
    'env:CANARY',
  ])('%s is wrong usage, and is not repeated', (text) => {
    const attempt = (): unknown => read(text);
    expect(attempt).toThrow(Failure);
    try {
      attempt();
    } catch (error) {
      expect((error as Failure).lines.join('\n')).not.toMatch(/canary/i);
    }
  });
});

const at = (wire: Wire) => ({ env: { WARDER_URL: wire.url, WARDER_TOKEN: 'wdr_op_test' } });

describe('an access file', () => {
  const access = (secret_from: unknown) =>
    readAccess({ connections: [{ name: 'stripe', provider: 'api-key', secret_from }] }, 'access.yaml', {});

  test('takes the same line, or a mapping', () => {
    const reference = { connection: 'v', path: 'secret/data/stripe', fields: { value: 'k' } };
    expect(access('vault:v/secret/data/stripe#k').connections[0]?.['secret_from']).toEqual(reference);
    expect(access(reference).connections[0]?.['secret_from']).toEqual(reference);
  });

  test('says where a line is wrong, and does not repeat it', () => {
    expect(() => access('canary')).toThrow(/connections\[0\]\.secret_from/);
    expect(() => access('canary')).not.toThrow(/canary/);
  });
});

describe('commands', () => {
  const connection = {
    id: 'con_x',
    name: 'stripe',
    provider: 'api-key',
    owner: null,
    settings: {},
    scopes: ['all'],
    enforcement: 'gateway',
    status: 'active',
    secret: {
      from: {
        connection: 'corp-vault',
        path: 'secret/data/stripe',
        fields: { value: 'api_key' },
        version: null,
        max_age_seconds: 60,
      },
    },
  };
  const secret_from = { connection: 'corp-vault', path: 'secret/data/stripe', fields: { value: 'api_key' } };
  const given = ['--secret-from', 'vault:corp-vault/secret/data/stripe#api_key'];

  test('add and set-secret send the reference, and show where the secret is', async () => {
    const wire = await startWire({
      'POST connections': { status: 201, body: connection },
      'PATCH connections/stripe': { body: connection },
      'GET connections/stripe': { body: connection },
    });
    const cli = (...args: string[]) => run(['connection', ...args], at(wire));
    try {
      expect((await cli('add', 'stripe', '--base-url', 'https://api.stripe.com', ...given)).code).toBe(0);
      expect(wire.sent.at(-1)?.body).toMatchObject({ name: 'stripe', secret_from });
      expect(wire.sent.at(-1)?.body).not.toHaveProperty('secret');
      const set = await cli('set-secret', 'stripe', ...given);
      expect([set.code, set.out]).toEqual([0, expect.stringContaining('in corp-vault: secret/data/stripe')]);
      expect(wire.sent.at(-1)).toMatchObject({ method: 'PATCH', body: { secret_from } });
      expect((await cli('show', 'stripe')).out).toContain('in corp-vault: secret/data/stripe');
    } finally {
      await wire.close();
    }
  });

  test('both kinds of secret at once, or none, are wrong usage', async () => {
    const wire = await startWire({});
    try {
      const both = ['--secret', 'env:HOME', ...given];
      for (const args of [
        ['set-secret', 'stripe'],
        ['set-secret', 'stripe', ...both],
        ['add', 's', '--provider', 'x', ...both],
      ]) {
        expect((await run(['connection', ...args], at(wire))).code).toBe(2);
      }
      expect(wire.sent).toEqual([]);
    } finally {
      await wire.close();
    }
  });
});
