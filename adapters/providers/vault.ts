/**
 * `vault`: dynamic secrets of a HashiCorp Vault or an OpenBao. Vault narrows what it makes by the path it is made at.
 *
 * Vault names a lease only in the answer that has the secret, so that an answer nobody hears would leave a lease nobody
 * knows. Therefore each grant has a token of its own (`child_tokens`): its accessor is recorded before the secret is
 * asked for with it, and ending it ends every lease that was made with it. docs/adr/0016-vault-child-tokens.md
 */
import { z } from 'zod';
import { type MintRequest, type Provider, type ProviderContext, ProviderFailure } from '../../src/ports/provider.ts';
import type { Network } from '../network.ts';
import type { VaultReply, VaultRequest } from '../vault/client.ts';
import { encodePath } from '../vault/path.ts';
import type { VaultSession } from '../vault/session.ts';
import { trustIn } from './shared/certificates.ts';
import { checked, jsonSchemaOf } from './shared/checking.ts';
import { readKvValue } from './vault/kv.ts';
import {
  asking,
  handleOf,
  type Lease,
  leaseIn,
  longestRequestMs,
  makeToken,
  patientSeconds,
  prolongToken,
  renewLease,
  secondsUntil,
  undo,
  type VaultHandle,
} from './vault/leases.ts';
import { secretIdRotation } from './vault/rotation.ts';
import { type OpenSession, vaultSessions } from './vault/sessions.ts';
import {
  mayBeRead,
  parsedVaultSettings,
  type VaultScope,
  type VaultSettings,
  vaultSettings,
} from './vault/settings.ts';

const line = (what: string) =>
  z
    .string()
    .max(4096)
    .regex(/^[\x21-\x7e]+$/, what);
const secret = z.union(
  [
    z.strictObject({ token: line('a token, in one line') }),
    z.strictObject({ role_id: line('a role id, in one line'), secret_id: line('a secret id, in one line') }),
  ],
  { error: '{token}, or {role_id, secret_id}; none for the method kubernetes' },
);

/** The request for a scope's secret. */
const secretRequest = (scope: VaultScope, ttlSeconds: number): VaultRequest => {
  const given = {
    ...scope.parameters,
    ...(scope.ttl_parameter === undefined ? {} : { [scope.ttl_parameter]: `${ttlSeconds}s` }),
  };
  const path = encodePath(scope.path);
  if (scope.method === 'write') return { method: 'POST', path, body: given };
  const query = Object.fromEntries(Object.entries(given).map(([name, value]) => [name, String(value)]));
  return { method: 'GET', path, ...(Object.keys(query).length > 0 ? { query } : {}) };
};

/** Where it is: the address, and the namespace in it. */
const placeOf = ({ address, namespace }: VaultSettings): string =>
  `${new URL(address).origin}${namespace === undefined ? '' : ` namespace ${namespace}`}`;

const onlyScope = ({ connection, scopes: names }: MintRequest): VaultScope => {
  const { scopes } = parsedVaultSettings(connection.settings);
  const [name = ''] = names;
  const scope = Object.hasOwn(scopes, name) ? scopes[name] : undefined;
  if (!scope || names.length !== 1) throw new ProviderFailure('refused', 'one scope a grant at this connection');
  return scope;
};

/** @throws ProviderFailure for what nobody could take back */
const leaseOf = (reply: VaultReply, now: number): Lease => {
  const lease = leaseIn(reply, now);
  if (lease) return lease;
  throw new ProviderFailure('refused', 'what Vault has at this path is no dynamic secret: it came without a lease');
};

interface Obtained {
  reply: VaultReply;
  lease: Lease;
  handle: VaultHandle;
}

/** Without a token of the grant's own: the lease is known, and recorded, as soon as Vault has answered. */
const obtainPlainly = async (
  session: VaultSession,
  request: MintRequest,
  at: string,
  context: ProviderContext,
): Promise<Obtained> => {
  const wanted = secretRequest(onlyScope(request), secondsUntil(request.expiresAt, context.now()));
  const reply = await asking('for a secret', session.call(wanted, context.signal));
  const lease = leaseOf(reply, context.now());
  const handle = { at, lease_id: lease.id };
  await context.journal(handle);
  return { reply, lease, handle };
};

/** With a token of the grant's own, whose accessor is recorded before anything is asked for with it. */
const obtainByToken = async (
  session: VaultSession,
  request: MintRequest,
  at: string,
  context: ProviderContext,
): Promise<Obtained> => {
  const scope = onlyScope(request);
  const life = (): number => secondsUntil(request.expiresAt, context.now());
  const { child_policies: policies } = parsedVaultSettings(request.connection.settings);
  const token = await makeToken(session, request, policies, context);
  const known = { at, accessor: token.accessor };
  await context.journal({ ...known, asking_since: context.now() });
  let asked = false;
  let obtained: Obtained;
  try {
    // Not less than it takes to hear that the answer is lost, and to say so (undo).
    await prolongToken(session, token.accessor, Math.max(life(), patientSeconds), context);
    asked = true;
    const reply = await asking(
      'for a secret',
      session.callAs(token.text, secretRequest(scope, life()), context.signal),
    );
    const lease = leaseOf(reply, context.now());
    obtained = { reply, lease, handle: { ...known, lease_id: lease.id } };
  } catch (error) {
    // Nothing is on its way at Vault: the token can be ended at once.
    if (!asked || (error instanceof ProviderFailure && error.kind === 'refused')) await context.journal(known);
    throw error;
  }
  await context.journal(obtained.handle);
  if (life() < patientSeconds) await prolongToken(session, token.accessor, life(), context);
  return obtained;
};

