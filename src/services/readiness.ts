/** Whether Warder can do its work now, and if not, why. */
import type { Core } from './core.ts';

export interface Readiness {
  ready: boolean;
  checks: { name: 'keys' | 'ledger'; ok: boolean; why?: string }[];
}

export const readiness = (core: Core): Readiness => {
  const seal = core.keyring.state();
  const trouble = core.ledger.trouble();
  const checks: Readiness['checks'] = [
    seal.sealed ? { name: 'keys', ok: false, why: `sealed: ${seal.why}` } : { name: 'keys', ok: true },
    trouble === undefined ? { name: 'ledger', ok: true } : { name: 'ledger', ok: false, why: trouble },
  ];
  return { ready: checks.every((check) => check.ok), checks };
};
