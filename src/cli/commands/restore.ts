/** `warder restore`: a backup becomes the ledger of this machine, fenced, while no broker runs on it. */
import type { Command } from 'commander';
import type { GivenCheckpoint, RestoreReport } from '../../domain/backup.ts';
import { type JsonOption, leaf } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import { printable } from '../sanitise.ts';
import { type Screen, screenOf, shownCount, shownTime } from '../screen.ts';
import { backupSteps, backupTrouble, collectCheckpoints, withProcessEnd } from './backup-local.ts';
import { requireConfigured } from './serve.ts';

interface Options extends JsonOption {
  config?: string;
  checkpoint?: GivenCheckpoint[];
  keepGrants?: true;
  reason?: string;
  force?: true;
}

/** More names than this are for `--json`. */
const namesShown = 20;

const shownNames = (names: readonly string[]): string => {
  const shown = names.slice(0, namesShown).map(printable).join(', ');
  return names.length > namesShown ? `${shown} and ${names.length - namesShown} more` : shown;
};

const showLookAt = (screen: Screen, report: RestoreReport): void => {
  const { secrets, accounts, fenced } = report;
  const items = [
    secrets.length > 0 &&
      `secrets that were replaced after ${shownTime(report.made_at)} are the old ones again; set or rotate them: ${shownNames(secrets.map(({ connection }) => connection))}`,
    accounts.length > 0 &&
      `accounts may have to be connected anew: ${shownNames([...new Set(accounts.map(({ connection }) => connection))])}`,
    fenced &&
      fenced.rotations.length > 0 &&
      `rotations that were under way are ended; see which secret the upstream takes: ${shownNames(fenced.rotations)}`,
    fenced &&
      fenced.receivers.length > 0 &&
      `webhooks and signal streams are off until you turn them on: ${shownNames(fenced.receivers)}`,
    report.broken_boxes > 0 && `${shownCount(report.broken_boxes)} sealed boxes do not open; nor did they before`,
  ].filter((item) => typeof item === 'string');
  for (const item of items) screen.line(`  - ${item}`);
};

const showFenced = (screen: Screen, report: RestoreReport, fenced: NonNullable<RestoreReport['fenced']>): void => {
  screen.line('Everything that was issued is dead, every operator is suspended, and issuing is frozen.');
  screen.line(
    `This is the token of the new admin ${fenced.admin}, shown this once. Keep it safe, then start the broker:`,
  );
  screen.line();
  screen.line(`  export WARDER_TOKEN=${fenced.admin_token}`);
  screen.line('  npx warder serve');
  screen.line();
  screen.line('Before you lift the freeze, take back again what was taken back after the backup:');
  screen.line(
    '  - agents, entitlements, connections, trusted issuers that were removed or suspended, client secrets that leaked',
  );
  showLookAt(screen, report);
  screen.line(`  - operators: npx warder operator resume NAME && npx warder operator rotate-token NAME`);
  screen.line();
  screen.line(`When that is done, and not before ${shownTime(fenced.assertions_end_at)}:`);
  screen.line();
  screen.line(`  npx warder freeze lift ${fenced.freeze} --reason 'looked through after the restore'`);
};

const showReport = (screen: Screen, report: RestoreReport): void => {
  screen.line(
    `${screen.paint('green', 'Restored.')} Backup ${report.backup} of ${shownTime(report.made_at)}, ${shownCount(report.entries)} entries.`,
  );
  if (report.replaced !== null) screen.line(`What was there before is kept at ${report.replaced}.`);
  if (report.missing_entries === null) {
    screen.line('How much is missing since is not known: no checkpoint was given.');
  } else {
    const missing = `${shownCount(report.missing_entries)} entries of the log are missing`;
    screen.line(
      report.missing_entries === 0 ? 'No entry of the checkpoint is missing.' : screen.paint('yellow', missing),
    );
  }
  screen.line();
  if (report.fenced) {
    showFenced(screen, report, report.fenced);
    return;
  }
  const warning = 'Nothing was fenced: what was revoked, suspended or removed after the backup works again.';
  screen.line(screen.paint('redBright', warning));
  showLookAt(screen, report);
};

/** Adds `restore`. */
export const restoreCommand = (program: Command, context: Context): void => {
  leaf(program, 'restore <file>', 'make a backup the ledger of this machine, with everything that was issued dead')
    .option('--config <file>', 'configuration (default: WARDER_CONFIG, or warder.yaml if there is one)')
    .option(
      '--checkpoint <file>',
      'a checkpoint kept from elsewhere, or its text: says what is missing (repeatable)',
      collectCheckpoints,
    )
    .option('--keep-grants', 'fence nothing: all that was alive in the backup lives on; needs --reason')
    .option('--reason <text>', 'why grants are kept; it is recorded')
    .option('--force', 'where there is a ledger: move it aside, and keep it')
    .action(async (file: string, options: Options) => {
      const { reason, keepGrants } = options;
      if (keepGrants && !reason?.trim())
        throw usage('--keep-grants needs --reason: it brings back what was revoked since');
      if (!keepGrants && reason !== undefined) throw usage('--reason is for --keep-grants');
      const configured = requireConfigured(context, options.config);
      const request = {
        file,
        checkpoints: options.checkpoint ?? [],
        keepGrants: keepGrants && reason ? { reason } : undefined,
        replace: options.force === true,
      };
      const report = await withProcessEnd(context, () =>
        configured.restore(request, backupSteps(context)).catch((error: unknown) => {
          throw backupTrouble(error, file);
        }),
      );
      const screen = screenOf(context);
      if (options.json) screen.json(Buffer.from(JSON.stringify(report)));
      else showReport(screen, report);
    });
};
