/** A rotation webhook as somebody would write it, over the service of test/vendors/keys; a script's steps are the same. */
import type { RequestListener } from 'node:http';
import { Webhook } from 'standardwebhooks';
import { z } from 'zod';
import type { KeyService } from '../../vendors/keys/service.ts';

const fields = z.record(z.string(), z.string());
export const questionForm = z.strictObject({
  version: z.literal(1),
  step: z.enum(['create', 'set', 'test', 'undo', 'retire']),
  rotation_id: z.string(),
  connection: z.strictObject({ name: z.string(), provider: z.string(), settings: z.record(z.string(), z.unknown()) }),
  current: fields,
  next: fields.nullish(),
  previous: fields.nullish(),
  secret: fields.nullish(),
});
type Question = z.infer<typeof questionForm>;

export interface Taken {
  status: 200 | 422;
  answer: object;
}

export const takeStep = (service: KeyService, asked: Question): Taken => {
  const { step, rotation_id, current } = asked;
  const account = service.find(String(current['value']))?.account;
  if (!account) return { status: 422, answer: { reason: 'the key in force is not one of ours' } };
  const end = (which: (key: { name: string; secret: string }) => boolean): void => {
    for (const [id, key] of account.keys) if (which(key) && key.secret !== current['value']) account.keys.delete(id);
  };
  switch (step) {
    case 'create': {
      end(({ name }) => name === rotation_id);
      const { id, secret } = service.addKey(account, rotation_id);
      return { status: 200, answer: { secret: { value: secret, id } } };
    }
    case 'set':
      return { status: 200, answer: {} };
    case 'test': {
      const found = service.find(String(asked.secret?.['value']));
      return found?.account === account
        ? { status: 200, answer: {} }
        : { status: 422, answer: { reason: 'not valid' } };
    }
    case 'undo':
      end(({ name, secret }) => name === rotation_id || secret === asked.next?.['value']);
      return { status: 200, answer: {} };
    case 'retire':
      end(({ secret }) => secret === asked.previous?.['value']);
      return { status: 200, answer: {} };
  }
};

export const webhookSecret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;

export interface Receiver {
  handler: RequestListener;
  ids: string[];
  refused: number;
}

export const receiver = (service: KeyService): Receiver => {
  const known: Receiver = { ids: [], refused: 0, handler: () => undefined };
  known.handler = async (req, res) => {
    let text = '';
    for await (const chunk of req) text += String(chunk);
    const send = (status: number, answer: object): void => void res.writeHead(status).end(JSON.stringify(answer));
    let asked: Question;
    try {
      // The library of the standard, not the code that signs.
      const headers = Object.fromEntries(Object.entries(req.headers).map(([name, value]) => [name, String(value)]));
      asked = questionForm.parse(new Webhook(webhookSecret).verify(text, headers));
    } catch {
      known.refused += 1;
      return send(401, { reason: 'not signed as it must be' });
    }
    known.ids.push(String(req.headers['webhook-id']));
    const { status, answer } = takeStep(service, asked);
    send(status, answer);
  };
  return known;
};
