/** `warder doctor`: looks at this machine and at the broker, and says what is not as it should be. */
import type { Command } from 'commander';
import { brokerUrl } from '../api.ts';
import { type JsonOption, leaf } from '../command.ts';
import type { Context } from '../context.ts';
import type { Finding } from '../doctor/finding.ts';
import { checkLocally } from '../doctor/local.ts';
import { checkRemotely } from '../doctor/remote.ts';
import { exitCodes, Failure } from '../failure.ts';
import { printable } from '../sanitise.ts';
import { type Style, screenOf } from '../screen.ts';

const marks: Record<Finding['result'], { text: string; style: Style }> = {
  ok: { text: 'ok', style: 'green' },
  warning: { text: 'warning', style: 'yellow' },
  failed: { text: 'FAILED', style: 'redBright' },
  unreachable: { text: 'FAILED', style: 'redBright' },
  skipped: { text: 'skipped', style: 'dim' },
};

/** Adds `doctor`. */
export const doctorCommand = (program: Command, context: Context): void => {
  leaf(program, 'doctor', 'check this machine and the broker')
    .option('--config <file>', 'configuration (default: WARDER_CONFIG, or warder.yaml if there is one)')
    .action(async (options: JsonOption & { config?: string }) => {
      const findings = [
        ...checkLocally(context, options.config),
        ...(await checkRemotely(context, brokerUrl(context.env))),
      ];
      const screen = screenOf(context);
      if (options.json) {
        screen.json(Buffer.from(JSON.stringify({ checks: findings })));
      } else {
        const lines = findings.map(({ check, result, detail }) => [
          screen.paint(marks[result].style, marks[result].text),
          check,
          printable(detail),
        ]);
        screen.table([], lines);
      }
      const has = (result: Finding['result']): boolean => findings.some((finding) => finding.result === result);
      const count = findings.filter(({ result }) => result === 'failed' || result === 'unreachable').length;
      if (has('unreachable')) throw new Failure(exitCodes.unreachable, ['the broker does not answer']);
      if (has('failed')) throw new Failure(exitCodes.failed, [`${count} of ${findings.length} checks failed`]);
    });
};
