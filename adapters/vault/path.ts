/** Paths of a Vault that an operator may write: one spelling each, so that what was allowed is what is asked for. */

export const pathRule =
  'segments of letters, digits, blanks and _ . @ : + = , ~ -, parted by single slashes; none of them only dots';

const maxPathLength = 512;
/** No `%`, `?`, `#`, `\` or `;`: nothing that a proxy and Vault could read differently. */
const segment = /^[A-Za-z0-9_.@:+=,~ -]+$/;

export const isVaultPath = (path: string): boolean =>
  path.length <= maxPathLength &&
  path.split('/').every((part) => segment.test(part) && !/^\.+$/.test(part) && part.trim() === part);

/** Vault's own parts. A namespace may stand before them, so that each segment is looked at. */
const own = new Set(['sys', 'auth', 'identity', 'cubbyhole']);

/** @returns whether no part of the path leads into what Vault itself is managed by */
export const leavesVaultAlone = (path: string): boolean => !path.split('/').some((part) => own.has(part.toLowerCase()));

/** @returns whether it is a path of a KV engine's version 2: `<mount>/data/<name>`, the mount of one segment or more */
export const isKvPath = (path: string): boolean => {
  const parts = path.split('/');
  const data = parts.indexOf('data');
  return isVaultPath(path) && data > 0 && data < parts.length - 1 && leavesVaultAlone(parts.slice(0, data).join('/'));
};

export const encodePath = (path: string): string => path.split('/').map(encodeURIComponent).join('/');
