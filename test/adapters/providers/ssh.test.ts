/** `ssh`: through the conformance suite with ssh-keygen as the judge, and what is its own. */
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { toLine, toSsh } from '../../../adapters/providers/ssh/public-key.ts';
import { sshProvider } from '../../../adapters/providers/ssh.ts';
import { providerConformance } from '../../conformance/provider.ts';
import { type Broker, removeTemporaryDirs, startBroker } from '../../support/broker.ts';
import { eventually } from '../../support/eventually.ts';
import { shortOrLong } from '../../support/length.ts';
import { hasKeygen, isInForce, isRevoked, makeKey, readCertificate, withKeygen } from '../../support/ssh-tools.ts';

const scopes = { read: { principals: ['reader'] }, write: { principals: ['writer'] } };
const freshKey = (): string => toLine(toSsh(generateKeyPairSync('ed25519').publicKey));

/** What a server does that trusts the authority and fetches the list. */
const accepts = async (broker: Broker, connection: string, line: string, principal: string): Promise<boolean> => {
  const read = readCertificate(line);
  const list = await broker.fetch(`/ssh/${connection}/krl`);
  return (
    read !== undefined &&
    isInForce(read) &&
    read.principals.includes(principal) &&
    !isRevoked(new Uint8Array(await list.arrayBuffer()), line)
  );
};

if (hasKeygen) {
  providerConformance(
    'ssh',
    async () => ({
      provider: sshProvider,
      settings: { scopes },
      secret: { private_key: makeKey(['-t', 'ed25519']).privateKey },
      use: (credential, scope, broker) =>
        accepts(broker, 'target', String(credential['certificate']), scope === 'read' ? 'reader' : 'writer'),
      close: async () => undefined,
    }),
    { creates: false, usedOfHundred: shortOrLong(10, 100) },
  );
}

