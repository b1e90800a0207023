/** Keys, certificates and revocation lists as Warder writes them, read by OpenSSH's own ssh-keygen. */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type CertificateFacts, makeCertificate } from '../../../adapters/providers/ssh/certificate.ts';
import { readOpenSshPrivateKey, writeOpenSshPrivateKey } from '../../../adapters/providers/ssh/private-key.ts';
import { fromLine, toLine, toSsh } from '../../../adapters/providers/ssh/public-key.ts';
import { makeRevocationList, serialOf } from '../../../adapters/providers/ssh/revocation-list.ts';
import { Malformed, mpint, Reader, string, uint32 } from '../../../adapters/providers/ssh/wire.ts';
import { revocationListConformance } from '../../conformance/revocation-list.ts';
import { removeTemporaryDirs } from '../../support/broker.ts';
import { folder, hasKeygen, isRevoked, keygen, makeKey, readCertificate, withKeygen } from '../../support/ssh-tools.ts';

afterAll(removeTemporaryDirs);

const authority = generateKeyPairSync('ed25519').privateKey;
const agent = toSsh(generateKeyPairSync('ed25519').publicKey);
const facts: CertificateFacts = {
  publicKey: agent,
  serial: 7n,
  keyId: 'grt_1:deployer',
  principals: ['deploy'],
  validAfter: 1_800_000_000,
  validBefore: 1_800_000_300,
  criticalOptions: {},
  extensions: {},
};
const list = (serials: bigint[]): Uint8Array =>
  makeRevocationList(new BigUint64Array(serials), { number: 1, at: 1_800_000_000_000, comment: 'test' });

describe('data types', () => {
  test('a number comes back as it went in, in its shortest form', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        const read = new Reader(mpint(bytes));
        const first = bytes.findIndex((byte) => byte !== 0);
        expect([...read.mpint()]).toEqual(first < 0 ? [] : [...bytes.subarray(first)]);
        read.end();
      }),
    );
  });

  test('bytes that are cut off anywhere, or followed by something, are refused and never read past', () => {
    const whole = agent.blob;
    for (let length = 0; length < whole.length; length += 1) {
      const line = `ssh-ed25519 ${whole.subarray(0, length).toString('base64')}`;
      expect(() => fromLine(line)).toThrow(Malformed);
    }
    expect(() => fromLine(`ssh-ed25519 ${Buffer.concat([whole, Buffer.of(0)]).toString('base64')}`)).toThrow(Malformed);
  });
});

describe('public keys', () => {
  withKeygen('of every type that is taken are read and written back byte for byte', () => {
    const kinds = [
      ['-t', 'ed25519'],
      ['-t', 'ecdsa', '-b', '256'],
      ['-t', 'ecdsa', '-b', '384'],
      ['-t', 'ecdsa', '-b', '521'],
      ['-t', 'rsa', '-b', '2048'],
    ];
    for (const kind of kinds) {
      const { publicKey } = makeKey(kind);
      expect(toLine(fromLine(publicKey), 'test')).toBe(publicKey);
    }
  });

  withKeygen('of other types, with options before them, or that are certificates, are refused', async () => {
    const good = toLine(agent);
    const [type = '', blob = ''] = good.split(' ');
    const certificate = await makeCertificate(authority, facts);
    const offCurve = Buffer.concat([string('ecdsa-sha2-nistp256'), string('nistp256'), string(Buffer.alloc(65, 4))]);
    const negative = Buffer.concat([string('ssh-rsa'), string(Buffer.of(3)), string(Buffer.alloc(256, 0xff))]);
    const giant = Buffer.concat([string('ssh-rsa'), mpint(Buffer.of(1, 0, 1)), mpint(Buffer.alloc(4096, 0x7f))]);
    const bad = [
      '',
      ' ',
      type,
      blob,
      `${type}  ${blob}`,
      ` ${good}`,
      `${good}\n`,
      `${good}\n${good}`,
      `${good} comment\u0000`,
      `${good} commen\u00e9`,
      `no-pty ${good}`,
      `command="id" ${good}`,
      `cert-authority ${good}`,
      `ssh-rsa ${blob}`,
      `ssh-dss ${Buffer.concat([string('ssh-dss'), mpint(Buffer.of(5))]).toString('base64')}`,
      `sk-ssh-ed25519@openssh.com ${blob}`,
      `ecdsa-sha2-nistp256 ${offCurve.toString('base64')}`,
      `ssh-rsa ${negative.toString('base64')}`,
      `ssh-rsa ${giant.toString('base64')}`,
      `ssh-ed25519 ${Buffer.concat([string('ssh-ed25519'), string(Buffer.alloc(33))]).toString('base64')}`,
      `ssh-ed25519 ${Buffer.concat([string('ssh-ed25519'), uint32(0xffffffff)]).toString('base64')}`,
      `${type} ${blob.replace('A', 'A=')}`,
      `${type} ${blob}AAAA`,
      certificate,
      makeKey(['-t', 'ed25519']).privateKey,
    ];
    for (const line of bad) expect(() => fromLine(line)).toThrow(Malformed);
  });

  test('that are garbage are refused and nothing else', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.base64String()), fc.boolean(), (text, typed) => {
        expect(() => fromLine(typed ? `ssh-ed25519 ${text}` : text)).toThrow(Malformed);
      }),
    );
    fc.assert(
      fc.property(fc.nat(agent.blob.length - 33), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const blob = Buffer.from(agent.blob);
        blob[at] = (blob[at] ?? 0) ^ flip;
        expect(() => fromLine(`ssh-ed25519 ${blob.toString('base64')}`)).toThrow(Malformed);
      }),
    );
  });
});

