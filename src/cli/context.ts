/** What a command may touch of the world, handed in so that a test can hand in something else. */
import type { BackupStep, CheckedBackup, CheckRequest, RestoreReport, RestoreRequest } from '../domain/backup.ts';

export type Input = NodeJS.ReadableStream & {
  readonly isTTY?: boolean | undefined;
  setRawMode?(mode: boolean): unknown;
};
export type Output = NodeJS.WritableStream & { readonly isTTY?: boolean | undefined };

/** What the checks of `doctor` and the greeting of `serve` need to know of the configuration. */
export interface LocalSettings {
  dataDir: string;
  storePath: string;
  /** undefined where another key service keeps it. */
  rootKeyPath: string | undefined;
}

export interface RunningWarder {
  url: string;
  /** The first operator token; only at the first start. */
  bootstrapToken: string | undefined;
  close(): Promise<void>;
}

/** A configuration that was read and is right; what can be done with it on this machine. */
export interface ConfiguredWarder {
  ok: true;
  settings: LocalSettings;
  /** @param onFatal called once when the broker cannot go on */
  start(onFatal: (error: Error) => void): Promise<RunningWarder>;
  init(options: { recoverAdmin: boolean }): Promise<{ created: boolean; bootstrapToken: string | undefined }>;
  restore(request: RestoreRequest & { file: string }, onProgress: (step: BackupStep) => void): Promise<RestoreReport>;
  checkBackup(request: CheckRequest & { file: string }, onProgress: (step: BackupStep) => void): Promise<CheckedBackup>;
}

export interface Context {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  /** Milliseconds since the epoch. */
  now(): number;
  readonly version: string;
  /** Reads the configuration: the environment, and the file named here, by `WARDER_CONFIG`, or `warder.yaml`. */
  configure(path: string | undefined): ConfiguredWarder | { ok: false; problems: readonly string[] };
  /** Calls back at SIGINT and SIGTERM, which then no longer end the process. @returns a function that ends this */
  onSignal(listener: () => void): () => void;
  /** Ends the process now. */
  exit(code: number): void;
}
