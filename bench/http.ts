/**
 * Requests over HTTP: issuing, introspecting, forwarding, against a bare echo, a bare forwarder and oidc-provider. The
 * contestants take turns, round after round, so that a slow moment of the machine hits all of them; medians are quoted.
 */
import { bodyOf, type Fixture, formShot, freePort, grantShot, makeFixture } from './fixture.ts';
import { load, type Measured, type Shot } from './load.ts';
import { start, stop } from './processes.ts';
import { median, type Row } from './table.ts';

const atOnce = 64;

interface Contestant {
  name: string;
  origin: string;
  next: () => Shot;
  expect: number;
  atOnce?: number;
}

const peer = async (which: string, ...rest: string[]) => {
  const port = await freePort();
  return start('peers.ts', [which, String(port), ...rest], port);
};

const tokenOf = async (fixture: Fixture, agentToken: string): Promise<string> => {
  const shot = grantShot(agentToken, 'upstream', 'read');
  const response = await fetch(`${fixture.broker.url}${shot.path}`, {
    method: shot.method,
    headers: shot.headers,
    body: shot.body ?? null,
  });
  const issued = await bodyOf<{ credential: { token: string } }>(response);
  return issued.credential.token;
};

export const measureHttp = async (quick: boolean): Promise<Row[]> => {
  const rounds = quick ? 1 : 5;
  const timing = quick ? { forMs: 1500, warmUpMs: 1000 } : { forMs: 3000, warmUpMs: 1500 };
  const upstream = await peer('upstream');
  const echo = await peer('echo');
  const forwarder = await peer('forwarder', upstream.url);
  const oidc = await peer('oidc');
  const fixture = await makeFixture(upstream.url);
  const broker = fixture.broker.url;
  // An agent token lives five minutes; a round is shorter.
  let agentToken = await fixture.agentToken();
  let gatewayToken = await tokenOf(fixture, agentToken);
  const echoShot: Shot = { ...grantShot('x', 'upstream', 'read'), path: '/' };
  const oidcBasic = `Basic ${Buffer.from('bench:bench-secret-bench-secret-bench-secret').toString('base64')}`;
  const plainShot: Shot = { method: 'GET', path: '/v1/charges', headers: {} };
  const gatewayShot = (): Shot => ({
    method: 'GET',
    path: '/gateway/upstream/v1/charges',
    headers: { authorization: `Bearer ${gatewayToken}` },
  });
  const oidcFields = { grant_type: 'client_credentials', resource: 'https://orders.internal', scope: 'orders:read' };

  const contestants: Contestant[] = [
    { name: 'echo', origin: echo.url, next: () => echoShot, expect: 200 },
    { name: 'grant', origin: broker, next: () => grantShot(agentToken, 'upstream', 'read'), expect: 201 },
    { name: 'jwt', origin: broker, next: () => grantShot(agentToken, 'orders', 'orders:read'), expect: 201 },
    { name: 'oidc', origin: oidc.url, next: () => formShot('/token', oidcBasic, oidcFields), expect: 200 },
    {
      name: 'introspect',
      origin: broker,
      next: () => formShot('/introspect', fixture.basic, { token: gatewayToken }),
      expect: 200,
    },
    { name: 'forwarder', origin: forwarder.url, next: () => plainShot, expect: 200 },
    { name: 'gateway', origin: broker, next: gatewayShot, expect: 200 },
    { name: 'direct, one at a time', origin: upstream.url, next: () => plainShot, expect: 200, atOnce: 1 },
    { name: 'gateway, one at a time', origin: broker, next: gatewayShot, expect: 200, atOnce: 1 },
  ];
  const results = new Map<string, Measured[]>(contestants.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    agentToken = await fixture.agentToken();
    gatewayToken = await tokenOf(fixture, agentToken);
    for (const contestant of contestants) {
      const measured = await load(contestant.origin, contestant.next, {
        ...timing,
        atOnce: contestant.atOnce ?? atOnce,
        expect: contestant.expect,
      });
      if (measured.errors > 0)
        throw new Error(`${contestant.name}: ${measured.errors} answers were not ${contestant.expect}`);
      results.get(contestant.name)?.push(measured);
      console.error(
        `  ${contestant.name}: ${measured.perSecond.toFixed(0)}/s, p50 ${measured.p50Ms.toFixed(2)} ms, p99 ${measured.p99Ms.toFixed(2)} ms`,
      );
    }
  }
  for (const one of [fixture.broker, upstream, echo, forwarder, oidc]) await stop(one);

  const of = (name: string, field: 'perSecond' | 'p50Ms' | 'p99Ms'): number =>
    median((results.get(name) ?? []).map((measured) => measured[field]));
  const ratio = (what: string, name: string, against: string, bar: number): Row => {
    const got = of(name, 'perSecond') / of(against, 'perSecond');
    return {
      what,
      value: `${of(name, 'perSecond').toFixed(0)}/s, p50 ${of(name, 'p50Ms').toFixed(1)} ms, p99 ${of(name, 'p99Ms').toFixed(1)} ms`,
      against: `${got.toFixed(2)} x ${against} (${of(against, 'perSecond').toFixed(0)}/s)`,
      bar: `>= ${bar} x`,
      met: got >= bar,
      numbers: { perSecond: of(name, 'perSecond'), against: of(against, 'perSecond'), ratio: got },
    };
  };
  const added = of('gateway, one at a time', 'p50Ms') - of('direct, one at a time', 'p50Ms');
  return [
    ratio('durable gateway grant', 'grant', 'echo', 0.45),
    ratio('durable gateway grant', 'grant', 'oidc', 3),
    ratio('ES256 JWT grant', 'jwt', 'oidc', 2),
    ratio('introspection', 'introspect', 'echo', 0.6),
    ratio('gateway call, recorded', 'gateway', 'forwarder', 0.7),
    {
      what: 'gateway call, one at a time',
      value: `p50 ${of('gateway, one at a time', 'p50Ms').toFixed(2)} ms`,
      against: `+${added.toFixed(2)} ms to direct (${of('direct, one at a time', 'p50Ms').toFixed(2)} ms)`,
      bar: '<= +1 ms',
      met: added <= 1,
      numbers: { p50Ms: of('gateway, one at a time', 'p50Ms'), addedMs: added },
    },
  ];
};
