/** What an agent would do: the few calls a drill makes in its name. */
import { parseJson } from '../api.ts';
import { errorCode, unreachable } from '../failure.ts';
import { type Fields, fieldsOf } from '../fields.ts';

/** What an agent was told. */
export interface Told {
  status: number;
  fields: Fields;
}

const patienceMs = 10_000;

export interface AgentCalls {
  /** POST of a form as the client it is. */
  form(path: string, fields: Record<string, string>): Promise<Told>;
  /** A call with a bearer token; with a body a POST. */
  bearer(path: string, token: string, body?: object): Promise<Told>;
}

/** @throws Failure 3 when the broker does not answer */
export const agentCalls = (url: string, client: { id: string; secret: string }): AgentCalls => {
  const call = async (path: string, init: RequestInit): Promise<Told> => {
    try {
      const response = await fetch(`${url}${path}`, {
        ...init,
        redirect: 'manual',
        signal: AbortSignal.timeout(patienceMs),
      });
      return { status: response.status, fields: fieldsOf(parseJson(await response.text())) };
    } catch (error) {
      throw unreachable(`the broker at ${url} does not answer (${errorCode(error)})`);
    }
  };
  const basic = Buffer.from(`${encodeURIComponent(client.id)}:${encodeURIComponent(client.secret)}`).toString('base64');
  return {
    form: (path, fields) =>
      call(path, {
        method: 'POST',
        headers: { authorization: `Basic ${basic}`, 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams(fields).toString(),
      }),
    bearer: (path, token, body) =>
      call(path, {
        method: body === undefined ? 'GET' : 'POST',
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
  };
};
