/** What is said of a connection everywhere: its name in records, its provider. */
import type { Connection } from '../../domain/model.ts';
import type { Provider } from '../../ports/provider.ts';
import type { Core } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';

/** For an audit record. */
export const named = (connection: Connection) => ({ connection: { id: connection.id, name: connection.name } });

/** @throws InvalidInput */
export const providerOf = (core: Core, type: string): Provider => {
  const provider = core.providers.get(type);
  if (!provider) throw new InvalidInput([`provider: one of ${[...core.providers.keys()].join(', ')}`]);
  return provider;
};
