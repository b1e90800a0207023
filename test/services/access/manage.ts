/** The services with an operator to act for, and a provider that makes something upstream as far as Warder knows. */
import type { Operator } from '../../../src/domain/model.ts';
import type { Provider } from '../../../src/ports/provider.ts';
import type { Caller } from '../../../src/services/core.ts';
import type { CoreWithSecrets } from '../../../src/services/issuing/provider-context.ts';
import { openServices } from '../../support/services.ts';

export const caller: Caller = { actor: { kind: 'system', name: 'test' }, requestId: 'req_test' };

/** Its credentials exist upstream until `gone` says that they were revoked. */
export const upstreamProvider: Provider = {
  type: 'upstream',
  enforcement: () => 'upstream',
  settingsSchema: {},
  checkSettings: (settings) => ({ ok: true, value: (settings ?? {}) as Record<string, unknown> }),
  checkSecret: () => ({ ok: true, value: undefined }),
  scopes: () => ['use'],
  plan: ({ grantId }) => ({ credentialType: 'bearer', handle: { name: grantId } }),
  mint: async ({ grantId }) => ({ credential: { type: 'bearer', token: `up-${grantId}` } }),
  revoke: async () => undefined,
};

export interface Managed {
  core: CoreWithSecrets;
  admin: Operator;
  close(): Promise<void>;
}

export const openManaged = async (): Promise<Managed> => {
  const { core, close } = await openServices([upstreamProvider]);
  const [admin] = core.state.operators.all();
  if (!admin) throw new Error('an initialised ledger has an admin');
  return { core, admin, close };
};

/** The types of the entries written since the log had `from` entries, oldest first. */
export const entriesSince = async (core: CoreWithSecrets, from: number): Promise<{ type: string; data?: object }[]> =>
  (await core.reader.auditRange({}, from, Number.MAX_SAFE_INTEGER, 1000)).map(({ body }) => JSON.parse(body));
export const sizeOf = async (core: CoreWithSecrets): Promise<number> => (await core.reader.treeHead()).size;

/** What a refusal says, or undefined when there was none. */
export const refusalOf = (work: Promise<unknown>): Promise<{ code: string; detail: string } | undefined> =>
  work.then(
    () => undefined,
    (error: { refusal?: { code: string; detail: string } }) => {
      if (!error.refusal) throw error;
      return error.refusal;
    },
  );

export const gatewaySettings = {
  base_url: 'https://api.example.com',
  scopes: { read: [{ methods: ['GET'], path: '/**' }], write: [{ methods: ['POST'], path: '/**' }] },
};
