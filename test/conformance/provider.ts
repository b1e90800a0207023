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
import type { HeldTokens } from '../../src/ports/authorization.ts';
import { type Handle, type Provider, type ProviderContext, ProviderFailure } from '../../src/ports/provider.ts';
import { type Answer, type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually, pause } from '../support/eventually.ts';

export type Credential = { type: string } & Record<string, unknown>;

export interface ProviderUnderTest {
  provider: Provider;
  /** What an operator writes to register a connection; scopes `read` and `write` must be offered. */
  settings: object;
  secret?: Record<string, string>;
  /** For OAuth connections: an account that is connected, for calls without a broker. */
  tokens?(): Promise<HeldTokens>;
  /** After the connection was registered: what else it needs before something can be issued. */
  prepare?(broker: Broker): Promise<void>;
  /** @returns whether the credential may do what the scope is for, as the system itself says */
  use(credential: Credential, scope: 'read' | 'write', broker: Broker): Promise<boolean>;
  /** What is upstream, and a way to put it into trouble; left out where nothing is made there. */
  upstream?: Upstream;
  /** What the provider keeps of a grant for its undo, where it keeps something. */
  keep?: Record<string, string>;
  /** A handle as minting journals it, where the planned one names nothing yet, so that revoking by it asks nobody. */
  journalled?: Handle;
  close(): Promise<void>;
}

export interface Upstream {
  /** Names of what was made and is there. */
  artefacts(): Promise<string[]>;
  /** Names of all that was ever made; given where an undo also reaches what is made after it, which is dead from the start. */
  made?(): Promise<string[]>;
  /** Ends all that ends by itself, as if its time were over; needed where something may live on. */
  elapse?(): Promise<void>;
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

/** What a provider can do, said beforehand: each trait has its own tests, and none goes without. */
export interface Traits {
  /** Whether minting makes something upstream: most of the suite is about that. */
  creates: boolean;
  /** Whether the tests can look into the upstream and put it into trouble: not into a real one. What needs it is skipped. */
  insight?: boolean;
  /** `life`: nothing can be taken back; it ends by itself, and until then that is what everybody is told. */
  revocation?: 'upstream' | 'life';
  /**
   * What the upstream made and nobody heard of, because of a crash or a lost answer: found and undone, or, where nobody
   * can find it again, `lives_on`: it ends by itself, was never delivered, and that is what everybody is told.
   */
  unheard?: 'undone' | 'lives_on';
  /**
   * The same of what was heard of before a crash: a provider that journals what its undo needs before `mint` returns
   * finds it again. As `unheard` unless told.
   */
  crashed?: 'undone' | 'lives_on';
  /** Whether one credential can be for several scopes. */
  scopesAtOnce?: 'several' | 'one';
  /** How many of a hundred that were issued at once are used; fewer where each use takes a process or two. */
  usedOfHundred?: number;
}

/** No credential that a grant of a minute brings lives longer than this by itself: an hour is common, and some slack. */
const longestLifeMs = 3_700_000;

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
  secret_source: null,
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
  kept: async () =>
    under.keep && Object.fromEntries(Object.entries(under.keep).map(([name, value]) => [name, new SecretText(value)])),
  replaceSecret: async () => 2,
  authorization: {
    redeem: async (_subject, work) => {
      if (!under.tokens) throw new Error('a provider that redeems says which tokens it has, for these tests');
      return (await work(await under.tokens(), signal)).result;
    },
  },
  signJwt: async () => 'eyJ.eyJ.sig',
});

