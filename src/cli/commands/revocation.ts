/** `warder revocation`: what was taken back, how far the clean-up upstream has come, and the receipt. */
import type { Command } from 'commander';
import type { Answer, Api } from '../api.ts';
import { segment } from '../api.ts';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { errorCode, exitCodes, Failure, failed } from '../failure.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import { ProgressBar } from '../progress-bar.ts';
import { progressOn, type Screen, shownCount, shownTime } from '../screen.ts';
import { receiptCommand } from './revocation-receipt.ts';
import { verifyReceiptCommand } from './revocation-verify.ts';

/** `agent=reporter connection=stripe`, or `everything`. */
export const shownSelector = (selector: Fields): string =>
  selector
    .names()
    .map((name) => (selector.flag(name) ? name : `${name}=${selector.text(name)}`))
    .join(' ');

const grantCount = (revocation: Fields): string => {
  const count = revocation.number('grants');
  return count === undefined ? 'being counted' : shownCount(count);
};

/** `3 pending (2 live on until …), 9 revoked, 0 unrevocable` */
export const shownUpstream = (revocation: Fields): string => {
  const upstream = revocation.within('upstream');
  const livesOn = upstream.number('lives_on') ?? 0;
  const until = livesOn === 0 ? '' : ` (${shownCount(livesOn)} live on until ${shownTime(upstream.text('ends_by'))})`;
  return ['pending', 'revoked', 'unrevocable']
    .map((name) => `${shownCount(upstream.number(name) ?? 0)} ${name}${name === 'pending' ? until : ''}`)
    .join(', ');
};

/** `stripe (rotating), billing-db (by hand: …)` */
const shownRotations = (revocation: Fields): string =>
  revocation
    .items('rotations')
    .map((one) => {
      const byHand = one.maybe('by_hand');
      return `${one.within('connection').text('name')} (${byHand ? `by hand: ${byHand}` : one.text('rotation')})`;
    })
    .join(', ');

/** How many credentials cannot be taken back and are all that a revocation waits for; 0 while there is other work. */
export const onlyLivingOn = (revocation: Fields): number => {
  const upstream = revocation.within('upstream');
  const livesOn = upstream.number('lives_on') ?? 0;
  return livesOn === upstream.number('pending') ? livesOn : 0;
};

const completed: noun.Cell[1] = (revocation) => shownTime(revocation.text('completed_at')) || 'not yet';

const revocations: noun.Noun = {
  name: 'revocation',
  path: 'revocations',
  argument: '<id>',
  columns: [
    noun.plain('ID', 'id'),
    noun.time('FENCED', 'fenced_at'),
    ['SELECTOR', (revocation) => shownSelector(revocation.within('selector'))],
    ['GRANTS', grantCount],
    ['UPSTREAM', shownUpstream],
    ['COMPLETED', completed],
    noun.plain('REASON', 'reason'),
  ],
  sheet: [
    noun.plain('id', 'id'),
    ['selector', (revocation) => shownSelector(revocation.within('selector'))],
    noun.plain('reason', 'reason'),
    noun.time('fenced', 'fenced_at'),
    noun.plain('fence', 'fence'),
    ['grants', grantCount],
    ['upstream', shownUpstream],
    [
      'suspended',
      (revocation) =>
        revocation
          .items('suspended')
          .map((agent) => agent.text('name'))
          .join(' '),
    ],
    ['rotations', shownRotations],
    ['completed', completed],
  ],
};

/** Counting a million grants takes about a second; the fence does not wait for it, and neither need we for longer. */
const countPatienceMs = 60_000;
const pollMs = 200;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** What a refusal of a question must not hide: the revocation itself was acknowledged. */
const standing = (id: string, error: unknown): Error =>
  failed(
    `the revocation stands, but how far it has come cannot be asked now (${errorCode(error)}):`,
    ...(error instanceof Error ? error.message.split('\n') : []),
    `ask again with: warder revocation show ${id}`,
  );

/** `1,024 grants; upstream [####----] 512 of 1,024, 103/s, 5s left; 2 unrevocable` */
const shownProgress = (revocation: Fields, bar: ProgressBar): string => {
  const upstream = revocation.within('upstream');
  const unrevocable = upstream.number('unrevocable') ?? 0;
  const done = (upstream.number('revoked') ?? 0) + unrevocable;
  const livesOn = upstream.number('lives_on') ?? 0;
  const total = done + (upstream.number('pending') ?? 0);
  return [
    `${grantCount(revocation)} grants`,
    `upstream ${bar.show(done, total)}`,
    ...(unrevocable > 0 ? [`${shownCount(unrevocable)} unrevocable`] : []),
    ...(livesOn > 0 ? [`${shownCount(livesOn)} live on until they end`] : []),
  ].join('; ');
};

