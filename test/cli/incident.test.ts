/** `warder incident` and `warder freeze` against a real broker. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { type Ended, run, runOn } from './harness.ts';

let broker: Broker;
beforeAll(async () => {
  broker = await startBroker();
  await broker.agent('reporter', 'finance@example.com');
  await broker.admin('POST', '/connections', {
    name: 'orders',
    provider: 'internal-jwt',
    settings: { audience: 'https://orders.example', scopes: ['read', 'write'] },
  });
});
afterAll(async () => {
  await broker.close();
  removeTemporaryDirs();
});

const as = (token: string, ...args: string[]): Promise<Ended> =>
  run(args, { env: { WARDER_URL: broker.url, WARDER_TOKEN: token } });
const warder = (...args: string[]): Promise<Ended> => as(broker.adminToken, ...args);
const done = async (...args: string[]): Promise<string> => {
  const ended = await warder(...args);
  if (ended.code !== 0) throw new Error(`${args.join(' ')}: ${ended.code} ${ended.err}`);
  return ended.out;
};
const idIn = (text: string, prefix: string): string => new RegExp(`${prefix}_[0-9a-z]{26}`).exec(text)?.[0] ?? '';
const names = async (what: string): Promise<string[]> =>
  ((await broker.admin('GET', `/${what}?limit=500`)).body['items'] as { name: string }[]).map(({ name }) => name);

describe('warder incident drill', () => {
  test('passes, tells each step with its time, and leaves nothing behind but a closed incident', async () => {
    const lines = (await done('incident', 'drill')).trimEnd().split('\n');
    expect(lines.slice(0, -1).every((line) => /^ok {6}\S.+ \d+ ms {2}\S/.test(line))).toBe(true);
    expect(lines).toHaveLength(13);
    expect(lines.at(-1)).toMatch(/^The drill passed in \d+ ms\.$/);
    expect(lines.find((line) => line.includes('try every door'))).toContain('10 doors are shut');
    expect([...(await names('agents')), ...(await names('connections'))]).toEqual(['reporter', 'orders']);
    const opened = await broker.admin('GET', '/audit?type=incident.opened&limit=1');
    expect(opened.body).toMatchObject({ items: [{ data: { drill: true, severity: 'low' } }] });
    expect((await broker.admin('GET', '/freezes?standing=true')).body['items']).toEqual([]);
  });

  test('keeps what it made if told to, and prints what it did as data', async () => {
    const told = JSON.parse(await done('incident', 'drill', '--keep', '--json'));
    expect(told).toMatchObject({ ok: true, incident: expect.stringMatching(/^inc_/) });
    expect(told.steps).toHaveLength(12);
    const kept = (await names('agents')).filter((name) => name.startsWith('drill-'));
    expect(kept).toHaveLength(1);
    for (const name of kept) {
      await broker.admin('DELETE', `/agents/${name}`);
      await broker.admin('DELETE', `/connections/${name}`);
    }
  });

  test('fails at the step that does not do what it should, ends 1, and takes away what it made until then', async () => {
    const made = await broker.admin('POST', '/operators', { name: 'only-operator', roles: ['auditor'] });
    const ended = await as(String(made.body['token']), 'incident', 'drill');
    expect(ended.code).toBe(1);
    expect(ended.out).toMatch(/^FAILED {2}make a scratch agent .*one of the roles admin, operator/);
    expect(ended.err).toContain('the drill failed at: make a scratch agent');
    expect(await names('agents')).toEqual(['reporter']);
  });

  test('broken off leaves nothing that stands; what one left that was killed is told of, and removed by --clean', async () => {
    let interrupt = (): void => undefined;
    const onSignal = (listener: () => void) => {
      interrupt = listener;
      return () => undefined;
    };
    const states = async () =>
      ((await broker.admin('GET', '/incidents?limit=500')).body['items'] as { status: string }[]).map(
        (one) => one.status,
      );
    let looked = 0;
    const now = () => {
      looked += 1;
      // One look for the name and two for each step: in the fourth, which contains.
      if (looked === 8) interrupt();
      return Date.now();
    };
    const env = { WARDER_URL: broker.url, WARDER_TOKEN: broker.adminToken };
    const ended = await run(['incident', 'drill'], { env, context: { onSignal, now } });
    expect([ended.code, ended.out]).toEqual([1, expect.stringContaining('ok      contain it')]);
    expect(ended.out).not.toContain('try every door');
    expect(ended.err).toContain('the drill was broken off');
    expect([await names('agents'), await names('connections')]).toEqual([['reporter'], ['orders']]);
    expect(new Set(await states())).toEqual(new Set(['closed']));

    // As one leaves it that is killed.
    const name = 'drill-killed';
    const owner = 'drill@warder.invalid';
    await broker.admin('POST', '/agents', { name, owner });
    await broker.admin('POST', '/agents', { name: 'drill-sergeant', owner: 'finance@example.com' });
    const incident = { title: `Drill ${name}`, selector: { agent: name }, reason: 'a drill', drill: true };
    const id = String((await broker.admin('POST', '/incidents', incident)).body['id']);
    await broker.admin('POST', `/incidents/${id}/contain`, { reason: 'a drill', suspend: true });
    await broker.admin('POST', `/incidents/${id}/remediate`);
    expect((await warder('incident', 'drill')).err).toContain(`left by another drill: ${id}, agents/${name}.`);
    expect(await done('incident', 'drill', '--clean')).toContain(`${id}, agents/${name}.`);
    expect(await done('incident', 'drill', '--clean')).toBe('No drill left anything.\n');
    expect((await broker.admin('GET', '/freezes?standing=true')).body['items']).toEqual([]);
    expect(await names('agents')).toEqual(['reporter', 'drill-sergeant']);
    await broker.admin('DELETE', '/agents/drill-sergeant');
  });

  test('fails where a freeze of everything stands already: what should work again does not', async () => {
    const freeze = idIn(await done('freeze', '--everything', '--reason', 'a test'), 'frz');
    const ended = await warder('incident', 'drill');
    expect([ended.code, ended.out]).toEqual([1, expect.stringMatching(/FAILED {2}obtain credentials and use them/)]);
    expect(await names('agents')).toEqual(['reporter']);
    await done('freeze', 'lift', freeze, '--reason', 'a test');
  });
});

describe('warder freeze', () => {
  test('freezes, lists, shows and lifts', async () => {
    const out = await done('freeze', '--agent', 'reporter', '--reason', 'INC-7');
    const id = idIn(out, 'frz');
    expect(out).toContain('Frozen. Nothing new is issued for agent=reporter');
    expect(await done('freeze', 'list')).toContain(id);
    expect(await done('freeze', 'show', id)).toMatch(/reason\s+INC-7/);
    expect(await done('freeze', 'lift', id, '--reason', 'over')).toBe(`Lifted ${id}.\n`);
    expect(await done('freeze', 'list')).toBe('');
    expect(await done('freeze', 'list', '--all')).toContain(id);
    expect(JSON.parse(await done('freeze', 'list', '--json', '--all'))).toMatchObject({ next_cursor: null });
    expect((await warder('freeze', 'lift', id, '--reason', 'again')).code).toBe(1);
  });

  test.each([
    [['--reason', 'x']],
    [['--agent', 'reporter']],
    [['--everything', '--agent', 'reporter', '--reason', 'x']],
    [['--agent', '', '--reason', 'x']],
    [['lift', '--reason', 'x']],
  ])('%j is wrong usage, and nothing is frozen', async (args) => {
    expect((await warder('freeze', ...args)).code).toBe(2);
    expect(await done('freeze', 'list')).toBe('');
  });
});

describe('warder incident', () => {
  test('leads from opening to closing by commands alone', async () => {
    const entitlement = String((await broker.entitle('reporter', 'orders', ['read', 'write'])).body['id']);
    const opened = await done(
      'incident',
      'open',
      '--agent',
      'reporter',
      '--title',
      'Token in a log',
      '--reason',
      'CI log',
      '--from',
      '2h',
    );
    const id = idIn(opened, 'inc');
    expect(opened).toContain(`Contain it: warder incident contain ${id}`);
    const contained = await done('incident', 'contain', id, '--reason', 'CI log', '--suspend', '--wait');
    expect(contained).toMatch(
      /Contained\. agent=reporter\n- revoked: fence \d+ stands \(rev_\w+\)\n- frozen: .*\n- suspended: reporter\n/,
    );
    expect(await done('incident', 'remediate', id)).toMatch(/1\s+rotate\s+open[\s\S]*2\s+narrow\s+open[\s\S]*3\s+tell/);
    expect(await done('incident', 'item', id, '1', '--assign', 'ann', '--done', 'renewed it')).toMatch(/done\s+ann/);
    expect((await warder('incident', 'close', id, '--summary', 'too early')).err).toContain(
      '2 of its items are open (2, 3)',
    );
    await done('incident', 'item', id, '2', '--done', 'see recover');
    await done('incident', 'item', id, '3', '--waive', 'they called us');
    expect(await done('incident', 'item', id, '--add', 'look at the CI')).toMatch(/4\s+other\s+open/);
    await done('incident', 'item', id, '4', '--done', 'looked');
    await done('incident', 'note', id, '--text', 'the log is public');
    const recovered = await done(
      'incident',
      'recover',
      id,
      '--reason',
      'cleaned',
      '--narrow',
      `${entitlement}=read`,
      '--max-ttl',
      `${entitlement}=5m`,
    );
    expect(recovered).toMatch(/Recovered\. resumed: reporter[\s\S]*read write, 3600 s\s+read, 300 s/);
    expect(await done('incident', 'close', id, '--summary', 'a token was in a log')).toBe(`Closed ${id}.\n`);
    expect(await done('incident', 'show', id)).toMatch(/status\s+closed/);
    expect(await done('incident', 'show', id, '--timeline')).toMatch(/incident\.noted[\s\S]*the log is public/);
    expect(await done('incident', 'list', '--status', 'closed')).toContain('Token in a log');
  });

  test('contain --wait ends 1 where something upstream could not be taken back, as revoke-all does', async () => {
    const incident = { id: 'inc_1', selector: { agent: 'reporter' } };
    const upstream = { pending: 0, revoked: 1, unrevocable: 1 };
    const revocation = { id: 'rev_1', fence: 5, grants: 2, upstream, completed_at: '2026-11-22T10:00:00.000Z' };
    const ended = await runOn(
      { 'POST incidents/inc_1/contain': { body: { incident, revocation, freeze: { id: 'frz_1' }, suspended: [] } } },
      ['incident', 'contain', 'inc_1', '--reason', 'x', '--wait'],
    );
    expect(ended.out).toContain('Contained.');
    expect([ended.code, ended.err]).toEqual([
      1,
      expect.stringContaining('1 credentials could not be revoked upstream'),
    ]);
  });

  test('report prints Markdown, writes the format the file is called by, and prints what the API returned', async () => {
    const id = idIn(await done('incident', 'open', '--everything', '--title', 'All of it', '--reason', 'x'), 'inc');
    expect(await done('incident', 'report', id)).toMatch(/^# Incident: `All of it`\n/);
    expect(JSON.parse(await done('incident', 'report', id, '--json'))).toMatchObject({ incident: { id } });
    const path = join(temporaryDir(), 'report.html');
    expect((await warder('incident', 'report', id, '-o', path)).err).toBe(`Wrote ${path}.\n`);
    expect(readFileSync(path, 'utf8')).toMatch(/^<!doctype html>/);
    expect(statSync(path).mode & 0o077).toBe(0);
    expect((await warder('incident', 'report', 'inc_none')).code).toBe(1);
    expect((await warder('incident', 'report', id, '--json', '--format', 'md')).code).toBe(2);
  });

  test.each([
    [['open', '--title', 'x', '--reason', 'x']],
    [['open', '--agent', 'reporter', '--title', 'x', '--reason', 'x', '--severity', 'awful']],
    [['item', 'inc_1']],
    [['item', 'inc_1', '1']],
    [['item', 'inc_1', '1', '--done', 'x', '--waive', 'y']],
    [['item', 'inc_1', '1', '--add', 'x']],
    [['recover', 'inc_1', '--reason', 'x', '--narrow', 'read']],
    [['contain', 'inc_1']],
  ])('%j is wrong usage', async (args) => {
    expect((await warder('incident', ...args)).code).toBe(2);
  });
});
