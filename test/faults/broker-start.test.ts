/** Starting and stopping: two at once, the first start cut off anywhere, an address that is taken, a stop under load. */
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from '@jest/globals';
import { freePort, removeTemporaryDirs, temporaryDir } from '../support/broker.ts';
import { type ChildBroker, newAdminToken, spawnBroker, startChildBroker } from '../support/child-broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { shortOrLong } from '../support/length.ts';
import type { Child } from './child-process.ts';
import { canTrace, needing } from './strace.ts';

const children: Child[] = [];
const kept = (broker: ChildBroker): ChildBroker => {
  children.push(broker.child);
  return broker;
};
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.process.kill('SIGKILL');
    await child.ended;
  }
});

afterAll(removeTemporaryDirs);

const taken = async (): Promise<{ server: Server; port: number }> => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return { server, port: address && typeof address === 'object' ? address.port : 0 };
};

describe('two starts at once', () => {
  test('on one data directory: one serves, the other is told so and changes nothing', async () => {
    for (let round = 0; round < shortOrLong(1, 2); round += 1) {
      const dataDir = temporaryDir();
      const starts = await Promise.all(
        [await freePort(), await freePort()].map((port) =>
          startChildBroker({ dataDir, port, commandLine: true }).then(kept, (error: unknown) => error),
        ),
      );
      const running = starts.filter((one): one is ChildBroker => !(one instanceof Error));
      const refused = starts.filter((one) => one instanceof Error);
      expect([running.length, refused.length]).toEqual([1, 1]);
      expect(String(refused[0])).toMatch(/another Warder .* is running on this data directory/);
      expect((await running[0]?.admin('GET', '/agents'))?.status).toBe(200);
      await running[0]?.stop();
    }
  }, 30_000);
});

describe('an address that is taken', () => {
  test.each([
    ['the edge', false],
    ['the metrics', true],
  ])('for %s is said plainly, and nothing is made, held or left running', async (_what, metrics) => {
    const { server, port } = await taken();
    const dataDir = temporaryDir();
    const free = await freePort();
    const options = metrics
      ? { dataDir, port: free, env: { WARDER_METRICS_LISTEN: `127.0.0.1:${port}` } }
      : { dataDir, port };
    const child = spawnBroker({ ...options, commandLine: true });
    children.push(child);
    const { code, errors } = await child.ended;
    expect(code).toBe(1);
    expect(errors).toMatch(/the address is in use.*EADDRINUSE/);
    expect(errors).not.toMatch(/at .*\.ts/);
    await new Promise((resolve) => server.close(resolve));
    // The first admin is made by the start that can show its token.
    const next = kept(await startChildBroker({ dataDir, port: free, commandLine: true }));
    expect(next.greeting.bootstrap_token).toMatch(/^wdr_op_/);
    expect((await next.admin('GET', '/agents')).status).toBe(200);
  });
});

/** What a first start left behind: can one go on from there? */
const goesOn = async (dataDir: string): Promise<{ made: boolean }> => {
  const next = kept(await startChildBroker({ dataDir, port: await freePort(), commandLine: true }));
  expect((await next.fetch('/readyz')).status).toBe(200);
  const made = next.greeting.bootstrap_token !== null;
  if (made) expect((await next.admin('GET', '/agents')).status).toBe(200);
  await next.stop();
  return { made };
};

