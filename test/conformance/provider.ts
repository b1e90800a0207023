/**
 * What every provider keeps (src/ports/provider.ts), as tests against a real broker and the real upstream. A provider's
 * own test calls it:
 *
 *     providerConformance('postgres', setUpPostgres);
 */
import { cpSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Connection } from '../../src/domain/model.ts';
import { SecretText } from '../../src/domain/secret-text.ts';
import { type Provider, type ProviderContext, ProviderFailure } from '../../src/ports/provider.ts';
import { type Answer, type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';

export type Credential = { type: string } & Record<string, unknown>;

export interface ProviderUnderTest {
  provider: Provider;
  /** What an operator writes to register a connection; scopes `read` and `write` must be offered. */
  settings: object;
  secret?: Record<string, string>;
  /** @returns whether the credential may do what the scope is for, as the system itself says */
  use(credential: Credential, scope: 'read' | 'write', broker: Broker): Promise<boolean>;
  /** What is upstream, and a way to put it into trouble; left out where nothing is made there. */
  upstream?: Upstream;
  close(): Promise<void>;
}

export interface Upstream {
  /** Names of what was made and is there. */
  artefacts(): Promise<string[]>;
  /** Puts the upstream into trouble and out of it. */
  trouble: {
    down(): Promise<void>;
    slow(ms: number): Promise<void>;
    nonsense(): Promise<void>;
    /** Does what it was asked and answers that it failed. */
    halfDone(): Promise<void>;
    /** Breaks off, and does it a moment later all the same. */
    late(): Promise<void>;
    hangs(): Promise<void>;
    well(): Promise<void>;
  };
}

const grantOf = (answer: Answer) => answer.body['grant'] as { id: string; expires_at: string; status: string };
const credentialOf = (answer: Answer) => answer.body['credential'] as Credential;

/** The connection's row as the provider is handed it. */
const connectionRow = (under: ProviderUnderTest, settings: Record<string, unknown>): Connection => ({
  id: 'con_conformance',
  name: 'conformance',
  provider: under.provider.type,
  owner: null,
  settings,
  status: 'active',
  secret_version: under.secret ? 1 : null,
  version: 1,
  created_at: 0,
  updated_at: 0,
});

/** A context without a broker, for what a provider must keep by itself. */
const bareContext = (under: ProviderUnderTest, signal: AbortSignal): ProviderContext => ({
  now: () => Date.now(),
  signal,
  secret: async () =>
    under.secret && {
      version: 1,
      fields: Object.fromEntries(Object.entries(under.secret).map(([name, value]) => [name, new SecretText(value)])),
    },
  journal: async () => undefined,
  replaceSecret: async () => 2,
  signJwt: async () => 'eyJ.eyJ.sig',
});

/** @param creates whether minting makes something upstream: the rest of the suite is about that */
export const providerConformance = (
  name: string,
  setup: () => Promise<ProviderUnderTest>,
  { creates }: { creates: boolean },
): void => {
  describe(name, () => {
    let under: ProviderUnderTest;
    let broker: Broker;
    let token: string;
    /** Set, it is waited for after the real `mint`: between minting and settling. */
    let afterMint: (() => Promise<void>) | undefined;
    let settings: Record<string, unknown>;
    const ifCreates = creates ? test : (): void => undefined;

    const ask = (scopes: string[], more: object = {}): Promise<Answer> =>
      broker.grant(token, { connection: 'target', scopes, ...more });
    const issue = async (scopes: string[], more: object = {}): Promise<Answer> => {
      const answer = await ask(scopes, more);
      if (answer.status !== 201) throw new Error(`issuing: ${answer.status} ${answer.text}`);
      return answer;
    };
    /** Counting may take longer than the answer waits for it: then it is asked for. */
    const revoke = async (selector: object): Promise<Answer> => {
      const revoked = await broker.admin('POST', '/revocations', { selector, reason: 'conformance' });
      if (revoked.status !== 201 || revoked.body['grants'] !== null) return revoked;
      const { body } = await eventually(
        'it is counted',
        () => broker.admin('GET', `/revocations/${revoked.body['id']}`),
        (answer) => answer.body['grants'] !== null,
      );
      return { ...revoked, body };
    };
    const upstream = (): Upstream => {
      if (!under.upstream) throw new Error('a provider that creates something says what, for these tests');
      return under.upstream;
    };
    const nothingLeft = async (): Promise<void> => {
      if (!under.upstream) return;
      await eventually('nothing is left upstream', under.upstream.artefacts, (left) => left.length === 0);
    };
    const auditTypes = async (grant: string): Promise<string[]> => {
      const { body } = await broker.admin('GET', `/audit?grant=${grant}`);
      return (body['items'] as { type: string }[]).map((entry) => entry.type).reverse();
    };

    beforeAll(async () => {
      under = await setup();
      const { provider } = under;
      const watched: Provider = {
        ...provider,
        mint: async (...given) => {
          const minted = await provider.mint(...given);
          await afterMint?.();
          return minted;
        },
      };
      broker = await startBroker({ extraProviders: [watched] });
      const checked = provider.checkSettings(under.settings);
      if (!checked.ok) throw new Error(checked.problems.join('\n'));
      settings = checked.value;
      const agent = await broker.agent('conformer');
      const connection = await broker.admin('POST', '/connections', {
        name: 'target',
        provider: provider.type,
        settings: under.settings,
        ...(under.secret ? { secret: under.secret } : {}),
      });
      expect([connection.status, connection.text]).toEqual([201, expect.any(String)]);
      expect((await broker.entitle('conformer', 'target', ['read', 'write'], { max_ttl_seconds: 60 })).status).toBe(
        201,
      );
      token = await broker.agentToken(agent);
    });
    afterEach(async () => {
      afterMint = undefined;
      await under.upstream?.trouble.well();
      await revoke({ connection: 'target' });
      await nothingLeft();
    });
    afterAll(async () => {
      await broker.close();
      await under.close();
      removeTemporaryDirs();
    });

    test('what it issues works for all the scopes that were granted', async () => {
      const answer = await issue(['read', 'write']);
      const plan = under.provider.plan({
        grantId: 'grt_01arz3ndektsv4rrffq69g5fav',
        agent: { id: 'agt_x', name: 'conformer' },
        connection: connectionRow(under, settings),
        scopes: ['read'],
        subject: null,
        issuedAt: 0,
        expiresAt: 60_000,
      });
      expect(credentialOf(answer).type).toBe(plan.credentialType);
      expect(JSON.stringify(plan.handle)).not.toMatch(/password|secret|token/i);
      expect(await under.use(credentialOf(answer), 'read', broker)).toBe(true);
      expect(await under.use(credentialOf(answer), 'write', broker)).toBe(true);
    });

    test('what it issues is narrowed to the scopes that were granted', async () => {
      const answer = await issue(['read']);
      expect(await under.use(credentialOf(answer), 'read', broker)).toBe(true);
      expect(await under.use(credentialOf(answer), 'write', broker)).toBe(false);
    });

    test('a renewal prolongs the credential where that can be, and is refused where it cannot', async () => {
      const answer = await issue(['read'], { ttl_seconds: 1 });
      const renewed = await broker.json('POST', `/v1/grants/${grantOf(answer).id}/renew`, token, { ttl_seconds: 30 });
      if (!under.provider.renew) {
        expect([renewed.status, renewed.body['code']]).toEqual([409, 'conflict']);
        return;
      }
      expect(renewed.status).toBe(200);
      const later = Date.parse(grantOf(renewed).expires_at) - Date.parse(grantOf(answer).expires_at);
      expect(later).toBeGreaterThan(28_000);
      await eventually('its first end is over', Date.now, (now) => now > Date.parse(grantOf(answer).expires_at) + 50);
      expect(await under.use(credentialOf(answer), 'read', broker)).toBe(true);
    });

    test('a revocation ends it, here at once and upstream soon', async () => {
      const answer = await issue(['read']);
      const revoked = await revoke({ grant: grantOf(answer).id });
      expect(revoked.status).toBe(201);
      expect(revoked.body).toMatchObject({ grants: 1 });
      await nothingLeft();
      expect(await under.use(credentialOf(answer), 'read', broker)).toBe(false);
    });

    test('revoking twice is as good as once, also for what never was', async () => {
      const answer = await issue(['read']);
      await revoke({ grant: grantOf(answer).id });
      const again = await revoke({ grant: grantOf(answer).id });
      expect([again.status, again.body['grants']]).toEqual([201, 0]);
      const { provider } = under;
      const request = {
        grantId: 'grt_01arz3ndektsv4rrffq69g5fav',
        agent: { id: 'agt_x', name: 'conformer' },
        connection: connectionRow(under, settings),
        scopes: ['read'],
        subject: null,
        issuedAt: Date.now(),
        expiresAt: Date.now() + 60_000,
      };
      const gone = { id: request.grantId, handle: provider.plan(request).handle };
      const context = bareContext(under, AbortSignal.timeout(5_000));
      await provider.revoke(gone, request.connection, context);
      await Promise.all(Array.from({ length: 5 }, () => provider.revoke(gone, request.connection, context)));
    });

    test('what is returned, and what expires, ends upstream too', async () => {
      const [returned, expired] = [await issue(['read']), await issue(['read'], { ttl_seconds: 1 })];
      const given = await broker.json('DELETE', `/v1/grants/${grantOf(returned).id}`, token);
      expect(given.status).toBe(204);
      await eventually(
        'the second has expired',
        () => under.use(credentialOf(expired), 'read', broker),
        (works) => !works,
      );
      await nothingLeft();
      expect(await under.use(credentialOf(returned), 'read', broker)).toBe(false);
    }, 20_000);

    ifCreates('a crash between minting and settling leaves nothing upstream after the next start', async () => {
      const { artefacts } = upstream();
      const copy = temporaryDir();
      const recover = async (): Promise<string[]> => {
        const before = await artefacts();
        // The disk as it is at this moment: what a kill here would leave behind.
        cpSync(broker.dataDir, copy, { recursive: true, filter: (path) => !/\.lock|-shm$/.test(basename(path)) });
        const next = await startBroker({
          dataDir: copy,
          extraProviders: [under.provider],
          env: { WARDER_KMS: `local:${join(copy, 'root.key')}` },
        });
        try {
          await eventually('recovery has undone it', artefacts, (left) => left.length === 0);
        } finally {
          await next.close();
        }
        return before;
      };
      let recovered: Promise<string[]> | undefined;
      afterMint = async () => {
        afterMint = undefined;
        recovered = recover();
        await recovered.catch(() => undefined);
      };
      await ask(['read']);
      expect(await recovered).toHaveLength(1);
    });

    ifCreates(
      'an agent is told that the upstream failed, and nothing is left of the attempt',
      async () => {
        const { trouble } = upstream();
        for (const into of ['down', 'nonsense', 'halfDone', 'late'] as const) {
          await trouble[into]();
          const answer = await ask(['read']);
          expect([into, answer.status, answer.body['code']]).toEqual([into, 502, 'upstream_unavailable']);
          expect(answer.text).not.toContain('credential');
          await trouble.well();
          await nothingLeft();
        }
      },
      60_000,
    );

    ifCreates('a late upstream does not leave behind what it made after the answer', async () => {
      const { trouble, artefacts } = upstream();
      await trouble.late();
      await ask(['read']);
      await trouble.well();
      await eventually('it is made after all', artefacts, (left) => left.length === 1);
      await nothingLeft();
    });

    ifCreates('a slow upstream is waited for, and one that hangs only as long as the signal says', async () => {
      const { provider } = under;
      const { trouble } = upstream();
      await trouble.slow(300);
      await issue(['read']);
      await trouble.hangs();
      const request = {
        grantId: 'grt_01arz3ndektsv4rrffq69g5fav',
        agent: { id: 'agt_x', name: 'conformer' },
        connection: connectionRow(under, settings),
        scopes: ['read'],
        subject: null,
        issuedAt: Date.now(),
        expiresAt: Date.now() + 60_000,
      };
      const plan = provider.plan(request);
      for (const call of [
        (context: ProviderContext) => provider.mint(request, plan, context),
        (context: ProviderContext) =>
          provider.revoke({ id: request.grantId, handle: plan.handle }, request.connection, context),
      ]) {
        const began = performance.now();
        const failure = await call(bareContext(under, AbortSignal.timeout(200))).catch((error: unknown) => error);
        expect(performance.now() - began).toBeLessThan(2_000);
        expect(failure).toBeInstanceOf(ProviderFailure);
        expect(failure).toMatchObject({ kind: 'timeout' });
      }
    });

    ifCreates('what cannot be revoked while the upstream is down is revoked when it is back', async () => {
      const { trouble } = upstream();
      const answer = await issue(['read']);
      await trouble.down();
      const revoked = await revoke({ grant: grantOf(answer).id });
      expect(revoked.body['upstream']).toMatchObject({ pending: 1, revoked: 0 });
      await eventually(
        'it was tried',
        () => broker.log(),
        (log) => log.includes('revoking upstream failed'),
      );
      await trouble.well();
      await nothingLeft();
      const { body } = await eventually(
        'the revocation is complete',
        () => broker.admin('GET', `/revocations/${revoked.body['id']}`),
        ({ body }) => body['completed_at'] !== null,
      );
      expect(body).toMatchObject({ grants: 1, upstream: { pending: 0, revoked: 1, unrevocable: 0 } });
    });

    test('one hundred at once get a hundred credentials that work, and one call ends them all', async () => {
      const answers = await Promise.all(Array.from({ length: 100 }, () => ask(['read'])));
      expect(answers.map(({ status }) => status)).toEqual(Array(100).fill(201));
      expect(new Set(answers.map((answer) => JSON.stringify(credentialOf(answer)))).size).toBe(100);
      const works = await Promise.all(answers.map((answer) => under.use(credentialOf(answer), 'read', broker)));
      expect(works.filter(Boolean)).toHaveLength(100);
      if (under.upstream) expect(await under.upstream.artefacts()).toHaveLength(100);
      const some = grantOf(answers[17] as Answer).id;
      expect(await auditTypes(some)).toEqual(
        expect.arrayContaining([...(creates ? ['grant.intended'] : []), 'grant.issued']),
      );
      const revoked = await revoke({ connection: 'target' });
      expect(revoked.body['grants']).toBe(100);
      await nothingLeft();
      const still = await Promise.all(answers.map((answer) => under.use(credentialOf(answer), 'read', broker)));
      expect(still.filter(Boolean)).toHaveLength(0);
    });
  });
};
