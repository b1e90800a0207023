/** Rotation by a script of the operator's own, from the folder that Warder's configuration names: docs/rotation-methods.md. */
import { z } from 'zod';
import { ProviderFailure } from '../../src/ports/provider.ts';
import type { RotationContext } from '../../src/ports/rotation.ts';
import {
  type About,
  askedFor,
  mayHaveMade,
  newSecretIn,
  question,
  reasonIn,
  requireAnswer,
  type Step,
} from './answers.ts';
import { harmless } from './said.ts';
import { scriptFile, scriptName } from './script-file.ts';
import { runScript } from './script-process.ts';
import type { Subject, Way } from './subject.ts';

export const script = z.strictObject({
  name: z.string().regex(scriptName, 'a plain file name: letters, digits and . _ -'),
  /** Whether the old secret works until the step `retire`. */
  overlaps: z.boolean().default(true),
});
export type Script = z.infer<typeof script>;

/** What a script exits with to say no; every other number but 0 means that it could not tell. */
const refusedExit = 10;
const mostLogged = 1_000;

/** @param folder undefined: this Warder runs no scripts */
export const scriptWay = (subject: Subject, folder: string | undefined): Way<Script> => {
  const take = async ({ name }: Script, step: Step, context: RotationContext, about: About): Promise<string> => {
    const file = await scriptFile(folder, name);
    const ran = await runScript(file, question(step, context, about), context.signal);
    const known = [context.current, about.next, about.previous, about.secret];
    const logged = harmless(ran.stderr, known, mostLogged);
    const cause = new Error(`exit code ${ran.code ?? 'none'}${logged === undefined ? '' : `, and said: ${logged}`}`);
    const who = `the script ${name}`;
    if (ran.how === 'late') throw new ProviderFailure('timeout', `${who} did not end in time at ${step}`, { cause });
    if (ran.how !== 'ended') {
      const why = ran.how === 'not started' ? 'could not be started' : 'answered too much';
      throw new ProviderFailure('unavailable', `${who} ${why} at ${step}`, { cause });
    }
    const reason = reasonIn(ran.stdout, known);
    if (ran.code === refusedExit) throw new ProviderFailure('refused', `${who} refused ${step}${reason}`, { cause });
    if (ran.code !== 0) {
      const how = ran.code === null ? 'was killed' : `ended with ${ran.code}`;
      throw new ProviderFailure('unavailable', `${who} ${how} at ${step}${reason}`, { cause });
    }
    requireAnswer(who, ran.stdout);
    return ran.stdout;
  };

  return {
    problems: () => (folder === undefined ? ['name: this Warder runs no scripts; set WARDER_ROTATE_SCRIPTS'] : []),
    destinations: ({ name }) => [`script:${name}`],
    overlaps: ({ overlaps }) => overlaps,
    async create(method, context) {
      const answer = await askedFor(context, () => take(method, 'create', context, {}));
      return newSecretIn(`the script ${method.name}`, answer, subject, context.current);
    },
    set: async (method, next, context) => void (await take(method, 'set', context, { next })),
    test: async (method, secret, context) => void (await take(method, 'test', context, { secret })),
    async undo(method, next, context) {
      if (mayHaveMade(next, context)) await take(method, 'undo', context, { next });
    },
    retire: async (method, previous, context) => void (await take(method, 'retire', context, { previous })),
  };
};
