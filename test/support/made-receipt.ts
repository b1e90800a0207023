/** A receipt made up for tests, signed with a key of its own: what a forger could try, and what somebody offline reads. */
import { generateKeyPairSync, hash, type KeyObject, sign } from 'node:crypto';
import { auditRecord } from '../../src/domain/audit-entry.ts';
import { canonicalJson } from '../../src/domain/canonical-json.ts';
import { append, emptyFrontier, inclusionProof, leafHash } from '../../src/domain/merkle.ts';
import { countListed, type Listed, listedLine, noCounts, type UpstreamState } from '../../src/domain/receipt.ts';
import {
  betweenLists,
  closingEnd,
  closingStart,
  ListDigester,
  opening,
  type ReceiptPayload,
  receiptType,
} from '../../src/domain/receipt-file.ts';
import { bodies, makeKey, noteFor, type TestKey } from '../services/audit/audit-log-fixture.ts';

export interface ReceiptKey {
  jwk: Record<string, unknown> & { kid: string };
  privateKey: KeyObject;
}

export const makeReceiptKey = (): ReceiptKey => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const { crv, kty, x } = publicKey.export({ format: 'jwk' });
  const kid = hash('sha256', canonicalJson({ crv, kty, x }), 'base64url');
  return { jwk: { crv, kty, x, alg: 'EdDSA', use: 'sig', kid }, privateKey };
};

export const logKey = makeKey();
const at = '2026-11-22T10:00:00.000Z';

export const listedGrant = (number: number, upstream: UpstreamState, more: Partial<Listed> = {}): Listed => ({
  id: `grt_${number}`,
  agent: 'agt_1',
  connection: 'con_1',
  provider: 'postgres',
  credential_type: 'postgres',
  scopes: ['read'],
  subject: null,
  issued_at: at,
  expires_at: '2026-11-22T11:00:00.000Z',
  fenced_at: at,
  ended_before: null,
  upstream,
  ...more,
});

const entryOf = (data: object): string =>
  auditRecord({
    type: 'revocation.created',
    at: Date.parse(at),
    actor: { kind: 'operator', id: 'op_1', name: 'alice' },
    outcome: 'done',
    data: { ...data },
  }).body;

export interface MadeOptions {
  key?: ReceiptKey;
  log?: TestKey;
  /** Changes what is signed, for what no honest broker signs. */
  payload?: (payload: ReceiptPayload) => ReceiptPayload;
  header?: Record<string, unknown>;
  /** What the entry of the log says instead. */
  entry?: object;
}

/** @returns the file */
export const madeReceipt = (grants: readonly Listed[], options: MadeOptions = {}): string => {
  const key = options.key ?? makeReceiptKey();
  const log = options.log ?? logKey;
  const revocation = {
    ...{ id: 'rev_1', selector: { agent: 'agt_1' }, reason: 'INC-7', requested_by: 'alice' },
    ...{ suspend: true, rotate: true, fence: 3, fenced_at: at, completed_at: at },
  };
  const said = { revocation: revocation.id, selector: revocation.selector, reason: revocation.reason };
  const entries = [...bodies(3), entryOf(options.entry ?? said), ...bodies(2, 'later')];
  const nodes: Record<number, Uint8Array[]> = { 0: [] };
  const frontier = emptyFrontier();
  for (const entry of entries) {
    nodes[0]?.push(leafHash(entry));
    append(frontier, leafHash(entry));
  }
  const proof = inclusionProof((level, start, end) => (nodes[level] ?? []).slice(start, end), 3, entries.length);
  const iat = Date.parse(at) / 1000;
  const counts = noCounts();
  const [digester, names] = [new ListDigester(), new ListDigester()];
  const lines = grants.map(listedLine);
  for (const [i, one] of grants.entries()) {
    countListed(counts, one, iat * 1000);
    digester.add(lines[i] ?? '');
  }
  const nameLines = [JSON.stringify({ id: 'agt_1', name: 'reporter' })];
  for (const line of nameLines) names.add(line);
  const honest: ReceiptPayload = {
    iss: 'https://warder.example',
    iat,
    final: true,
    revocation,
    suspended: [{ id: 'agt_1', name: 'reporter' }],
    rotations: [{ connection: { id: 'con_1', name: 'billing-db' }, rotation: 'rot_1', status: 'done' }],
    rotate_by_hand: [{ connection: { id: 'con_2', name: 'stripe' }, why: 'it has no method' }],
    counts,
    grants: digester.digest(),
    names: names.digest(),
    log: {
      seq: 3,
      entry: entries[3] ?? '',
      proof: proof.map((one) => Buffer.from(one).toString('base64')),
      checkpoint: noteFor(entries, log),
      key: log.text,
    },
  };
  const header = { alg: 'EdDSA', jwk: key.jwk, kid: key.jwk.kid, typ: receiptType, ...options.header };
  const signed = [header, options.payload?.(honest) ?? honest]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  const jws = `${signed}.${sign(null, Buffer.from(signed), key.privateKey).toString('base64url')}`;
  const list = (all: readonly string[]): string => all.map((line, i) => `${i ? ',' : ''}\n${line}`).join('');
  return `${opening}${list(lines)}\n${betweenLists}${list(nameLines)}\n${closingStart}${jws}${closingEnd}\n`;
};