export const providerConformance = (
  name: string,
  setup: () => Promise<ProviderUnderTest>,
  {
    creates,
    insight = true,
    revocation = 'upstream',
    unheard = 'undone',
    crashed = unheard,
    scopesAtOnce = 'several',
    usedOfHundred = 100,
  }: Traits,
): void => {
  describe(name, () => {
    let under: ProviderUnderTest;
    let broker: Broker;
    let token: string;
    /** Set, it is waited for after the real `mint`: between minting and settling. */
    let afterMint: (() => Promise<void>) | undefined;
    let settings: Record<string, unknown>;
    const skipped = (): void => undefined;
    const ifInsight = insight ? test : test.skip;
    const ifCreates = creates ? ifInsight : skipped;
    const [ifRevocable, ifLife] = revocation === 'upstream' ? [test, skipped] : [skipped, test];
    const ifCreatesRevocable = revocation === 'upstream' ? ifCreates : skipped;

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
    /** Where nobody can look inside, a credential is known to be dead when it stops working. */
    const refused = async (...answers: Answer[]): Promise<void> => {
      const working = async (): Promise<Answer[]> => {
        const works = await Promise.all(answers.map((answer) => under.use(credentialOf(answer), 'read', broker)));
        return answers.filter((_, index) => works[index]);
      };
      if (insight || !creates) {
        expect(await working()).toEqual([]);
        return;
      }
      await eventually('none works', working, (left) => left.length === 0);
    };
    /** What nobody can find again is told of, and ends by itself; everything else is gone. */
    const onlyToldOf = async (): Promise<void> => {
      if (unheard === 'undone') return nothingLeft();
      const { body } = await eventually(
        'every attempt is done with',
        () => broker.admin('GET', '/grants?connection=target&limit=200'),
        ({ body }) => (body['items'] as { status: string }[]).every(({ status }) => status !== 'intended'),
      );
      const attempts = (body['items'] as Record<string, unknown>[]).filter(({ status }) => status === 'aborted');
      for (const { upstream: there, upstream_ends_by: endsBy } of attempts.filter(
        (one) => one['upstream'] === 'live',
      )) {
        expect([there, Date.parse(String(endsBy))]).toEqual(['live', expect.any(Number)]);
        expect(Date.parse(String(endsBy))).toBeLessThan(Date.now() + longestLifeMs);
      }
      const left = await upstream().artefacts();
      expect(left.length).toBeLessThanOrEqual(attempts.filter((one) => one['upstream'] === 'live').length);
      await upstream().elapse?.();
      expect(await upstream().artefacts()).toEqual([]);
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
      await under.prepare?.(broker);
      expect((await broker.entitle('conformer', 'target', ['read', 'write'], { max_ttl_seconds: 60 })).status).toBe(
        201,
      );
      token = await broker.agentToken(agent);
    });
    afterEach(async () => {
      afterMint = undefined;
      await under.upstream?.trouble.well();
      await revoke({ connection: 'target' });
      if (revocation === 'life') await under.upstream?.elapse?.();
      await nothingLeft();
    });
    afterAll(async () => {
      await broker?.close();
      await under.close();
      removeTemporaryDirs();
    });

    test('what it issues works for all the scopes that were granted', async () => {
      const several = scopesAtOnce === 'several';
      const answer = await issue(several ? ['read', 'write'] : ['read']);
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
      const writes = several ? answer : await issue(['write']);
      expect(await under.use(credentialOf(writes), 'write', broker)).toBe(true);
      if (several) return;
      const both = await ask(['read', 'write']);
      expect([both.status, both.body['code']]).toEqual([400, 'invalid_request']);
    });

    test('what it issues is narrowed to the scopes that were granted', async () => {
      const answer = await issue(['read']);
      expect(await under.use(credentialOf(answer), 'read', broker)).toBe(true);
      expect(await under.use(credentialOf(answer), 'write', broker)).toBe(false);
    });

    test('a renewal prolongs the credential where that can be, and is refused where it cannot', async () => {
      const answer = await issue(['read'], { ttl_seconds: 1 });
      const renewed = await broker.json('POST', `/v1/grants/${grantOf(answer).id}/renew`, token, { ttl_seconds: 30 });
      if (!under.provider.renew || under.provider.renewable?.(settings) === false) {
        expect([renewed.status, renewed.body['code']]).toEqual([409, 'conflict']);
        return;
      }
      expect(renewed.status).toBe(200);
      const later = Date.parse(grantOf(renewed).expires_at) - Date.parse(grantOf(answer).expires_at);
      expect(later).toBeGreaterThan(28_000);
      await eventually('its first end is over', Date.now, (now) => now > Date.parse(grantOf(answer).expires_at) + 50);
      expect(await under.use(credentialOf(answer), 'read', broker)).toBe(true);
    });

    ifRevocable('a revocation ends it, here at once and upstream soon', async () => {
      const answer = await issue(['read']);
      const revoked = await revoke({ grant: grantOf(answer).id });
      expect(revoked.status).toBe(201);
      expect(revoked.body).toMatchObject({ grants: 1 });
      await nothingLeft();
      await refused(answer);
    });

    ifLife(
      'a revocation ends it here at once, and says until when it lives on upstream',
      async () => {
        const answer = await issue(['read'], { ttl_seconds: 3 });
        const revoked = await revoke({ grant: grantOf(answer).id });
        expect(revoked.body).toMatchObject({ grants: 1, upstream: { pending: 1, revoked: 0 } });
        const revocationNow = () => broker.admin('GET', `/revocations/${revoked.body['id']}`);
        const livesOn = ({ body }: Answer): boolean => (body['upstream'] as { lives_on: number }).lives_on === 1;
        const { body } = await eventually('it is known to live on', revocationNow, livesOn);
        expect(body).toMatchObject({ completed_at: null, upstream: { pending: 1, revoked: 0, unrevocable: 0 } });
        const { ends_by: endsBy } = body['upstream'] as { ends_by: string };
        const grant = (await broker.admin('GET', `/grants/${grantOf(answer).id}`)).body;
        expect(grant).toMatchObject({ status: 'revoked', upstream: 'live', upstream_ends_by: endsBy });
        expect(await under.use(credentialOf(answer), 'read', broker)).toBe(true);
        const completed = ({ body }: Answer): boolean => body['completed_at'] !== null;
        expect((await eventually('it has ended', revocationNow, completed, 15_000)).body).toMatchObject({
          grants: 1,
          upstream: { pending: 0, revoked: 1, unrevocable: 0, lives_on: 0, ends_by: null },
        });
        expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(endsBy));
        expect(await under.use(credentialOf(answer), 'read', broker)).toBe(false);
        const types = await auditTypes(grantOf(answer).id);
        expect(types.filter((type) => type === 'grant.lives_on')).toHaveLength(1);
        expect(types.at(-1)).toBe('grant.cleaned_up');
      },
      25_000,
    );

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
      // What cannot be taken back ends by itself: then it had better be soon.
      const life = revocation === 'life' ? { ttl_seconds: 2 } : {};
      const [returned, expired] = [await issue(['read'], life), await issue(['read'], { ttl_seconds: 1 })];
      const given = await broker.json('DELETE', `/v1/grants/${grantOf(returned).id}`, token);
      expect(given.status).toBe(204);
      await eventually(
        'the second has expired',
        () => under.use(credentialOf(expired), 'read', broker),
        (works) => !works,
      );
      await nothingLeft();
      await refused(returned);
    }, 20_000);

    const leaves = (trait: 'undone' | 'lives_on'): string =>
      trait === 'undone' ? 'leaves nothing upstream' : 'leaves what ends by itself, and says so';
    const leavesNothing = leaves(unheard);
    ifCreates(`a crash between minting and settling ${leaves(crashed)} after the next start`, async () => {
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
          if (crashed === 'undone') {
            await eventually('recovery has undone it', artefacts, (left) => left.length === 0);
          } else {
            const { body } = await eventually(
              'recovery has told of it',
              () => next.admin('GET', '/grants?connection=target&status=aborted', undefined, broker.adminToken),
              ({ body }) => (body['items'] as unknown[]).length >= 1,
            );
            const [newest] = body['items'] as Record<string, unknown>[];
            expect(newest).toMatchObject({ upstream: 'live', upstream_ends_by: expect.any(String) });
          }
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
      `an agent is told that the upstream failed, and the attempt ${leavesNothing}`,
      async () => {
        const { trouble } = upstream();
        for (const into of ['down', 'nonsense', 'halfDone', 'late'] as const) {
          await trouble[into]();
          const answer = await ask(['read']);
          expect([into, answer.status, answer.body['code']]).toEqual([into, 502, 'upstream_unavailable']);
          expect(answer.text).not.toContain('credential');
          await trouble.well();
          // What comes late is there by now (test/support/troubled-http.ts).
          if (unheard === 'lives_on' && into === 'late') await pause(600);
          await onlyToldOf();
        }
      },
      60_000,
    );

    ifCreates(`a late upstream that makes something after the answer ${leavesNothing}`, async () => {
      const { trouble, artefacts, made = artefacts } = upstream();
      const before = (await made()).length;
      await trouble.late();
      const answered = ask(['read']).then(() => trouble.well());
      // Watched for from the beginning: it is undone as soon as it is found.
      await Promise.all([answered, eventually('it is made after all', made, (all) => all.length === before + 1)]);
      await onlyToldOf();
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
          provider.revoke(
            { id: request.grantId, handle: under.journalled ?? plan.handle },
            request.connection,
            context,
          ),
      ]) {
        const began = performance.now();
        const failure = await call(bareContext(under, AbortSignal.timeout(200))).catch((error: unknown) => error);
        expect(performance.now() - began).toBeLessThan(2_000);
        // What cannot be taken back is not asked for.
        if (revocation === 'life' && !(failure instanceof Error)) continue;
        expect(failure).toBeInstanceOf(ProviderFailure);
        expect(failure).toMatchObject({ kind: 'timeout' });
      }
    });

    ifCreatesRevocable('what cannot be revoked while the upstream is down is revoked when it is back', async () => {
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
      const used = answers.filter((_, i) => i % Math.ceil(100 / usedOfHundred) === 0);
      const works = await Promise.all(used.map((answer) => under.use(credentialOf(answer), 'read', broker)));
      expect(works).toEqual(Array(usedOfHundred).fill(true));
      if (under.upstream) expect(await under.upstream.artefacts()).toHaveLength(100);
      const some = grantOf(answers[17] as Answer).id;
      expect(await auditTypes(some)).toEqual(
        expect.arrayContaining([...(creates ? ['grant.intended'] : []), 'grant.issued']),
      );
      const revoked = await revoke({ connection: 'target' });
      expect(revoked.body['grants']).toBe(100);
      if (revocation === 'life' && !insight) {
        const livesOn = ({ body }: Answer): boolean => (body['upstream'] as { lives_on: number }).lives_on === 100;
        await eventually('all are told of', () => broker.admin('GET', `/revocations/${revoked.body['id']}`), livesOn);
        return;
      }
      if (revocation === 'life') await under.upstream?.elapse?.();
      await nothingLeft();
      await refused(...used);
    });
  });
};
