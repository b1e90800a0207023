/**
 * `vault`: dynamic secrets of a HashiCorp Vault or an OpenBao. Vault narrows what it makes by the path it is made at.
 *
 * Vault names a lease only in the answer that has the secret, so that an answer nobody hears would leave a lease nobody
 * knows. Therefore each grant has a token of its own (`child_tokens`): its accessor is recorded before the secret is
 * asked for with it, and ending it ends every lease that was made with it. docs/adr/0016-vault-child-tokens.md
 */
import { z } from 'zod';
import type { Connection } from '../../src/domain/model.ts';
import { type MintRequest, type Provider, type ProviderContext, ProviderFailure } from '../../src/ports/provider.ts';
import type { Network } from '../network.ts';
import type { VaultReply, VaultRequest } from '../vault/client.ts';
import { encodePath } from '../vault/path.ts';
import type { VaultSession } from '../vault/session.ts';
import { checked, jsonSchemaOf } from './checking.ts';
import { readKvValue } from './vault-kv.ts';
import {
  asking,
  handleOf,
  type Lease,
  leaseIn,
  makeToken,
  prolongToken,
  renewLease,
  secondsUntil,
  undo,
  type VaultHandle,
} from './vault-leases.ts';
import { type OpenSession, vaultSessions } from './vault-sessions.ts';
import {
  mayBeRead,
  parsedVaultSettings,
  type VaultScope,
  type VaultSettings,
  vaultSettings,
} from './vault-settings.ts';

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

/**
 * Both have ended when this does, so that undoing comes after them. Of two failures the less certain is told: what may
 * have been done all the same is looked for once more.
 */
const both = async <A, B>(one: Promise<A>, other: Promise<B>): Promise<[A, B]> => {
  const [first, second] = await Promise.allSettled([one, other]);
  const failures = [first, second].flatMap((each) => (each.status === 'rejected' ? [each.reason] : []));
  const isClear = (failure: unknown): boolean => failure instanceof ProviderFailure && failure.kind === 'refused';
  if (failures.length > 0) throw failures.find((failure) => !isClear(failure)) ?? failures[0];
  return [await one, await other];
};

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

const onlyScope = (connection: Connection, names: readonly string[]): VaultScope => {
  const { scopes } = parsedVaultSettings(connection.settings);
  const [name = ''] = names;
  const scope = Object.hasOwn(scopes, name) ? scopes[name] : undefined;
  if (!scope || names.length !== 1) throw new ProviderFailure('refused', 'one scope a grant at this connection');
  return scope;
};

/** The secret, asked for with the grant's token where there is one; everything that came to exist is in the handle. */
const obtain = async (
  session: VaultSession,
  request: MintRequest,
  scope: VaultScope,
  context: ProviderContext,
): Promise<{ reply: VaultReply; lease: Lease; handle: VaultHandle }> => {
  const settings = parsedVaultSettings(request.connection.settings);
  const at = placeOf(settings);
  const seconds = (): number => secondsUntil(request.expiresAt, context.now());
  const leaseOf = (reply: VaultReply): Lease => {
    const lease = leaseIn(reply, context.now());
    if (lease) return lease;
    throw new ProviderFailure('refused', 'what Vault has at this path is no dynamic secret: it came without a lease');
  };
  if (!settings.child_tokens) {
    const asked = session.call(secretRequest(scope, seconds()), context.signal);
    const reply = await asking('for a secret', asked);
    const lease = leaseOf(reply);
    const handle = { at, lease_id: lease.id };
    await context.journal(handle);
    return { reply, lease, handle };
  }
  const token = await makeToken(session, request, settings.child_policies, context);
  const { accessor } = token;
  await context.journal({ at, accessor });
  const [, reply] = await both(
    prolongToken(session, accessor, seconds(), context),
    asking('for a secret', session.callAs(token.text, secretRequest(scope, seconds()), context.signal)),
  );
  const lease = leaseOf(reply);
  return { reply, lease, handle: { at, accessor, lease_id: lease.id } };
};

export const openVaultProvider = (network: Network, openSession: OpenSession = vaultSessions(network)): Provider => ({
  type: 'vault',
  enforcement: () => 'upstream',
  settingsSchema: jsonSchemaOf(vaultSettings),
  checkSettings: (value) => checked<Record<string, unknown>>(vaultSettings, value, 'settings'),
  checkSecret: (value) => checked<Record<string, string> | undefined>(secret.optional(), value, 'secret'),
  secretDestination: (value) => {
    const settings = parsedVaultSettings(value);
    return `${placeOf(settings)}${settings.auth.method === 'token' ? '' : ` auth/${settings.auth.mount}`}`;
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
    const scope = onlyScope(request.connection, request.scopes);
    const session = await openSession(request.connection, context);
    const { reply, lease: first, handle } = await obtain(session, request, scope, context);
    const { child_tokens } = parsedVaultSettings(request.connection.settings);
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
    if (handle.accessor === undefined && handle.lease_id === undefined) return;
    if (handle.at !== placeOf(parsedVaultSettings(connection.settings))) {
      throw new ProviderFailure('refused', 'this was made at another Vault than the connection is to now');
    }
    await undo(await openSession(connection, context), handle, context);
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
