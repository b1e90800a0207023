import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Refused } from '../../../src/domain/refusals.ts';
import type { Rotation } from '../../../src/domain/rotation.ts';
import { SecretText } from '../../../src/domain/secret-text.ts';
import { eventually } from '../../support/eventually.ts';
import { type Call, calls, type Fault } from './key-house.ts';
import { openRig, type Rig } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await openRig();
});
afterAll(() => rig.close());

const ended: Rotation['status'][] = ['done', 'failed', 'stuck'];

describe('a rotation', () => {
  test('goes through the four steps, and ends the secret before', async () => {
    const account = await rig.account();
    const before = await account.inForce();
    const asked = await account.ask();
    expect(await rig.reaches(asked, ...ended)).toMatchObject({ status: 'done', from_version: 1, to_version: 2 });
    expect(account.house.log.map(({ call }) => call)).toEqual(['create', 'set', 'test', 'retire']);
    expect(await account.secrets()).toEqual(['retired', 'current']);
    expect(account.house.accepts(await account.inForce())).toBe(true);
    expect(account.house.accepts(before)).toBe(false);
    expect(account.house.accepted.size).toBe(1);
  });

  test('of a password leaves nothing to retire', async () => {
    const account = await rig.account('password');
    expect(await rig.reaches(await account.ask({ graceSeconds: 3600 }), ...ended)).toMatchObject({ status: 'done' });
    expect(account.house.log.map(({ call }) => call)).toEqual(['create', 'set', 'test']);
    expect(await account.secrets()).toEqual(['retired', 'current']);
    expect(account.house.accepts(await account.inForce())).toBe(true);
  });

  test('commits each step before it takes it', async () => {
    const account = await rig.account();
    const steps: unknown[] = [];
    account.house.before = async (call) => {
      const [row] = await account.rotations();
      steps.push([call, row?.status, row?.step, await account.secrets(), row?.handle === null]);
    };
    await rig.reaches(await account.ask(), ...ended);
    expect(steps).toEqual([
      ['create', 'running', 'create', ['current'], false],
      ['set', 'running', 'set', ['current', 'pending'], false],
      ['test', 'running', 'test', ['current', 'pending'], false],
      ['retire', 'grace', 'retire', ['previous', 'current'], false],
    ]);
  });

  test('leaves the secret before to work until the grace is over', async () => {
    const account = await rig.account();
    const before = await account.inForce();
    const rotation = await rig.reaches(await account.ask({ graceSeconds: 3600 }), 'grace');
    expect(rotation.retire_at).toBe((rotation.finished_at ?? 0) + 3_600_000);
    expect([account.house.accepts(before), account.house.accepts(await account.inForce())]).toEqual([true, true]);
    expect(await account.secrets()).toEqual(['previous', 'current']);
  });

  test('that is asked for again during the grace ends the grace first, and no third secret is ever accepted', async () => {
    const account = await rig.account();
    await rig.reaches(await account.ask({ graceSeconds: 3600 }), 'grace');
    let most = 0;
    account.house.changed = () => {
      most = Math.max(most, account.house.accepted.size);
    };
    const second = await account.ask();
    await rig.reaches(second, 'done');
    expect(most).toBe(2);
    expect(await account.secrets()).toEqual(['retired', 'retired', 'current']);
    expect((await account.rotations()).map(({ status }) => status)).toEqual(['done', 'done']);
  });

  test('satisfies whoever asked before it began, with the strictest of their wishes', async () => {
    const account = await rig.account();
    await rig.stop();
    const [one, two] = [await account.ask({ graceSeconds: 3600 }), await account.ask({ fence: true })];
    await rig.restart();
    const first = await rig.reaches(one, 'done', 'grace');
    const second = await rig.reaches(two, 'done');
    expect([first.to_version, second.to_version]).toEqual([2, 2]);
    await rig.reaches(one, 'done');
    expect(account.house.log.filter(({ call }) => call === 'create')).toHaveLength(1);
    const [finished] = await rig.audit({ type: 'rotation.finished', connection_id: account.id });
    expect(finished?.data['fence']).toMatch(/^rev_/);
    expect(finished?.data['satisfies']).toEqual([two.id]);
  });

  test('that is asked for while one runs is another one', async () => {
    const account = await rig.account();
    let second: Promise<Rotation> | undefined;
    account.house.before = (call) => {
      if (call === 'set') second ??= account.ask();
    };
    await rig.reaches(await account.ask(), 'done');
    expect(await rig.reaches((await second) as Rotation, 'done')).toMatchObject({ from_version: 2, to_version: 3 });
  });

  test('fences what was issued before when it is to, in the commit that puts the new secret in force', async () => {
    const account = await rig.account();
    const before = rig.core.state.newestSeq;
    await rig.reaches(await account.ask({ fence: true }), 'done');
    const [finished] = await rig.audit({ type: 'rotation.finished', connection_id: account.id });
    const revocation = await rig.core.reader.revocation(String(finished?.data['fence']));
    expect(revocation).toMatchObject({ selector: { connection: account.id }, requested_by: 'olga' });
    expect(revocation?.seq).toBeGreaterThan(before);
  });

  test('records nothing secret', async () => {
    const account = await rig.account();
    const secrets = [(await account.inForce())['value']];
    await rig.reaches(await account.ask(), 'done');
    secrets.push((await account.inForce())['value']);
    const text = JSON.stringify([await rig.audit({ connection_id: account.id }), await account.rotations()]);
    for (const secret of secrets) expect(text).not.toContain(secret);
  });
});

