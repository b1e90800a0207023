/** `warder incident drill`: the whole of it on a scratch agent, timed, so that a plan is tested before it is needed. */
import type { Command } from 'commander';
import { type JsonOption, leaf, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { agentCalls } from '../drill/agent-calls.ts';
import { type Drill, removeScratch, steps } from '../drill/steps.ts';
import { exitCodes, Failure } from '../failure.ts';
import { printable } from '../sanitise.ts';
import type { Screen } from '../screen.ts';

interface StepResult {
  step: string;
  ok: boolean;
  milliseconds: number;
  told: string;
}

/** Runs the steps until one fails. */
const runSteps = async (
  drill: Drill,
  context: Context,
  onStep: (result: StepResult) => void,
): Promise<StepResult[]> => {
  const results: StepResult[] = [];
  for (const { name, run } of steps) {
    const started = context.now();
    let told: string;
    let ok = true;
    try {
      told = await run(drill);
    } catch (error) {
      if (!(error instanceof Failure) || error.exitCode === exitCodes.unreachable) throw error;
      ok = false;
      told = error.lines.join('; ');
    }
    const result = { step: name, ok, milliseconds: context.now() - started, told };
    results.push(result);
    onStep(result);
    if (!ok) break;
  }
  return results;
};

const widestStep = Math.max(...steps.map(({ name }) => name.length));

/** One line as it happens: a table would wait for the last of them. */
const shownStep = ({ paint }: Screen, { step, ok, milliseconds, told }: StepResult): string => {
  const mark = ok ? paint('green', 'ok    ') : paint('red', 'FAILED');
  return `${mark}  ${step.padEnd(widestStep)}  ${`${milliseconds} ms`.padStart(9)}  ${printable(told)}`;
};

/** Adds `incident drill`. */
export const drillCommand = (group: Command, context: Context): void => {
  leaf(group, 'drill', 'run an incident from beginning to end on a scratch agent, and say how long each step took')
    .option('--keep', 'leave the scratch agent, connection and entitlement')
    .addHelpText('after', '\nNeeds the role admin or operator: it makes an agent, a connection and an entitlement.')
    .action(async (options: JsonOption & { keep?: true }) => {
      const { api, screen } = toolsFor(context);
      const name = `drill-${context.now().toString(36)}`;
      const drill: Drill = {
        api,
        name,
        agent: agentCalls(api.url, { id: name, secret: '' }),
        issuer: '',
        entitlement: '',
        incident: '',
        revocation: '',
        obtained: { agentToken: '', tokens: [], grants: [] },
      };
      let results: StepResult[] = [];
      const passed = (): boolean => results.length === steps.length && results.every((result) => result.ok);
      try {
        results = await runSteps(drill, context, (result) => {
          if (!options.json) screen.line(shownStep(screen, result));
        });
      } finally {
        const left = options.keep ? [] : await removeScratch(drill, passed());
        for (const what of left) screen.note(`not removed: ${what}`);
      }
      const ok = passed();
      const milliseconds = results.reduce((sum, result) => sum + result.milliseconds, 0);
      if (options.json) {
        const body = JSON.stringify({ ok, milliseconds, incident: drill.incident || null, steps: results });
        screen.json(Buffer.from(body));
      } else screen.line(`${ok ? 'The drill passed' : 'The drill FAILED'} in ${milliseconds} ms.`);
      if (!ok) throw new Failure(exitCodes.failed, [`the drill failed at: ${results.at(-1)?.step ?? 'the beginning'}`]);
    });
};
