/** `warder revocation`: what was taken back, and how far the clean-up upstream has come. */
import type { Command } from 'commander';
import type { Answer, Api } from '../api.ts';
import { segment } from '../api.ts';
import type { Context } from '../context.ts';
import { errorCode, failed } from '../failure.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import { progressOn, type Screen, shownCount, shownTime } from '../screen.ts';

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
  let answer = first;
  const settled = (): boolean =>
    answer.fields.number('grants') !== undefined &&
    (!wait || answer.fields.has('completed_at') || onlyLivingOn(answer.fields) > 0);
  try {
    while (!settled() && (wait || context.now() - started < countPatienceMs)) {
      await pause(pollMs);
      answer = await api.call('GET', `revocations/${segment(id)}`);
      progress.show(() => `${grantCount(answer.fields)} grants; upstream: ${shownUpstream(answer.fields)}`);
    }
    return answer;
  } catch (error) {
    throw standing(id, error);
  } finally {
    progress.end();
  }
};

/** What is known of a revocation once it has been followed. */
export const showOutcome = (screen: Screen, revocation: Fields): void => {
  const unrevocable = revocation.within('upstream').number('unrevocable') ?? 0;
  screen.line(`Grants revoked: ${grantCount(revocation)}`);
  screen.line(`Upstream: ${shownUpstream(revocation)}`);
  if (unrevocable > 0) {
    screen.line(
      screen.paint('redBright', `${shownCount(unrevocable)} could not be revoked upstream and may still work there.`),
    );
  }
  const livesOn = onlyLivingOn(revocation);
  if (livesOn > 0) {
    screen.line(
      screen.paint('redBright', `${shownCount(livesOn)} cannot be taken back upstream and may work there until then.`),
    );
  } else if (!revocation.has('completed_at')) {
    screen.line(`The clean-up goes on: warder revocation show ${revocation.text('id')}`);
  }
};

/** Adds `revocation` and everything below it. */
export const revocationCommands = (program: Command, context: Context): void => {
  const group = program.command('revocation').description('what was taken back, and what is left to clean up');
  noun.listCommand(group, context, revocations);
  noun.showCommand(group, context, revocations);
};
