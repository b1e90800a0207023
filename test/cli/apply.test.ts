import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { type Options, problem, type Routes, runOn, type Sent } from './harness.ts';

const path = join(mkdtempSync(join(tmpdir(), 'warder-cli-')), 'access.yaml');
const access = `
agents:
  - { name: reporter, owner: fin@example.com }
connections:
  - name: stripe
    provider: api-key
    settings: { base_url: "https://api.stripe.com" }
    secret: { value: "env:STRIPE_KEY" }
entitlements:
  - { agent: reporter, connection: stripe, scopes: [read], max_ttl_seconds: 900 }
`;
const env = { STRIPE_KEY: 'sk_live_1' };

const changes = [
  { action: 'create', kind: 'agent', name: 'reporter', fields: [] },
  { action: 'update', kind: 'connection', name: 'stripe', fields: ['settings'] },
];
const deletion = { action: 'delete', kind: 'agent', name: 'old', fields: [] };

/** A broker whose difference is these changes. */
const differing = (found: object[]): Routes => ({
  'POST apply': ({ body }: Sent) => {
    const plan = typeof body === 'object' && body !== null && 'plan' in body && body.plan === true;
    const secret = { agent: 'reporter', client_id: 'reporter', client_secret: 'wdr_cs_x' };
    return { body: { applied: !plan, changes: found, client_secrets: plan ? [] : [secret] } };
  },
});
const apply = (routes: Routes, args: string[] = [], options: Options = {}, text = access) => {
  writeFileSync(path, text);
  return runOn(routes, ['apply', '-f', path, ...args], { ...options, env: { ...env, ...options.env } });
};
const plans = (sent: readonly Sent[]): unknown[] =>
  sent.map(({ body }) => (typeof body === 'object' && body !== null && 'plan' in body ? body.plan : undefined));

describe('apply', () => {
  test('shows the difference first, then applies it, and shows new client secrets', async () => {
    const { code, out, sent } = await apply(differing(changes));
    expect(code).toBe(0);
    expect(plans(sent)).toEqual([true, false]);
    expect(out).toContain('+ agent reporter\n~ connection stripe (settings)\n');
    expect(out).toContain('1 to create, 1 to change, 0 to delete.');
    expect(out).toContain('WARDER_CLIENT_SECRET=wdr_cs_x');
  });

  test('sends the file with its secrets resolved', async () => {
    const { sent } = await apply(differing(changes), ['--plan', '--prune']);
    expect(sent[0]?.body).toEqual({
      agents: [{ name: 'reporter', owner: 'fin@example.com' }],
      connections: [
        {
          name: 'stripe',
          provider: 'api-key',
          settings: { base_url: 'https://api.stripe.com' },
          secret: { value: 'sk_live_1' },
        },
      ],
      entitlements: [{ agent: 'reporter', connection: 'stripe', scopes: ['read'], max_ttl_seconds: 900 }],
      plan: true,
      prune: true,
    });
  });

  test('only looks with --plan', async () => {
    const { out, sent } = await apply(differing(changes), ['--plan']);
    expect(plans(sent)).toEqual([true]);
    expect(out).not.toContain('Applied');
  });

  test('does nothing where nothing differs', async () => {
    const { code, out, sent } = await apply(differing([]));
    expect(code).toBe(0);
    expect(plans(sent)).toEqual([true]);
    expect(out).toContain('Nothing to do');
  });

  test('reads standard input', async () => {
    const options = { stdin: access, env };
    const { code, sent } = await runOn(differing(changes), ['apply', '-f', '-', '--plan'], options);
    expect(code).toBe(0);
    expect(sent[0]?.body).toMatchObject({ agents: [{ name: 'reporter' }] });
  });

  test('prints one document with --json', async () => {
    const { out, sent } = await apply(differing(changes), ['--json']);
    expect(JSON.parse(out)).toMatchObject({ applied: true, changes });
    expect(plans(sent)).toEqual([false]);
    expect(JSON.parse((await apply(differing(changes), ['--json', '--plan'])).out)).toMatchObject({ applied: false });
  });

  test('fails as the broker does', async () => {
    const { code, err } = await apply({ 'POST apply': problem(400, 'invalid_request', 'agents.0.name: no') });
    expect(code).toBe(1);
    expect(err).toContain('agents.0.name: no');
  });
});

describe('deleting with apply', () => {
  const deleting = differing([...changes, deletion]);

  test.each([[[]], [['--json']]])('at a terminal asks first, and stops at a no (%j)', async (more) => {
    const { code, sent, err } = await apply(deleting, ['--prune', ...more], { terminal: true, stdin: 'n\n' });
    expect(code).toBe(1);
    expect(plans(sent)).toEqual([true]);
    expect(err).toContain('nothing was changed');
  });

  test('goes on at a yes, with --yes, and where nobody can be asked', async () => {
    for (const [args, options] of [
      [['--prune'], { terminal: true, stdin: 'y\n' }],
      [['--prune', '--yes'], { terminal: true }],
      [['--prune'], {}],
    ] as const) {
      const { code, out } = await apply(deleting, [...args], { ...options, env: { NO_COLOR: '1' } });
      expect(code).toBe(0);
      expect(out).toContain('- agent old');
    }
  });

  test('does not ask where nothing is deleted', async () => {
    expect((await apply(differing(changes), [], { terminal: true })).code).toBe(0);
  });
});

describe('an access file', () => {
  test.each([
    ['a secret itself', access.replace('env:STRIPE_KEY', 'sk_live_2'), 'connections[0].secret.value: must be env:NAME'],
    [
      'a secret as a plain text',
      access.replace('{ value: "env:STRIPE_KEY" }', 'sk_live_2'),
      'connections[0].secret: must be',
    ],
    ['a secret as a number', access.replace('"env:STRIPE_KEY"', '12345678'), 'connections[0].secret.value: must be'],
    ['a secret that is not set', access.replace('STRIPE_KEY', 'NOT_SET'), 'NOT_SET is not set'],
    ['an unknown section', `${access}\nsecrets: sk_live_2\n`, 'unknown section'],
    ['a section that is no list', 'agents: { name: sk_live_2 }', 'agents: must be a list'],
    ['an item that is no mapping', 'agents: [sk_live_2]', 'agents[0]: must be a mapping'],
    ['a document that is no mapping', 'sk_live_2', 'must be a mapping'],
    ['a key twice', 'agents: []\nagents: [sk_live_2]', 'DUPLICATE_KEY'],
    ['no YAML', 'agents: [sk_live_2', 'not valid YAML'],
    [
      'too many aliases',
      `a: &a [${'x,'.repeat(99)}]\nb: &b [${'*a,'.repeat(99)}]\nagents: [${'*b,'.repeat(99)}]`,
      'aliases',
    ],
  ])('with %s is refused here, and not repeated', async (_what, text, message) => {
    const { code, sent, err } = await apply({}, [], {}, text);
    expect({ code, sent }).toEqual({ code: 2, sent: [] });
    expect(err).toContain(message);
    expect(err).not.toMatch(/sk_live_2|12345678/);
  });

  test('with several faults has them all named', async () => {
    const { err } = await apply({}, [], {}, 'agents: 1\nconnections: 2\nentitlements: [3]');
    expect(err.trim().split('\n')).toHaveLength(3);
  });

  test('that is empty means: nothing', async () => {
    const { sent } = await apply(differing([]), [], {}, '');
    expect(sent[0]?.body).toMatchObject({ agents: [], connections: [], entitlements: [] });
  });
});
