/**
 * `ssh`: short-lived OpenSSH user certificates, signed by an authority whose key is the connection's secret. The server
 * trusts the authority and is asked by nobody: a certificate ends with its life, and before that where the server fetches
 * the connection's revocation list.
 */

import { createPrivateKey, createPublicKey, generateKeyPair, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { z } from 'zod';
import type { ConnectionSecret } from '../../src/ports/call-context.ts';
import type { MintRequest, Provider } from '../../src/ports/provider.ts';
import { ProviderFailure } from '../../src/ports/provider.ts';
import { checked, jsonSchemaOf, parsedOnce } from './shared/checking.ts';
import { makeCertificate } from './ssh/certificate.ts';
import { principalsOf, type Scope, sshSettings } from './ssh/permissions.ts';
import { isOpenSshPrivateKey, readOpenSshPrivateKey, writeOpenSshPrivateKey } from './ssh/private-key.ts';
import { fromLine, type SshPublicKey, toLine, toSsh } from './ssh/public-key.ts';
import { makeRevocationList, serialOf } from './ssh/revocation-list.ts';
import { Malformed } from './ssh/wire.ts';

/** Servers whose clock is behind by this take a new certificate all the same, and an old one for as long. */
const clockSkewSeconds = 60;
/** An authority lasts for years, and as ssh-keygen makes one; the key of a session may be what older tools make. */
const minAuthorityBits = 3072;
const minAgentBits = 2048;

const parsed = parsedOnce<z.infer<typeof sshSettings>>(sshSettings);

const parameters = z.strictObject({ public_key: z.string().max(4000).optional() });

const secret = z.strictObject({
  private_key: z
    .string()
    .max(16_384)
    .transform((text, context) => {
      try {
        return normalised(readPrivateKey(text));
      } catch (error) {
        const message = error instanceof Malformed ? error.message : 'not a private key in OpenSSH or PKCS8 format';
        context.addIssue({ code: 'custom', message });
        return z.NEVER;
      }
    }),
});

/** @throws Malformed */
const readPrivateKey = (text: string): KeyObject => {
  if (isOpenSshPrivateKey(text)) return readOpenSshPrivateKey(text);
  if (/ENCRYPTED/.test(text)) throw new Malformed('it is encrypted; give it without a passphrase');
  return createPrivateKey(text);
};

/** One spelling of one key, so that the same key given again is known as the same. @throws Malformed */
const normalised = (key: KeyObject): string => {
  const { type, bits = 0 } = toSsh(createPublicKey(key));
  if (type === 'ssh-rsa' && bits < minAuthorityBits) throw new Malformed(`RSA of at least ${minAuthorityBits} bits`);
  if (type !== 'ssh-rsa' && type !== 'ssh-ed25519' && type !== 'ecdsa-sha2-nistp256') {
    throw new Malformed('ed25519, ECDSA nistp256 or RSA');
  }
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
};

const authorities = new WeakMap<ConnectionSecret, KeyObject>();
/** Read once for each secret that is held opened; forgotten with it. */
const authorityOf = (held: ConnectionSecret): KeyObject => {
  const known = authorities.get(held) ?? createPrivateKey(held.fields['private_key']?.reveal() ?? '');
  authorities.set(held, known);
  return known;
};

const scopesOf = ({ connection, scopes }: Pick<MintRequest, 'connection' | 'scopes'>): Scope[] => {
  const offered = parsed(connection.settings).scopes;
  return scopes.flatMap((name) => (Object.hasOwn(offered, name) ? (offered[name] ?? []) : []));
};

/** The agent's key, or undefined when it sent none. @throws Malformed */
const agentKey = (given: unknown): SshPublicKey | undefined => {
  if (typeof given !== 'string') return undefined;
  const key = fromLine(given);
  if (key.type === 'ssh-rsa' && (key.bits ?? 0) < minAgentBits)
    throw new Malformed(`RSA of at least ${minAgentBits} bits`);
  return key;
};

const endSeconds = (request: MintRequest): number => Math.floor(request.expiresAt / 1000);

export const sshProvider: Provider = {
  type: 'ssh',
  enforcement: () => 'upstream',
  settingsSchema: jsonSchemaOf(sshSettings),
  checkSettings: (value) => checked<Record<string, unknown>>(sshSettings, value, 'settings'),
  checkSecret: (value) => checked<Record<string, string> | undefined>(secret, value, 'secret'),
  generateSecret: () => ({ private_key: normalised(generateKeyPairSync('ed25519').privateKey) }),
  scopes: (value) => Object.keys(parsed(value).scopes),

  checkRequest: (request) => {
    const given = checked<Record<string, unknown>>(parameters, request.parameters ?? {}, 'parameters');
    if (!given.ok) return given;
    const problems: string[] = [];
    try {
      agentKey(given.value['public_key']);
    } catch (error) {
      problems.push(`parameters.public_key: ${error instanceof Malformed ? error.message : 'not a public key'}`);
    }
    const scopes = scopesOf(request);
    // One certificate says one thing for all its principals: together, scopes would give more than each by itself.
    const together = new Set(
      scopes.map(({ extensions, critical_options }) => JSON.stringify([extensions, critical_options])),
    );
    if (together.size > 1) {
      problems.push('scopes: these differ in extensions or critical options; ask for a grant for each');
    }
    const principals = principalsOf(scopes, { agent: request.agent.name, subject: request.subject });
    return problems.length + principals.problems.length === 0
      ? given
      : { ok: false, problems: [...problems, ...principals.problems] };
  },

  plan: (request) => ({
    credentialType: 'ssh',
    handle: {
      serial: String(serialOf(request.grantId)),
      ends_by: (endSeconds(request) + clockSkewSeconds) * 1000,
    },
  }),

  mint: async (request, _plan, context) => {
    const held = await context.secret();
    if (!held) throw new ProviderFailure('refused', 'this connection has no key to sign with');
    const authority = authorityOf(held);
    const scopes = scopesOf(request);
    const given = agentKey(request.parameters?.['public_key']);
    const pair = given ? undefined : await promisify(generateKeyPair)('ed25519', undefined);
    const key = given ?? (pair && toSsh(pair.publicKey));
    const [first] = scopes;
    if (!key || !first) throw new ProviderFailure('refused', 'this connection does not offer these scopes any more');
    const { principals } = principalsOf(scopes, { agent: request.agent.name, subject: request.subject });
    const serial = serialOf(request.grantId);
    const keyId = `${request.grantId}:${request.agent.name}`;
    const certificate = await makeCertificate(authority, {
      publicKey: key,
      serial,
      keyId,
      principals,
      validAfter: Math.floor(request.issuedAt / 1000) - clockSkewSeconds,
      validBefore: endSeconds(request),
      criticalOptions: Object.fromEntries(
        Object.entries(first.critical_options).map(([name, value]) => [name, String(value)]),
      ),
      extensions: Object.fromEntries(
        first.extensions.map((text) => {
          const [, name = text, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
          return [name, value ?? true];
        }),
      ),
    });
    const { host, port } = parsed(request.connection.settings);
    return {
      credential: {
        type: 'ssh',
        ...(host === undefined ? {} : { host, port }),
        principals,
        certificate,
        public_key: toLine(key),
        ...(pair ? { private_key: writeOpenSshPrivateKey(pair.privateKey, keyId) } : {}),
        serial: String(serial),
        key_id: keyId,
        expires_at: new Date(endSeconds(request) * 1000).toISOString(),
        ca_public_key: toLine(toSsh(createPublicKey(authority))),
      },
    };
  },

  // The list tells servers that fetch it; whether they do, nobody knows here.
  revoke: async (grant) => ({ endsBy: Number(grant.handle?.['ends_by'] ?? 0) }),

  publicKey: (connection, held) =>
    toLine(toSsh(createPublicKey(authorityOf(held))), `warder:${connection.name}:${held.version}`),

  revocationList: {
    serial: serialOf,
    make: makeRevocationList,
  },
};
