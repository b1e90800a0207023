import { describe, expect, test } from '@jest/globals';
import { readDetails } from '../../src/domain/authorization-details.ts';

const good = { type: 'warder_connection', connection: 'stripe', scopes: ['charges:read'] };

describe('authorization_details', () => {
  test.each([[good], [{ ...good, ttl_seconds: 60, reason: 'monthly report' }]])('is read: %j', (one) => {
    expect(readDetails([one])).toEqual({ ok: true, details: one });
  });

  test.each([
    [good],
    ['x'],
    [null],
    [[]],
    [[good, good]],
    [[[good]]],
    [[null]],
    [['warder_connection']],
    [[{}]],
    [[{ ...good, type: 'openid_credential' }]],
    [[{ ...good, type: 'Warder_connection' }]],
    [[{ ...good, type: undefined }]],
    [[{ ...good, actions: ['read'] }]],
    [[{ ...good, locations: ['https://a.example'] }]],
    [[{ ...good, Scopes: [] }]],
    [[{ ...good, toString: 'x' }]],
    [[{ ...good, connection: '' }]],
    [[{ ...good, connection: 'Stripe' }]],
    [[{ ...good, connection: 'con_01kap2v3w4x5y6z7a8b9cadbec' }]],
    [[{ ...good, connection: ['stripe'] }]],
    [[{ ...good, scopes: [] }]],
    [[{ ...good, scopes: 'charges:read' }]],
    [[{ ...good, scopes: ['charges:read', 'charges:read'] }]],
    [[{ ...good, scopes: ['charges:read', ''] }]],
    [[{ ...good, scopes: ['a b'] }]],
    [[{ ...good, scopes: [1] }]],
    [[{ ...good, scopes: Array.from({ length: 51 }, (_, i) => `s${i}`) }]],
    [[{ ...good, ttl_seconds: 0 }]],
    [[{ ...good, ttl_seconds: -1 }]],
    [[{ ...good, ttl_seconds: 1.5 }]],
    [[{ ...good, ttl_seconds: '60' }]],
    [[{ ...good, ttl_seconds: null }]],
    [[{ ...good, ttl_seconds: 31_536_001 }]],
    [[{ ...good, reason: '' }]],
    [[{ ...good, reason: 'two\nlines' }]],
    [[{ ...good, reason: null }]],
    [[{ ...good, reason: 'x'.repeat(501) }]],
  ])('is refused, and nothing of it repeated: %j', (value) => {
    const read = readDetails(value);
    expect(read.ok).toBe(false);
    expect(read.ok ? '' : read.why).not.toMatch(/stripe|charges|two/i);
  });
});
