/** Vault's access control lists: deny by default, the most specific path decides. */

export type Capability = 'create' | 'read' | 'update' | 'delete' | 'list' | 'sudo' | 'deny';
export type Policy = { path: string; capabilities: Capability[] }[];

/** The part of HCL that policies are written in: `path "…" { capabilities = ["…"] }`. */
export const parsePolicy = (hcl: string): Policy =>
  [...hcl.replace(/#.*$/gm, '').matchAll(/path\s+"([^"]+)"\s*\{\s*capabilities\s*=\s*\[([^\]]*)\]\s*\}/g)].map(
    ([, path = '', list = '']) => ({
      path,
      capabilities: [...list.matchAll(/"([a-z]+)"/g)].map(([, name]) => name as Capability),
    }),
  );

/** What every token may do that has not asked to be without it. */
export const defaultPolicy = parsePolicy(`
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
`);

const covers = (pattern: string, path: string): boolean =>
  pattern.endsWith('*') ? path.startsWith(pattern.slice(0, -1)) : pattern === path;
/** An exact path before a prefix, a longer prefix before a shorter one. */
const weight = (pattern: string): number => (pattern.endsWith('*') ? pattern.length - 1 : 1_000_000);

export const permits = (policies: readonly Policy[], path: string, wanted: Capability): boolean => {
  const matching = policies.flat().filter((rule) => covers(rule.path, path));
  const heaviest = Math.max(...matching.map((rule) => weight(rule.path)));
  const capabilities = matching.filter((rule) => weight(rule.path) === heaviest).flatMap((rule) => rule.capabilities);
  return capabilities.includes(wanted) && !capabilities.includes('deny');
};