describe('private keys', () => {
  withKeygen('in the format of ssh-keygen are read', () => {
    for (const kind of [['ed25519'], ['ecdsa', '-b', '256'], ['rsa', '-b', '3072']]) {
      const { privateKey, publicKey } = makeKey(['-t', ...kind]);
      expect(toLine(toSsh(createPublicKey(readOpenSshPrivateKey(privateKey))), 'test')).toBe(publicKey);
    }
  });

  withKeygen('that are encrypted, cut off or damaged are refused, and nothing of them is repeated', () => {
    const locked = makeKey(['-t', 'ed25519', '-N', 'a passphrase']).privateKey;
    expect(() => readOpenSshPrivateKey(locked)).toThrow('encrypted');
    const { privateKey } = makeKey(['-t', 'ed25519']);
    const [begin, end] = ['-----BEGIN OPENSSH PRIVATE KEY-----', '-----END OPENSSH PRIVATE KEY-----'];
    const blob = Buffer.from(privateKey.replace(/-----[^-]+-----/g, ''), 'base64');
    const spelled = (bytes: Buffer): string => `${begin}\n${bytes.toString('base64')}\n${end}\n`;
    for (let length = 0; length < blob.length; length += 1) {
      expect(() => readOpenSshPrivateKey(spelled(blob.subarray(0, length)))).toThrow(Malformed);
    }
    // The public half, the check numbers, the seed: each change is noticed.
    for (const at of [60, 100, 110, 165]) {
      const changed = Buffer.from(blob);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(() => readOpenSshPrivateKey(spelled(changed))).toThrow(Malformed);
    }
  });

  withKeygen('that Warder writes are read by ssh-keygen', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[\x21-\x7e]{0,40}$/), (comment) => {
        const { privateKey, publicKey } = generateKeyPairSync('ed25519');
        const path = join(folder(), 'key');
        writeFileSync(path, writeOpenSshPrivateKey(privateKey, comment), { mode: 0o600 });
        const { stdout, stderr } = keygen(['-y', '-f', path]);
        expect([stdout.trim().split(' ').slice(0, 2).join(' '), stderr]).toEqual([toLine(toSsh(publicKey)), '']);
      }),
      { numRuns: 20 },
    );
  });
});

