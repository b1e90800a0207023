/** The composition root: the only file of src that knows the adapters. Everything is wired here, by hand. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { pino } from 'pino';
import { makeRootKey, openLocalKms, requirePrivateRootKey } from '../adapters/kms/local.ts';
import { providers } from '../adapters/registry.ts';
import { openSqliteStore } from '../adapters/stores/sqlite/store.ts';
import { systemClock, systemEntropy } from '../adapters/system.ts';
import { openUpstream } from '../adapters/upstream.ts';
import type { Config, ListenAddress, Secrets } from './config.ts';
import { tokenPattern } from './domain/tokens.ts';
import { createApp, createMetricsApp } from './http/app.ts';
import type { Edge } from './http/edge.ts';
import { Limits } from './http/limits.ts';
import { EdgeMetrics } from './http/metrics.ts';
import type { LedgerStore } from './ports/ledger.ts';
import type { Provider } from './ports/provider.ts';
import { ClientAuthenticator } from './services/authenticate-client.ts';
import { UpstreamDrain } from './services/drain-upstream.ts';
import { GatewayCalls } from './services/gateway-calls.ts';
import { initialise, isUninitialised } from './services/initialise.ts';
import { Keyring } from './services/keyring.ts';
import { Maintenance } from './services/maintenance.ts';
import type { CoreWithSecrets } from './services/provider-context.ts';
import { OpenedSecrets } from './services/secrets.ts';
import { SigningKeys } from './services/signing-keys.ts';
import { State } from './services/state.ts';
import { recoverIntended } from './services/undo-intended.ts';

export interface StartOptions {
  /** The store cannot go on: the process should end, and start anew from the file. */
  onFatal(error: Error): void;
  /** Further providers beside the registry's: how tests bring one that creates something. */
  extraProviders?: readonly Provider[];
  /** Where the log goes; standard output unless told. */
  logDestination?: { write(line: string): void };
}

export interface Running {
  /** Where it listens, e.g. `http://127.0.0.1:7300`. */
  url: string;
  /** The first admin's token, at the first start only. */
  bootstrapToken: string | undefined;
  close(): Promise<void>;
}

const migrationsFolder = join(import.meta.dirname, '..', 'migrations', 'sqlite');

/** Requests must come to their point: slow headers and idle sockets are closed. */
const headersTimeoutMs = 10_000;
const maxHeaderBytes = 16 * 1024;
/** How long a stop waits for requests under way. */
const stopPatienceMs = 10_000;

const makeLog = (config: Config, destination: StartOptions['logDestination']) =>
  pino(
    {
      level: config.logLevel,
      base: null,
      // Errors carry a message, a stack and a code; never the request or response that libraries hang on them.
      serializers: { err: serialiseError },
      redact: {
        paths: ['authorization', '*.authorization', '*.token', '*.secret', '*.password'],
        censor: '[redacted]',
      },
    },
    destination ?? pino.destination({ sync: false, minLength: 4096 }),
  );

const scrub = (text: string): string => text.replace(tokenPattern, '[redacted]');

const serialiseError = (error: unknown): object => {
  if (!(error instanceof Error)) return { message: scrub(String(error)) };
  return {
    type: error.name,
    message: scrub(error.message),
    stack: scrub(error.stack ?? ''),
    ...('code' in error ? { code: error.code } : {}),
    ...(error.cause === undefined ? {} : { cause: serialiseError(error.cause) }),
  };
};

const openStore = (config: Config, onFatal: (error: Error) => void): Promise<LedgerStore> =>
  openSqliteStore({ databasePath: config.store.path, migrationsFolder, onFatal });

/**
 * Makes what the first start needs, where it is not there yet.
 * @returns the first admin's token when it was made now
 */
const prepare = async (config: Config, secrets: Secrets, store: LedgerStore) => {
  let snapshot = await store.reader.snapshot();
  const clock = systemClock(snapshot.newestAt);
  const kms = openLocalKms(config.kms.path);
  if (!isUninitialised(snapshot)) return { snapshot, clock, kms, created: false, bootstrapToken: undefined };
  // Only an empty ledger gets a new root key: over sealed data, a missing one must stay missing until it is restored.
  makeRootKey(config.kms.path);
  const bootstrapToken = await initialise(
    { clock, kms, ledger: store.ledger, entropy: systemEntropy },
    secrets.bootstrapToken,
  );
  snapshot = await store.reader.snapshot();
  return { snapshot, clock, kms, created: true, bootstrapToken };
};

