/** What everybody who uses a broker is handed, and how answers are counted. */
import type { Answer, BrokerClient } from '../../support/broker.ts';
import type { Figures, Invariant } from './findings.ts';
import type { Chance } from './random.ts';
import type { World } from './world.ts';

export interface Work {
  world: World;
  broker: BrokerClient;
  figures: Figures;
  chance: Chance;
  /** Of those alive and of those dead at most so many are used after each restart. */
  tried: number;
  /** Set when this life is over: whoever looks stops. */
  over: { value: boolean };
  found(invariant: Invariant, what: string): void;
}

/** Counts an answer under this name. @returns whether it says that it was done */
export const count = ({ figures, found }: Work, what: string, answer: Answer): boolean => {
  const fine = answer.status >= 200 && answer.status < 300;
  if (fine) figures.done.add(what);
  else {
    const code = String(answer.body['code'] ?? answer.body['error'] ?? answer.status);
    figures.refused.add(`${what.split(' ')[0]} ${code}`);
    if (answer.status === 500) found(12, `${what} was answered ${answer.status} ${answer.text}`);
  }
  return fine;
};
