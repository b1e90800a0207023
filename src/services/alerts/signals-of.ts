/**
 * Which signals an entry of the log makes. Subjects are named as Warder's own JWTs name them, because those are what a
 * relying service has seen: `iss` is the broker, `sub` the agent's name or whom it acts for, `jti` the grant.
 */
import type { AuditEvent } from '../../domain/audit-entry.ts';
import type { Agent, Selector } from '../../domain/model.ts';
import { eventUris, type Signal, type SignalStream, type SubjectId } from '../../domain/signals.ts';
import type { LoggedEvent } from '../../domain/webhook.ts';
import type { Core } from '../core.ts';

/** One signal of an entry; parts of one entry come in the order of their names, so that a place among them is one. */
export interface Part {
  part: string;
  signal: Signal;
}

interface Parts {
  parts: Part[];
  /** Whether these are the last. */
  complete: boolean;
}

const none: Parts = { parts: [], complete: true };

/** Who asked, as CAEP 1.0 section 2 has it. */
const initiators: Record<AuditEvent['actor']['kind'], string> = {
  operator: 'admin',
  agent: 'system',
  system: 'system',
  anonymous: 'system',
};

const generic: Record<string, string> = {
  'revocation.created': 'Access was revoked.',
  'agent.suspended': 'The agent was suspended.',
  'agent.deleted': 'The agent was deleted.',
  'agent.updated': 'How the agent authenticates was changed.',
  'rotation.finished': 'The secret was rotated.',
  'rotation.retired': 'The secret before the rotation was retired.',
};

/** Claims that all events have; `reason_admin` is not left out, as the CAEP interoperability profile wants it. */
const claimsOf = (stream: SignalStream, entry: LoggedEvent): Record<string, unknown> => {
  const reason = entry.data?.['reason'];
  const own = stream.share_reasons && typeof reason === 'string' && reason !== '' ? reason : undefined;
  return {
    event_timestamp: Math.floor(Date.parse(entry.time) / 1000),
    initiating_entity: initiators[entry.actor.kind],
    reason_admin: { en: own ?? generic[entry.type] ?? 'What it rests on was changed.' },
  };
};

