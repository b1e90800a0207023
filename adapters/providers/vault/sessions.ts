/** Sessions of `vault` connections: one for each connection, its settings and its secret. */

import { readFile, realpath } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import type { Connection } from '../../../src/domain/model.ts';
import type { ConnectionSecret } from '../../../src/ports/call-context.ts';
import { type ProviderContext, ProviderFailure } from '../../../src/ports/provider.ts';
import type { Network } from '../../network.ts';
import { openVaultClient, type VaultRequest } from '../../vault/client.ts';
import { encodePath } from '../../vault/path.ts';
import { type Entry, VaultSession } from '../../vault/session.ts';
import { parsedVaultSettings, siteOf, type VaultSettings } from './settings.ts';

/**
 * Where service account tokens are mounted. What `jwt_path` names is sent to the address of the same settings, so that
 * it must not name any file of the machine.
 */
const tokenFolders = ['/var/run/secrets/', '/run/secrets/'];
const jwt = /^[\w-]+\.[\w-]+\.[\w-]+$/;
const maxSessions = 1_000;

export type OpenSession = (connection: Connection, context: Pick<ProviderContext, 'secret'>) => Promise<VaultSession>;

/** @param folders where `jwt_path` may lead */
export const vaultSessions = (network: Network, folders: readonly string[] = tokenFolders): OpenSession => {
  const known = new LRUCache<string, { settings: object; version: number; session: VaultSession }>({
    max: maxSessions,
  });
  return async (connection, context) => {
    // Asked each time, so that a sealed Warder uses no token it still holds.
    const secret = await context.secret();
    const version = secret?.version ?? 0;
    const held = known.get(connection.id);
    if (held?.settings === connection.settings && held.version === version) return held.session;
    const settings = parsedVaultSettings(connection.settings);
    const session = new VaultSession(
      openVaultClient(network, siteOf(settings)),
      entryOf(settings.auth, secret, folders),
    );
    known.set(connection.id, { settings: connection.settings, version, session });
    return session;
  };
};

const entryOf = (
  auth: VaultSettings['auth'],
  secret: ConnectionSecret | undefined,
  folders: readonly string[],
): Entry => {
  const field = (name: string) => {
    const found = secret?.fields[name];
    if (!found) throw new ProviderFailure('refused', `this connection logs in by ${auth.method} and has no ${name}`);
    return found;
  };
  const login = (mount: string, body: Record<string, unknown>): VaultRequest => ({
    method: 'POST',
    path: `auth/${encodePath(mount)}/login`,
    body,
  });
  switch (auth.method) {
    case 'token':
      return { how: 'given', token: field('token') };
    case 'approle': {
      const [role, id] = [field('role_id'), field('secret_id')];
      return { how: 'login', request: () => login(auth.mount, { role_id: role.reveal(), secret_id: id.reveal() }) };
    }
    case 'kubernetes':
      return {
        how: 'login',
        request: async () =>
          login(auth.mount, { role: auth.role, jwt: await serviceAccountToken(auth.jwt_path, folders) }),
      };
  }
};

/** Read at each login: the kubelet replaces it while it is valid. */
const serviceAccountToken = async (path: string, folders: readonly string[]): Promise<string> => {
  let text = '';
  try {
    const real = await realpath(path);
    const inside = (await Promise.all(folders.map((folder) => realpath(folder).catch(() => undefined)))).some(
      (folder) => folder !== undefined && real.startsWith(`${folder}/`),
    );
    if (inside) text = (await readFile(real, 'utf8')).trim();
  } catch {
    // Said below: the name of the file is the operator's to know, not the agent's.
  }
  if (jwt.test(text)) return text;
  throw new ProviderFailure('refused', 'there is no service account token where jwt_path says');
};
