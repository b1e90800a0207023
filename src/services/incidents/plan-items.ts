/** What is to be done about an incident, from what was exposed: the lines of its check list. */
import type { ItemKind } from '../../domain/incident.ts';
import type { Connection, Grant, Selector } from '../../domain/model.ts';
import { endsByIn } from '../../domain/stored-handle.ts';
import type { Core } from '../core.ts';
import { reachedAgents } from '../revocation/revoke.ts';
import { rotationProblem } from '../rotation/request-rotation.ts';
import type { Activity, ReachedConnection } from './activity.ts';
import { type Habits, historyDays } from './first-time.ts';
import { idleRules, knowsAllUses } from './used-scopes.ts';

export interface PlannedItem {
  kind: ItemKind;
  about: string;
  text: string;
}

/** Lists are for people: longer ones are summed up in their last line. */
export const maxOfAKind = 50;

export const planItems = (
  core: Core,
  selector: Selector,
  habits: Habits,
  activity: Activity,
  left: Grant[],
): PlannedItem[] => [
  ...summed('rotate', [...rotations(core, selector, activity), ...clientSecrets(core, selector)]),
  ...summed(
    'by_hand',
    left.map((grant) => leftUpstream(core, grant)),
  ),
  ...summed('disconnect', accounts(core, selector, activity)),
  ...summed('narrow', unused(core, selector, habits, activity)),
  ...summed('tell', peopleToTell(core, selector, activity)),
];

const summed = (kind: ItemKind, items: PlannedItem[]): PlannedItem[] =>
  items.length <= maxOfAKind
    ? items
    : [
        ...items.slice(0, maxOfAKind - 1),
        {
          kind,
          about: 'the rest',
          text: `and ${kind === 'by_hand' ? '' : `${items.length - maxOfAKind + 1} `}more of these: see the report`,
        },
      ];

/**
 * Connections whose secret may be known to somebody: those the incident names, and those of which credentials of the
 * system itself were handed out. Through the gateway the secret never left.
 */
const exposed = (core: Core, selector: Selector, { reached }: Activity): ReachedConnection[] => {
  const named = core.state.connections
    .all()
    .filter((row) => row.id === selector.connection || row.provider === selector.provider)
    .filter((row) => selector.agent === undefined || reached.has(row.id));
  const byId = new Map([...reached].filter(([, one]) => one.upstream));
  for (const { id, name } of named) {
    if (!byId.has(id)) byId.set(id, reached.get(id) ?? { id, name, upstream: false, grants: 0, agents: new Set() });
  }
  return [...byId.values()];
};

const hasSecret = (connection: Connection): boolean =>
  connection.secret_version !== null || connection.secret_source !== null;

const rotations = (core: Core, selector: Selector, activity: Activity): PlannedItem[] =>
  exposed(core, selector, activity).flatMap((one): PlannedItem[] => {
    const about = `connection:${one.id}`;
    const connection = core.state.connections.get(one.id);
    if (!connection) {
      return [{ kind: 'by_hand', about, text: `${one.name} was deleted here: end its secret at the service itself` }];
    }
    if (!hasSecret(connection)) return [];
    const why = one.upstream ? `${one.grants} credentials made with it were handed out` : 'the incident names it';
    const problem = rotationProblem(core, connection);
    const how = problem === undefined ? 'start it from this item' : problem;
    return [{ kind: 'rotate', about, text: `rotate the secret of ${one.name} (${why}): ${how}` }];
  });

/** A revocation is about what a secret obtained: who has the secret itself asks again as soon as the agent is resumed. */
const clientSecrets = (core: Core, selector: Selector): PlannedItem[] =>
  reachedAgents(core, selector)
    .filter(({ auth }) => auth.method === 'client_secret_basic' || auth.method === 'client_secret_post')
    .map(({ id, name }) => ({
      kind: 'rotate',
      about: `agent:${id}`,
      text: `renew the client secret of ${name} before it is resumed, unless you know that it did not leak: warder agent rotate-secret ${name}`,
    }));

