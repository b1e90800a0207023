/** Facts of entries as people know them: selectors hold ids, a message says names. */
import type { Core } from '../core.ts';

export const namedFact = (core: Core, fact: string, value: unknown): unknown => {
  if (fact !== 'selector' || typeof value !== 'object' || value === null) return value;
  const { state } = core;
  const called: Record<string, (id: string) => string | undefined> = {
    agent: (id) => state.agents.get(id)?.name,
    connection: (id) => state.connections.get(id)?.name,
    issuer: (id) => state.trustedIssuers.get(id)?.name,
  };
  return Object.fromEntries(
    Object.entries(value).map(([field, id]) => [field, called[field]?.(String(id)) ?? id] as const),
  );
};
