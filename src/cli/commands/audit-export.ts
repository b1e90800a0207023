/** `warder audit export`: the log as a file, streamed; the file appears when it is complete, or not at all. */
import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { type AuditFilters, auditQuery, withAuditFilters } from '../audit-filters.ts';
import { type JsonOption, leaf, toolsFor } from '../command.ts';
import type { Context, Output } from '../context.ts';
import { errorCode, exitCodes, Failure, failed, usage } from '../failure.ts';
import { type Progress, progressOn, shownCount } from '../screen.ts';

interface ExportOptions extends JsonOption, AuditFilters {
  format: 'jsonl' | 'csv';
  output?: string;
}

interface Written {
  lines: number;
  bytes: number;
}

const newline = 0x0a;

const linesIn = (chunk: Uint8Array): number => {
  let count = 0;
  for (let at = chunk.indexOf(newline); at >= 0; at = chunk.indexOf(newline, at + 1)) count += 1;
  return count;
};

const shownWritten = ({ lines, bytes }: Written): string =>
  `${shownCount(lines)} lines, ${(bytes / 1_000_000).toFixed(1)} MB`;

async function* counted(
  source: AsyncIterable<Uint8Array>,
  written: Written,
  progress: Progress,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    yield chunk;
    written.lines += linesIn(chunk);
    written.bytes += chunk.length;
    progress.show(() => shownWritten(written));
  }
}

/**
 * Writes under a temporary name in the same folder, syncs, and renames: whoever looks sees the whole export or what was
 * there before. Readable by its owner only, like the log itself.
 */
export const writeWhole = async (context: Context, path: string, source: AsyncIterable<Uint8Array>): Promise<void> => {
  const target = resolve(path);
  const temporary = join(dirname(target), `.${basename(target)}.${randomBytes(6).toString('hex')}.part`);
  const interrupted = new AbortController();
  const unsubscribe = context.onSignal(() => interrupted.abort());
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      for await (const chunk of source) {
        if (interrupted.signal.aborted) throw new Failure(exitCodes.failed, ['interrupted; nothing was written']);
        await file.writeFile(chunk);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error instanceof Failure ? error : failed(`${path} cannot be written (${errorCode(error)})`);
  } finally {
    unsubscribe();
  }
};

/** Writes as fast as the reader takes it. */
export const pour = async (stdout: Output, source: AsyncIterable<Uint8Array>): Promise<void> => {
  for await (const chunk of source) {
    if (!stdout.write(chunk)) await new Promise<void>((drained) => stdout.once('drain', drained));
  }
};

/** Adds `export` to the group `audit`. */
export const exportCommand = (group: Command, context: Context): void => {
  withAuditFilters(leaf(group, 'export', 'write the log to a file, oldest first'))
    .addOption(
      new Option('--format <format>', 'jsonl can be verified; csv is for spreadsheets')
        .choices(['jsonl', 'csv'])
        .default('jsonl'),
    )
    .option('-o, --output <file>', 'where to (default: standard output)')
    .action(async (options: ExportOptions) => {
      const { format, output } = options;
      const query = { ...auditQuery(options, context.now()), format };
      if (output === undefined && context.stdout.isTTY) {
        throw usage('an export does not go to a terminal: give -o FILE, or redirect the output');
      }
      const { api, screen } = toolsFor(context);
      const source = await api.stream('audit/export', query);
      if (output === undefined) {
        await pour(context.stdout, source);
        return;
      }
      const written = { lines: 0, bytes: 0 };
      const progress = progressOn(context.stderr, context.now);
      try {
        await writeWhole(context, output, counted(source, written, progress));
      } finally {
        progress.end();
      }
      if (options.json) {
        screen.json(Buffer.from(JSON.stringify({ file: output, format, ...written })));
        return;
      }
      screen.line(`Wrote ${shownWritten(written)} to ${output}.`);
      const whole = Object.entries(query).every(([name, value]) => name === 'format' || value === undefined);
      if (format === 'jsonl' && whole) screen.line(`Check it anywhere: warder audit verify ${output} --key KEY`);
    });
};