export const signalsOf = async (
  core: Core,
  stream: SignalStream,
  entry: LoggedEvent,
  after: string,
  limit: number,
): Promise<Parts> => {
  const { issuer } = core;
  const claims = claimsOf(stream, entry);
  const named = (sub: string): SubjectId => ({ format: 'iss_sub', iss: issuer, sub });
  const revoked = (subject: SubjectId): Signal => ({ event: eventUris.sessionRevoked, subject, claims });
  const changed = (subject: SubjectId, more: Record<string, unknown>): Signal => ({
    event: eventUris.credentialChange,
    subject,
    claims: { ...claims, ...more },
  });
  const single = (...parts: [part: string, signal: Signal | undefined][]): Parts => ({
    parts: parts.flatMap(([part, signal]) => (signal && part > after ? [{ part, signal }] : [])),
    complete: true,
  });
  const ofAgents = async (selector: Selector, owned?: readonly string[] | null): Promise<Parts> => {
    const matches = matcherOf(core, selector, owned ? new Set(owned) : undefined);
    const page = await agentsReached(core, selector, matches, Date.parse(entry.time), after, limit + 1);
    return {
      parts: page.slice(0, limit).map((agent) => ({ part: agent.id, signal: revoked(named(agent.name)) })),
      complete: page.length <= limit,
    };
  };
  const data = entry.data ?? {};
  const fenced = typeof data['revocation'] === 'string';

  switch (entry.type) {
    case 'revocation.created': {
      const selector = selectorIn(data);
      if (selector.grant !== undefined) return single(['grant', revoked(await grantSubject(core, selector.grant))]);
      if (selector.subject !== undefined) return single(['subject', revoked(named(selector.subject))]);
      if (selector.owner === undefined) return ofAgents(selector);
      // Whom the owner owned at the fence: agents have been given to others since, and the receiver may have been away.
      return ofAgents(selector, (await core.reader.revocation(String(data['revocation'])))?.owned_agents);
    }
    case 'agent.suspended':
    case 'agent.deleted':
      if (await isToldOf(core, entry)) return none;
      return entry.agent ? single(['agent', revoked(named(entry.agent.name))]) : none;
    case 'agent.updated': {
      if (!entry.agent || !fenced) return none;
      const subject = named(entry.agent.name);
      const method = data['auth_method'];
      const credential =
        typeof method === 'string'
          ? changed(subject, { credential_type: typeOfMethod(method), change_type: 'update' })
          : undefined;
      return single(['credential', credential], ['session', revoked(subject)]);
    }
    case 'connection.updated':
    case 'connection.deleted':
      return fenced && entry.connection ? ofAgents({ connection: entry.connection.id }) : none;
    case 'entitlement.updated':
    case 'entitlement.deleted':
      return fenced && entry.agent ? single(['agent', revoked(named(entry.agent.name))]) : none;
    case 'issuer.updated':
    case 'issuer.deleted': {
      const of = data['issuer'];
      const id = typeof of === 'object' && of !== null && 'id' in of ? String(of.id) : undefined;
      return fenced && id !== undefined ? ofAgents({ issuer: id }) : none;
    }
    case 'secret.set':
    case 'secret.replaced':
    case 'rotation.finished':
    case 'rotation.retired': {
      if (!entry.connection) return none;
      const { id, name } = entry.connection;
      const provider = core.state.connections.get(id)?.provider ?? '';
      const first = entry.type === 'secret.set' && data['version'] === 1;
      const credential = changed(
        // The resource as `/token` knows it (RFC 8707).
        { format: 'uri', uri: `${issuer}/connections/${name}` },
        {
          credential_type: typeOfProvider(provider),
          change_type: first ? 'create' : entry.type === 'rotation.retired' ? 'revoke' : 'update',
          friendly_name: name,
        },
      );
      // A rotation may bring a fence with it: then whoever holds something of the old secret is told first (`agt_…`).
      if (typeof data['fence'] !== 'string') return single(['credential', credential]);
      const held = await ofAgents({ connection: id });
      if (!held.complete) return held;
      return { parts: [...held.parts, ...single(['credential', credential]).parts], complete: true };
    }
    case 'stream.verification_requested':
      return isOwn(stream, data) ? single(['stream', ofStream(stream, eventUris.verification, data['state'])]) : none;
    case 'stream.resumed':
      return isOwn(stream, data) ? single(['stream', ofStream(stream, eventUris.streamUpdated, undefined)]) : none;
    default:
      return none;
  }
};

/** A revocation that suspends has an entry of its own: where that names every agent, each has been told of by it. */
const isToldOf = async (core: Core, { type, data }: LoggedEvent): Promise<boolean> => {
  const id = data?.['revocation'];
  if (type !== 'agent.suspended' || data?.['fields'] !== undefined || typeof id !== 'string') return false;
  const fields = Object.keys((await core.reader.revocation(id))?.selector ?? {});
  return fields.length > 0 && fields.every((field) => ['everything', 'agent', 'owner'].includes(field));
};

/** Entries about one stream are events on that stream only. */
const isOwn = ({ id }: SignalStream, data: Record<string, unknown>): boolean => {
  const { stream } = data;
  return typeof stream === 'object' && stream !== null && 'id' in stream && stream.id === id;
};

/** What is about the stream itself (framework sections 8.1.4 and 8.1.5). @param state what the receiver wants back */
const ofStream = ({ id }: SignalStream, event: Signal['event'], state: unknown): Signal => ({
  event,
  subject: { format: 'opaque', id },
  claims: {
    ...(typeof state === 'string' ? { state } : {}),
    ...(event === eventUris.streamUpdated ? { status: 'enabled' } : {}),
  },
});

