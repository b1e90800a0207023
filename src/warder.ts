/** The composition root: with restore.ts, the only file of src that knows the adapters. Everything is wired here, by hand. */
import { once } from 'node:events';
import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http';
import { join } from 'node:path';
import { pino } from 'pino';
import { openCatalog } from '../adapters/catalog/load.ts';
import { makeRootKey, requirePrivateRootKey } from '../adapters/kms/local.ts';
import { openKms } from '../adapters/kms/open.ts';
import { openNetwork } from '../adapters/network.ts';
import { openOutbound } from '../adapters/outbound.ts';
import { openProviders } from '../adapters/registry.ts';
import { openSqliteBackups } from '../adapters/stores/sqlite/backup.ts';
import { clearLeftovers, settleRestored } from '../adapters/stores/sqlite/backup-place.ts';
import { openSqliteStore } from '../adapters/stores/sqlite/store.ts';
import { systemClock, systemEntropy } from '../adapters/system.ts';
import { openUpstream } from '../adapters/upstream.ts';
import type { Config, ListenAddress, Secrets } from './config.ts';
import type { RetrySchedule } from './domain/delivery.ts';
import type { KeyServiceName } from './domain/key-service-name.ts';
import { tokenPattern } from './domain/tokens.ts';
import { createApp, createMetricsApp } from './http/app.ts';
import type { Edge } from './http/edge.ts';
import { EventStreams } from './http/event-streams.ts';
import { Limits } from './http/limits.ts';
import { EdgeMetrics } from './http/metrics.ts';
import type { KeyService } from './ports/kms.ts';
import type { LedgerStore } from './ports/ledger.ts';
import type { Provider } from './ports/provider.ts';
import { Authorizations } from './services/accounts/authorizations.ts';
import { Deliveries } from './services/alerts/deliveries.ts';
import { BackupMaker } from './services/backup/make-backup.ts';
import { GatewayCalls } from './services/gateway/gateway-calls.ts';
import { ClientAuthenticator } from './services/identity/authenticate-client.ts';
import { ForeignTokens } from './services/identity/foreign-tokens.ts';
import { initialise, isUninitialised, recoverAdmin } from './services/initialise.ts';
import type { CoreWithSecrets } from './services/issuing/provider-context.ts';
import { Keyring } from './services/keys/keyring.ts';
import { ensureReceiptKey } from './services/keys/receipt-key.ts';
import { type RewrapPace, Rewrapping } from './services/keys/rotate-keys.ts';
import { SigningKeys } from './services/keys/signing-keys.ts';
import { Maintenance } from './services/maintenance.ts';
import { type DrainPatience, drainPatience } from './services/revocation/drain-patience.ts';
import { UpstreamDrain } from './services/revocation/drain-upstream.ts';
import { RotationsAfter } from './services/revocation/rotate-after.ts';
import { RotationEngine } from './services/rotation/engine.ts';
import type { RotationPace } from './services/rotation/pace.ts';
import { SecretSources } from './services/secrets/secret-sources.ts';
import { OpenedSecrets } from './services/secrets/secrets.ts';
import { State } from './services/state.ts';

