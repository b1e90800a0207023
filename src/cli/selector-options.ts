/** Whom and what a revocation, a freeze or an incident is about, as options: each narrows, or everything. */
import type { Command } from 'commander';
import { usage } from './failure.ts';

export interface SelectorOptions {
  agent?: string;
  connection?: string;
  provider?: string;
  owner?: string;
  subject?: string;
  issuer?: string;
  entitlement?: string;
  everything?: true;
}

export const withSelectorOptions = (command: Command): Command =>
  command
    .option('--agent <name>', 'this agent')
    .option('--connection <name>', 'this connection')
    .option('--provider <type>', 'connections of this provider')
    .option('--owner <owner>', 'agents of this owner')
    .option('--subject <person>', 'whatever is on behalf of this person')
    .option('--issuer <name>', 'whatever is on the word of this trusted issuer')
    .option('--entitlement <id>', 'whatever is under this entitlement')
    .option('--everything', 'all there is');

/**
 * @param done what was not done when it is refused: `nothing was revoked`
 * @throws Failure 2 when nothing is named, or something empty, or everything and something besides
 */
export const selectorFrom = (options: SelectorOptions, done = 'nothing was done'): Record<string, string | true> => {
  const { everything, agent, connection, provider, owner, subject, issuer, entitlement } = options;
  const given = Object.entries({ agent, connection, provider, owner, subject, issuer, entitlement });
  const named = given.flatMap(([field, value]) => (value === undefined ? [] : [[field, value] as const]));
  if (named.some(([, value]) => value.trim() === '')) throw usage(`a selector is empty; ${done}`);
  if (everything && named.length > 0) throw usage(`--everything stands alone; ${done}`);
  if (!everything && named.length === 0) {
    throw usage(
      'about whom or what? --agent, --connection, --provider, --owner, --subject, --issuer, --entitlement (each narrows),',
      'or --everything',
    );
  }
  return everything ? { everything } : Object.fromEntries(named);
};
