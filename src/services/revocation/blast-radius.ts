/** What a revocation would reach, before anybody asks for it. */
import type { Connection, Selector } from '../../domain/model.ts';
import type { BlastCount } from '../../ports/readers/revocations.ts';
import type { Core } from '../core.ts';
import { rotationProblem } from '../rotation/request-rotation.ts';
import { ownedBy, type RevocationRequest, reachedAgents } from './revoke.ts';
import { hasSecret, namedConnections } from './rotate-after.ts';

/** What a dry run answers; nothing is changed. Counts are of live grants; lists begin with those that have most. */
export interface BlastRadius {
  dry_run: true;
  selector: Selector;
  grants: number;
  upstream: { pending: number };
  providers: { provider: string; grants: number; upstream: number }[];
  connections: {
    id: string;
    name: string;
    provider: string | null;
    grants: number;
    upstream: number;
    /** Whether `rotate` would replace its secret; where it keeps one. */
    rotation: { possible: true } | { possible: false; why: string } | null;
  }[];
  agents: { id: string; name: string; grants: number; would_suspend: boolean }[];
  /** People acted for; at most 10 000 are named. */
  subjects: { items: { subject: string; grants: number }[]; more: boolean };
  /** Accounts at OAuth connections through which somebody is, or would be, acted for. Their tokens are not revoked by this. */
  accounts: { id: string; connection: string; subject: string | null; account: string | null; status: string }[];
}

/** @throws Refused `ledger_unavailable` */
export const blastRadius = async (core: Core, request: RevocationRequest): Promise<BlastRadius> => {
  const { selector } = request;
  const [now, ownedAgents] = [core.clock.now(), ownedBy(core, selector)];
  // As if the fence were put up now: `rotate` asks this question, too (rotate-after.ts).
  const fence = { selector, ownedAgents, seq: core.state.newestSeq + 1, at: now };
  const [counted, reached] = await Promise.all([
    core.reader.blastRadius(selector, now, ownedAgents),
    core.reader.connectionsOf('', fence),
  ]);
  const connections = touchedConnections(core, selector, counted, reached);
  const providers = new Map<string, { provider: string; grants: number; upstream: number }>();
  for (const { provider, grants, upstream } of connections) {
    if (provider === null || grants === 0) continue;
    const sum = providers.get(provider) ?? { provider, grants: 0, upstream: 0 };
    providers.set(provider, { provider, grants: sum.grants + grants, upstream: sum.upstream + upstream });
  }
  return {
    dry_run: true,
    selector,
    grants: counted.total,
    upstream: { pending: counted.upstream },
    providers: [...providers.values()].sort((a, b) => b.grants - a.grants),
    connections,
    agents: touchedAgents(core, request, counted),
    subjects: {
      items: counted.subjects.items.map(({ id, grants }) => ({ subject: id, grants })),
      more: counted.subjects.more,
    },
    accounts: touchedAccounts(core, counted),
  };
};

const rotationOf = (core: Core, connection: Connection): BlastRadius['connections'][number]['rotation'] => {
  if (!hasSecret(connection)) return null;
  const why = rotationProblem(core, connection);
  return why === undefined ? { possible: true } : { possible: false, why };
};

/** Those with live grants that match, those the selector itself names, and those whose grants an older fence killed just now. */
const touchedConnections = (
  core: Core,
  selector: Selector,
  counted: BlastCount,
  reached: readonly string[],
): BlastRadius['connections'] => {
  const ids = new Set([...counted.connections.map(({ id }) => id), ...namedConnections(core, selector), ...reached]);
  const counts = new Map(counted.connections.map((one) => [one.id, one]));
  return [...ids].map((id) => {
    const connection = core.state.connections.get(id);
    return {
      id,
      name: connection?.name ?? id,
      provider: connection?.provider ?? null,
      grants: counts.get(id)?.grants ?? 0,
      upstream: counts.get(id)?.upstream ?? 0,
      rotation: connection ? rotationOf(core, connection) : null,
    };
  });
};

const touchedAgents = (core: Core, request: RevocationRequest, counted: BlastCount): BlastRadius['agents'] => {
  const reached = new Set(reachedAgents(core, request.selector).map(({ id }) => id));
  const counts = new Map(counted.agents.map((one) => [one.id, one.grants]));
  return [...new Set([...counts.keys(), ...reached])].map((id) => {
    const agent = core.state.agents.get(id);
    return {
      id,
      name: agent?.name ?? id,
      grants: counts.get(id) ?? 0,
      would_suspend: request.suspend && reached.has(id) && agent?.status === 'active',
    };
  });
};

const touchedAccounts = (core: Core, counted: BlastCount): BlastRadius['accounts'] =>
  counted.acted_for.flatMap(({ connection_id, subject }) =>
    core.state.authorizations
      .ofConnection(connection_id)
      .filter((row) => row.subject === subject)
      .map((row) => ({
        id: row.id,
        connection: core.state.connections.get(connection_id)?.name ?? connection_id,
        subject: row.subject,
        account: row.account,
        status: row.status,
      })),
  );
