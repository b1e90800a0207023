import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { listedGrant, logKey, madeReceipt, makeReceiptKey } from '../support/made-receipt.ts';
import { type Options, problem, type Routes, run, runOn } from './harness.ts';

const key = makeReceiptKey();
const grants = [
  listedGrant(1, { state: 'revoked', at: '2026-11-22T10:00:01.000Z' }),
  listedGrant(2, { state: 'ends_by_itself', until: '2026-11-22T10:30:00.000Z' }),
  listedGrant(3, { state: 'pending' }, { fenced_at: null, ended_before: 'returned' }),
];
const receipt = madeReceipt(grants, { key });
const folder = (): string => mkdtempSync(join(tmpdir(), 'warder-cli-'));
const put = (text: string, name = 'receipt.json'): string => {
  const path = join(folder(), name);
  writeFileSync(path, text);
  return path;
};
const jwks = (): string => put(JSON.stringify({ keys: [{ kty: 'EC', kid: 'x' }, key.jwk] }), 'jwks.json');
const verify = (args: string[], options: Options = {}) => run(['revocation', 'verify', ...args], options);

describe('revocation verify', () => {
  test('says offline what is proven, and what is not', async () => {
    const { code, out } = await verify([put(receipt), '--jwks', jwks()]);
    expect(code).toBe(0);
    expect(out).toMatch(/^Verified\./);
    expect(out).toMatch(/killed +2 grants: 1 revoked upstream, 1 LIVE ON upstream until they end$/m);
    expect(out).toMatch(/left over +1 that had ended before: 1 PENDING$/m);
    expect(out).toMatch(/suspended +reporter$/m);
    expect(out).toMatch(/rotations +billing-db done$/m);
    expect(out).toMatch(/by hand +stripe: it has no method$/m);
    expect(out).toContain('that the audit log is the one you know');
    const known = await verify([put(receipt), '--key', key.jwk.kid, '--log-key', logKey.text]);
    expect([known.code, known.out.includes('the one you know')]).toEqual([0, false]);
  });

  test('fails on a changed byte, with one document on request', async () => {
    const forged = put(receipt.replace('"grt_1"', '"grt_9"'));
    const { code, err } = await verify([forged, '--jwks', jwks()]);
    expect([code, err]).toEqual([1, expect.stringContaining('a line was changed, added or removed')]);
    const json = await verify([forged, '--jwks', jwks(), '--json']);
    expect([json.code, JSON.parse(json.out)]).toMatchObject([1, { ok: false, fault: 'wrong_list' }]);
    const again = put(JSON.stringify(JSON.parse(receipt)));
    expect((await verify([again, '--jwks', jwks()])).err).toContain('or some tool wrote it anew');
  });

  test('does not believe the key that a receipt brings', async () => {
    const forged = put(madeReceipt(grants));
    expect((await verify([forged, '--jwks', jwks()])).err).toContain('signed with another key');
    expect((await verify([forged, '--key', key.jwk.kid])).code).toBe(1);
    const none = await verify([forged]);
    expect([none.code, none.err]).toEqual([2, expect.stringContaining('whose signature counts?')]);
  });

  test.each([
    ['a key that is none', ['--key', 'abc']],
    ['two keys', ['--key', key.jwk.kid, '--jwks', jwks()]],
    ['a log key that is none', ['--key', key.jwk.kid, '--log-key', 'x']],
    ['a JWKS that is none', ['--jwks', put('{}', 'x.json')]],
  ])('is wrong usage with %s', async (_what, args) => {
    expect((await verify([put(receipt), ...args])).code).toBe(2);
  });

  test('is wrong usage without a file that can be read', async () => {
    expect((await verify([join(folder(), 'none'), '--jwks', jwks()])).code).toBe(2);
    expect((await verify([folder(), '--jwks', jwks()])).code).toBe(2);
  });

  test('shows nothing a terminal might obey', async () => {
    const hostile = madeReceipt(grants, {
      key,
      payload: (payload) => ({ ...payload, suspended: [{ id: 'x', name: '\u001b[2Jevil' }] }),
    });
    const { code, out } = await verify([put(hostile), '--jwks', jwks()], { terminal: true });
    expect([code, out.includes('\u001b[2J')]).toEqual([0, false]);
  });
});