const leftUpstream = (core: Core, grant: Grant): PlannedItem => {
  const agent = core.state.agents.get(grant.agent_id)?.name ?? grant.agent_id;
  const connection = core.state.connections.get(grant.connection_id)?.name ?? grant.connection_id;
  const ends = endsByIn(grant.handle);
  const what =
    ends === undefined
      ? 'the upstream did not take it back: end it there by hand; its audit entry grant.unrevocable has the handle'
      : `it cannot be taken back and ends by ${new Date(ends).toISOString()}; to end it now take the account its rights upstream`;
  return { kind: 'by_hand', about: `grant:${grant.id}`, text: `${grant.id} (${agent} on ${connection}): ${what}` };
};

const accounts = (core: Core, selector: Selector, activity: Activity): PlannedItem[] =>
  exposed(core, selector, activity).flatMap(({ id, name }) => {
    const people = new Set(activity.people.items.map((one) => one.subject));
    return core.state.authorizations
      .ofConnection(id)
      .filter((row) => row.status !== 'disconnected' && (row.subject === null || people.has(row.subject)))
      .map((row): PlannedItem => {
        const whose = row.subject === null ? 'the organisation’s account' : `the account of ${row.subject}`;
        return {
          kind: 'disconnect',
          about: `authorization:${row.id}`,
          text: `${whose} at ${name}: tokens of it were handed out; disconnect it and have it connected anew, or say why not`,
        };
      });
  });

const unused = (core: Core, selector: Selector, habits: Habits, activity: Activity): PlannedItem[] =>
  (knowsAllUses(selector, habits, activity) ? idleRules(core, selector, habits, activity) : []).map(
    ({ rule, used }) => {
      const agent = core.state.agents.get(rule.agent_id)?.name ?? rule.agent_id;
      const connection = core.state.connections.get(rule.connection_id)?.name ?? rule.connection_id;
      const idle = rule.scopes.filter((scope) => !used.includes(scope));
      const what =
        used.length === 0
          ? `obtained nothing under it in ${historyDays} days: remove it`
          : `did not obtain ${idle.slice(0, 10).join(', ')} in ${historyDays} days: narrow it to ${used.slice(0, 10).join(', ')}`;
      return { kind: 'narrow', about: `entitlement:${rule.id}`, text: `${rule.id}: ${agent} on ${connection} ${what}` };
    },
  );

/** More people than this are told by one message, and are one item. */
const maxPeople = 10;

const peopleToTell = (core: Core, selector: Selector, activity: Activity): PlannedItem[] => {
  const names = new Set(activity.obtained.by_connection.items.map((one) => one.agent));
  const ids = new Set(reachedAgents(core, selector).map((agent) => agent.id));
  const owners = new Map<string, string[]>();
  for (const { id, name, owner } of core.state.agents.all()) {
    if (names.has(name) || ids.has(id)) owners.set(owner, [...(owners.get(owner) ?? []), name]);
  }
  const { items: people, more } = activity.people;
  const listed = (list: string[]): string =>
    list.length > 5 ? `${list.slice(0, 5).join(', ')} and ${list.length - 5} more` : list.join(', ');
  return [
    ...[...owners].map(
      ([owner, agents]): PlannedItem => ({
        kind: 'tell',
        about: `owner:${owner}`,
        text: `tell ${owner}, who owns ${listed(agents)}`,
      }),
    ),
    ...(people.length > maxPeople
      ? [
          {
            kind: 'tell' as const,
            about: 'people',
            text: `tell the ${people.length + more} people it acted for: the report names them`,
          },
        ]
      : people.map(
          ({ subject }): PlannedItem => ({
            kind: 'tell',
            about: `subject:${subject}`,
            text: `tell ${subject}, for whom it acted`,
          }),
        )),
  ];
};
