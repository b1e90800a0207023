/** Which revocation ended a grant: the index says what walking all of them would. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { selectorMatches } from '../../../src/domain/fences.ts';
import { grantFacts } from '../../../src/domain/liveness.ts';
import type { Grant, Revocation, Selector } from '../../../src/domain/model.ts';
import { Killers } from '../../../src/services/revocation/killers.ts';
import * as make from '../../conformance/ledger-rows.ts';

const of = (...values: string[]) => fc.constantFrom(...values);
const selectors: fc.Arbitrary<Selector> = fc.oneof(
  fc.constant({ everything: true as const }),
  fc.record(
    {
      agent: of('a1', 'a2'),
      connection: of('c1', 'c2'),
      provider: of('p1', 'p2'),
      owner: of('o1', 'o2'),
      subject: of('s1', 's2'),
      issuer: of('i1', 'i2'),
      entitlement: of('e1'),
      grant: of('g1'),
    },
    { requiredKeys: [] },
  ),
);
const revocations = fc.array(fc.record({ selector: selectors, seq: fc.nat(20) }), { maxLength: 12 });
const grants = fc.record({
  id: of('g1', 'g2'),
  seq: fc.nat(20),
  agent_id: of('a1', 'a2'),
  connection_id: of('c1', 'c2'),
  provider: of('p1', 'p2'),
  owner: of('o1', 'o2'),
  subject: fc.option(of('s1', 's2')),
  issuers: fc.uniqueArray(of('i1', 'i2')),
  entitlement_id: of('e1', 'e2'),
  status: of('active', 'returned') as fc.Arbitrary<Grant['status']>,
  expires_at: fc.nat(25),
});

test('the first of those that match and came while it lived, as walking them in order finds it', () => {
  fc.assert(
    fc.property(revocations, grants, of('o1', 'o2'), (list, fields, ownerNow) => {
      const rows = list.map(
        ({ selector, seq }, i): Revocation => make.revocation({ id: `rev_${i}`, selector, seq, created_at: seq }),
      );
      const grant = make.grant(fields);
      const agent = make.agent({ id: grant.agent_id, owner: ownerNow });
      const facts = grantFacts(grant, agent);
      const walked =
        grant.status !== 'active'
          ? undefined
          : rows
              .filter((row) => row.seq > grant.seq && selectorMatches(row.selector, facts))
              .sort((a, b) => a.seq - b.seq)[0];
      const expected = walked && walked.created_at < grant.expires_at ? walked.seq : undefined;
      expect(new Killers(rows).of(grant, agent)?.seq).toBe(expected);
    }),
  );
});

test('whose subject is called null ends nothing of those who act for nobody', () => {
  const row = make.revocation({ selector: { subject: 'null' }, seq: 5, created_at: 5 });
  expect(new Killers([row]).of(make.grant({ seq: 1, subject: null, expires_at: 10 }), undefined)).toBeUndefined();
});
