import { describe, expect, test } from '@jest/globals';
import { brokenRule, claimAt, faultsOfRules } from '../../src/domain/claim-rules.ts';

const kubernetes = {
  iss: 'https://kubernetes.default.svc',
  sub: 'system:serviceaccount:agents:deployer',
  'kubernetes.io': { namespace: 'agents', serviceaccount: { name: 'deployer' } },
  'https://example.com/team': 'platform',
  'a/b': { 'c~d': 'deep' },
  groups: ['dev', 'ops'],
  email_verified: true,
  level: 3,
  nothing: null,
};

describe('a rule over claims', () => {
  test.each([
    [{ sub: 'system:serviceaccount:agents:deployer' }],
    [{ sub: ['other', 'system:serviceaccount:*:deployer'] }],
    [{ '/kubernetes.io/namespace': 'agents', '/kubernetes.io/serviceaccount/name': 'dep*' }],
    [{ 'https://example.com/team': 'platform' }],
    [{ '/a~1b/c~0d': 'deep' }],
    [{ groups: 'ops' }],
    [{ email_verified: 'true' }],
    [{}],
  ])('is kept: %j', (rules) => {
    expect(brokenRule(rules, kubernetes)).toBeUndefined();
  });

  test.each([
    [{ sub: 'system:serviceaccount:agents:deployer2' }, 'sub'],
    [{ sub: [] }, 'sub'],
    [{ iss: '*' }, 'iss'],
    [{ missing: 'x' }, 'missing'],
    [{ sub: 'system:*:*:*', '/kubernetes.io/namespace': 'other' }, '/kubernetes.io/namespace'],
    [{ 'kubernetes.io/namespace': 'agents' }, 'kubernetes.io/namespace'],
    [{ '/kubernetes.io': 'agents' }, '/kubernetes.io'],
    [{ '/groups/0': 'dev' }, '/groups/0'],
    [{ level: '3' }, 'level'],
    [{ nothing: 'null' }, 'nothing'],
    [{ '/constructor/name': 'Object' }, '/constructor/name'],
    [{ '/__proto__': 'x' }, '/__proto__'],
    [{ email_verified: 'false' }, 'email_verified'],
  ])('is broken: %j', (rules, name) => {
    expect(brokenRule(rules, kubernetes)).toBe(name);
  });

  test('finds own members only, and the whole document under no name', () => {
    expect(claimAt(kubernetes, 'toString')).toBeUndefined();
    expect(claimAt(kubernetes, '/toString')).toBeUndefined();
    expect(claimAt(kubernetes, '/')).toBeUndefined();
    expect(claimAt(kubernetes, '/groups')).toEqual(['dev', 'ops']);
  });

  test.each([
    [{ sub: '*' }],
    [{ sub: '**' }],
    [{ sub: '' }],
    [{ sub: [] }],
    [{ sub: ['a', '*'] }],
    [{ sub: Array.from({ length: 51 }, (_, i) => `v${i}`) }],
    [{ sub: Array.from({ length: 20 }, (_, i) => `${i}${'v'.repeat(300)}`) }],
    [{ '': 'x' }],
    [{ '/a~2b': 'x' }],
    [{ '/a~': 'x' }],
    [{ ['n'.repeat(201)]: 'x' }],
    [Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`c${i}`, 'x']))],
  ])('that would let everybody through or cannot be read is not taken: %j', (rules) => {
    expect(faultsOfRules(rules).length).toBe(1);
  });

  test('that says something is taken', () => {
    expect(faultsOfRules({ sub: ['repo:acme/*:ref:**', 'x'], '/kubernetes.io/namespace': 'agents' })).toEqual([]);
  });
});
