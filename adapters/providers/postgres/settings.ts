/** What an operator writes about a PostgreSQL database, checked. */
import { z } from 'zod';
import { isScopeName, scopeNameRule } from '../../../src/domain/names.ts';
import { accountPrefix, databaseAddress, judgeDatabaseAddress, noNul, statements } from '../database/settings.ts';

/** Longer ones are cut by the server (NAMEDATALEN), and may then name something else. */
const maxNameBytes = 63;

export const sqlName = z
  .string()
  .min(1)
  .refine(noNul, 'no NUL')
  .refine((name) => name.isWellFormed() && Buffer.byteLength(name) <= maxNameBytes, `at most ${maxNameBytes} bytes`);
const sqlNames = z
  .array(sqlName)
  .min(1)
  .max(50)
  .refine((names) => new Set(names).size === names.length, 'named twice');

/** A statement that ends the transaction would separate the role from the mark that says whose it is. */
const endsTransaction = /(?:^|;)\s*(?:begin|start\s+transaction|commit|end|rollback|abort|prepare\s+transaction)\b/i;
const inOneTransaction = (...placeholders: string[]) =>
  statements(placeholders).refine(
    (list) => !list.some((text) => endsTransaction.test(text)),
    'they run in one transaction: no BEGIN, COMMIT or ROLLBACK',
  );

const presetScope = z.strictObject({
  preset: z.enum(['read', 'read-write']),
  schemas: sqlNames.default(['public']),
});
const memberScope = z.strictObject({ member_of: sqlNames });
const statementScope = z.strictObject({
  creation_statements: inOneTransaction('name', 'username', 'password', 'expiration').refine(
    (list) => list.some((text) => /\{\{(?:name|username)\}\}/.test(text)),
    'one of them must say {{name}}',
  ),
  revocation_statements: inOneTransaction('name', 'username').optional(),
  renew_statements: inOneTransaction('name', 'username', 'expiration').optional(),
});

const scope = z.union([presetScope, memberScope, statementScope], {
  error: 'one of {preset: read | read-write, schemas}, {member_of} or {creation_statements, …} with valid fields',
});

export const postgresSettings = z
  .strictObject({
    ...databaseAddress(5432),
    database: sqlName,
    scopes: z
      .record(z.string().refine(isScopeName, scopeNameRule), scope)
      .refine((scopes) => Object.keys(scopes).length > 0, 'at least one scope')
      .default({
        read: { preset: 'read', schemas: ['public'] },
        'read-write': { preset: 'read-write', schemas: ['public'] },
      }),
    /** With the 26 characters of a grant's id: at most 57 bytes of 63. */
    role_prefix: accountPrefix(31).refine((prefix) => !prefix.startsWith('pg_'), 'pg_ belongs to the server'),
    /** Sessions a role may have open at once. */
    connection_limit: z.int().min(1).max(10_000).default(10),
    /**
     * The role that Warder becomes after it has logged in (SET ROLE), so that what one of its logins made another one can
     * end. Without it Warder acts as the role it logs in as.
     */
    act_as: sqlName.optional(),
    /** Who gets what a role made and left behind; without it that is dropped. */
    reassign_owned_to: sqlName.optional(),
  })
  .superRefine(judgeDatabaseAddress);

export type PostgresSettings = z.infer<typeof postgresSettings>;
export type PresetScope = z.infer<typeof presetScope>;
export type StatementScope = z.infer<typeof statementScope>;

/** The scopes of these names that the settings still have. */
export const scopesNamed = (settings: PostgresSettings, names: readonly string[]): z.infer<typeof scope>[] =>
  names.flatMap((name) => {
    const found = Object.hasOwn(settings.scopes, name) ? settings.scopes[name] : undefined;
    return found ? [found] : [];
  });