describe('certificates', () => {
  withKeygen('say to ssh-keygen what was put in', async () => {
    const line = await makeCertificate(authority, {
      ...facts,
      serial: 18_446_744_073_709_551_615n,
      principals: ['deploy', 'web'],
      criticalOptions: { 'source-address': '10.0.0.0/8,::1', 'force-command': '/bin/uptime -p' },
      extensions: { 'permit-pty': true, 'login@github.com': 'robot' },
    });
    expect(readCertificate(line)).toMatchObject({
      type: 'ssh-ed25519-cert-v01@openssh.com user certificate',
      keyId: 'grt_1:deployer',
      serial: '18446744073709551615',
      principals: ['deploy', 'web'],
      criticalOptions: ['force-command /bin/uptime -p', 'source-address 10.0.0.0/8,::1'],
      extensions: [expect.stringContaining('login@github.com'), 'permit-pty'],
    });
  });

  withKeygen(
    'of every kind of key under every kind of authority have a signature that ssh-keygen accepts',
    async () => {
      const authorities = [['ed25519'], ['ecdsa', '-b', '256'], ['rsa', '-b', '3072']].map((kind) =>
        readOpenSshPrivateKey(makeKey(['-t', ...kind]).privateKey),
      );
      const keys = [['ed25519'], ['ecdsa', '-b', '256'], ['ecdsa', '-b', '384'], ['ecdsa', '-b', '521'], ['rsa']].map(
        (kind) => fromLine(makeKey(['-t', ...kind]).publicKey),
      );
      for (const signer of authorities) {
        for (const publicKey of keys) {
          const line = await makeCertificate(signer, { ...facts, publicKey });
          expect(readCertificate(line)?.type).toBe(`${publicKey.type}-cert-v01@openssh.com user certificate`);
        }
      }
    },
    30_000,
  );

  withKeygen('of which one byte is changed are none', async () => {
    const [type = '', text = ''] = (await makeCertificate(authority, facts)).split(' ');
    const blob = Buffer.from(text, 'base64');
    for (let at = 40; at < blob.length; at += 23) {
      const changed = Buffer.from(blob);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(readCertificate(`${type} ${changed.toString('base64')}`)).toBeUndefined();
    }
  });

  withKeygen(
    'read back as they were made, whatever serial, principals, times and options',
    async () => {
      const word = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.@:+-]{0,30}$/);
      await fc.assert(
        fc.asyncProperty(
          fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
          fc.uniqueArray(word, { minLength: 1, maxLength: 8 }),
          fc.subarray(['permit-X11-forwarding', 'permit-agent-forwarding', 'permit-pty', 'permit-user-rc']),
          fc.integer({ min: 1_000_000_000, max: 2_000_000_000 }),
          async (serial, principals, extensions, validAfter) => {
            const line = await makeCertificate(authority, {
              ...facts,
              serial,
              principals,
              extensions: Object.fromEntries(extensions.map((name) => [name, true] as const)),
              validAfter,
              validBefore: validAfter + 300,
            });
            const read = readCertificate(line);
            expect(read).toMatchObject({ serial: String(serial), principals, extensions: [...extensions].sort() });
            const [, from = '', to = ''] = /^from (\S+) to (\S+)$/.exec(read?.valid ?? '') ?? [];
            expect([Date.parse(from), Date.parse(to)]).toEqual([validAfter * 1000, (validAfter + 300) * 1000]);
          },
        ),
        { numRuns: 25 },
      );
    },
    30_000,
  );
});

describe('revocation lists', () => {
  withKeygen('are under any authority, and name no plain key', async () => {
    const other = generateKeyPairSync('ed25519').privateKey;
    const made = list([7n]);
    expect(isRevoked(made, await makeCertificate(other, facts))).toBe(true);
    expect(isRevoked(made, toLine(agent))).toBe(false);
  });
});

if (hasKeygen) {
  revocationListConformance('ssh', { serial: serialOf, make: makeRevocationList }, () => ({
    refuses: async (made, grantId) =>
      isRevoked(made, await makeCertificate(authority, { ...facts, serial: serialOf(grantId) })),
  }));
}

test('a key in PKCS8 is the same key', () => {
  const pem = authority.export({ type: 'pkcs8', format: 'pem' }).toString();
  expect(toSsh(createPublicKey(createPrivateKey(pem))).blob).toEqual(toSsh(createPublicKey(authority)).blob);
});
