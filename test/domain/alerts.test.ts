import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { alertEvent, alertEvents, alertTypes } from '../../src/domain/alert-events.ts';
import { messageId, pauseAfter, retryAfterMs, retrySchedule } from '../../src/domain/delivery.ts';
import { endpointOrigin, endpointUrlProblem } from '../../src/domain/endpoint-url.ts';
import { isEventPattern, wantedTypes } from '../../src/domain/webhook.ts';

describe('the catalogue of alerts', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/alerts.md'), 'utf8');

  test.each(alertTypes)('%s is in docs/alerts.md as it is here', (type) => {
    const { severity, title, means } = alertEvents[type];
    expect(page).toContain(`| \`${type}\` | ${severity} | ${title}. ${means} |`);
  });

  test('names types as entries are named, and knows no others', () => {
    for (const type of alertTypes) expect(type).toMatch(/^[a-z_]+\.[a-z_]+$/);
    for (const type of ['constructor', '__proto__', 'grant.issued', '']) expect(alertEvent(type)).toBeUndefined();
  });
});

describe('what a webhook asks for', () => {
  test('is one alert, all of a kind, or all', () => {
    expect(wantedTypes(['freeze.*', 'incident.opened'])).toEqual([
      'incident.opened',
      'freeze.created',
      'freeze.lifted',
    ]);
    expect(wantedTypes(['*', 'freeze.*'])).toEqual(alertTypes);
    for (const good of ['*', 'rotation.*', 'key.rotated']) expect(isEventPattern(good)).toBe(true);
    for (const bad of ['', '.*', '**', 'rot.*', 'freeze', 'freeze.c*', 'grant.issued', '__proto__', 'toString']) {
      expect(isEventPattern(bad)).toBe(false);
    }
  });
});

describe('a message', () => {
  test('has one name for one entry, and never one with a dot in it', () => {
    fc.assert(
      fc.property(fc.nat(), fc.string(), fc.string(), (seq, body, part) => {
        const name = messageId(seq, body, part);
        expect(name).toMatch(/^evt_\d+_[A-Za-z0-9_-]{22}$/);
        expect(messageId(seq, body, part)).toBe(name);
        expect(messageId(seq, `${body} `, part)).not.toBe(name);
        expect(messageId(seq, body, `${part}x`)).not.toBe(name);
      }),
    );
  });

  test('is tried for a little more than a day, with pauses that grow, never shorter than they are said to be', () => {
    const { retriesMs } = retrySchedule;
    const total = retriesMs.reduce((sum, ms) => sum + ms, 0);
    expect(total).toBeGreaterThan(86_400_000);
    expect(total).toBeLessThan(100_000_000);
    expect(pauseAfter(retriesMs.length + 1, retriesMs, undefined, 0)).toBeUndefined();
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: retriesMs.length }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (n, random) => {
          const pause = pauseAfter(n, retriesMs, undefined, random) ?? 0;
          const said = retriesMs[n - 1] ?? 0;
          expect(pause).toBeGreaterThanOrEqual(said);
          expect(pause).toBeLessThanOrEqual(said * 1.2);
        },
      ),
    );
  });

  test('waits as long as it is asked to, up to a day, in seconds or until a date', () => {
    const now = Date.UTC(2026, 10, 22, 12);
    expect(retryAfterMs('120', now)).toBe(120_000);
    expect(retryAfterMs(new Date(now + 5_000).toUTCString(), now)).toBe(5_000);
    expect(retryAfterMs(new Date(now - 5_000).toUTCString(), now)).toBe(0);
    for (const nonsense of [undefined, '', '-1', '1e9', 'soon', '99999999999999999999']) {
      expect(retryAfterMs(nonsense, now)).toBeUndefined();
    }
    expect(pauseAfter(1, [1], 10_000, 0)).toBe(10_000);
    expect(pauseAfter(1, [1], 10 * 86_400_000, 0)).toBe(86_400_000);
  });
});

describe('an address', () => {
  test('is public and https, or private where that is meant, and never one that hands out credentials', () => {
    const good = ['https://example.com', 'https://example.com:8443/a/b?c=d', 'https://93.184.215.14/x'];
    for (const url of good) expect(endpointUrlProblem(url, false)).toBeUndefined();
    const privateOnes = [
      'http://example.com/',
      'https://localhost/',
      'https://10.0.0.1/',
      'https://[::1]/',
      'https://a.internal/',
    ];
    for (const url of privateOnes) {
      expect(endpointUrlProblem(url, false)).toBeDefined();
      expect(endpointUrlProblem(url, true)).toBeUndefined();
    }
    const never = [
      '',
      'x',
      'ftp://example.com',
      'https://u@example.com',
      'https://example.com/#x',
      'https://example.com/#',
    ];
    for (const url of [...never, 'http://169.254.169.254/', `https://example.com/${'x'.repeat(2000)}`]) {
      expect(endpointUrlProblem(url, true)).toBeDefined();
    }
  });

  test('is recorded without what may be a secret of it', () => {
    expect(endpointOrigin('https://hooks.example.com:8443/T0/B1/secret?key=x')).toBe('https://hooks.example.com:8443');
  });
});