describe('revocation receipt', () => {
  const routes = (completedAt: string | null): Routes => ({
    'GET revocations/rev_1/receipt': { body: receipt },
    'GET revocations/rev_1': { body: { id: 'rev_1', completed_at: completedAt } },
  });

  test('writes the bytes to a file, and says whether it is the final one', async () => {
    const path = join(folder(), 'r.json');
    const { code, out } = await runOn(routes(null), ['revocation', 'receipt', 'rev_1', '-o', path]);
    expect([code, readFileSync(path, 'utf8')]).toEqual([0, receipt]);
    expect(out).toContain('this receipt is not the final one');
    const final = await runOn(routes('2026-11-22T10:00:00.000Z'), ['revocation', 'receipt', 'rev_1', '-o', path]);
    expect(final.out).not.toContain('not the final one');
  });

  test('goes to standard output, but not to a terminal', async () => {
    expect((await runOn(routes(null), ['revocation', 'receipt', 'rev_1'])).out).toBe(receipt);
    expect((await runOn(routes(null), ['revocation', 'receipt', 'rev_1'], { terminal: true })).code).toBe(2);
  });

  test('leaves no file behind when it breaks off or is refused', async () => {
    const dir = folder();
    const args = ['revocation', 'receipt', 'rev_1', '-o', join(dir, 'r.json')];
    const broken = { 'GET revocations/rev_1/receipt': { body: receipt.slice(0, 100), breakOff: true } };
    expect((await runOn(broken, args)).code).toBe(3);
    expect((await runOn({ 'GET revocations/rev_1/receipt': problem(503, 'sealed', 'sealed') }, args)).code).toBe(1);
    expect(readdirSync(dir)).toEqual([]);
  });
});

describe('following and trying again', () => {
  const shown = (more: object) => ({
    id: 'rev_1',
    selector: { everything: true },
    grants: 10,
    upstream: { pending: 0, revoked: 10, unrevocable: 0 },
    completed_at: '2026-11-22T10:00:00.000Z',
    ...more,
  });

  test('watch follows to the end, with a bar on a terminal', async () => {
    let asked = 0;
    const routes: Routes = {
      'GET revocations/rev_1': () => {
        asked += 1;
        const done = Math.min(10, asked * 3);
        const upstream = { pending: 10 - done, revoked: done, unrevocable: 0 };
        return { body: shown({ upstream, completed_at: done === 10 ? '2026-11-22T10:00:00.000Z' : null }) };
      },
    };
    const { code, out, err } = await runOn(routes, ['revocation', 'watch', 'rev_1'], { terminal: true });
    expect(code).toBe(0);
    expect(err).toContain('[##############----------] 6 of 10');
    expect(out).toContain('0 pending, 10 revoked, 0 unrevocable');
  });

  test('watch fails when something could not be revoked', async () => {
    const body = shown({ upstream: { pending: 0, revoked: 9, unrevocable: 1 } });
    const { code, out, err } = await runOn({ 'GET revocations/rev_1': { body } }, ['revocation', 'watch', 'rev_1']);
    expect([code, err]).toEqual([1, expect.stringContaining('1 credentials could not be revoked upstream')]);
    expect(out).toContain('warder revocation retry rev_1');
  });

  test('retry asks for one grant, or for all of a revocation', async () => {
    const routes: Routes = {
      'POST revocations/rev_1/retry': { body: shown({ retried: 3 }) },
      'POST grants/grt_1/retry': { body: { id: 'grt_1' } },
    };
    expect((await runOn(routes, ['revocation', 'retry', 'rev_1'])).out).toContain('Trying again: 3 credentials.');
    expect((await runOn(routes, ['grant', 'retry', 'grt_1'])).out).toContain('Trying again: grt_1.');
  });
});
