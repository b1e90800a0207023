/** `warder incident report`: what was obtained and done, as a page for people or as data. */
import { type Command, Option } from 'commander';
import { segment } from '../api.ts';
import { toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import { printable, printableJson } from '../sanitise.ts';
import { pour, writeWhole } from './audit-export.ts';

interface ReportOptions {
  format?: 'md' | 'json' | 'html';
  output?: string;
  json?: true;
}

const formatOf = ({ format, output, json }: ReportOptions): 'md' | 'json' | 'html' => {
  if (json && format !== undefined && format !== 'json') throw usage('--json and --format exclude each other');
  if (json) return 'json';
  if (format !== undefined) return format;
  const extension = /\.(md|json|html)$/.exec(output ?? '')?.[1];
  return extension === 'json' || extension === 'html' ? extension : 'md';
};

/** To a terminal line by line, so that nothing in it is obeyed; otherwise byte for byte. */
const show = async (context: Context, format: string, source: AsyncIterable<Uint8Array>): Promise<void> => {
  if (!context.stdout.isTTY) return pour(context.stdout, source);
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString('utf8');
  const shown = format === 'json' ? printableJson(text) : text.split('\n').map(printable).join('\n');
  context.stdout.write(shown.endsWith('\n') ? shown : `${shown}\n`);
};

export const reportCommand = (group: Command, context: Context): void => {
  group
    .command('report <id>')
    .description('what was obtained and done in its window, and what was done about it')
    .addOption(
      new Option('--format <format>', 'md, json or html (default: as the file is called, or md)').choices([
        'md',
        'json',
        'html',
      ]),
    )
    .option('-o, --output <file>', 'into this file; it appears when it is complete')
    .option('--json', 'print exactly what the API returned')
    .action(async (id: string, options: ReportOptions) => {
      const format = formatOf(options);
      const { api, screen } = toolsFor(context);
      const source = await api.stream(`incidents/${segment(id)}/report`, { format });
      if (options.output === undefined) {
        await show(context, format, source);
        return;
      }
      await writeWhole(context, options.output, source);
      screen.note(`Wrote ${options.output}.`);
    });
};
