import { describe, expect, test } from '@jest/globals';
import { incidentStatuses, statusAfter } from '../../../src/domain/incident.ts';
import { pathPattern, pathPrefix, Tally } from '../../../src/domain/incident-tally.ts';

describe('a path', () => {
  test.each([
    ['/v1/charges', '/v1/charges'],
    ['/v1/charges/ch_3Nx81Ky2', '/v1/charges/*'],
    ['/v2/users/12345/orders/77', '/v2/users/*/orders/*'],
    ['/x/5f2c9a1e-1111-4222-8333-444455556666', '/x/*'],
    ['/repos/acme/warder/issues', '/repos/acme/warder/issues'],
    ['/', '/'],
    ['/a/b/c/d/e/f/g/h/i/j', '/a/b/c/d/e/f/g/h/**'],
    [`/${'a'.repeat(50)}`, '/*'],
  ])('%s is counted as %s', (path, pattern) => {
    expect(pathPattern(path)).toBe(pattern);
  });

  test('has a prefix of whole segments', () => {
    expect(pathPrefix('/v1/charges/*', 2)).toBe('/v1/charges/**');
    expect(pathPrefix('/v1/charges', 2)).toBe('/v1/charges');
  });
});

describe('a tally', () => {
  test('holds so many kinds, counts the rest as more, and shows the most frequent first', () => {
    const tally = new Tally<{ name: string }>(2);
    for (const [i, name] of ['a', 'b', 'b', 'c', 'a', 'b', 'c'].entries()) {
      if (!tally.add(name, i * 1000, () => ({ name }))) tally.missed();
    }
    expect(tally.short()).toEqual({
      items: [
        { name: 'b', count: 3, first: '1970-01-01T00:00:01.000Z', last: '1970-01-01T00:00:05.000Z' },
        { name: 'a', count: 2, first: '1970-01-01T00:00:00.000Z', last: '1970-01-01T00:00:04.000Z' },
      ],
      more: 2,
    });
  });
});

describe('the steps of an incident', () => {
  const thenOf = (step: Parameters<typeof statusAfter>[0]) =>
    incidentStatuses.map((status) => {
      const next = statusAfter(step, status);
      return next.ok ? next.status : 'refused';
    });

  test('lead from open by contained, remediating and recovered to closed, and may be repeated until then', () => {
    expect({
      contain: thenOf('contain'),
      remediate: thenOf('remediate'),
      recover: thenOf('recover'),
      close: thenOf('close'),
    }).toEqual({
      contain: ['contained', 'contained', 'remediating', 'contained', 'refused'],
      remediate: ['remediating', 'remediating', 'remediating', 'recovered', 'refused'],
      recover: ['refused', 'recovered', 'recovered', 'recovered', 'refused'],
      close: ['closed', 'closed', 'closed', 'closed', 'refused'],
    });
  });
});
