/** `warder backup`: an encrypted copy of the whole ledger from a running broker, and what such a file is worth. */
import { createHash } from 'node:crypto';
import type { Command } from 'commander';
import type { GivenCheckpoint } from '../../domain/backup.ts';
import { trailerBytes } from '../../domain/backup.ts';
import { type JsonOption, leaf, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { unreachable, usage } from '../failure.ts';
import { printable } from '../sanitise.ts';
import { type Progress, progressOn, screenOf, shownCount, shownTime } from '../screen.ts';
import { pour, writeWhole } from './audit-export.ts';
import { backupSteps, backupTrouble, collectCheckpoints, withProcessEnd } from './backup-local.ts';
import { requireConfigured } from './serve.ts';

interface MakeOptions extends JsonOption {
  output?: string;
}

interface VerifyOptions extends JsonOption {
  config?: string;
  checkpoint?: GivenCheckpoint[];
  offline?: true;
}

const shownBytes = (bytes: number): string =>
  bytes < 1_000_000 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;

/** RFC 9530 section 2. @returns the digest in base64, or undefined when there is none of this kind */
const digestIn = (headers: Headers): string | undefined =>
  /(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]+):/.exec(headers.get('content-digest') ?? '')?.[1];

interface Received {
  bytes: number;
  sha256: string;
}

/** Passes the bytes on, and fails at the end when they are not those the broker sent. */
async function* received(
  chunks: AsyncIterable<Uint8Array>,
  sent: string | undefined,
  progress: Progress,
  result: Received,
): AsyncGenerator<Uint8Array> {
  const digest = createHash('sha256');
  for await (const chunk of chunks) {
    digest.update(chunk);
    result.bytes += chunk.length;
    progress.show(() => shownBytes(result.bytes));
    yield chunk;
  }
  const bytes = digest.digest();
  result.sha256 = bytes.toString('hex');
  if (sent !== bytes.toString('base64') || result.bytes <= trailerBytes) {
    throw unreachable('the backup did not arrive as the broker sent it; nothing was kept');
  }
}

const rootKeyWarning = [
  'The root key is NOT in it: restoring needs the key service this broker uses (WARDER_KMS).',
  'With WARDER_KMS=local that is a file: keep a copy of it somewhere else than the backup.',
];

const makeBackup = async (context: Context, options: MakeOptions): Promise<void> => {
  const { output } = options;
  if (output === undefined && context.stdout.isTTY) {
    throw usage('a backup does not go to a terminal: give -o FILE, or redirect the output');
  }
  const { api, screen } = toolsFor(context);
  const progress = progressOn(context.stderr, context.now);
  const result: Received = { bytes: 0, sha256: '' };
  if (context.stderr.isTTY) screen.note('the broker copies and checks its ledger …');
  const { headers, chunks } = await api.download('backups');
  const id = /filename="(bkp_[0-9a-z]+)\./.exec(headers.get('content-disposition') ?? '')?.[1] ?? 'unknown';
  const source = received(chunks, digestIn(headers), progress, result);
  try {
    if (output === undefined) await pour(context.stdout, source);
    else await writeWhole(context, output, source);
  } finally {
    progress.end();
  }
  if (output === undefined) {
    for (const line of rootKeyWarning) screen.note(line);
    return;
  }
  if (options.json) {
    screen.json(Buffer.from(JSON.stringify({ file: output, backup: id, ...result })));
    return;
  }
  screen.line(`Wrote backup ${printable(id)}, ${shownBytes(result.bytes)}, to ${output}.`);
  screen.line(`sha256 ${result.sha256}`);
  for (const line of rootKeyWarning) screen.line(screen.paint('yellow', line));
  screen.line(`Check it where the key service is reached: warder backup verify ${output}`);
};

/** Adds `backup` and what is below it. */
export const backupCommands = (program: Command, context: Context): void => {
  const group = leaf(program, 'backup', 'write an encrypted backup of the running broker to a file')
    .enablePositionalOptions()
    .option('-o, --output <file>', 'where to (default: standard output)')
    .action(async (options: MakeOptions) => makeBackup(context, options));

  leaf(group, 'verify <file>', 'check a backup: all of it, with the key service of the configuration')
    .option('--config <file>', 'configuration (default: WARDER_CONFIG, or warder.yaml if there is one)')
    .option('--checkpoint <file>', 'a checkpoint kept from elsewhere, or its text (repeatable)', collectCheckpoints)
    .option('--offline', 'only whether the file is whole: needs no key')
    .action(async (file: string, options: VerifyOptions) => {
      const configured = requireConfigured(context, options.config);
      const offline = options.offline === true;
      const screen = screenOf(context);
      const request = { file, checkpoints: options.checkpoint ?? [], offline };
      if (offline && request.checkpoints.length > 0) throw usage('--checkpoint needs the content: leave out --offline');
      const checked = await withProcessEnd(context, () =>
        configured.checkBackup(request, backupSteps(context)).catch((error: unknown) => {
          throw backupTrouble(error, file);
        }),
      );
      if (options.json) {
        screen.json(Buffer.from(JSON.stringify(checked)));
        return;
      }
      const { header, content } = checked;
      screen.line(
        content
          ? `${screen.paint('green', 'Verified.')} The file is whole, opens with its key, and what is in it holds together.`
          : `${screen.paint('green', 'Whole.')} The file is as it was written. What is in it was not looked at.`,
      );
      screen.line();
      screen.pairs([
        ['backup', header.id],
        ['made', shownTime(header.created_at)],
        ['of', printable(header.issuer)],
        ['entries', shownCount(header.entries)],
        ['missing', content?.missing ? `${shownCount(content.missing)} entries of the log are newer than it` : ''],
        ['boxes', content ? `${shownCount(content.boxes.opened)} opened` : ''],
        ['broken', content?.boxes.broken ? `${shownCount(content.boxes.broken)} sealed boxes do not open` : ''],
        ['key service', header.key.kms],
        ['sha256', checked.file.sha256],
      ]);
      for (const line of rootKeyWarning) screen.note(line);
    });
};
