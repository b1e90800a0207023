/**
 * A process that runs Warder's services over a ledger which another process owns: asked for over IPC, and told of every
 * commit before whoever made it is answered, as the port says. Does what it is told, and says what came of it.
 */
import { openCatalog } from '../../adapters/catalog/load.ts';
import { openLocalKms } from '../../adapters/kms/local.ts';
import { openKms } from '../../adapters/kms/open.ts';
import { openNetwork } from '../../adapters/network.ts';
import { openProviders } from '../../adapters/registry.ts';
import { systemClock, systemEntropy } from '../../adapters/system.ts';
import type { Changeset, Ledger, LedgerReader } from '../../src/ports/ledger.ts';
import { Authorizations } from '../../src/services/accounts/authorizations.ts';
import { GatewayCredentials } from '../../src/services/gateway/gateway-credentials.ts';
import { issueGrant } from '../../src/services/issuing/issue-grant.ts';
import type { CoreWithSecrets } from '../../src/services/issuing/provider-context.ts';
import { Keyring } from '../../src/services/keys/keyring.ts';
import { SigningKeys } from '../../src/services/keys/signing-keys.ts';
import { OpenedSecrets } from '../../src/services/secrets/secrets.ts';
import { State } from '../../src/services/state.ts';
import type { FromReplica, ToReplica } from './replicas.ts';

const [keyPath = '', markerMs = '15000'] = process.argv.slice(2);
const send = (message: FromReplica): void => void process.send?.(message);

let next = 0;
const calls = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
const ask = (of: 'ledger' | 'reader', method: string, args: unknown[]): Promise<unknown> =>
  new Promise((resolve, reject) => {
    next += 1;
    calls.set(next, { resolve, reject });
    send({ kind: 'ask', call: next, of, method, args });
  });

const listeners = new Set<(changeset: Changeset, seq: number) => void>();
const ledger: Ledger = {
  commit: (changeset) => ask('ledger', 'commit', [changeset]) as ReturnType<Ledger['commit']>,
  onCommitted: (listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  trouble: () => undefined,
};
// Every method of the port is the same question, put to the owner.
const reader = new Proxy({} as LedgerReader, {
  get: (_target, method) =>
    method === 'then' ? undefined : (...args: unknown[]) => ask('reader', String(method), args),
});

const boot = async (): Promise<{ core: CoreWithSecrets; credentials: GatewayCredentials }> => {
  const snapshot = await reader.snapshot();
  const state = new State(snapshot, ledger, reader);
  const clock = systemClock(snapshot.newestAt);
  const keyring = new Keyring(openLocalKms(keyPath), clock, Number.POSITIVE_INFINITY);
  await keyring.unseal(state.keyEncryptionKeys.all());
  const providers = openProviders({ network: openNetwork() });
  const log = (level: string) => (fields: object, message: string) =>
    send({ kind: 'log', level, message, fields: String(JSON.stringify(fields)) });
  const core: CoreWithSecrets = {
    clock,
    entropy: systemEntropy,
    ledger,
    reader,
    state,
    keyring,
    openKeyService: (name) => openKms(name, { vault: undefined }),
    signingKeys: new SigningKeys(keyring, state, clock),
    secrets: new OpenedSecrets(keyring),
    authorizations: new Authorizations(keyring, {
      markerMs: Number(markerMs),
      redemptionMs: Math.floor((Number(markerMs) * 2) / 3),
    }),
    providers,
    catalog: openCatalog({ customDir: undefined, providers }),
    issuer: 'http://127.0.0.1:7300',
    log: { debug: () => undefined, info: log('info'), warn: log('warn'), error: log('error') },
  };
  return { core, credentials: new GatewayCredentials(core) };
};

const said = (error: unknown): string =>
  error instanceof Error
    ? 'refusal' in error
      ? (error.refusal as { code: string }).code
      : error.message
    : String(error);

const work = async (
  { core, credentials }: Awaited<ReturnType<typeof boot>>,
  what: 'issue' | 'gateway',
): Promise<string> => {
  try {
    if (what === 'gateway') {
      const connection = core.state.connections.named('gateway');
      const server = core.providers.get('oauth2')?.authorizations;
      if (!connection || !server) throw new Error('the test has a connection of this name');
      const secret = await credentials.secret(connection, null, server);
      return `token ${secret.fields['access_token']?.reveal()}`;
    }
    const agent = core.state.agents.named('worker');
    if (!agent) throw new Error('the test has an agent of this name');
    const caller = { actor: { kind: 'agent' as const, id: agent.id, name: agent.name }, requestId: 'req_of_the_test' };
    const request = { agent, connection: 'upstream', scopes: ['read'], ttlSeconds: 60 };
    const { credential } = await issueGrant(core, request, caller);
    return `token ${String(credential['token'])}`;
  } catch (error) {
    return `failed ${said(error)}`;
  }
};

const ready = boot();
process.on('message', (message: ToReplica) => {
  if (message.kind === 'answer') {
    const call = calls.get(message.call);
    calls.delete(message.call);
    if (message.ok) call?.resolve(message.value);
    else call?.reject(new Error(message.why));
  } else if (message.kind === 'committed') {
    for (const listener of listeners) listener(message.changeset, message.seq);
  } else {
    void ready.then(async (booted) =>
      send({ kind: 'done', job: message.job, outcome: await work(booted, message.what) }),
    );
  }
});
void ready.then(() => send({ kind: 'ready' }));
