/** The command line as a whole: which commands there are, and how any of them ends. */
import { Command, CommanderError } from 'commander';
import { agentCommands } from './commands/agent.ts';
import { applyCommand } from './commands/apply.ts';
import { auditCommands } from './commands/audit.ts';
import { backupCommands } from './commands/backup.ts';
import { catalogCommands } from './commands/catalog.ts';
import { connectionCommands } from './commands/connection.ts';
import { doctorCommand } from './commands/doctor.ts';
import { entitlementCommands } from './commands/entitlement.ts';
import { freezeCommands } from './commands/freeze.ts';
import { grantCommands } from './commands/grant.ts';
import { incidentCommands } from './commands/incident.ts';
import { issuerCommands } from './commands/issuer.ts';
import { keyCommands } from './commands/key.ts';
import { operatorCommands } from './commands/operator.ts';
import { restoreCommand } from './commands/restore.ts';
import { revocationCommands } from './commands/revocation.ts';
import { revokeAllCommand } from './commands/revoke-all.ts';
import { rotateCommands } from './commands/rotate.ts';
import { serveCommands } from './commands/serve.ts';
import { streamCommands } from './commands/stream.ts';
import { webhookCommands } from './commands/webhook.ts';
import type { Context } from './context.ts';
import { type ExitCode, exitCodes, Failure } from './failure.ts';
import { printable, printableJson } from './sanitise.ts';

const environmentHelp = `
Environment:
  WARDER_URL         the broker (default: http://127.0.0.1:7300)
  WARDER_TOKEN       the operator token (wdr_op_…); or WARDER_TOKEN_FILE, a file that holds it
  NO_COLOR           no colours

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 broker unreachable`;

/**
 * Commander's messages repeat arguments, and somebody in a hurry types a secret where it does not belong. The name of
 * an option is repeated, a value never.
 */
export const withoutValues = (message: string): string =>
  message
    .replace(/(unknown option '--?[\w-]+)=[\s\S]*'/, "$1=…'")
    .replace(/(but got \d+): [\s\S]*\.\n/, '$1.\n')
    .replace(/(error: option '[^']*') argument '[\s\S]*' is invalid\./, '$1:')
    .replace(/(error: command-argument value) '[\s\S]*' is invalid/, '$1 is invalid');

const buildProgram = (context: Context): Command => {
  const program = new Command('warder')
    .description('A secrets broker for AI agents.')
    .version(context.version, '-V, --version', 'print the version')
    // What stands behind a command is its own: `freeze` and `freeze lift` both have a `--reason`.
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      outputError: (text, write) => write(withoutValues(text)),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .addHelpText('after', environmentHelp);
  serveCommands(program, context);
  doctorCommand(program, context);
  applyCommand(program, context);
  agentCommands(program, context);
  connectionCommands(program, context);
  catalogCommands(program, context);
  entitlementCommands(program, context);
  grantCommands(program, context);
  revokeAllCommand(program, context);
  revocationCommands(program, context);
  rotateCommands(program, context);
  freezeCommands(program, context);
  incidentCommands(program, context);
  auditCommands(program, context);
  issuerCommands(program, context);
  keyCommands(program, context);
  operatorCommands(program, context);
  webhookCommands(program, context);
  streamCommands(program, context);
  backupCommands(program, context);
  restoreCommand(program, context);
  return program;
};

const endOf = (error: unknown, context: Context, json: boolean): ExitCode => {
  const say = (...lines: string[]): void => {
    for (const line of lines) context.stderr.write(`${printable(line)}\n`);
  };
  if (error instanceof CommanderError) {
    // Thrown by a parser that an action called: Commander has not printed it.
    if (error.code === 'commander.invalidArgument' && !error.message.startsWith('error:'))
      say(`error: ${error.message}`);
    return error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
  }
  if (error instanceof Failure) {
    const body = Buffer.from(error.body ?? []).toString('utf8');
    if (json && body !== '') context.stderr.write(`${context.stderr.isTTY ? printableJson(body) : body}\n`);
    else say(`error: ${error.lines[0] ?? 'failed'}`, ...error.lines.slice(1));
    return error.exitCode;
  }
  say(`warder failed unexpectedly: ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`);
  return exitCodes.failed;
};

/**
 * Runs one command to its end.
 * @param args without the interpreter and the script
 * @returns the exit code; nothing is thrown
 */
export const runCli = async (args: readonly string[], context: Context): Promise<ExitCode> => {
  try {
    await buildProgram(context).parseAsync(args, { from: 'user' });
    return exitCodes.done;
  } catch (error) {
    return endOf(error, context, args.includes('--json'));
  }
};
