import { describe, expect, test } from '@jest/globals';
import {
  collectNames,
  collectScopeRule,
  parseBudget,
  parseCount,
  parseDuration,
  parseHours,
  parseMoment,
} from '../../src/cli/values.ts';

const now = Date.parse('2026-11-22T12:00:00.000Z');
const moment = (text: string, more: Partial<Parameters<typeof parseMoment>[1]> = {}): string =>
  parseMoment(text, { now, zone: 'utc', day: 'start', duration: 'ago', ...more });

describe('durations', () => {
  test.each([
    ['900', 900],
    ['900s', 900],
    ['15m', 900],
    ['1h30m', 5400],
    ['1d', 86_400],
    ['1d2h3m4s', 93_784],
  ])('%s is %i seconds', (text, seconds) => {
    expect(parseDuration(text)).toBe(seconds);
  });

  test.each(['', '-1', '1.5h', '15 m', '1w', 'm', '30m1h', '1e3', '0x10', '99999999999'])('%j is none', (text) => {
    expect(() => parseDuration(text)).toThrow('Expected a duration');
  });
});

describe('moments', () => {
  test('a day is its beginning, or where the next one begins', () => {
    expect(moment('2026-11-21')).toBe('2026-11-21T00:00:00.000Z');
    expect(moment('2026-11-21', { day: 'end' })).toBe('2026-11-22T00:00:00.000Z');
    expect(moment('2026-12-31', { day: 'end' })).toBe('2027-01-01T00:00:00.000Z');
  });

  test('a local day has the offset of that day', () => {
    const [start, end] = [moment('2026-11-21', { zone: 'local' }), moment('2026-11-21', { zone: 'local', day: 'end' })];
    expect(start).toBe(new Date(2026, 10, 21).toISOString());
    expect(end).toBe(new Date(2026, 10, 22).toISOString());
  });

  test('a time with a zone is that moment, one without is in UTC', () => {
    expect(moment('2026-11-21T10:00:00+01:00')).toBe('2026-11-21T09:00:00.000Z');
    expect(moment('2026-11-21T10:00Z')).toBe('2026-11-21T10:00:00.000Z');
    expect(moment('2026-11-21T10:00')).toBe('2026-11-21T10:00:00.000Z');
    expect(moment('2026-11-21T10:00', { zone: 'local' })).toBe(new Date(2026, 10, 21, 10).toISOString());
  });

  test('a duration is so long ago, or ahead', () => {
    expect(moment('2h')).toBe('2026-11-22T10:00:00.000Z');
    expect(moment('30d', { duration: 'ahead' })).toBe('2026-12-22T12:00:00.000Z');
  });

  test.each([
    '',
    'yesterday',
    '2026-02-30',
    '2026-13-01',
    '2026-02-30T10:00Z',
    '2026-11-21T25:00',
    '21.11.2026',
    '1764000000',
  ])('%j is none', (text) => {
    expect(() => moment(text)).toThrow('Expected a day');
  });
});

describe('hours, budgets, counts, names', () => {
  test('hours are two times of day', () => {
    expect(parseHours('08:00-18:00')).toEqual({ from: '08:00', to: '18:00' });
    expect(parseHours('22:00-06:00')).toEqual({ from: '22:00', to: '06:00' });
    expect(parseHours('00:00-24:00')).toEqual({ from: '00:00', to: '24:00' });
    for (const text of ['8-18', '08:00', '08:00-25:00', '24:00-08:00', '08:00-08:00', '08:60-09:00']) {
      expect(() => parseHours(text)).toThrow('Expected two times');
    }
  });

  test('a budget is a number and a while', () => {
    expect(parseBudget('100/1h')).toEqual({ grants: 100, per_seconds: 3600 });
    expect(parseBudget('5/d')).toEqual({ grants: 5, per_seconds: 86_400 });
    for (const text of ['100', '0/1h', '-1/1h', '100/', '1/2/3']) expect(() => parseBudget(text)).toThrow('Expected');
  });

  test('a count is a whole number from 1', () => {
    expect(parseCount('25')).toBe(25);
    for (const text of ['0', '-1', '1.5', 'x', '']) expect(() => parseCount(text)).toThrow('Expected a whole number');
  });

  test('names are collected, with commas or without', () => {
    expect(collectNames('b,c', collectNames('a'))).toEqual(['a', 'b', 'c']);
    expect(collectNames('read write')).toEqual(['read', 'write']);
  });
});

describe('gateway scopes', () => {
  test('a rule has methods and a path; the same name again adds one', () => {
    const first = collectScopeRule('charges:read=GET,head /v1/charges/**');
    expect(collectScopeRule('charges:read=* /v1/x', first)).toEqual({
      'charges:read': [
        { methods: ['GET', 'HEAD'], path: '/v1/charges/**' },
        { methods: ['*'], path: '/v1/x' },
      ],
    });
  });

  test('a name JavaScript treats specially is passed on like any other', () => {
    expect(JSON.stringify(collectScopeRule('__proto__=GET /x'))).toBe(
      '{"__proto__":[{"methods":["GET"],"path":"/x"}]}',
    );
  });

  test.each(['read', 'read=GET', 'read=/v1', '=GET /v1', 'read=GET v1', 'read=GET /v1 /v2', 'read=GET|POST /v1'])(
    '%j is none',
    (text) => {
      expect(() => collectScopeRule(text)).toThrow('Expected');
    },
  );
});
