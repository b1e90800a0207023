import { describe, expect, test } from '@jest/globals';
import { type Options, problem, type Routes, runOn } from './harness.ts';

const revocation = (more: object = {}) => ({
  id: 'rev_1',
  selector: { agent: 'reporter' },
  reason: 'leak',
  fenced_at: '2026-11-22T10:00:00.000Z',
  fence: 8123,
  grants: 1042,
  upstream: { pending: 0, revoked: 0, unrevocable: 0 },
  completed_at: '2026-11-22T10:00:00.000Z',
  ...more,
});
const answers = (body: object, status = 201): Routes => ({ 'POST revocations': { status, body } });
const revoke = (routes: Routes, args: string[], options: Options = {}) =>
  runOn(routes, ['revoke-all', '--reason', 'leak', ...args], options);

/** GET answers one body after another, the last one for ever. */
const polled = (first: object, ...later: object[]): Routes => {
  let asked = 0;
  return {
    ...answers(first),
    'GET revocations/rev_1': () => {
      const body = later[Math.min(asked, later.length - 1)];
      asked += 1;
      return { body };
    },
  };
};

describe('revoke-all', () => {
  test('says fence, count and what is left upstream', async () => {
    const { code, out, sent } = await revoke(answers(revocation()), ['--agent', 'reporter']);
    expect(code).toBe(0);
    expect(sent.map(({ body }) => body)).toEqual([
      { selector: { agent: 'reporter' }, reason: 'leak', suspend: false, rotate: false, dry_run: false },
    ]);
    expect(out).toContain('Fence 8123 stands since 2026-11-22 10:00:00Z (rev_1)');
    expect(out).toContain('Grants revoked: 1,042');
    expect(out).toContain('0 pending, 0 revoked, 0 unrevocable');
  });

  test('waits for no credential that cannot be taken back: it says until when that works', async () => {
    const endsBy = '2026-11-22T11:00:00.000Z';
    const counted = { pending: 3, revoked: 4, unrevocable: 0 };
    const routes = polled(
      revocation({ completed_at: null, upstream: { ...counted, lives_on: 0, ends_by: null } }),
      revocation({ completed_at: null, upstream: { ...counted, lives_on: 2, ends_by: endsBy } }),
      revocation({
        completed_at: null,
        upstream: { ...counted, pending: 2, revoked: 5, lives_on: 2, ends_by: endsBy },
      }),
    );
    const { code, out, err } = await revoke(routes, ['--agent', 'reporter', '--wait']);
    expect(code).toBe(1);
    expect(out).toContain('2 pending (2 live on until 2026-11-22 11:00:00Z), 5 revoked, 0 unrevocable');
    expect(out).toContain('2 cannot be taken back upstream and may work there until then.');
    expect(err).toContain('2 credentials live on upstream until they end by themselves');
  });

  test('combines selectors', async () => {
    const names = ['agent', 'connection', 'provider', 'owner', 'subject', 'entitlement'];
    const { sent } = await revoke(answers(revocation()), [
      ...names.flatMap((name) => [`--${name}`, name]),
      '--suspend',
    ]);
    expect(sent[0]?.body).toMatchObject({ selector: Object.fromEntries(names.map((n) => [n, n])), suspend: true });
  });

  test.each([
    ['without a selector', []],
    ['with everything and something', ['--everything', '--agent', 'a']],
    ['with an empty selector', ['--agent', '']],
  ])('revokes nothing %s', async (_what, args) => {
    const { code, sent, err } = await revoke(answers(revocation()), args, { env: {} });
    expect({ code, sent }).toEqual({ code: 2, sent: [] });
    expect(err).not.toBe('');
  });

  test('revokes nothing without a reason', async () => {
    const { code, sent } = await runOn(answers(revocation()), ['revoke-all', '--agent', 'a']);
    expect({ code, sent }).toEqual({ code: 2, sent: [] });
  });

  test('waits until it is known what is rotated, and names what only a person can', async () => {
    const rotations = [
      { connection: { id: 'con_1', name: 'billing-db' }, rotation: 'rot_1' },
      { connection: { id: 'con_2', name: 'stripe' }, by_hand: 'it has no method' },
    ];
    const routes = polled(revocation({ rotate: true, rotations: null }), revocation({ rotate: true, rotations }));
    const { code, out, sent } = await revoke(routes, ['--agent', 'a', '--rotate']);
    expect([code, sent[0]?.body]).toEqual([0, expect.objectContaining({ rotate: true })]);
    expect(out).toContain('Secrets being replaced: billing-db');
    expect(out).toContain('Must be rotated by hand: stripe: it has no method');
  });

  test('asks again until the grants are counted', async () => {
    const routes = polled(revocation({ grants: null }), revocation({ grants: null }), revocation({ grants: 7 }));
    const { out, sent } = await revoke(routes, ['--agent', 'a']);
    expect(sent.map(({ method }) => method)).toEqual(['POST', 'GET', 'GET']);
    expect(out).toContain('Grants revoked: 7');
  });

  test('does not wait for the clean-up unless told to', async () => {
    const open = revocation({ completed_at: null, upstream: { pending: 3, revoked: 0, unrevocable: 0 } });
    const { out, sent, code } = await revoke(answers(open), ['--agent', 'a']);
    expect(code).toBe(0);
    expect(sent).toHaveLength(1);
    expect(out).toContain('warder revocation show rev_1');
  });

  test('waits for the clean-up with --wait', async () => {
    const open = revocation({ completed_at: null, upstream: { pending: 3, revoked: 0, unrevocable: 0 } });
    const done = revocation({ upstream: { pending: 0, revoked: 3, unrevocable: 0 } });
    const { out, code } = await revoke(polled(open, open, done), ['--agent', 'a', '--wait']);
    expect(code).toBe(0);
    expect(out).toContain('0 pending, 3 revoked, 0 unrevocable');
  });

  test('fails with --wait when something cannot be revoked upstream', async () => {
    const done = revocation({ upstream: { pending: 0, revoked: 2, unrevocable: 1 } });
    const { out, code, err } = await revoke(answers(done), ['--agent', 'a', '--wait']);
    expect(code).toBe(1);
    expect(out).toContain('1 could not be revoked upstream');
    expect(err).toContain('1 credentials could not be revoked');
  });

  test('says that the fence stands when it cannot be asked about any more', async () => {
    const routes = {
      ...answers(revocation({ grants: null })),
      'GET revocations/rev_1': problem(503, 'sealed', 'sealed'),
    };
    const { out, code, err } = await revoke(routes, ['--agent', 'a']);
    expect(code).toBe(1);
    expect(out).toContain('Fence 8123 stands');
    expect(err).toContain('the revocation stands');
  });

  test('prints one document with --json: the newest answer', async () => {
    const { out } = await revoke(polled(revocation({ grants: null }), revocation({ grants: 7 })), [
      '--agent',
      'a',
      '--json',
    ]);
    expect(JSON.parse(out)).toEqual(revocation({ grants: 7 }));
  });
});

