/** `warder revocation receipt`: fetches the signed receipt of a revocation, whole or not at all. */
import type { Command } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import { type Progress, progressOn } from '../screen.ts';
import { pour, writeWhole } from './audit-export.ts';

const megabytes = (bytes: number): string => `${(bytes / 1_000_000).toFixed(1)} MB`;

async function* counted(
  source: AsyncIterable<Uint8Array>,
  written: { bytes: number },
  progress: Progress,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    yield chunk;
    written.bytes += chunk.length;
    progress.show(() => megabytes(written.bytes));
  }
}

/** Adds `receipt` to the group `revocation`. */
export const receiptCommand = (group: Command, context: Context): void => {
  leaf(group, 'receipt <id>', 'fetch the signed receipt: what is dead, since when, and what is not')
    .option('-o, --output <file>', 'where to (default: standard output)')
    .action(async (id: string, options: JsonOption & { output?: string }) => {
      const { output } = options;
      if (output === undefined && context.stdout.isTTY) {
        throw usage('a receipt does not go to a terminal: give -o FILE, or redirect the output');
      }
      const { api, screen } = toolsFor(context);
      const path = `revocations/${segment(id)}`;
      const source = await api.stream(`${path}/receipt`, {});
      if (output === undefined) {
        await pour(context.stdout, source);
        return;
      }
      const written = { bytes: 0 };
      const progress = progressOn(context.stderr, context.now);
      try {
        await writeWhole(context, output, counted(source, written, progress));
      } finally {
        progress.end();
      }
      if (options.json) {
        screen.json(Buffer.from(JSON.stringify({ file: output, ...written })));
        return;
      }
      screen.line(`Wrote ${megabytes(written.bytes)} to ${output}.`);
      const { fields } = await api.call('GET', path);
      if (!fields.has('completed_at')) {
        screen.line('The clean-up upstream goes on: this receipt is not the final one.');
      }
      screen.line(`Check it anywhere: warder revocation verify ${output} --jwks FILE (kept from ${api.url}/jwks)`);
    });
};