describe('an ssh connection', () => {
  let broker: Broker;
  let token: string;
  const connect = (name: string, settings: object, secret: object = { generate: true }) =>
    broker.admin('POST', '/connections', { name, provider: 'ssh', settings, secret });
  const ask = (connection: string, asked: string[], more: object = {}) =>
    broker.grant(token, { connection, scopes: asked, ...more });
  const certificateOf = (answer: { body: Record<string, unknown> }) =>
    answer.body['credential'] as Record<string, string>;

  beforeAll(async () => {
    broker = await startBroker();
    const agent = await broker.agent('deployer');
    expect((await connect('servers', { scopes, host: 'web.example', port: 2222 })).status).toBe(201);
    await broker.entitle('deployer', 'servers', ['read', 'write']);
    token = await broker.agentToken(agent);
  });
  afterAll(async () => {
    await broker.close();
    removeTemporaryDirs();
  });

  withKeygen('certifies the key an agent gives, for the scope’s principals and the life of the grant', async () => {
    const publicKey = freshKey();
    const answer = await ask('servers', ['read'], {
      ttl_seconds: 120,
      parameters: { public_key: `${publicKey} me@here` },
    });
    expect(answer.status).toBe(201);
    const credential = certificateOf(answer);
    const grant = answer.body['grant'] as Record<string, string>;
    expect(credential).toMatchObject({ type: 'ssh', public_key: publicKey, host: 'web.example', port: 2222 });
    expect(credential).not.toHaveProperty('private_key');
    const read = readCertificate(String(credential['certificate']));
    expect(read).toMatchObject({
      keyId: `${grant['id']}:deployer`,
      serial: credential['serial'],
      principals: ['reader'],
      criticalOptions: [],
      extensions: ['permit-pty'],
    });
    const [, from = '', to = ''] = /^from (\S+) to (\S+)$/.exec(read?.valid ?? '') ?? [];
    expect(Date.parse(to)).toBeLessThanOrEqual(Date.parse(String(grant['expires_at'])));
    expect(Date.parse(to)).toBe(Date.parse(String(credential['expires_at'])));
    expect(Date.parse(to) - Date.parse(from)).toBeLessThanOrEqual(181_000);
  });

  withKeygen('makes a key for an agent that has none', async () => {
    const credential = certificateOf(await ask('servers', ['write']));
    expect(credential['private_key']).toContain('OPENSSH PRIVATE KEY');
    expect(readCertificate(String(credential['certificate']))?.principals).toEqual(['writer']);
  });

  test('publishes its authority, whose private key nobody was ever shown', async () => {
    const published = await (await broker.fetch('/ssh/servers/ca.pub')).text();
    const { ca_public_key: authority } = certificateOf(await ask('servers', ['read']));
    expect(published).toBe(`${authority} warder:servers:1\n`);
    expect((await broker.admin('GET', '/connections/servers')).text).not.toContain('PRIVATE');
    expect((await broker.admin('GET', '/audit')).text).not.toContain('PRIVATE');
  });

  test('signs with a new authority after a new secret, and the old list still holds', async () => {
    await connect('turning', { scopes });
    await broker.entitle('deployer', 'turning', ['read']);
    const before = await ask('turning', ['read']);
    const { body } = await broker.admin('PUT', '/connections/turning/secret', { generate: true });
    expect(body).toEqual({ version: 2 });
    const after = await ask('turning', ['read']);
    expect(certificateOf(after)['ca_public_key']).not.toBe(certificateOf(before)['ca_public_key']);
    await broker.admin('POST', '/revocations', { selector: { connection: 'turning' }, reason: 'test' });
    if (!hasKeygen) return;
    for (const answer of [before, after]) {
      expect(await accepts(broker, 'turning', String(certificateOf(answer)['certificate']), 'reader')).toBe(false);
    }
  });

  test('keeps a generated authority when the same access file is applied again', async () => {
    const document = {
      connections: [{ name: 'applied', provider: 'ssh', settings: { scopes }, secret: { generate: true } }],
    };
    const authority = async () => (await broker.fetch('/ssh/applied/ca.pub')).text();
    expect((await broker.admin('POST', '/apply', document)).body['changes']).toHaveLength(1);
    const before = await authority();
    expect(before).toContain('ssh-ed25519 ');
    expect((await broker.admin('POST', '/apply', document)).body['changes']).toEqual([]);
    expect(await authority()).toBe(before);
  });

  withKeygen('takes an authority from ssh-keygen or PKCS8, and refuses weak, encrypted and broken ones', async () => {
    const pkcs8 = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
      type: 'pkcs8',
      format: 'pem',
    });
    const rsa = makeKey(['-t', 'rsa', '-b', '3072']);
    expect((await connect('own-ec', { scopes }, { private_key: pkcs8 })).status).toBe(201);
    expect((await connect('own-rsa', { scopes }, { private_key: rsa.privateKey })).status).toBe(201);
    const published = await (await broker.fetch('/ssh/own-rsa/ca.pub')).text();
    expect(published.split(' ').slice(0, 2)).toEqual(rsa.publicKey.split(' ').slice(0, 2));
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({
      type: 'pkcs8',
      format: 'pem',
    });
    const curve = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({
      type: 'pkcs8',
      format: 'pem',
    });
    const bad: [unknown, string][] = [
      [{ private_key: weak }, 'at least 3072'],
      [{ private_key: curve }, 'ed25519, ECDSA nistp256 or RSA'],
      [{ private_key: makeKey(['-t', 'ed25519', '-N', 'locked']).privateKey }, 'encrypted'],
      [{ private_key: rsa.publicKey }, 'not a private key'],
      [{ private_key: 'canary-9f2c' }, 'not a private key'],
      [{ private_key: pkcs8, passphrase: 'canary-9f2c' }, 'passphrase'],
      [{ generate: true, private_key: pkcs8 }, 'generate'],
      [{ generate: 'yes' }, 'generate'],
      [{}, 'private_key'],
    ];
    for (const [secret, why] of bad) {
      const answer = await connect('bad', { scopes }, secret as object);
      expect([answer.status, answer.text]).toEqual([400, expect.stringContaining(why)]);
      expect(answer.text).not.toContain('canary-9f2c');
    }
  });

  test('refuses settings that would say something else to sshd', async () => {
    const scope = (more: object) => ({ scopes: { read: { principals: ['reader'], ...more } } });
    const bad: [object, string][] = [
      [{ scopes: {} }, 'settings.scopes'],
      [scope({ principals: [] }), 'settings.scopes.read.principals'],
      ...[
        'a,b',
        'a b',
        'a\nb',
        'a\u0000b',
        '-x',
        '*',
        '',
        '{agent}',
        '{subject}',
        'x{agent}',
        '{agent}-{subject}',
        '{who}-x',
      ].map((name): [object, string] => [scope({ principals: [name] }), 'settings.scopes.read.principals']),
      [scope({ principals: ['a', 'a'] }), 'twice'],
      ...['permit-everything', 'permit-pty ', 'a@b=c d', 'x@y.z=\n', 'permit-pty=1'].map((name): [object, string] => [
        scope({ extensions: [name] }),
        'settings.scopes.read.extensions',
      ]),
      [scope({ extensions: ['a@b=1', 'a@b=2'] }), 'twice'],
      ...[
        '10.0.0.1/8',
        '10.0.0.0/33',
        '::1/64',
        'example.com',
        '10.0.0.0/08',
        '10.1',
        '0x7f.1',
        'fe80::1%eth0',
        '!10.0.0.0/8',
      ].map((address): [object, string] => [
        scope({ critical_options: { 'source-address': [address] } }),
        'source-address',
      ]),
      [scope({ critical_options: { 'force-command': 'a\nb' } }), 'force-command'],
      [scope({ critical_options: { 'verify-required': true } }), 'verify-required'],
      [{ ...scope({}), host: 'a b' }, 'settings.host'],
    ];
    for (const [settings, where] of bad) {
      const answer = await connect('bad', settings);
      expect([settings, answer.status, answer.text]).toEqual([settings, 400, expect.stringContaining(where)]);
    }
    const good = scope({
      principals: ['agent-{agent}', '{agent}@hosts', 'host:root'],
      extensions: ['login@github.com=robot', 'permit-port-forwarding'],
      critical_options: { 'source-address': ['10.0.0.0/8', '2001:db8::/32', '192.0.2.7'], 'force-command': 'uptime' },
    });
    expect((await connect('good', good)).status).toBe(201);
  });

  test('puts the agent’s name into principals, and asks for a subject where it is for one', async () => {
    await connect('named', {
      scopes: { mine: { principals: ['agent-{agent}'] }, person: { principals: ['{subject}@people'] } },
    });
    await broker.entitle('deployer', 'named', ['mine', 'person']);
    expect(certificateOf(await ask('named', ['mine']))['principals']).toEqual(['agent-deployer']);
    const refused = await ask('named', ['person']);
    expect([refused.status, refused.body['code'], refused.text]).toEqual([
      400,
      'invalid_request',
      expect.stringContaining('acting as a person'),
    ]);
  });

  test('never puts a hostile subject into a principal', () => {
    const request = (subject: string) => ({
      ...{
        grantId: 'grt_1',
        agent: { id: 'agt_1', name: 'deployer' },
        scopes: ['person'],
        issuedAt: 0,
        expiresAt: 60_000,
      },
      subject,
      connection: {
        ...{
          id: 'con_1',
          name: 'x',
          provider: 'ssh',
          owner: null,
          status: 'active' as const,
          secret_version: 1,
          secret_source: null,
        },
        ...{ version: 1, created_at: 0, updated_at: 0 },
        settings: {
          scopes: { person: { principals: ['p-{subject}'], extensions: [], critical_options: {} } },
          port: 22,
        },
      },
    });
    expect(sshProvider.checkRequest?.(request('ann@example.com'))).toEqual({ ok: true, value: {} });
    for (const subject of ['a,root', 'a b', 'a\nroot', 'a\u0000', '$&root', 'é', 'x'.repeat(200), '{agent}']) {
      const checked = sshProvider.checkRequest?.(request(subject));
      expect([subject, checked?.ok]).toEqual([subject, false]);
    }
  });

  test('gives scopes together only when one certificate can say no more than they do', async () => {
    await connect('mixed', {
      scopes: {
        shell: { principals: ['deploy'] },
        backup: { principals: ['backup'], critical_options: { 'force-command': 'backup' } },
        logs: { principals: ['logs'], extensions: ['permit-pty'] },
      },
    });
    await broker.entitle('deployer', 'mixed', ['shell', 'backup', 'logs']);
    expect(certificateOf(await ask('mixed', ['shell', 'logs']))['principals']).toEqual(['deploy', 'logs']);
    const refused = await ask('mixed', ['shell', 'backup']);
    expect([refused.status, refused.text]).toEqual([400, expect.stringContaining('ask for a grant for each')]);
  });

  test('refuses parameters it does not know and keys that are not good ones', async () => {
    const weak = toLine(toSsh(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey));
    const bad: unknown[] = [
      { public_key: weak },
      { public_key: 'ssh-dss AAAAB3NzaC1kc3MAAAAA' },
      { public_key: `command="sh" ${freshKey()}` },
      { public_key: `${freshKey()}\n${freshKey()}` },
      { public_key: 7 },
      { public_key: 'x'.repeat(4001) },
      { public_key: 'x'.repeat(10_000) },
      { public_key: freshKey(), principals: ['root'] },
      { __proto__: null, constructor: 1 },
      [],
      'text',
    ];
    for (const parameters of bad) {
      const answer = await ask('servers', ['read'], { parameters });
      expect([parameters, answer.status, answer.body['code']]).toEqual([parameters, 400, 'invalid_request']);
    }
  });

  test('records of the parameters only their digest', async () => {
    const publicKey = freshKey();
    const answer = await ask('servers', ['read'], { parameters: { public_key: publicKey } });
    const { id } = answer.body['grant'] as { id: string };
    const { text } = await broker.admin('GET', `/audit?grant=${id}`);
    expect(text).toContain('parameters_sha256');
    expect(text).not.toContain(publicKey.split(' ')[1]);
  });

  test('other kinds of connection take no parameters', async () => {
    await broker.connection('plain', 'http://127.0.0.1:9', {});
    await broker.entitle('deployer', 'plain', ['all']);
    const answer = await ask('plain', ['all'], { parameters: { public_key: freshKey() } });
    expect([answer.status, answer.text]).toEqual([400, expect.stringContaining('takes none')]);
    const made = await broker.admin('PUT', '/connections/plain/secret', { generate: true });
    expect([made.status, made.text]).toEqual([400, expect.stringContaining('cannot make one')]);
  });

  test('says of a revocation that certificates live on, and until when', async () => {
    const answer = await ask('servers', ['read'], { ttl_seconds: 60 });
    const { id } = answer.body['grant'] as { id: string };
    const revoked = await broker.admin('POST', '/revocations', { selector: { grant: id }, reason: 'test' });
    expect(revoked.status).toBe(201);
    const { credential } = answer.body as { credential: Record<string, string> };
    const { body } = await eventually(
      'the drain has asked the provider',
      () => broker.admin('GET', `/grants/${id}`),
      ({ body }) => body['upstream_ends_by'] !== null,
    );
    expect(body).toMatchObject({ upstream: 'live', upstream_ends_by: expect.any(String) });
    // A server's clock may be a minute behind.
    const after = Date.parse(String(body['upstream_ends_by'])) - Date.parse(String(credential['expires_at']));
    expect(after).toBe(60_000);
  });
});

test('what a generated authority is: ed25519, in the form a given one is kept in', () => {
  const made = sshProvider.generateSecret?.();
  const checked = sshProvider.checkSecret(made);
  expect(checked).toEqual({ ok: true, value: made });
  expect(createPublicKey(made?.['private_key'] ?? '').asymmetricKeyType).toBe('ed25519');
});
