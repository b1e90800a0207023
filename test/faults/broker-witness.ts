/**
 * Agents that use a broker which dies under them, and remember what they were told: what was acknowledged to them must
 * be so after every restart, and what they hold must be known.
 */
import type { Answer, BrokerClient } from '../support/broker.ts';
import type { Upstream } from '../support/upstream-provider.ts';

/** `unknown`: something was asked that would end it, and the answer never came. */
export type Fate = 'alive' | 'dead' | 'unknown';

export interface Held {
  id: string;
  connection: 'gate' | 'jwt' | 'made' | 'lease';
  credential: { token?: string; username?: string; password?: string };
  fate: Fate;
  /** The latest end that was promised, in milliseconds since the epoch. */
  expiresAt: number;
}

interface AgentOfWitness {
  name: string;
  client: { clientId: string; clientSecret: string };
  token: string | undefined;
  held: Held[];
}

export const connections = ['gate', 'jwt', 'made', 'lease'] as const;

const pick = <T>(list: readonly T[]): T | undefined => list[Math.floor(Math.random() * list.length)];

/** Registers everything at a broker that is up: once, before the first kill. */
export const settleIn = async (broker: BrokerClient, upstream: Upstream, targetUrl: string): Promise<Witness> => {
  const ok = (answer: Answer): void => {
    if (answer.status !== 201) throw new Error(`setting up: ${answer.status} ${answer.text}`);
  };
  const made = { url: upstream.url, scopes: ['all'] };
  ok(await broker.connection('gate', targetUrl));
  const settings = { audience: 'https://orders.example', scopes: ['all'] };
  ok(await broker.admin('POST', '/connections', { name: 'jwt', provider: 'internal-jwt', settings }));
  ok(await broker.admin('POST', '/connections', { name: 'made', provider: 'test-account', settings: made }));
  ok(await broker.admin('POST', '/connections', { name: 'lease', provider: 'test-lease', settings: made }));
  const agents: AgentOfWitness[] = [];
  for (const name of ['ada', 'bob', 'cyd']) {
    const client = await broker.agent(name);
    for (const connection of connections) ok(await broker.entitle(name, connection, ['all']));
    agents.push({ name, client, token: undefined, held: [] });
  }
  return new Witness(agents);
};

export class Witness {
  readonly #agents: AgentOfWitness[];
  /** Requests that were answered. */
  answered = 0;

  constructor(agents: AgentOfWitness[]) {
    this.#agents = agents;
  }

  get held(): Held[] {
    return this.#agents.flatMap((agent) => agent.held);
  }

  /** The agents work, each one request after another, until the broker is gone. */
  async work(broker: BrokerClient): Promise<void> {
    await Promise.all(this.#agents.flatMap((agent) => [this.#workAs(agent, broker)]));
  }

  async #workAs(agent: AgentOfWitness, broker: BrokerClient): Promise<void> {
    for (;;) {
      try {
        agent.token ??= await broker.agentToken(agent.client);
        await this.#act(agent, agent.token, broker);
        this.answered += 1;
      } catch (error) {
        // The broker died: fetch fails. Anything else is a mistake of this test.
        if (!(error instanceof TypeError) && !(error as Error)?.message?.includes('fetch failed')) throw error;
        return;
      }
    }
  }

  async #act(agent: AgentOfWitness, token: string, broker: BrokerClient): Promise<void> {
    const chance = Math.random();
    const living = agent.held.filter(({ fate }) => fate === 'alive');
    const one = pick(living);
    if (chance < 0.55 || !one) return this.#issue(agent, token, broker);
    if (chance < 0.7) {
      const answer = await broker.json('POST', `/v1/grants/${one.id}/renew`, token, { ttl_seconds: 1200 });
      if (answer.status === 200) {
        const { expires_at } = answer.body['grant'] as { expires_at: string };
        one.expiresAt = Math.max(one.expiresAt, Date.parse(expires_at));
      }
      return this.#tokenMayBeDead(agent, answer);
    }
    if (chance < 0.84) {
      one.fate = 'unknown';
      const answer = await broker.json('DELETE', `/v1/grants/${one.id}`, token);
      if (answer.status === 204) one.fate = 'dead';
      else one.fate = 'alive';
      return this.#tokenMayBeDead(agent, answer);
    }
    const whole = chance > 0.98;
    const hit = whole ? living : [one];
    for (const grant of hit) grant.fate = 'unknown';
    const selector = whole ? { agent: agent.name } : { grant: one.id };
    const answer = await broker.admin('POST', '/revocations', { selector, reason: 'a witness' });
    for (const grant of hit) grant.fate = answer.status === 201 ? 'dead' : 'alive';
    if (whole) agent.token = undefined;
  }

  #tokenMayBeDead(agent: AgentOfWitness, answer: Answer): void {
    if (answer.status === 401) agent.token = undefined;
  }

  async #issue(agent: AgentOfWitness, token: string, broker: BrokerClient): Promise<void> {
    const connection = pick(connections) ?? 'gate';
    const answer = await broker.grant(token, { connection, scopes: ['all'], ttl_seconds: 900 });
    if (answer.status !== 201) return this.#tokenMayBeDead(agent, answer);
    const grant = answer.body['grant'] as { id: string; expires_at: string };
    agent.held.push({
      id: grant.id,
      connection,
      credential: answer.body['credential'] as Held['credential'],
      fate: 'alive',
      expiresAt: Date.parse(grant.expires_at),
    });
  }

  /** @returns whether the credential does what it is for, asked where it is used */
  async works(grant: Held, broker: BrokerClient, upstream: Upstream): Promise<boolean> {
    if (grant.connection === 'gate') {
      const headers = { authorization: `Bearer ${grant.credential.token}` };
      const response = await broker.fetch('/gateway/gate/x', { headers });
      await response.arrayBuffer();
      return response.status === 200;
    }
    if (grant.connection === 'jwt') {
      const owner = this.#agents.find(({ held }) => held.includes(grant));
      const answer = await broker.form('/introspect', { token: grant.credential.token ?? '' }, owner?.client);
      return answer.body['active'] === true;
    }
    return (await upstream.use(grant.credential, 'all')) === 200;
  }
}
