/** Everything else that takes access away, and what does not bring it back. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Answer, type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { credentialIn, exercises, grantIn, items, openScene, type Scene } from './scene.ts';

let scene: Scene;
let broker: Broker;
beforeAll(async () => {
  scene = await openScene();
  broker = scene.broker;
});
afterAll(async () => {
  await scene.close();
  removeTemporaryDirs();
});

describe('what takes access away', () => {
  const shortOf = (answer: Answer): [number, unknown] => [answer.status, answer.body['code']];
  const useCode = async (token: string, baseUrl: string): Promise<unknown> => {
    const response = await fetch(`${baseUrl}/x`, { headers: { authorization: `Bearer ${token}` } });
    const text = await response.text();
    return response.status === 200 ? 200 : (JSON.parse(text) as { code: unknown }).code;
  };

  test('a suspended agent can do nothing, and again all it could when it is resumed', async () => {
    const side = await scene.makeSide('suspended');
    const [token, grant, stream] = [
      await broker.agentToken(side.agent),
      await scene.issue(side, side.gateway),
      await scene.streaming(side),
    ];
    await broker.admin('PATCH', '/agents/suspended', { status: 'suspended' });
    expect(shortOf(await broker.json('GET', '/v1/connections', token))).toEqual([403, 'agent_suspended']);
    expect(shortOf(await broker.json('POST', `/v1/grants/${grant.id}/renew`, token, {}))).toEqual([
      403,
      'agent_suspended',
    ]);
    expect(await useCode(grant.token, grant.baseUrl)).toBe('agent_suspended');
    expect(await stream.alive()).toBe(false);
    const refused = await broker.form('/token', { grant_type: 'client_credentials' }, side.agent);
    expect([refused.status, refused.body['error']]).toEqual([400, 'unauthorized_client']);
    await broker.admin('PATCH', '/agents/suspended', { status: 'active' });
    expect((await broker.json('GET', '/v1/connections', token)).status).toBe(200);
    expect(await useCode(grant.token, grant.baseUrl)).toBe(200);
  });

  test('a revocation that suspends leaves dead what it killed when the agent is resumed', async () => {
    const side = await scene.makeSide('stopped');
    const [token, grant] = [await broker.agentToken(side.agent), await scene.issue(side, side.gateway)];
    await scene.revoke({ agent: 'stopped' }, { suspend: true });
    expect(shortOf(await broker.json('GET', '/v1/connections', token))).toEqual([401, 'revoked']);
    expect((await broker.admin('GET', '/agents/stopped')).body['status']).toBe('suspended');
    await broker.admin('PATCH', '/agents/stopped', { status: 'active' });
    expect(shortOf(await broker.json('GET', '/v1/connections', token))).toEqual([401, 'revoked']);
    expect(await useCode(grant.token, grant.baseUrl)).toBe('revoked');
    const again = await scene.issue(side, side.gateway);
    expect(await useCode(again.token, again.baseUrl)).toBe(200);
  });

  test('a suspended connection is not used, and is again when it is resumed', async () => {
    const side = await scene.makeSide('paused');
    const grant = await scene.issue(side, side.gateway);
    await broker.admin('PATCH', '/connections/paused-gateway', { status: 'suspended' });
    expect(await useCode(grant.token, grant.baseUrl)).toBe('not_entitled');
    const asked = await broker.grant(await broker.agentToken(side.agent), {
      connection: 'paused-gateway',
      scopes: ['use'],
    });
    expect(shortOf(asked)).toEqual([403, 'not_entitled']);
    await broker.admin('PATCH', '/connections/paused-gateway', { status: 'active' });
    expect(await useCode(grant.token, grant.baseUrl)).toBe(200);
  });

  test('a deleted agent is gone with all it holds, and another of its name inherits nothing', async () => {
    const side = await scene.makeSide('deleted');
    const [token, grant, stream] = [
      await broker.agentToken(side.agent),
      await scene.issue(side, side.gateway),
      await scene.streaming(side),
    ];
    const made = await scene.issue(side, side.made);
    expect((await broker.admin('DELETE', '/agents/deleted')).status).toBe(204);
    expect((await broker.json('GET', '/v1/connections', token)).status).toBe(401);
    expect(await useCode(grant.token, grant.baseUrl)).toBe('revoked');
    expect(await stream.alive()).toBe(false);
    await eventually(
      'the account is gone',
      () => scene.upstream.accounts(),
      (accounts) => !accounts.some(({ name }) => name.endsWith(made.id)),
    );
    await broker.agent('deleted', side.owner);
    expect((await broker.json('GET', '/v1/connections', token)).status).toBe(401);
    expect(await useCode(grant.token, grant.baseUrl)).toBe('revoked');
    const secret = await broker.form('/token', { grant_type: 'client_credentials' }, side.agent);
    expect([secret.status, secret.body['error']]).toEqual([401, 'invalid_client']);
  });

  test('a deleted connection, and a deleted or narrowed entitlement, kill what came of them', async () => {
    const side = await scene.makeSide('lessened');
    const connection = await scene.issue(side, side.gateway);
    expect((await broker.admin('DELETE', '/connections/lessened-gateway')).status).toBe(204);
    expect(await useCode(connection.token, connection.baseUrl)).toBe('revoked');

    const second = await scene.makeSide('narrowed');
    const deleted = await scene.issue(second, second.gateway);
    expect((await broker.admin('DELETE', `/entitlements/${second.gateway.entitlement}`)).status).toBe(204);
    expect(await useCode(deleted.token, deleted.baseUrl)).toBe('revoked');

    const third = await scene.makeSide('shortened');
    const shortened = await scene.issue(third, third.gateway);
    const patch = await broker.admin('PATCH', `/entitlements/${third.gateway.entitlement}`, { max_ttl_seconds: 60 });
    expect(patch.status).toBe(200);
    expect(await useCode(shortened.token, shortened.baseUrl)).toBe('revoked');
  });

  test('a new client secret kills what the old one obtained', async () => {
    const side = await scene.makeSide('renewed');
    const [token, grant] = [await broker.agentToken(side.agent), await scene.issue(side, side.gateway)];
    const renewed = await broker.admin('POST', '/agents/renewed/secret');
    expect(renewed.status).toBe(201);
    expect(shortOf(await broker.json('GET', '/v1/connections', token))).toEqual([401, 'revoked']);
    expect(await useCode(grant.token, grant.baseUrl)).toBe('revoked');
    const clientSecret = String(renewed.body['client_secret']);
    expect(await broker.agentToken({ clientId: 'renewed', clientSecret })).toMatch(/^wdr_at_/);
  });

  test('after a change of owner, revoking the old owner and revoking the new one both kill', async () => {
    for (const [name, revoked] of [
      ['moved-one', 'old'],
      ['moved-two', 'new'],
    ] as const) {
      const side = await scene.makeSide(name);
      const [token, before] = [await broker.agentToken(side.agent), await scene.issue(side, side.gateway)];
      await broker.admin('PATCH', `/agents/${name}`, { owner: `new-${name}@example.com` });
      const after = await scene.issue(side, side.gateway);
      expect(await useCode(before.token, before.baseUrl)).toBe(200);
      const owner = revoked === 'old' ? side.owner : `new-${name}@example.com`;
      const answer = await scene.revoke({ owner });
      expect(await useCode(before.token, before.baseUrl)).toBe('revoked');
      expect(shortOf(await broker.json('GET', '/v1/connections', token))).toEqual([401, 'revoked']);
      // What was issued under the new owner has nothing to do with the old one.
      expect(await useCode(after.token, after.baseUrl)).toBe(revoked === 'old' ? 200 : 'revoked');
      expect(await countOf(answer)).toBe(revoked === 'old' ? 1 : 2);
    }
  });

  const countOf = async (answer: Answer): Promise<unknown> => {
    const id = String(answer.body['id']);
    const { body } = await eventually(
      'it is counted',
      () => broker.admin('GET', `/revocations/${id}`),
      ({ body }) => body['grants'] !== null,
    );
    return body['grants'];
  };

  test('revoking again counts nothing, and a dry run counts right and changes nothing', async () => {
    const side = await scene.makeSide('counted');
    const grants = [
      await scene.issue(side, side.gateway),
      await scene.issue(side, side.jwt),
      await scene.issue(side, side.made),
    ];
    const plan = { selector: { agent: 'counted' }, reason: 'a plan', suspend: true, dry_run: true };
    const dry = await broker.admin('POST', '/revocations', plan);
    expect(dry.status).toBe(200);
    expect(dry.body).toMatchObject({
      dry_run: true,
      grants: 3,
      upstream: { pending: 1 },
      agents: [{ name: 'counted', would_suspend: true }],
    });
    expect(await useCode(grants[0]?.token ?? '', grants[0]?.baseUrl ?? '')).toBe(200);
    expect((await broker.admin('GET', '/agents/counted')).body['status']).toBe('active');
    expect((await scene.upstream.accounts()).some(({ name }) => name.endsWith(grants[2]?.id ?? ''))).toBe(true);

    expect(await countOf(await scene.revoke({ agent: 'counted' }))).toBe(3);
    expect(await countOf(await scene.revoke({ agent: 'counted' }))).toBe(0);
    const again = await broker.admin('POST', '/revocations', { ...plan, suspend: false });
    expect(again.body).toMatchObject({ grants: 0, upstream: { pending: 0 } });
  });

  test('a grant that is taken back while it is made is recorded as aborted, never as issued', async () => {
    const side = await scene.makeSide('barrier');
    await scene.upstream.behave('create', { kind: 'hold' });
    const living = await exercises.settle['a grant between minting and settling']?.(scene, side);
    await scene.upstream.behave('create', { kind: 'ok' });
    await scene.revoke({ agent: 'barrier' });
    expect(await living?.alive()).toBe(false);
    const log = items(await broker.admin('GET', `/audit?grant=${living?.facts.grant}`));
    expect(log.map(({ type }) => type).reverse()).toEqual(['grant.intended', 'grant.aborted']);
    const grant = await broker.admin('GET', `/grants/${living?.facts.grant}`);
    expect(grant.body).toMatchObject({ status: 'aborted', upstream: 'gone' });
  });

  test('what was revoked stays so for whoever returns or renews it, and the agent is told so', async () => {
    const side = await scene.makeSide('stubborn');
    const { id } = await scene.issue(side, side.made);
    await scene.revoke({ grant: id });
    const token = await broker.agentToken(side.agent);
    expect(shortOf(await broker.json('POST', `/v1/grants/${id}/renew`, token, {}))).toEqual([401, 'revoked']);
    expect((await broker.json('DELETE', `/v1/grants/${id}`, token)).status).toBe(204);
    const seen = await eventually(
      'it is cleaned up',
      () => broker.admin('GET', `/grants/${id}`),
      ({ body }) => body['upstream'] === 'gone',
    );
    expect(seen.body['status']).toBe('revoked');
  });
});

describe('a restart', () => {
  test('revives nothing: revoked, returned, suspended and deleted things stay dead', async () => {
    const dataDir = temporaryDir();
    const first = await startBroker({ dataDir });
    const agents = [];
    for (const name of ['kept', 'fenced', 'suspended', 'deleted', 'returned']) {
      const agent = await first.agent(name, `${name}@example.com`);
      await first.connection(`${name}-gateway`, scene.targetUrl);
      await first.entitle(name, `${name}-gateway`, ['all']);
      const token = await first.agentToken(agent);
      const answer = await first.grant(token, { connection: `${name}-gateway`, scopes: ['all'] });
      agents.push({ name, token, id: grantIn(answer).id, gateway: credentialIn(answer).token });
    }
    const returned = agents.find(({ name }) => name === 'returned');
    await first.admin('POST', '/revocations', { selector: { owner: 'fenced@example.com' }, reason: 'a test' });
    await first.admin('PATCH', '/agents/suspended', { status: 'suspended' });
    await first.admin('DELETE', '/agents/deleted');
    await first.json('DELETE', `/v1/grants/${returned?.id}`, returned?.token ?? '');
    await first.close();

    const second = await startBroker({ dataDir });
    const now = await Promise.all(
      agents.map(async ({ name, token, gateway }) => {
        const headers = { authorization: `Bearer ${gateway}` };
        const use = await second.fetch(`/gateway/${name}-gateway/x`, { headers });
        await use.arrayBuffer();
        return [name, use.status, (await second.json('GET', '/v1/connections', token)).status];
      }),
    );
    await second.close();
    expect(now).toEqual([
      ['kept', 200, 200],
      ['fenced', 401, 401],
      ['suspended', 403, 403],
      ['deleted', 401, 401],
      ['returned', 401, 200],
    ]);
  });
});
