/** How a command ends when it does not end well: lines for standard error, and an exit code scripts can rely on. */

/** 0 done, 1 refused or failed, 2 wrong usage, 3 broker unreachable. */
export const exitCodes = { done: 0, failed: 1, usage: 2, unreachable: 3 } as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** The one exception commands throw on purpose. Its lines are printed as they are, each sanitised. */
export class Failure extends Error {
  readonly exitCode: ExitCode;
  readonly lines: readonly string[];
  /** The body of the broker's answer, which `--json` prints instead of the lines. */
  readonly body: Uint8Array | undefined;

  constructor(exitCode: ExitCode, lines: readonly string[], body?: Uint8Array) {
    super(lines.join('\n'));
    this.name = 'Failure';
    this.exitCode = exitCode;
    this.lines = lines;
    this.body = body;
  }
}

/** What was asked for cannot be meant; nothing was sent. */
export const usage = (...lines: string[]): Failure => new Failure(exitCodes.usage, lines);

export const failed = (...lines: string[]): Failure => new Failure(exitCodes.failed, lines);

export const unreachable = (...lines: string[]): Failure => new Failure(exitCodes.unreachable, lines);

/** @returns the code of a system error (`ENOENT`), or what kind of thing was thrown; never its message */
export const errorCode = (error: unknown): string => {
  if (typeof error === 'object' && error !== null && 'code' in error) return String(error.code);
  return error instanceof Error ? error.name : 'unknown error';
};