describe.each(['keys', 'password'] as const)('with %s, a fault', (kind) => {
  const faults: Fault[] = ['failed', 'lost', 'refused'];
  const steps = calls.filter((call) => call !== 'undo' && (kind === 'keys' || call !== 'retire'));

  test.each(steps.flatMap((call) => faults.map((fault): [Call, Fault] => [call, fault])))(
    'at %s that %s leaves the secret in force accepted, and it alone',
    async (call, fault) => {
      const account = await rig.account(kind);
      account.house.faults.push({ call, fault });
      const rotation = await rig.reaches(await account.ask(), ...ended);
      expect(account.house.accepts(await account.inForce())).toBe(true);
      expect(account.house.accepted.size).toBe(1);
      // A password that was set and is accepted when it is tried again goes into force: the other one is refused by then.
      const works =
        (call === 'set' || call === 'test') && (fault !== 'refused' || (kind === 'password' && call === 'test'));
      const goesOn = call === 'retire' || works;
      expect(rotation.status).toBe(goesOn ? 'done' : 'failed');
      if (!goesOn) expect(rotation.failure).toMatch(/closed|lost|refuses/);
      expect(await account.secrets()).toEqual(
        goesOn ? ['retired', 'current'] : call === 'create' ? ['current'] : ['current', 'retired'],
      );
    },
  );

  test.each(steps)('at every try of %s ends with one secret that works', async (call) => {
    const account = await rig.account(kind);
    for (let times = 0; times < 3; times += 1) account.house.faults.push({ call, fault: 'lost' });
    await rig.reaches(await account.ask(), ...ended);
    await eventually(
      'one is left',
      () => account.house.accepted.size,
      (size) => size === 1,
    );
    expect(account.house.accepts(await account.inForce())).toBe(true);
  });

  test('of the new secret rolls back, and is tried again until nothing is left of it', async () => {
    const account = await rig.account(kind);
    const { value } = await account.inForce();
    account.house.isBad = (tried) => tried !== value;
    account.house.faults.push({ call: 'undo', fault: 'failed' }, { call: 'undo', fault: 'lost' });
    expect(await rig.reaches(await account.ask(), 'failed', 'done')).toMatchObject({ status: 'failed' });
    expect(account.house.accepted.size).toBe(1);
    expect(account.house.accepts(await account.inForce())).toBe(true);
  });
});