/** Key pairs are none of CAEP's types; others than those listed are allowed where both sides know them. */
const keyPair = 'asymmetric-key';
const typeOfMethod = (method: string): string => (method.startsWith('client_secret') ? 'password' : keyPair);
const typeOfProvider = (provider: string): string =>
  ['ssh', 'github-app', 'gcp-service-account'].includes(provider) ? keyPair : 'password';

const selectorIn = (data: Record<string, unknown>): Selector => {
  const { selector } = data;
  // Written by revoke.ts, which is the only one that writes entries of this type.
  return typeof selector === 'object' && selector !== null ? (selector as Selector) : {};
};

/** A JWT by its own name; anything else as a session of whoever holds it. */
const grantSubject = async (core: Core, id: string): Promise<SubjectId> => {
  const grant = await core.state.grants.get(id);
  if (!grant) return { format: 'opaque', id };
  if (grant.credential_type === 'jwt') return { format: 'jwt_id', iss: core.issuer, jti: id };
  const agent = core.state.agents.get(grant.agent_id)?.name ?? grant.agent_id;
  return {
    format: 'complex',
    user: { format: 'iss_sub', iss: core.issuer, sub: grant.subject ?? agent },
    session: { format: 'opaque', id },
  };
};

/**
 * Agents a selector reaches, by id from after `after`: however many there are, only a page of them is in memory. Of a
 * connection or provider those to whom something was issued that was still alive; of an issuer those that prove
 * themselves by it, and those that may act for the people it names.
 */
const agentsReached = async (
  core: Core,
  selector: Selector,
  matches: (agent: Agent) => boolean,
  at: number,
  after: string,
  limit: number,
): Promise<Agent[]> => {
  const { state } = core;
  if (selector.connection === undefined && selector.provider === undefined) {
    const found = state.agents.all().filter((agent) => agent.id > after && matches(agent));
    return found.sort((a, b) => (a.id < b.id ? -1 : 1)).slice(0, limit);
  }
  const connections =
    selector.connection !== undefined
      ? [selector.connection]
      : state.connections
          .all()
          .filter(({ provider }) => provider === selector.provider)
          .map(({ id }) => id);
  const found: Agent[] = [];
  for (let from = after; found.length < limit; ) {
    const ids = new Set<string>();
    for (const connection of connections) {
      for (const id of await core.reader.agentsWithGrants(connection, at, from, limit)) ids.add(id);
    }
    // Of each connection so many were asked for: beyond the least that many together, some may be missing.
    const page = [...ids].sort().slice(0, limit);
    for (const id of page) {
      const agent = state.agents.get(id);
      if (agent && matches(agent)) found.push(agent);
    }
    const last = page.at(-1);
    if (last === undefined || page.length < limit) break;
    from = last;
  }
  return found.slice(0, limit);
};

/** @param owned ids of the agents the owner had, where that is known; those of now otherwise */
const matcherOf = (core: Core, selector: Selector, owned?: ReadonlySet<string>): ((agent: Agent) => boolean) => {
  const { state } = core;
  if (selector.everything === true) return () => true;
  if (Object.keys(selector).length === 0) return () => false;
  const entitled = selector.entitlement === undefined ? undefined : state.entitlements.get(selector.entitlement);
  const byItsPeople = new Set(
    selector.issuer === undefined
      ? []
      : state.entitlements.all().flatMap((one) => (one.on_behalf_of === null ? [] : [one.agent_id])),
  );
  return (agent) =>
    (selector.agent === undefined || agent.id === selector.agent) &&
    (selector.owner === undefined || (owned?.has(agent.id) ?? agent.owner === selector.owner)) &&
    (selector.entitlement === undefined || agent.id === entitled?.agent_id) &&
    (selector.issuer === undefined ||
      byItsPeople.has(agent.id) ||
      (agent.auth.method === 'workload' && agent.auth.issuer === selector.issuer));
};
