/** The JSON that webhooks and scripts are asked with and answer with: the same for both. */
import { z } from 'zod';
import { ProviderFailure } from '../../src/ports/provider.ts';
import type { RotationContext, SecretFields } from '../../src/ports/rotation.ts';
import { harmless } from './said.ts';
import { revealed, type Subject, usable } from './subject.ts';

export type Step = 'create' | 'set' | 'test' | 'undo' | 'retire';

/** What a step is about beside the secret in force. */
export interface About {
  next?: SecretFields | undefined;
  previous?: SecretFields | undefined;
  secret?: SecretFields | undefined;
}

/** Never told: it proves to the webhook who asks, and is nothing to a script. */
const without = ({ webhook_secret: _, ...fields }: Record<string, string>): Record<string, string> => fields;
const shown = (fields: SecretFields | undefined) => (fields === undefined ? null : without(revealed(fields)));

export const question = (step: Step, { rotationId, connection, current }: RotationContext, about: About): string =>
  JSON.stringify({
    version: 1,
    step,
    rotation_id: rotationId,
    connection: { name: connection.name, provider: connection.provider, settings: connection.settings },
    current: shown(current),
    ...(step === 'create' ? {} : { next: shown(about.next) }),
    ...(step === 'retire' ? { previous: shown(about.previous) } : {}),
    ...(step === 'test' ? { secret: shown(about.secret) } : {}),
  });

/** What is journalled: whether the other side may have made something whose answer was lost. */
const handleForm = z.object({ asked: z.boolean() });

/** Whether there may be something to undo: where nothing was ever asked for, nobody is asked to undo it. */
export const mayHaveMade = (next: SecretFields | undefined, { handle }: RotationContext): boolean =>
  next !== undefined || handleForm.safeParse(handle).data?.asked === true;

/** Asks for a new secret. When that was refused, the journal says that nothing was made: what refusing means. */
export const askedFor = async (context: RotationContext, ask: () => Promise<string>): Promise<string> => {
  await context.journal({ asked: true });
  try {
    return await ask();
  } catch (error) {
    if (error instanceof ProviderFailure && error.kind === 'refused') await context.journal({ asked: false });
    throw error;
  }
};

const answerForm = z.object({
  secret: z.record(z.string(), z.unknown()).optional(),
  reason: z.string().max(10_000).optional(),
});

const mostReason = 200;

const parsed = (text: string): z.infer<typeof answerForm> | undefined => {
  try {
    const read = answerForm.safeParse(text.trim() === '' ? {} : JSON.parse(text));
    return read.success ? read.data : undefined;
  } catch {
    return undefined;
  }
};

/** @returns what the other side gives as its reason, behind a colon; empty when it gives none that can be shown */
export const reasonIn = (text: string, known: readonly (SecretFields | undefined)[]): string => {
  const reason = parsed(text)?.reason;
  const shown = reason === undefined ? undefined : harmless(reason, known, mostReason);
  return shown === undefined ? '' : `: ${shown}`;
};

/** @throws ProviderFailure `unavailable` for an answer that is no JSON object: whether the step was taken is unknown */
export const requireAnswer = (who: string, text: string): void => {
  if (parsed(text) === undefined) throw new ProviderFailure('unavailable', `${who} answered what is no JSON object`);
};

/** @returns the new secret of an answer to `create`, as it is stored */
export const newSecretIn = (
  who: string,
  text: string,
  subject: Subject,
  current: SecretFields,
): Record<string, string> => {
  const next = usable(subject, parsed(text)?.secret, current);
  if (!next) throw new ProviderFailure('unavailable', `${who} answered create without a usable secret`);
  if (next[subject.field] === current[subject.field]?.reveal()) {
    throw new ProviderFailure('unavailable', `${who} answered create with the secret in force`);
  }
  return next;
};