describe('an attempt that failed', () => {
  test('says why, and is followed by another one with another secret, later', async () => {
    const account = await rig.account();
    account.house.faults.push({ call: 'test', fault: 'refused' });
    const failed = await rig.reaches(await account.ask({ why: 'revocation' }), 'failed');
    expect(failed.failure).toBe('the test of the new secret: the key house refuses to test');
    const next = (await account.rotations())[1];
    expect(next).toMatchObject({
      status: 'asked',
      attempt: 2,
      cause: 'revocation',
      reason: 'a test',
      requested_by: 'olga',
    });
    const wait = (next?.not_before ?? 0) - (failed.ended_at ?? 0);
    expect([wait >= 1_800_000 - 100, wait <= 3_600_000]).toEqual([true, true]);
    const [entry] = await rig.audit({ type: 'rotation.failed', connection_id: account.id });
    expect(entry?.data).toMatchObject({ step: 'undo', failure: failed.failure, attempt: 1, next: next?.id });

    // Who asks for it now does not wait for that, and satisfies it.
    const now = await account.ask();
    await rig.reaches(now, 'done');
    expect(await rig.reaches(next as Rotation, 'done')).toMatchObject({ to_version: 3 });
    const made = account.house.log.filter(({ call }) => call === 'create').map(({ rotation }) => rotation);
    expect(new Set(made).size).toBe(2);
  });

  test('is not repeated for ever for somebody who asked', async () => {
    const account = await rig.account();
    const { askedAttempts } = await import('../../../src/services/rotation/pace.ts').then((pace) => pace.rotationPace);
    const asked = await account.ask();
    await rig.reaches(asked, 'done');
    await rig.stop();
    const last = await account.ask();
    const writes = [
      { write: 'update', table: 'rotations', id: last.id, set: { attempt: askedAttempts }, from: { version: 1 } },
    ] as const;
    await rig.core.ledger.commit({
      writes: [...writes],
      audit: [{ type: 'test', at: 0, agent_id: null, connection_id: null, grant_id: null, body: '{}' }],
    });
    account.house.faults.push({ call: 'create', fault: 'refused' });
    await rig.restart();
    await rig.reaches(last, 'failed');
    expect((await account.rotations()).filter(({ status }) => status === 'asked')).toEqual([]);
  });
});

describe('which secret works is found out by trying', () => {
  test('when the one in force died and the new one is accepted, the new one goes into force', async () => {
    const account = await rig.account();
    const before = await account.inForce();
    account.house.faults.push({ call: 'test', fault: 'refused' });
    account.house.before = (call) => {
      if (call === 'set') account.house.accepted.delete(before['id'] ?? '');
    };
    const rotation = await rig.reaches(await account.ask(), ...ended);
    expect(rotation).toMatchObject({ status: 'done', to_version: 2 });
    expect(account.house.accepts(await account.inForce())).toBe(true);
    const [finished] = await rig.audit({ type: 'rotation.finished', connection_id: account.id });
    expect(finished?.data).toMatchObject({ rolled_forward: true });
  });

  test('when neither is accepted it is stuck, says so, and nothing is deleted', async () => {
    const account = await rig.account();
    const before = await account.inForce();
    let taken: [string, string][] = [];
    account.house.before = (call) => {
      if (call !== 'set') return;
      taken = [...account.house.accepted];
      account.house.accepted.clear();
    };
    const asked = await account.ask();
    const stuck = await rig.reaches(asked, 'stuck');
    expect(stuck.failure).toContain('neither the secret in force nor the new one is accepted upstream');
    expect(await account.secrets()).toEqual(['current', 'pending']);
    expect(account.house.log.some(({ call }) => call === 'undo' || call === 'retire')).toBe(false);
    expect(await rig.audit({ type: 'rotation.stuck', connection_id: account.id })).toHaveLength(1);

    // The upstream finds its keys again: so does Warder, without anybody.
    for (const [id, value] of taken) account.house.accepted.set(id, value);
    expect(await rig.reaches(asked, 'failed', 'done')).toMatchObject({ status: 'failed' });
    expect(await account.inForce()).toEqual(before);
    expect(account.house.accepted.size).toBe(1);
  });

  test('a stuck one ends when somebody sets a secret that works', async () => {
    const account = await rig.account();
    account.house.before = (call) => {
      if (call === 'set') account.house.accepted.clear();
    };
    const asked = await account.ask();
    await rig.reaches(asked, 'stuck');
    const mine = account.house.newSecret();
    await account.setByHand(mine);
    const over = await rig.reaches(asked, 'failed');
    expect(over.failure).toBe('overtaken: somebody set another secret meanwhile');
    expect(await account.inForce()).toEqual(mine);
    expect([...account.house.accepted.keys()]).toEqual([mine['id']]);
    expect(await account.secrets()).toEqual(['retired', 'retired', 'current']);
  });

  test('an upstream that does not answer is asked again, and nothing is assumed', async () => {
    const account = await rig.account();
    account.house.faults.push({ call: 'test', fault: 'refused' });
    for (let times = 0; times < 4; times += 1) account.house.faults.push({ call: 'test', fault: 'failed' });
    const rotation = await rig.reaches(await account.ask(), 'failed', 'done');
    expect(rotation.status).toBe('failed');
    expect(account.house.accepted.size).toBe(1);
    expect(await rig.audit({ type: 'rotation.stuck', connection_id: account.id })).toHaveLength(1);
  });
});