/**
 * Waits until the grants are counted and, if asked to, until the clean-up upstream has ended or only waits for what ends
 * by itself, with progress on standard error.
 *
 * @param first the broker's answer to the revocation
 * @returns the newest answer
 * @throws Failure 1 when the broker cannot be asked any more
 */
export const followRevocation = async (api: Api, context: Context, first: Answer, wait: boolean): Promise<Answer> => {
  const id = first.fields.text('id');
  const started = context.now();
  const progress = progressOn(context.stderr, context.now);
  const bar = new ProgressBar(context.now);
  let answer = first;
  const settled = (): boolean =>
    answer.fields.number('grants') !== undefined &&
    (!answer.fields.flag('rotate') || answer.fields.has('rotations')) &&
    (!wait || answer.fields.has('completed_at') || onlyLivingOn(answer.fields) > 0);
  try {
    while (!settled() && (wait || context.now() - started < countPatienceMs)) {
      await pause(pollMs);
      answer = await api.call('GET', `revocations/${segment(id)}`);
      progress.show(() => shownProgress(answer.fields, bar));
    }
    return answer;
  } catch (error) {
    throw standing(id, error);
  } finally {
    progress.end();
  }
};

/** @throws Failure 1 when something upstream is unrevocable or lives on */
export const requireClean = (revocation: Fields): void => {
  const unrevocable = revocation.within('upstream').number('unrevocable') ?? 0;
  if (unrevocable > 0) {
    throw new Failure(exitCodes.failed, [`${shownCount(unrevocable)} credentials could not be revoked upstream`]);
  }
  const livesOn = onlyLivingOn(revocation);
  if (livesOn > 0) {
    throw new Failure(exitCodes.failed, [
      `${shownCount(livesOn)} credentials live on upstream until they end by themselves`,
    ]);
  }
};

/** What is known of a revocation once it has been followed. */
export const showOutcome = (screen: Screen, revocation: Fields): void => {
  const unrevocable = revocation.within('upstream').number('unrevocable') ?? 0;
  const id = revocation.text('id');
  screen.line(`Grants revoked: ${grantCount(revocation)}`);
  screen.line(`Upstream: ${shownUpstream(revocation)}`);
  if (unrevocable > 0) {
    screen.line(
      screen.paint('redBright', `${shownCount(unrevocable)} could not be revoked upstream and may still work there.`),
    );
    screen.line(`Why, and what to do: warder grant list --status unrevocable; again: warder revocation retry ${id}`);
  }
  const livesOn = onlyLivingOn(revocation);
  if (livesOn > 0) {
    screen.line(
      screen.paint('redBright', `${shownCount(livesOn)} cannot be taken back upstream and may work there until then.`),
    );
  } else if (!revocation.has('completed_at')) {
    screen.line(`The clean-up goes on: warder revocation show ${id}`);
  }
  const rotations = revocation.items('rotations');
  const asked = rotations.filter((one) => one.has('rotation')).map((one) => one.within('connection').text('name'));
  if (asked.length > 0) screen.line(`Secrets being replaced: ${asked.join(' ')} (warder rotate list)`);
  for (const one of rotations.filter((rotation) => rotation.has('by_hand'))) {
    const name = one.within('connection').text('name');
    screen.line(screen.paint('yellow', `Must be rotated by hand: ${name}: ${one.text('by_hand')}`));
  }
};

/** Adds `revocation` and everything below it. */
export const revocationCommands = (program: Command, context: Context): void => {
  const group = program.command('revocation').description('what was taken back, and what is left to clean up');
  noun.listCommand(group, context, revocations);
  noun.showCommand(group, context, revocations);
  leaf(group, 'watch <id>', 'follow the clean-up upstream until it has ended').action(
    async (id: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const first = await api.call('GET', `revocations/${segment(id)}`);
      const last = await followRevocation(api, context, first, true);
      present(screen, options, last, (fields) => showOutcome(screen, fields));
      requireClean(last.fields);
    },
  );
  leaf(group, 'retry <id>', 'try again to take back upstream what could not be').action(
    async (id: string, options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      const answer = await api.call('POST', `revocations/${segment(id)}/retry`, { body: {} });
      present(screen, options, answer, (fields) => {
        screen.line(`Trying again: ${shownCount(fields.number('retried') ?? 0)} credentials.`);
        screen.line(`How it goes: warder revocation watch ${fields.text('id')}`);
      });
    },
  );
  receiptCommand(group, context);
  verifyReceiptCommand(group, context);
};
