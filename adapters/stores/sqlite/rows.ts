/** Rows between their two spellings: values of the model, and what SQLite stores (documents as JSON text). */
import { sealedField } from '../../../src/domain/stored-handle.ts';
import type { SealedRow, TableName, Tables } from '../../../src/ports/ledger.ts';

type Stored<V> = V extends boolean ? number : V extends string | number | null ? V : string;

/** The database as Kysely sees it: documents are text, booleans are 0 and 1. */
export type StoredTables = { [T in TableName]: { [C in keyof Tables[T]]: Stored<Tables[T][C]> } } & {
  audit: {
    seq: number;
    at: number;
    type: string;
    agent_id: string | null;
    connection_id: string | null;
    grant_id: string | null;
    leaf: Buffer;
    body: string | null;
  };
  tree_nodes: { level: number; position: number; hash: Buffer };
  tree_head: { only: number; size: number; frontier: Buffer };
};

const documents: { [T in TableName]?: readonly string[] } = {
  agents: ['auth'],
  operators: ['roles'],
  connections: ['settings', 'secret_source'],
  secrets: ['sealed'],
  entitlements: ['scopes', 'hours', 'budget', 'on_behalf_of'],
  grants: ['scopes', 'issuers', 'authorization_details', 'handle'],
  agent_tokens: ['issuers'],
  trusted_issuers: ['keys', 'audiences', 'algorithms', 'uses', 'claims'],
  revocations: ['selector', 'suspended', 'owned_agents', 'rotations'],
  fences: ['selector'],
  signing_keys: ['public_jwk', 'sealed'],
  authorizations: ['sealed', 'scopes', 'redeeming'],
  authorization_flows: ['sealed'],
  rotation_policies: ['schedule', 'window', 'method'],
  rotations: ['settings', 'method', 'handle'],
  freezes: ['selector'],
  incidents: ['selector', 'names', 'measures', 'changes'],
  webhooks: ['events', 'sealed'],
  signal_streams: ['aud', 'events_supported', 'events_requested', 'sealed', 'acked'],
};
const booleans: { [T in TableName]?: readonly string[] } = {
  revocations: ['suspend', 'rotate'],
  trusted_issuers: ['single_use'],
  rotation_policies: ['fence'],
  rotations: ['fence', 'at_once'],
  incidents: ['drill'],
  webhooks: ['allow_private_network', 'failing_told'],
  signal_streams: ['allow_private_network', 'share_reasons', 'failing_told'],
};

/** Where a row of each table has the number of its box's key-encryption key; NULL where it has no box. */
export const kekOf: Readonly<Record<SealedRow['table'], string>> = {
  secrets: "json_extract(sealed, '$.kek')",
  signing_keys: "json_extract(sealed, '$.kek')",
  authorizations: "json_extract(sealed, '$.kek')",
  authorization_flows: "json_extract(sealed, '$.kek')",
  grants: `json_extract(handle, '$."${sealedField}".kek')`,
  webhooks: "json_extract(sealed, '$.kek')",
  signal_streams: "json_extract(sealed, '$.kek')",
};
/** Which of its rows are looked at; the index of grants that are not gone upstream spares walking all there ever were. */
export const mayBeOpened = (table: SealedRow['table']): string => (table === 'grants' ? "upstream <> 'gone'" : '1');

export type SqlValue = string | number | null;

/**
 * @returns the value as SQLite stores it
 * @throws RangeError for NaN and infinities: SQLite would store NaN as NULL, and no end is not what NaN means
 */
export const toSql = (value: unknown): SqlValue => {
  if (value === null || typeof value === 'string') return value;
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new RangeError(`${value} is no number to store`);
    return value;
  }
  if (typeof value === 'boolean') return value ? 1 : 0;
  return JSON.stringify(value);
};

/** @returns the row of the model a stored row stands for */
export const fromSql = <T extends TableName>(table: T, row: Record<string, unknown>): Tables[T] => {
  const out: Record<string, unknown> = { ...row };
  for (const column of documents[table] ?? []) {
    const text = out[column];
    if (typeof text === 'string') out[column] = JSON.parse(text);
  }
  for (const column of booleans[table] ?? []) out[column] = out[column] === 1;
  // The STRICT schema and the golden dump hold the columns to the model; this is the one place that says so.
  return out as unknown as Tables[T];
};
