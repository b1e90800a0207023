/** What an operator writes about a MySQL or MariaDB server, checked. */
import { z } from 'zod';
import { isScopeName, scopeNameRule } from '../../../src/domain/names.ts';
import { accountPrefix, databaseAddress, judgeDatabaseAddress, noNul, statements } from '../database/settings.ts';

/** https://dev.mysql.com/doc/refman/8.4/en/identifier-length.html */
const maxNameCharacters = 64;

const sqlName = z
  .string()
  .min(1)
  .refine(noNul, 'no NUL')
  // Nothing beyond the Basic Multilingual Plane can be in a name, and no blank at its end.
  .refine(
    (name) => name.isWellFormed() && !/[\u{10000}-\u{10ffff}]|\s$/u.test(name),
    'not a name of a database or table',
  )
  .refine((name) => name.length <= maxNameCharacters, `at most ${maxNameCharacters} characters`);

const presetScope = z
  .strictObject({
    preset: z.enum(['read', 'read-write']),
    databases: z.array(sqlName).max(50).default([]),
    tables: z
      .array(z.strictObject({ database: sqlName, table: sqlName }))
      .max(200)
      .default([]),
  })
  .refine(({ databases, tables }) => databases.length + tables.length > 0, 'databases, tables or both');
const statementScope = z.strictObject({
  creation_statements: statements(['name', 'username', 'host', 'password']).refine(
    (list) => list.some((text) => /\{\{(?:name|username)\}\}/.test(text)),
    'one of them must say {{name}}',
  ),
  revocation_statements: statements(['name', 'username', 'host']).optional(),
});

const scope = z.union([presetScope, statementScope], {
  error: 'one of {preset: read | read-write, databases, tables} or {creation_statements, …} with valid fields',
});

export const mysqlSettings = z
  .strictObject({
    ...databaseAddress(3306),
    database: sqlName,
    scopes: z
      .record(z.string().refine(isScopeName, scopeNameRule), scope)
      .refine((scopes) => Object.keys(scopes).length > 0, 'at least one scope')
      .optional(),
    /** With the 26 characters of a grant's id: the 32 that MySQL allows. */
    user_prefix: accountPrefix(6),
    /** From where an issued user may log in: the host part of an account's name. */
    user_host: z
      .string()
      .regex(/^[A-Za-z0-9.:%_/-]{1,60}$/, 'a host, an address or a pattern, as in an account’s name')
      .default('%'),
    /** Sessions a user may have open at once. */
    connection_limit: z.int().min(1).max(10_000).default(10),
  })
  .superRefine(judgeDatabaseAddress)
  .transform((value) => ({
    ...value,
    scopes: value.scopes ?? {
      read: { preset: 'read' as const, databases: [value.database], tables: [] },
      'read-write': { preset: 'read-write' as const, databases: [value.database], tables: [] },
    },
  }));

export type MysqlSettings = z.infer<typeof mysqlSettings>;
export type MysqlScope = z.infer<typeof scope>;