describe('a secret that an operator sets meanwhile', () => {
  test.each(['create', 'set', 'test'] as const)(
    'before %s wins, and what the rotation made is taken back',
    async (at) => {
      const account = await rig.account();
      const mine = account.house.newSecret();
      let set = false;
      account.house.before = async (call) => {
        if (call !== at || set) return;
        set = true;
        await account.setByHand(mine);
      };
      const rotation = await rig.reaches(await account.ask(), ...ended);
      expect(rotation).toMatchObject({ status: 'failed', failure: 'overtaken: somebody set another secret meanwhile' });
      expect(await account.inForce()).toEqual(mine);
      expect(account.house.accepts(mine)).toBe(true);
      expect(account.house.accepted.has(rotation.id)).toBe(false);
      expect((await account.rotations()).length).toBe(1);
      expect((await account.secrets()).filter((state) => state === 'current')).toHaveLength(1);
    },
  );

  test('for a password wins upstream, too', async () => {
    const account = await rig.account('password');
    const mine = { id: 'password', value: 'chosen by hand' };
    account.house.before = async (call) => {
      if (call === 'test' && (await account.inForce())['value'] !== mine.value) await account.setByHand(mine);
    };
    expect(await rig.reaches(await account.ask(), ...ended)).toMatchObject({ status: 'failed' });
    expect(await account.inForce()).toEqual(mine);
    expect(account.house.accepts(mine)).toBe(true);
  });

  test('during the grace leaves the rotation to retire what it replaced', async () => {
    const account = await rig.account();
    const first = await account.inForce();
    await rig.reaches(await account.ask({ graceSeconds: 1 }), 'grace');
    const mine = account.house.newSecret();
    await account.setByHand(mine);
    await eventually(
      'the first is retired',
      () => account.house.accepts(first),
      (accepted) => !accepted,
    );
    expect(await account.inForce()).toEqual(mine);
    expect(account.house.accepts(mine)).toBe(true);
  });

  test('for the very account that the rotation made stays, and nothing is done to it', async () => {
    const account = await rig.account();
    account.house.before = async (call) => {
      const made = [...account.house.accepted].find(([id]) => id.startsWith('rot_'));
      if (call === 'set' && made) await account.setByHand({ id: made[0], value: made[1] });
    };
    expect(await rig.reaches(await account.ask(), ...ended)).toMatchObject({ status: 'failed' });
    expect(account.house.accepts(await account.inForce())).toBe(true);
    expect((await account.inForce())['id']).toMatch(/^rot_/);
    expect(account.house.log.some(({ call }) => call === 'undo')).toBe(false);
  });

  test('and is the one that was rotated away is not retired', async () => {
    const account = await rig.account();
    const first = await account.inForce();
    const rotation = await rig.reaches(await account.ask({ graceSeconds: 1 }), 'grace');
    await account.setByHand(first);
    expect(await rig.reaches(rotation, 'done')).toMatchObject({ failure: 'it was put in force again, and lives on' });
    expect(account.house.accepts(first)).toBe(true);
  });

  test.each([
    ['that is kept in a vault now', true],
    ['while the vault does not answer', false],
  ])('and is the one that was rotated away, %s, is not retired', async (_name, answers) => {
    const account = await rig.account();
    const first = await account.inForce();
    const fields = Object.fromEntries(Object.entries(first).map(([name, text]) => [name, new SecretText(text)]));
    let asked = 0;
    rig.core.secrets.readFrom({
      read: async () => {
        asked += 1;
        if (!answers) throw new Refused('upstream_unavailable', 'the vault is away');
        return { version: 1, fields };
      },
      doubt: () => undefined,
    });
    const rotation = await rig.reaches(await account.ask({ graceSeconds: 1 }), 'grace');
    await account.keepInVault();
    expect(await rig.reaches(rotation, 'done', 'stuck')).toMatchObject(
      answers
        ? { status: 'done', failure: 'it was put in force again, and lives on' }
        : { status: 'stuck', failure: expect.stringContaining('could not be read: the vault is away') },
    );
    expect(asked).toBeGreaterThan(0);
    expect(account.house.accepts(first)).toBe(true);
  });
});
