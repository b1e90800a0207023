/** Which scopes were in use, and which rights were not: obtained in the window of an incident, or in what is known of the time before it. */
import type { Entitlement, Selector } from '../../domain/model.ts';
import type { Core } from '../core.ts';
import { reachedAgents } from '../revocation/revoke.ts';
import type { Activity } from './activity.ts';
import { type Habits, scopeKey } from './first-time.ts';

/** Selectors of these fields find all that an agent does on a connection; others only some of it. */
const wholeAgents: ReadonlySet<string> = new Set(['everything', 'agent', 'owner', 'connection']);

/** Whether every use was seen. If not, nobody can say that something was never used. */
export const knowsAllUses = (selector: Selector, { read }: Habits, { cutAt }: Activity): boolean =>
  read.whole && cutAt === null && Object.keys(selector).every((field) => wholeAgents.has(field));

/** @returns the scopes of a rule that were obtained, in their order */
const usedScopes = (core: Core, rule: Entitlement, { seen }: Habits, { used }: Activity): string[] => {
  const connection = core.state.connections.get(rule.connection_id)?.name;
  if (connection === undefined) return rule.scopes;
  return rule.scopes.filter((scope) => {
    const key = scopeKey(rule.agent_id, connection, scope);
    return used.has(key) || seen.has(key);
  });
};

/**
 * Entitlements of whom and what an incident is about that were not used, or only some of: of the agents it reaches, and of
 * everybody where it names a connection and no agent. To be asked only where {@link knowsAllUses}.
 */
export const idleRules = (
  core: Core,
  selector: Selector,
  habits: Habits,
  activity: Activity,
): { rule: Entitlement; used: string[] }[] => {
  const agents = new Set(reachedAgents(core, selector).map((agent) => agent.id));
  const anybody = selector.agent === undefined && selector.owner === undefined && selector.connection !== undefined;
  return core.state.entitlements
    .all()
    .filter((rule) => anybody || agents.has(rule.agent_id))
    .filter((rule) => selector.connection === undefined || rule.connection_id === selector.connection)
    .map((rule) => ({ rule, used: usedScopes(core, rule, habits, activity) }))
    .filter(({ rule, used }) => used.length < rule.scopes.length);
};
