/** Uses a credential at every check point there is for it. */
import type { Answer, BrokerClient } from '../../support/broker.ts';
import type { Held, HeldToken } from './memory.ts';
import type { World } from './world.ts';

/** Where it was tried, and whether that went through. */
export interface Use {
  point: 'gateway' | 'introspection' | 'renewal' | 'exchange' | 'agent-api' | 'upstream';
  works: boolean;
  /** What was answered, for whoever reads a finding. */
  answer: string;
}

/**
 * Whether no answer came, as the broker died. By its words: under Jest the TypeErrors of fetch are of another realm, and
 * not every TypeError is one of fetch.
 */
export const noAnswer = (error: unknown): boolean =>
  error !== null &&
  typeof error === 'object' &&
  'message' in error &&
  (error.message === 'fetch failed' || error.message === 'terminated');

let calls = 0;

/** @returns a word nobody used before, and the answer's status */
export const callThroughGateway = async (
  broker: BrokerClient,
  token: string,
): Promise<{ word: string; status: number; text: string }> => {
  calls += 1;
  const word = `${process.pid}-${calls}`;
  const response = await broker.fetch(`/gateway/gate/x/${word}`, { headers: { authorization: `Bearer ${token}` } });
  return { word, status: response.status, text: await response.text() };
};

const said = ({ status, text }: Pick<Answer, 'status' | 'text'>): string => `${status} ${text.slice(0, 200)}`;

const exchanged = (
  { issuer }: World,
  broker: BrokerClient,
  subject: string,
  client: HeldToken['agent'],
): Promise<Answer> =>
  broker.form(
    '/token',
    {
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token: subject,
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      resource: `${issuer}/connections/jwt`,
      scope: 'all',
    },
    client,
  );

/** A grant at each of its check points. A renewal that goes through is remembered as promised. */
export const useGrant = async (world: World, broker: BrokerClient, held: Held): Promise<Use[]> => {
  const { agent, connection, credential } = held;
  const uses: Use[] = [];
  const token = credential.token ?? '';
  if (connection === 'gate') {
    const { word, status, text } = await callThroughGateway(broker, token);
    uses.push({
      point: 'gateway',
      works: status === 200 || world.target.arrived.has(word),
      answer: `${status} ${text}`,
    });
  }
  if (connection === 'gate' || connection === 'jwt') {
    const answer = await broker.form('/introspect', { token }, agent);
    uses.push({ point: 'introspection', works: answer.body['active'] === true, answer: said(answer) });
  }
  if (connection === 'jwt') {
    const answer = await exchanged(world, broker, token, agent);
    uses.push({ point: 'exchange', works: answer.status === 200, answer: said(answer) });
  }
  // The life of a JWT cannot be changed: nobody is let through there, dead or alive.
  if (connection === 'jwt') return uses;
  agent.token ??= await broker.agentToken(agent).catch((error: unknown) => {
    if (noAnswer(error)) throw error;
    // Suspended at this moment: then nobody can ask for a renewal.
    return undefined;
  });
  if (agent.token !== undefined) {
    const answer = await broker.json('POST', `/v1/grants/${held.id}/renew`, agent.token, { ttl_seconds: 1200 });
    if (answer.status === 200) {
      const { expires_at } = answer.body['grant'] as { expires_at: string };
      held.expiresAt = Math.max(held.expiresAt, Date.parse(expires_at));
    }
    // As it does not know the token: what a revocation says of a grant, it says of a token of the agent, too.
    if (answer.status === 401 && answer.body['code'] !== 'revoked') agent.token = undefined;
    // An upstream in trouble says nothing about the grant.
    if (answer.status < 500) uses.push({ point: 'renewal', works: answer.status === 200, answer: said(answer) });
  }
  return uses;
};

/** An agent token where agent tokens are judged. */
export const useToken = async (world: World, broker: BrokerClient, { token, agent }: HeldToken): Promise<Use[]> => {
  const listed = await broker.json('GET', '/v1/connections', token);
  const introspected = await broker.form('/introspect', { token }, agent);
  const swapped = await exchanged(world, broker, token, agent);
  return [
    { point: 'agent-api', works: listed.status === 200, answer: said(listed) },
    { point: 'introspection', works: introspected.body['active'] === true, answer: said(introspected) },
    { point: 'exchange', works: swapped.status === 200, answer: said(swapped) },
  ];
};
