/** Every admin token is lost: who holds the data directory makes a new admin, and the record says so. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { temporaryDir } from '../support/broker.ts';
import { serve, warder } from './real-warder.ts';

let cwd: string;
beforeAll(() => {
  cwd = temporaryDir();
});
afterAll(() => rmSync(cwd, { recursive: true, force: true }));

const env = {};
const init = (...args: string[]) => warder(['init', ...args], { cwd, env });
const tokenIn = (text: string): string | undefined => /WARDER_TOKEN=(wdr_op_\S+)/.exec(text)?.[1];

test('a new admin is made beside the others, in a stopped broker only', async () => {
  const first = tokenIn((await init()).out);
  expect(await init()).toMatchObject({ code: 0, out: expect.stringContaining('nothing was changed') });

  const recovered = await init('--recover-admin');
  expect(recovered).toMatchObject({ code: 0, out: expect.stringContaining('a new admin was made in it') });
  const token = tokenIn(recovered.out);
  expect(token).toBeDefined();
  expect(token).not.toBe(first);

  const served = await serve(cwd);
  try {
    const call = (path: string, by: string | undefined) =>
      fetch(`${served.url}/admin/v1${path}`, { headers: { authorization: `Bearer ${by}` } });
    expect([(await call('/operators', token)).status, (await call('/operators', first)).status]).toEqual([200, 200]);
    const record: { items: unknown[] } = JSON.parse(await (await call('/audit?type=operator.recovered', token)).text());
    expect(record.items).toHaveLength(1);
    expect(await init('--recover-admin')).toMatchObject({ code: 1, err: expect.stringContaining('another Warder') });
  } finally {
    await served.stop();
  }
});