describe('a dry run', () => {
  const radius = {
    dry_run: true,
    selector: { owner: 'fin@example.com' },
    grants: 12,
    upstream: { pending: 2 },
    agents: [
      { id: 'agt_1', name: 'reporter', would_suspend: true },
      { id: 'agt_2', name: 'bot', would_suspend: false },
    ],
  };

  test('shows what would be revoked, and that nothing was', async () => {
    const { out, sent } = await revoke(answers(radius, 200), ['--owner', 'fin@example.com', '--suspend', '--dry-run']);
    expect(sent[0]?.body).toMatchObject({ dry_run: true, suspend: true });
    expect(out).toContain('nothing was changed');
    expect(out).toMatch(/live grants +12/);
    expect(out).toMatch(/suspends +reporter$/m);
  });

  test('shows by connection, provider, agent and person what it would touch, and what can be rotated', async () => {
    const whole = {
      ...radius,
      providers: [{ provider: 'postgres', grants: 12, upstream: 2 }],
      connections: [
        { name: 'billing-db', provider: 'postgres', grants: 12, upstream: 2, rotation: { possible: true } },
        {
          name: 'stripe',
          provider: 'api-key',
          grants: 0,
          upstream: 0,
          rotation: { possible: false, why: 'no method' },
        },
        { name: 'own', provider: 'internal-jwt', grants: 0, upstream: 0, rotation: null },
      ],
      agents: Array.from({ length: 25 }, (_, i) => ({ name: `bot-${i}`, grants: 1, would_suspend: false })),
      subjects: { items: [{ subject: 'corp:alice', grants: 3 }], more: false },
      accounts: [{ account: 'alice@x', subject: 'corp:alice', connection: 'mail', status: 'connected' }],
    };
    const { out } = await revoke(answers(whole, 200), ['--everything', '--rotate', '--dry-run']);
    expect(out).toMatch(/postgres +12 +2$/m);
    expect(out).toMatch(/billing-db +12 +is replaced$/m);
    expect(out).toMatch(/stripe +0 +by hand: no method$/m);
    expect(out).toMatch(/own +0 +none$/m);
    expect(out).toMatch(/bot-19 +1$/m);
    expect(out).toContain('and 5 more');
    expect(out).toMatch(/corp:alice +3$/m);
    expect(out).toMatch(/alice@x +corp:alice +mail +connected$/m);
  });

  test('never asks for confirmation', async () => {
    const { code } = await revoke(answers(radius, 200), ['--everything', '--dry-run'], { terminal: true });
    expect(code).toBe(0);
  });
});

describe('revoking everything', () => {
  const everything = answers(revocation({ selector: { everything: true } }));

  test.each(['y\n', 'yes\n', 'YES\n'])('at a terminal goes on after %j', async (stdin) => {
    const { code, err, sent } = await revoke(everything, ['--everything'], { terminal: true, stdin });
    expect(code).toBe(0);
    expect(err).toContain('every live grant of every agent');
    expect(sent[0]?.body).toMatchObject({ selector: { everything: true } });
  });

  test.each(['n\n', '\n', 'yikes\n', ''])('at a terminal stops after %j', async (stdin) => {
    const { code, err, sent } = await revoke(everything, ['--everything'], { terminal: true, stdin });
    expect({ code, sent }).toEqual({ code: 1, sent: [] });
    expect(err).toContain('nothing was revoked');
  });

  test('does not ask with --yes, nor where nobody can answer', async () => {
    expect((await revoke(everything, ['--everything', '--yes'], { terminal: true })).code).toBe(0);
    expect((await revoke(everything, ['--everything'])).code).toBe(0);
  });
});

describe('grant revoke', () => {
  test('is a revocation of one grant', async () => {
    const routes = answers(revocation({ selector: { grant: 'grt_1' }, grants: 1 }));
    const { code, sent } = await runOn(routes, ['grant', 'revoke', 'grt_1', '--reason', 'leak']);
    expect(code).toBe(0);
    expect(sent[0]?.body).toEqual({ selector: { grant: 'grt_1' }, reason: 'leak' });
  });
});