describe('a first start that is killed', () => {
  test('at any moment leaves something that starts; the first admin is made whole or not at all', async () => {
    const ends: string[] = [];
    const lane = async (moments: number[]): Promise<void> => {
      for (const ms of moments) {
        const dataDir = temporaryDir();
        const child = spawnBroker({ dataDir, port: await freePort(), commandLine: true });
        children.push(child);
        await Promise.race([pause(ms), child.line('{').then(() => undefined)]);
        child.process.kill('SIGKILL');
        await child.ended;
        const { made } = await goesOn(dataDir);
        ends.push(made ? 'made anew' : 'made before');
      }
    };
    const moments = Array.from({ length: shortOrLong(4, 8) }, (_, i) => 150 + i * shortOrLong(110, 50));
    await Promise.all([lane(moments.filter((_, i) => i % 2 === 0)), lane(moments.filter((_, i) => i % 2 === 1))]);
    expect(ends).toHaveLength(moments.length);
  }, 60_000);

  // The root key is written once; then the database is made with some seven syncs.
  (canTrace ? test : test.skip)(
    needing(canTrace, 'strace', 'at each sync leaves something that starts'),
    async () => {
      const lane = async (when: number[]): Promise<void> => {
        for (const at of when) {
          const dataDir = temporaryDir();
          const inject = `fsync,fdatasync:signal=SIGKILL:when=${at}`;
          const under = [
            'strace',
            '-f',
            '-qq',
            '-o',
            '/dev/null',
            '-e',
            'trace=fsync,fdatasync',
            '-e',
            `inject=${inject}`,
          ];
          const child = spawnBroker({ dataDir, port: await freePort(), commandLine: true, under });
          children.push(child);
          const listens = child.line('{').then(
            () => true,
            () => false,
          );
          if (await listens) process.kill(Number(readFileSync(join(dataDir, 'warder.lock.pid'), 'utf8')), 'SIGKILL');
          await child.ended;
          await goesOn(dataDir);
        }
      };
      await Promise.all(
        shortOrLong(
          [[2], [5]],
          [
            [1, 3, 5],
            [2, 4, 7],
          ],
        ).map(lane),
      );
    },
    60_000,
  );

  (canTrace ? test : test.skip)(
    needing(canTrace, 'strace', 'as it makes the root key leaves no half key'),
    async () => {
      const dataDir = temporaryDir();
      // Synced by the thread that then gives it its name: the first sync of that thread.
      const inject = [
        '-e',
        'trace=fsync',
        '-e',
        'inject=fsync:signal=SIGKILL:when=1',
        '-P',
        join(dataDir, 'root.key.new'),
      ];
      const under = ['strace', '-f', '-qq', '-o', '/dev/null', ...inject];
      const child = spawnBroker({ dataDir, port: await freePort(), commandLine: true, under });
      children.push(child);
      expect(await child.ended).toMatchObject({ signal: 'SIGKILL' });
      expect([existsSync(join(dataDir, 'root.key.new')), existsSync(join(dataDir, 'root.key'))]).toEqual([true, false]);
      expect(await goesOn(dataDir)).toEqual({ made: true });
      expect(existsSync(join(dataDir, 'root.key.new'))).toBe(false);
      expect(readFileSync(join(dataDir, 'root.key'), 'utf8')).toMatch(/^[A-Za-z0-9+/]{43}=\n$/);
    },
    30_000,
  );
});

describe('a stop', () => {
  test('under load lets every request that was begun end, and then ends well', async () => {
    const dataDir = temporaryDir();
    const adminToken = newAdminToken();
    const broker = kept(await startChildBroker({ dataDir, port: await freePort(), adminToken }));
    const agent = await broker.agent('busy');
    const settings = { audience: 'https://orders.example', scopes: ['use'] };
    await broker.admin('POST', '/connections', { name: 'jwt', provider: 'internal-jwt', settings });
    await broker.entitle('busy', 'jwt', ['use']);
    const token = await broker.agentToken(agent);

    const answers: number[] = [];
    const broken: string[] = [];
    let stopping = false;
    const client = async (): Promise<void> => {
      for (;;) {
        try {
          answers.push((await broker.grant(token, { connection: 'jwt', scopes: ['use'] })).status);
        } catch (error) {
          // Not to be let in any more is how a client notices; to be cut off in an answer is not.
          const cause = String((error as { cause?: unknown }).cause);
          if (!stopping || !/ECONNREFUSED|ECONNRESET|other side closed/.test(cause)) broken.push(cause);
          return;
        }
      }
    };
    const clients = Array.from({ length: 20 }, client);
    await eventually(
      'there is load',
      () => answers.length,
      (count) => count > 200,
    );
    stopping = true;
    const began = performance.now();
    const { code } = await broker.stop();
    const tookMs = performance.now() - began;
    await Promise.all(clients);
    expect({ code, broken }).toEqual({ code: 0, broken: [] });
    expect(new Set(answers)).toEqual(new Set([201]));
    expect(tookMs).toBeLessThan(5_000);

    // Every one that was recorded was answered, and the other way round.
    const next = kept(await startChildBroker({ dataDir, port: await freePort(), adminToken }));
    const log = await (
      await next.fetch('/admin/v1/audit/export', { headers: { authorization: `Bearer ${adminToken}` } })
    ).text();
    const issued = log.split('\n').filter((line) => line.includes('"type":"grant.issued"')).length;
    expect(issued).toBe(answers.length);
  }, 30_000);
});
