/** `warder incident drill`: the whole of it on a scratch agent, timed, so that a plan is tested before it is needed. */
import type { Command } from 'commander';
import type { Api } from '../api.ts';
import { type JsonOption, leaf, type Tools, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { agentCalls } from '../drill/agent-calls.ts';
import { findLeftovers, type Leftovers, removeLeftovers, removeScratch } from '../drill/clean-up.ts';
import { type Drill, drillPrefix, steps } from '../drill/steps.ts';
import { exitCodes, Failure, usage } from '../failure.ts';
import { printable } from '../sanitise.ts';
import type { Screen } from '../screen.ts';

interface StepResult {
  step: string;
  ok: boolean;
  milliseconds: number;
  told: string;
}

/** Runs the steps until one fails, or somebody breaks it off. */
const runSteps = async (
  drill: Drill,
  context: Context,
  onStep: (result: StepResult) => void,
  brokenOff: AbortSignal,
): Promise<StepResult[]> => {
  const results: StepResult[] = [];
  for (const { name, run } of steps) {
    if (brokenOff.aborted) break;
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

const sumOf = ({ incidents, paths }: Leftovers): string => [...incidents, ...paths].join(', ');

/** What an earlier drill left would otherwise be found by whoever wonders about an open incident, months later. */
const tellOfLeftovers = async (api: Api, screen: Screen): Promise<void> => {
  const left = sumOf(await findLeftovers(api));
  if (left !== '') screen.note(`left by another drill: ${left}. warder incident drill --clean removes it.`);
};

const clean = async ({ api, screen }: Tools, options: JsonOption): Promise<void> => {
  const found = await findLeftovers(api);
  const left = await removeLeftovers(api, found);
  if (options.json) screen.json(Buffer.from(JSON.stringify({ found, left })));
  else screen.line(sumOf(found) === '' ? 'No drill left anything.' : `Removed what drills left: ${sumOf(found)}.`);
  if (left.length > 0)
    throw new Failure(
      exitCodes.failed,
      left.map((what) => `not removed: ${what}`),
    );
};

const drillOnce = async (
  { api, screen }: Tools,
  context: Context,
  options: JsonOption & { keep?: true },
): Promise<void> => {
  const name = `${drillPrefix}${context.now().toString(36)}`;
  const drill: Drill = {
    api,
    name,
    agent: agentCalls(api.url, { id: name, secret: '' }),
    issuer: '',
    made: [],
    entitlement: '',
    incident: '',
    revocation: '',
    obtained: { agentToken: '', tokens: [], grants: [] },
  };
  const brokenOff = new AbortController();
  const stopListening = context.onSignal(() => {
    if (!brokenOff.signal.aborted) screen.note('breaking off; what the drill made is removed');
    brokenOff.abort();
  });
  const show = (result: StepResult): void => {
    if (!options.json) screen.line(shownStep(screen, result));
  };
  let results: StepResult[] = [];
  try {
    results = await runSteps(drill, context, show, brokenOff.signal);
  } finally {
    for (const what of await removeScratch(drill, options.keep === true)) screen.note(`not removed: ${what}`);
    stopListening();
  }
  const failedAt = results.find((result) => !result.ok)?.step;
  const ok = results.length === steps.length && failedAt === undefined;
  const milliseconds = results.reduce((sum, result) => sum + result.milliseconds, 0);
  if (options.json) {
    const body = JSON.stringify({ ok, milliseconds, incident: drill.incident || null, steps: results });
    screen.json(Buffer.from(body));
  } else screen.line(`${ok ? 'The drill passed' : 'The drill FAILED'} in ${milliseconds} ms.`);
  if (failedAt !== undefined) throw new Failure(exitCodes.failed, [`the drill failed at: ${failedAt}`]);
  if (!ok) throw new Failure(exitCodes.failed, ['the drill was broken off']);
};

/** Adds `incident drill`. */
export const drillCommand = (group: Command, context: Context): void => {
  leaf(group, 'drill', 'run an incident from beginning to end on a scratch agent, and say how long each step took')
    .option('--keep', 'leave the scratch agent, connection and entitlement')
    .option('--clean', 'run none; remove what other drills left, also of one that is running')
    .addHelpText('after', '\nNeeds the role admin or operator: it makes an agent, a connection and an entitlement.')
    .action(async (options: JsonOption & { keep?: true; clean?: true }) => {
      if (options.keep && options.clean) throw usage('--keep and --clean exclude each other');
      const tools = toolsFor(context);
      if (options.clean) return clean(tools, options);
      await tellOfLeftovers(tools.api, tools.screen);
      await drillOnce(tools, context, options);
    });
};