export interface VaultProviderOptions {
  openSession?: OpenSession;
  /** See {@link longestRequestMs}. */
  requestMs?: number;
}

export const openVaultProvider = (
  network: Network,
  { openSession = vaultSessions(network), requestMs = longestRequestMs }: VaultProviderOptions = {},
): Provider => ({
  type: 'vault',
  enforcement: () => 'upstream',
  settingsSchema: jsonSchemaOf(vaultSettings),
  checkSettings: (value) => checked<Record<string, unknown>>(vaultSettings, value, 'settings'),
  checkSecret: (value) => checked<Record<string, string> | undefined>(secret.optional(), value, 'secret'),
  secretDestination: (value) => {
    const settings = parsedVaultSettings(value);
    const { auth, ca } = settings;
    return `${placeOf(settings)}${auth.method === 'token' ? '' : ` auth/${auth.mount}`}${trustIn(ca)}`;
  },
  scopes: (value) => Object.keys(parsedVaultSettings(value).scopes),
  checkRequest: ({ scopes, parameters }) => {
    if (parameters !== undefined) return { ok: false, problems: ['parameters: this connection takes none'] };
    if (scopes.length === 1) return { ok: true, value: {} };
    return {
      ok: false,
      problems: ['scopes: one a grant at this connection, as each is a lease of its own; ask for each by itself'],
    };
  },
  // Before Vault has answered there is nothing to name: until the journal has an accessor, there is nothing to undo.
  plan: ({ connection }) => ({
    credentialType: 'vault',
    handle: { at: placeOf(parsedVaultSettings(connection.settings)) },
  }),

  async mint(request, _plan, context) {
    const settings = parsedVaultSettings(request.connection.settings);
    const session = await openSession(request.connection, context);
    const { child_tokens } = settings;
    const obtain = child_tokens ? obtainByToken : obtainPlainly;
    const { reply, lease: first, handle } = await obtain(session, request, placeOf(settings), context);
    // Too short for the grant; or, without a token of its own to end with, too long.
    const unfit = first.endsAt < request.expiresAt || (!child_tokens && first.endsAt > request.expiresAt + 1000);
    const lease =
      unfit && first.renewable
        ? await renewLease(session, first, secondsUntil(request.expiresAt, context.now()), context)
        : first;
    return {
      handle,
      credential: {
        type: 'vault',
        data: reply.data ?? {},
        lease_id: lease.id,
        lease_duration: secondsUntil(Math.min(lease.endsAt, request.expiresAt), context.now()),
        renewable: lease.renewable,
      },
    };
  },

  async revoke(grant, connection, context) {
    const handle = handleOf(grant.handle);
    if (handle.accessor === undefined && handle.lease_id === undefined) return undefined;
    if (handle.at !== placeOf(parsedVaultSettings(connection.settings))) {
      throw new ProviderFailure('refused', 'this was made at another Vault than the connection is to now');
    }
    return undo(await openSession(connection, context), handle, context, requestMs);
  },

  byHand(grant) {
    const { at, lease_id: lease, accessor } = handleOf(grant.handle);
    if (lease !== undefined) return `In the Vault at ${at}: vault lease revoke ${lease}`;
    return `In the Vault at ${at}: vault token revoke -accessor ${accessor ?? '(unknown: look for children of the login)'}`;
  },

  async renew(grant, connection, expiresAt, context) {
    const { accessor, lease_id } = handleOf(grant.handle);
    if (lease_id === undefined) throw new ProviderFailure('refused', 'this grant has no lease');
    const session = await openSession(connection, context);
    const lease = await renewLease(session, { id: lease_id }, secondsUntil(expiresAt, context.now()), context);
    // A second of doubt: Vault counts in whole ones.
    if (lease.endsAt < expiresAt - 1000) {
      throw new ProviderFailure('refused', 'Vault does not let this lease live so long; ask for a new grant');
    }
    if (accessor !== undefined) {
      await prolongToken(session, accessor, secondsUntil(expiresAt, context.now()), context);
    }
  },

  rotation: secretIdRotation(network),

  checkReference: (settings, { path }) =>
    mayBeRead(parsedVaultSettings(settings), path)
      ? []
      : ['path: a path of a KV engine (version 2) that the settings of the vault connection name as readable'],

  async readSecret(connection, reference, context) {
    if (!mayBeRead(parsedVaultSettings(connection.settings), reference.path)) {
      throw new ProviderFailure('refused', 'the vault connection does not name this path as readable');
    }
    const session = await openSession(connection, context);
    return asking('for a value', readKvValue(session, reference, context.signal));
  },
});
