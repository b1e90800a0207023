/** What must not depend on how much there is: revoking everything, issuing, starting, memory. */
import { join } from 'node:path';
import { bodyOf, type Fixture, freePort, grantShot, makeFixture, startBroker } from './fixture.ts';
import { load } from './load.ts';
import { type Started, start, stop } from './processes.ts';
import { seedGrants } from './seed.ts';
import { median, type Row } from './table.ts';

const database = (fixture: Fixture): string => join(fixture.dataDir, 'warder.db');

const fresh = async (upstreamUrl: string, grants: number): Promise<{ fixture: Fixture; broker: Started }> => {
  const fixture = await makeFixture(upstreamUrl);
  await stop(fixture.broker);
  seedGrants(database(fixture), grants);
  return { fixture, broker: await startBroker(fixture.dataDir) };
};

const memoryMb = (broker: Started): Promise<number> =>
  new Promise((resolve) => {
    broker.child.once('message', (message: { rssMb: number }) => resolve(message.rssMb));
    broker.child.send('memory');
  });

/** Issues one grant, revokes everything, and asks the gateway until it refuses. Milliseconds. */
const revokeAll = async (
  fixture: Fixture,
  broker: Started,
): Promise<{ callMs: number; untilMs: number; counted: unknown }> => {
  const token = await tokenFrom(fixture, broker);
  const issued = await fetch(`${broker.url}/v1/grants`, {
    method: 'POST',
    headers: grantShot(token, 'upstream', 'read').headers,
    body: grantShot(token, 'upstream', 'read').body ?? null,
  }).then((response) => bodyOf<{ credential: { token: string } }>(response));
  const use = () =>
    fetch(`${broker.url}/gateway/upstream/v1/charges`, {
      headers: { authorization: `Bearer ${issued.credential.token}` },
    });
  if ((await use()).status !== 200) throw new Error('the grant does not work before the revocation');
  const started = performance.now();
  const answer = await fetch(`${broker.url}/admin/v1/revocations`, {
    method: 'POST',
    headers: { authorization: `Bearer ${fixture.adminToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ selector: { everything: true }, reason: 'bench' }),
  });
  const body = await bodyOf<{ grants: number | null }>(answer);
  const callMs = performance.now() - started;
  if (answer.status !== 201) throw new Error(`revocation: ${answer.status}`);
  while ((await use()).status !== 401);
  return { callMs, untilMs: performance.now() - started, counted: body.grants };
};

const tokenFrom = async (fixture: Fixture, broker: Started): Promise<string> => {
  const response = await fetch(`${broker.url}/token`, {
    method: 'POST',
    headers: { authorization: fixture.basic, 'content-type': 'application/x-www-form-urlencoded' },
    body: 'grant_type=client_credentials',
  });
  return (await bodyOf<{ access_token: string }>(response)).access_token;
};

const issueRate = async (fixture: Fixture, broker: Started, quick: boolean): Promise<number> => {
  const token = await tokenFrom(fixture, broker);
  const measured = await load(broker.url, () => grantShot(token, 'upstream', 'read'), {
    atOnce: 64,
    forMs: quick ? 1500 : 3000,
    warmUpMs: 1000,
    expect: 201,
  });
  if (measured.errors > 0) throw new Error(`${measured.errors} grants were refused`);
  return measured.perSecond;
};

export const measureAtScale = async (quick: boolean): Promise<Row[]> => {
  const million = quick ? 100_000 : 1_000_000;
  const upstreamPort = await freePort();
  const upstream = await start('peers.ts', ['upstream', String(upstreamPort)], upstreamPort);
  const rows: Row[] = [];

  console.error('  seeding …');
  const small = await fresh(upstream.url, 1000);
  const large = await fresh(upstream.url, million);
  const readyMs = Number(large.broker.first['readyMs']);
  const rss = await memoryMb(large.broker);
  rows.push({
    what: `start to ready, ${million} grants`,
    value: `${readyMs.toFixed(0)} ms`,
    against: '',
    bar: '<= 1000 ms',
    met: readyMs <= 1000,
    numbers: { readyMs },
  });
  rows.push({
    what: `resident memory, ${million} grants`,
    value: `${rss.toFixed(0)} MB after the start`,
    against: '',
    bar: '<= 250 MB',
    met: rss <= 250,
    numbers: { rssMb: rss },
  });

  // In turns, so that a slow moment of the machine hits both.
  const rates: { small: number[]; large: number[] } = { small: [], large: [] };
  for (let round = 0; round < (quick ? 1 : 5); round += 1) {
    rates.small.push(await issueRate(small.fixture, small.broker, quick));
    rates.large.push(await issueRate(large.fixture, large.broker, quick));
  }
  const ratio = median(rates.large) / median(rates.small);
  rows.push({
    what: `issue rate, ${million} grants stored`,
    value: `${median(rates.large).toFixed(0)}/s`,
    against: `${ratio.toFixed(2)} x with 1000 stored (${median(rates.small).toFixed(0)}/s)`,
    bar: '>= 0.9 x',
    met: ratio >= 0.9,
    numbers: { large: median(rates.large), small: median(rates.small), ratio },
  });
  await stop(small.broker);
  await stop(large.broker);

  for (const count of quick ? [100, 10_000] : [100, 100_000, 1_000_000]) {
    const times: number[] = [];
    const calls: number[] = [];
    let counted: unknown;
    // Filling a million takes most of a minute: once is enough for a number that is far from its bar.
    for (let round = 0; round < (count === 1_000_000 ? 1 : 3); round += 1) {
      const { fixture, broker } = await fresh(upstream.url, count);
      const result = await revokeAll(fixture, broker);
      times.push(result.untilMs);
      calls.push(result.callMs);
      counted = result.counted;
      await stop(broker);
    }
    rows.push({
      what: `revoke-all over ${count} live grants`,
      value: `call ${median(calls).toFixed(1)} ms, refused after ${median(times).toFixed(1)} ms`,
      against: `counted ${counted === null ? 'behind the answer' : String(counted)}`,
      bar: '<= 50 ms',
      met: median(times) <= 50,
      numbers: { callMs: median(calls), untilMs: median(times) },
    });
  }
  await stop(upstream);
  return rows;
};
