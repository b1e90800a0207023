/**
 * Trusted issuers: whose signed tokens are believed at the token endpoint. Trusting less kills, with one fence, what was
 * issued on the issuer's word.
 */
import type { Operator, TrustedIssuer } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { type Change, commitChanges, differing } from '../change.ts';
import { type Caller, type Core, newId, record } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import { accompanyingFence } from '../revocation/revoke.ts';

export type IssuerFields = Omit<TrustedIssuer, 'id' | 'version' | 'created_at' | 'updated_at'>;

const named = (row: TrustedIssuer) => ({ issuer: { id: row.id, name: row.name } });

/** Of a whole set of keys the log keeps their ids. */
const factsOf = ({ keys, ...row }: Partial<TrustedIssuer>): Record<string, unknown> => ({
  ...Object.fromEntries(
    Object.entries(row).filter(([name]) => !['id', 'version', 'created_at', 'updated_at'].includes(name)),
  ),
  ...(keys === undefined
    ? {}
    : { keys: keys.from === 'jwks' ? { from: 'jwks', kids: keys.jwks.keys.map(({ kid }) => kid ?? null) } : keys }),
});

/** @throws Refused `not_found` */
export const issuerCalled = (core: Core, nameOrId: string): TrustedIssuer => {
  const row = core.state.issuerCalled(nameOrId);
  if (!row) throw new Refused('not_found', 'there is no such issuer');
  return row;
};

/** What cannot be judged from one field alone. @throws InvalidInput, Refused `conflict` */
const requireSound = (core: Core, fields: IssuerFields, self: TrustedIssuer | undefined): void => {
  const problems: string[] = [];
  // Or whoever may obtain a JWT of this broker could have it taken for somebody else's word.
  if (fields.issuer === core.issuer) problems.push('issuer: this broker trusts its own tokens already');
  if (fields.issuer.startsWith('spiffe://') && fields.keys.from === 'discovery') {
    problems.push('jwks_uri: a SPIFFE trust domain has no address to ask; name its JWKS');
  }
  const address =
    fields.keys.from === 'discovery' ? fields.issuer : fields.keys.from === 'jwks_uri' ? fields.keys.jwks_uri : '';
  const clear = fields.keys.from !== 'jwks' && fields.keys.allow_private_network === true;
  if (address.startsWith('http:') && !clear) problems.push('jwks_uri: https only, unless allow_private_network is set');
  if (problems.length > 0) throw new InvalidInput(problems);
  const twin = core.state.trustedIssuers.all().find((row) => row.issuer === fields.issuer && row.id !== self?.id);
  if (twin) throw new Refused('conflict', `issuer ${twin.name} is the one with this URL already`);
};

export const createIssuer = async (core: Core, fields: IssuerFields, caller: Caller): Promise<TrustedIssuer> => {
  requireSound(core, fields, undefined);
  const now = core.clock.now();
  const row: TrustedIssuer = { id: newId(core, 'iss'), ...fields, version: 1, created_at: now, updated_at: now };
  await commitChanges(core, {
    writes: [{ write: 'insert', table: 'trusted_issuers', row }],
    audit: [record(core, caller, { type: 'issuer.created', data: { ...named(row), ...factsOf(row) } })],
  });
  return row;
};

/** Fields by which an issuer could be trusted less, or for something else, than before. */
const decisive: readonly string[] = ['issuer', 'keys', 'audiences', 'algorithms', 'uses', 'subject_claim', 'claims'];

export const updateIssuer = async (
  core: Core,
  row: TrustedIssuer,
  patch: Partial<IssuerFields>,
  operator: Operator,
  caller: Caller,
): Promise<TrustedIssuer> => {
  const fields = differing(row, patch);
  const changed: TrustedIssuer = { ...row, ...patch, version: row.version + 1, updated_at: core.clock.now() };
  if (fields.length === 0) {
    await commitChanges(core, {
      writes: [],
      audit: [record(core, caller, { type: 'issuer.unchanged', data: named(row) })],
    });
    return row;
  }
  requireSound(core, changed, row);
  const suspended = fields.includes('status') && changed.status === 'suspended';
  const fence =
    suspended || fields.some((field) => decisive.includes(field))
      ? accompanyingFence(core, { issuer: row.id }, suspended ? 'issuer suspended' : 'issuer changed', operator)
      : undefined;
  const { id: _, ...set } = changed;
  await commitChanges(core, {
    writes: [
      { write: 'update', table: 'trusted_issuers', id: row.id, set, from: { version: row.version } },
      ...(fence?.writes ?? []),
    ],
    audit: [
      record(core, caller, {
        type: 'issuer.updated',
        data: { ...named(row), fields, before: factsOf(row), after: factsOf(changed), revocation: fence?.revocationId },
      }),
    ],
  });
  return changed;
};

/** @throws Refused `conflict` while an agent proves itself with its tokens */
export const deleteIssuer = async (
  core: Core,
  row: TrustedIssuer,
  operator: Operator,
  caller: Caller,
): Promise<void> => {
  const bound = core.state.agents.all().filter(({ auth }) => auth.method === 'workload' && auth.issuer === row.id);
  if (bound.length > 0) {
    const some = bound.slice(0, 5).map(({ name }) => name);
    throw new Refused(
      'conflict',
      `agents prove themselves with tokens of this issuer (${some.join(', ')}); change them first`,
    );
  }
  const fence = accompanyingFence(core, { issuer: row.id }, 'issuer deleted', operator);
  const change: Change = {
    writes: [
      ...fence.writes,
      { write: 'delete', table: 'trusted_issuers', id: row.id, from: { version: row.version } },
    ],
    audit: [record(core, caller, { type: 'issuer.deleted', data: { ...named(row), revocation: fence.revocationId } })],
  };
  await commitChanges(core, change);
};