export interface StartOptions {
  /** The store cannot go on: the process should end, and start anew from the file. */
  onFatal(error: Error): void;
  /** Further providers beside the registry's: how tests bring one that creates something. */
  extraProviders?: readonly Provider[];
  /** How tests have a drain that hurries. */
  drainPatience?: DrainPatience;
  /** How tests have old keys retired at once. */
  rewrapPace?: RewrapPace;
  /** How tests have a rotation engine that hurries. */
  rotationPace?: RotationPace;
  /** How tests have alerts that are tried again soon. */
  retrySchedule?: RetrySchedule;
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
/** How often that is looked at: Node's own 30 s would make 40 of the ten. */
const timeoutCheckMs = 1_000;
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
    // Written behind the work, within half a second; on standard error, so that the greeting stands alone on standard output.
    destination ?? pino.destination({ dest: 2, sync: false, minLength: 4096, periodicFlush: 500 }),
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

/** A restore that was killed is ended first; what killed backups and restores left is removed. */
const openStore = async (config: Config, onFatal: (error: Error) => void): Promise<LedgerStore> => {
  const databasePath = config.store.path;
  settleRestored(databasePath);
  const store = await openSqliteStore({ databasePath, migrationsFolder, onFatal });
  clearLeftovers(databasePath);
  return store;
};

/** Opens a key service by its name, as the configuration says how to reach it. */
const openKmsOf =
  ({ vault }: Config, { vaultToken }: Secrets) =>
  (name: KeyServiceName): KeyService =>
    openKms(name, { vault: vault && vaultToken ? { ...vault, token: vaultToken } : undefined });

/**
 * Makes what the first start needs, where it is not there yet.
 * @returns the first admin's token when it was made now
 */
const prepare = async (config: Config, secrets: Secrets, store: LedgerStore) => {
  let snapshot = await store.reader.snapshot();
  const clock = systemClock(snapshot.newestAt);
  const kms = openKmsOf(config, secrets)(config.kms);
  if (!isUninitialised(snapshot)) return { snapshot, clock, kms, created: false, bootstrapToken: undefined };
  // Only an empty ledger gets a new root key: over sealed data, a missing one must stay missing until it is restored.
  if (config.kms.kind === 'local') makeRootKey(config.kms.path);
  const bootstrapToken = await initialise(
    { clock, kms, ledger: store.ledger, entropy: systemEntropy },
    secrets.bootstrapToken,
  );
  snapshot = await store.reader.snapshot();
  return { snapshot, clock, kms, created: true, bootstrapToken };
};

/**
 * `warder init`: only what the first start would make.
 * @param options.recoverAdmin where there is a ledger already, make a new admin in it; the broker must be stopped
 */
export const initWarder = async (
  config: Config,
  secrets: Secrets,
  options: { recoverAdmin: boolean },
): Promise<{ created: boolean; bootstrapToken: string | undefined }> => {
  if (config.kms.kind === 'local') requirePrivateRootKey(config.kms.path);
  const store = await openStore(config, () => undefined);
  try {
    const { created, bootstrapToken, clock, snapshot } = await prepare(config, secrets, store);
    if (created || !options.recoverAdmin) return { created, bootstrapToken };
    const parts = { clock, entropy: systemEntropy, ledger: store.ledger };
    return { created, bootstrapToken: (await recoverAdmin(parts, snapshot)).token };
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

/** How often a server that stops looks for connections that have become idle. */
const stopSweepMs = 50;

/** Lets requests under way end, and keeps no connection for another one. */
const closeServer = async (server: Server): Promise<void> => {
  if (!server.listening) return;
  const closed = once(server, 'close');
  server.close();
  server.prependListener('request', (_req, res) => {
    res.shouldKeepAlive = false;
  });
  const sweep = setInterval(() => server.closeIdleConnections(), stopSweepMs);
  const timer = setTimeout(() => server.closeAllConnections(), stopPatienceMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(timer);
};

/** An issuer may have a path: what is advertised below it is answered, whether or not a proxy cut the path off. */
const belowIssuerPath = (issuer: string, listener: RequestListener): RequestListener => {
  const { pathname } = new URL(issuer);
  if (pathname === '/') return listener;
  return (req, res) => {
    if (req.url?.startsWith(`${pathname}/`)) req.url = req.url.slice(pathname.length);
    listener(req, res);
  };
};

/** A server whose address can be taken before there is somebody to answer. */
const makeServer = (options: ServerOptions): { server: Server; serve(listener: RequestListener): void } => {
  let answer: RequestListener = (_req, res) => {
    res.writeHead(503, { 'Retry-After': '1', Connection: 'close' }).end();
  };
  const server = createServer(options, (req, res) => answer(req, res));
  return {
    server,
    serve: (listener) => {
      answer = listener;
    },
  };
};

/** Starts the broker; initialises it where that has not been done. */
export const startWarder = async (config: Config, secrets: Secrets, options: StartOptions): Promise<Running> => {
  if (config.kms.kind === 'local') requirePrivateRootKey(config.kms.path);
  const store = await openStore(config, options.onFatal);
  const servers: Server[] = [];
  try {
    return await startWith(store, servers, config, secrets, options);
  } catch (error) {
    await Promise.all(servers.map(closeServer));
    await store.close();
    throw error;
  }
};

/** @param servers is told of each server that is made, so that a start that fails can close them */
const startWith = async (
  store: LedgerStore,
  servers: Server[],
  config: Config,
  secrets: Secrets,
  options: StartOptions,
): Promise<Running> => {
  // Presets and addresses first: a first start that cannot have them must not make a first admin whose token nobody sees.
  const network = openNetwork();
  const providers = new Map([
    ...openProviders({ network, scripts: config.rotateScripts }),
    ...(options.extraProviders ?? []).map((one) => [one.type, one] as const),
  ]);
  const catalog = openCatalog({ customDir: config.catalogDir, providers });
  const edgeServer = makeServer({
    maxHeaderSize: maxHeaderBytes,
    headersTimeout: headersTimeoutMs,
    connectionsCheckingInterval: timeoutCheckMs,
    requestTimeout: 0,
    keepAliveTimeout: 65_000,
  });
  servers.push(edgeServer.server);
  const url = await listen(edgeServer.server, config.listen);
  const metricsServer = config.metricsListen ? makeServer({}) : undefined;
  if (metricsServer && config.metricsListen) {
    servers.push(metricsServer.server);
    await listen(metricsServer.server, config.metricsListen);
  }

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
    openKeyService: openKmsOf(config, secrets),
    signingKeys: new SigningKeys(keyring, state, clock),
    secrets: new OpenedSecrets(keyring),
    authorizations: new Authorizations(keyring),
    providers,
    catalog,
    issuer: config.publicUrl,
    log,
  };
  core.secrets.readFrom(new SecretSources(core));
  state.onKilled(() => core.secrets.keepOnly((id) => state.connections.get(id) !== undefined));
  const upstream = openUpstream();
  const calls = new GatewayCalls(core);
  const outbound = openOutbound();
  const deliveries = new Deliveries(core, outbound, options.retrySchedule);
  metrics.watch(core, calls, deliveries);
  const foreign = new ForeignTokens(core, upstream);
  const backups = openSqliteBackups(config.store.path);
  const edge: Edge = {
    core,
    backups: new BackupMaker(core, backups),
    deliveries,
    clients: new ClientAuthenticator(core, upstream, foreign),
    foreign,
    calls,
    upstream,
    limits: new Limits(config.rateLimitPerSecond),
    streams: new EventStreams(core),
    metrics,
  };

  const drain = new UpstreamDrain(core, options.drainPatience ?? drainPatience);
  const rotationsAfter = new RotationsAfter(core);
  // A ledger of an earlier version has no key for receipts. Where it cannot be made now, the first receipt makes it.
  const makeReceiptKey = (): Promise<void> =>
    ensureReceiptKey(core).catch((error: unknown) => log.error({ err: error }, 'the key for receipts was not made'));
  const onUnsealed = (): void => {
    void makeReceiptKey();
    drain.wake();
    deliveries.wake();
  };
  const maintenance = new Maintenance(core, { keyMaxAgeMs, onUnsealed });
  const rewrapping = new Rewrapping(core, options.rewrapPace);
  // The data directory is locked by this process (adapters/stores/sqlite/lock.ts): whoever led before is dead.
  const rotation = new RotationEngine(core, { pace: options.rotationPace, exclusive: true });
  const sealed = await keyring.unseal(state.keyEncryptionKeys.all());
  if (sealed.sealed) log.error({ kms: kms.name, why: sealed.why }, 'starting sealed');
  await makeReceiptKey();

  edgeServer.serve(belowIssuerPath(config.publicUrl, createApp(edge, { trustProxy: config.trustProxy })));
  metricsServer?.serve(createMetricsApp(edge));
  drain.start();
  rotationsAfter.start();
  maintenance.start();
  rewrapping.start();
  rotation.start();
  deliveries.start();
  log.info({ url, issuer: config.publicUrl, entries: snapshot.size, sealed: sealed.sealed }, 'warder is listening');

  return {
    url,
    bootstrapToken,
    close: async () => {
      // Polls that wait are answered, or the servers would wait for them.
      deliveries.polls.close();
      edge.streams.close();
      await Promise.all(servers.map(closeServer));
      await rotationsAfter.stop();
      await Promise.all([maintenance.stop(), drain.stop(), rewrapping.stop(), rotation.stop(), deliveries.stop()]);
      await backups.close();
      await outbound.close();
      await upstream.close();
      await network.close();
      await store.close();
      keyring.seal('stopped');
      log.info({}, 'warder stopped');
    },
  };
};
