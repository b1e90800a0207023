/** Tokens of workloads over longer times than a test over HTTP can wait for. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Operator } from '../../../src/domain/model.ts';
import { createAgent } from '../../../src/services/access/manage-agents.ts';
import { createIssuer, issuerCalled, updateIssuer } from '../../../src/services/access/manage-issuers.ts';
import { commit, record } from '../../../src/services/core.ts';
import { ForeignTokens } from '../../../src/services/identity/foreign-tokens.ts';
import type { CoreWithSecrets } from '../../../src/services/issuing/provider-context.ts';
import { compact } from '../../corpora/tokens.ts';
import { makeKey } from '../../protocol/support.ts';
import { openServices } from '../../support/services.ts';

describe('a token of a workload', () => {
  const caller = { actor: { kind: 'system', name: 'test' } as const, requestId: 'req_test' };
  const key = makeKey('ES256', 'one');
  let services: Awaited<ReturnType<typeof openServices>>;
  let core: CoreWithSecrets;
  let now: number;

  beforeAll(async () => {
    services = await openServices();
    now = services.core.clock.now();
    core = { ...services.core, clock: { ...services.core.clock, now: () => now } };
    await createIssuer(
      core,
      {
        name: 'ci',
        issuer: 'https://ci.example',
        keys: { from: 'jwks', jwks: { keys: [key.publicJwk] } },
        audiences: [],
        algorithms: ['ES256'],
        uses: ['workload'],
        subject_claim: 'sub',
        claims: {},
        max_token_age_seconds: 60,
        single_use: true,
        status: 'active',
      },
      caller,
    );
    const auth = { method: 'workload', issuer: 'ci', claims: { sub: 'job' } } as const;
    await createAgent(core, { name: 'job', owner: 'owner@example.com', auth }, caller);
  });
  afterAll(() => services.close());

  test('that was used stays used when the issuer is trusted with older ones, and what is over was swept', async () => {
    const foreign = new ForeignTokens(core, {
      getJson: async () => {
        throw new Error('nothing is fetched');
      },
    });
    const made = Math.floor(now / 1000);
    const claims = { iss: 'https://ci.example', aud: core.issuer, sub: 'job', iat: made, exp: made + 3600 };
    const token = compact({ alg: key.alg, kid: key.kid }, { ...claims, jti: randomUUID() }, key);
    expect(await foreign.proveAgent(token, undefined, 'test', caller)).toMatchObject({ ok: true });
    now += 200_000;
    const over = await core.reader.expiredRows(now, 1000);
    if (over.length > 0) {
      const writes = over.map(({ table, id }) => ({ write: 'delete', table, id }) as const);
      await commit(core, { writes, audit: [record(core, caller, { type: 'maintenance.swept' })] });
    }
    const operator = core.state.operators.all()[0] as Operator;
    await updateIssuer(core, issuerCalled(core, 'ci'), { max_token_age_seconds: 3600 }, operator, caller);
    expect(await foreign.proveAgent(token, undefined, 'test', caller)).toEqual({
      ok: false,
      why: 'this token was used before',
    });
  });
});