/** `warder init`: only what the first start would make. */
export const initWarder = async (
  config: Config,
  secrets: Secrets,
): Promise<{ created: boolean; bootstrapToken: string | undefined }> => {
  requirePrivateRootKey(config.kms.path);
  const store = await openStore(config, () => undefined);
  try {
    const { created, bootstrapToken } = await prepare(config, secrets, store);
    return { created, bootstrapToken };
  } finally {
    await store.close();
  }
};

const listen = async (server: Server, { host, port }: ListenAddress): Promise<string> => {
  server.listen(port, host);
  await once(server, 'listening');
  const address = server.address();
  const actual = typeof address === 'object' && address ? address.port : port;
  return `http://${host.includes(':') ? `[${host}]` : host}:${actual}`;
};

const closeServer = async (server: Server | undefined): Promise<void> => {
  if (!server) return;
  const closed = once(server, 'close');
  server.close();
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), stopPatienceMs);
  await closed;
  clearTimeout(timer);
};

/** Starts the broker; initialises it where that has not been done. */
export const startWarder = async (config: Config, secrets: Secrets, options: StartOptions): Promise<Running> => {
  requirePrivateRootKey(config.kms.path);
  const store = await openStore(config, options.onFatal);
  try {
    return await startWith(store, config, secrets, options);
  } catch (error) {
    await store.close();
    throw error;
  }
};

const startWith = async (
  store: LedgerStore,
  config: Config,
  secrets: Secrets,
  options: StartOptions,
): Promise<Running> => {
  const { snapshot, clock, kms, bootstrapToken } = await prepare(config, secrets, store);
  const log = makeLog(config, options.logDestination);
  const metrics = new EdgeMetrics();
  const ledger = metrics.timed(store.ledger);
  const state = new State(snapshot, ledger, store.reader);
  const keyMaxAgeMs = config.keyMaxAgeSeconds * 1000;
  const keyring = new Keyring(kms, clock, keyMaxAgeMs);
  const core: CoreWithSecrets = {
    clock,
    entropy: systemEntropy,
    ledger,
    reader: store.reader,
    state,
    keyring,
    signingKeys: new SigningKeys(keyring, state, clock),
    secrets: new OpenedSecrets(keyring),
    providers: new Map([...providers, ...(options.extraProviders ?? []).map((one) => [one.type, one] as const)]),
    issuer: config.publicUrl,
    log,
  };
  const upstream = openUpstream();
  const calls = new GatewayCalls(core);
  metrics.watch(core, calls);
  const edge: Edge = {
    core,
    clients: new ClientAuthenticator(core, upstream),
    calls,
    upstream,
    limits: new Limits(config.rateLimitPerSecond),
    metrics,
  };

  const drain = new UpstreamDrain(core);
  const startedAtSeq = state.newestSeq;
  let recovering = Promise.resolve();
  const onUnsealed = (): void => {
    recovering = recoverIntended(core, startedAtSeq)
      .then((count) => {
        if (count > 0) log.warn({ count }, 'undid grants that a stop had left half-made');
      })
      .catch((error: unknown) => log.error({ err: error }, 'recovery failed'));
    drain.wake();
  };
  const maintenance = new Maintenance(core, { keyMaxAgeMs, onUnsealed });
  const sealed = await keyring.unseal(state.keyEncryptionKeys.all());
  if (sealed.sealed) log.error({ kms: kms.name, why: sealed.why }, 'starting sealed');

  const app = createApp(edge, { trustProxy: config.trustProxy });
  const server = createServer(
    { maxHeaderSize: maxHeaderBytes, headersTimeout: headersTimeoutMs, requestTimeout: 0, keepAliveTimeout: 65_000 },
    app,
  );
  const url = await listen(server, config.listen);
  const metricsServer = config.metricsListen ? createServer(createMetricsApp(edge)) : undefined;
  if (metricsServer && config.metricsListen) await listen(metricsServer, config.metricsListen);

  if (!sealed.sealed) onUnsealed();
  drain.start();
  maintenance.start();
  log.info({ url, issuer: config.publicUrl, entries: snapshot.size, sealed: sealed.sealed }, 'warder is listening');

  return {
    url,
    bootstrapToken,
    close: async () => {
      await Promise.all([closeServer(server), closeServer(metricsServer)]);
      await Promise.all([maintenance.stop(), drain.stop(), recovering]);
      await upstream.close();
      await store.close();
      keyring.seal('stopped');
      log.info({}, 'warder stopped');
    },
  };
};
