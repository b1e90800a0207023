/** Names that are hostile on purpose, against a real PostgreSQL: each means itself, and nothing else happens. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type Network, openNetwork } from '../../../adapters/network.ts';
import { named, quoted } from '../../../adapters/providers/postgres/statements.ts';
import { openPostgresProvider } from '../../../adapters/providers/postgres.ts';
import type { Provider } from '../../../src/ports/provider.ts';
import { directGrants } from './database-grants.ts';
import { admin, type PostgresRig, startPostgresRig } from './postgres-rig.ts';

const hostile = [
  `robert'); DROP TABLE canary; --`,
  `"; DROP TABLE public.canary; --`,
  `a"b""c`,
  `it's \\' \\\\ over`,
  'E\\x27',
  '$$; DROP TABLE public.canary; $$',
  '{{name}} {{password}} {{constructor}}',
  'SELECT',
  ' leading and trailing ',
  'tab\tnew\nline\r',
  'ＦＵＬＬ－ＷＩＤＴＨ',
  'émoji 👩‍👩‍👧 ‮right to left',
  'ﬀ ǅ İ',
  '%I %L %s',
  'x'.repeat(63),
  `${'ü'.repeat(31)}"`,
];

let rig: PostgresRig;
let network: Network;
let provider: Provider;
beforeAll(async () => {
  rig = await startPostgresRig();
  network = openNetwork();
  provider = openPostgresProvider(network);
  await rig.root('CREATE TABLE public.canary ()');
});
afterAll(async () => {
  await network.close();
  await rig.stop();
});

const settings = (more: object): object => ({
  ...rig.server,
  database: 'postgres',
  tls: { mode: 'disable' },
  allow_private_network: true,
  ...more,
});

/** A schema, with a table of the same name in it, that Warder may grant. Quoted by the server itself, not by us. */
const makeSchema = async (name: string): Promise<void> => {
  const bytes = Buffer.from(name).toString('hex');
  await rig.root(`DO $do$ DECLARE n text := convert_from('\\x${bytes}', 'UTF8'); BEGIN
    EXECUTE format('CREATE SCHEMA %I', n);
    EXECUTE format('CREATE TABLE %I.%I (id int)', n, n);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO ${admin.username} WITH GRANT OPTION', n);
    EXECUTE format('GRANT SELECT ON %I.%I TO ${admin.username} WITH GRANT OPTION', n, n);
  END $do$`);
};

/** Whether the role may read the table, as the server says it. */
const mayRead = async (role: string, schema: string): Promise<boolean> => {
  const bytes = Buffer.from(schema).toString('hex');
  const [row] = await rig.root(
    `SELECT has_table_privilege('${role}', c.oid, 'SELECT') AS may FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = convert_from('\\x${bytes}', 'UTF8')`,
  );
  return row?.['may'] === true;
};

test.each(hostile)('a schema and a table of the name %j', async (name) => {
  await makeSchema(name);
  await makeSchema(`${name.slice(0, 20)}~`);
  const grants = directGrants(provider, settings({ scopes: { read: { preset: 'read', schemas: [name] } } }), admin);
  const grant = await grants.mint(['read']);
  expect(await mayRead(grant.username, name)).toBe(true);
  expect(await mayRead(grant.username, `${name.slice(0, 20)}~`)).toBe(false);
  await grants.revoke(grant);
  expect(await rig.roles()).toEqual([]);
  expect(await rig.root("SELECT 1 FROM pg_class WHERE relname = 'canary'")).toHaveLength(1);
});

test.each(hostile.slice(0, 8))('a database of the name %j', async (name) => {
  await rig.root(`CREATE DATABASE ${`"${name.replaceAll('"', '""')}"`}`);
  const scopes = { none: { creation_statements: ['SELECT 1; -- {{name}}'] } };
  const grants = directGrants(provider, settings({ database: name, scopes }), admin);
  const grant = await grants.mint(['none']);
  const client = await rig.login(grant, name);
  const { rows } = await client.query('SELECT current_database() AS name');
  expect(rows).toEqual([{ name }]);
  await client.end();
  expect(new URL(String(grant.credential['url'])).pathname).toBe(`/${encodeURIComponent(name)}`);
  await grants.revoke(grant);
});

test.each(hostile.slice(0, 8))('a role of the name %j to be a member of, and another to inherit', async (name) => {
  const role = `"${name.replaceAll('"', '""')}"`;
  await rig.root(`CREATE ROLE ${role}; GRANT ${role} TO ${admin.username} WITH ADMIN OPTION, INHERIT TRUE`);
  const scopes = { member: { member_of: [name] } };
  const grants = directGrants(provider, settings({ scopes, reassign_owned_to: name }), admin);
  const grant = await grants.mint(['member']);
  const members = await rig.root(
    `SELECT g.rolname AS name FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
     WHERE r.rolname = '${grant.username}'`,
  );
  expect(members).toEqual([{ name }]);
  await rig.root(`CREATE TABLE public.left_behind (); ALTER TABLE public.left_behind OWNER TO ${grant.username}`);
  await grants.revoke(grant);
  expect(await rig.root("SELECT tableowner AS name FROM pg_tables WHERE tablename = 'left_behind'")).toEqual([
    { name },
  ]);
  await rig.root('DROP TABLE public.left_behind');
});

test('whatever is quoted means itself', async () => {
  const texts = fc.sample(
    fc.string({ unit: 'binary', maxLength: 60 }).filter((text) => !text.includes('\0')),
    300,
  );
  const all = [...hostile, ...texts];
  const [row] = await rig.root(`SELECT ARRAY[${all.map((text) => `${quoted(text)}::text`).join(', ')}] AS said`);
  expect(row?.['said']).toEqual(all);
  const names = all.filter((text) => text !== '' && Buffer.byteLength(text) <= 63);
  const [columns = {}] = await rig.root(`SELECT ${names.map((name) => `1 AS ${named(name)}`).join(', ')}`);
  expect(Object.keys(columns).sort()).toEqual([...new Set(names)].sort());
});

test('settings refuse what cannot be meant', () => {
  const problemsOf = (more: object): string[] => {
    const checkedSettings = provider.checkSettings(settings(more));
    return checkedSettings.ok ? [] : checkedSettings.problems;
  };
  const refused: [object, RegExp][] = [
    [{ scopes: { read: { preset: 'read', schemas: ['x'.repeat(64)] } } }, /settings\.scopes\.read/],
    [{ scopes: { read: { preset: 'read', schemas: ['a\0b'] } } }, /settings\.scopes\.read/],
    [{ scopes: { read: { preset: 'read', schemas: ['\ud800'] } } }, /settings\.scopes\.read/],
    [{ scopes: { read: { preset: 'admin' } } }, /settings\.scopes\.read/],
    [{ scopes: {} }, /at least one scope/],
    [{ scopes: { 'a b': { preset: 'read' } } }, /settings\.scopes/],
    [{ scopes: { s: { creation_statements: ['GRANT x TO {{nme}}'] } } }, /settings\.scopes\.s/],
    [{ scopes: { s: { creation_statements: ['GRANT x TO y'] } } }, /settings\.scopes\.s/],
    [{ scopes: { s: { creation_statements: ['GRANT x TO {{name}}; COMMIT; SELECT 1'] } } }, /settings\.scopes\.s/],
    [{ database: '' }, /settings\.database/],
    [{ database: 'x'.repeat(64) }, /settings\.database/],
    [{ role_prefix: 'pg_' }, /settings\.role_prefix/],
    [{ role_prefix: 'a"b' }, /settings\.role_prefix/],
    [{ role_prefix: 'x'.repeat(32) }, /settings\.role_prefix/],
    [{ connection_limit: 0 }, /settings\.connection_limit/],
    [{ allow_private_network: false }, /settings\.host/],
    [{ host: '169.254.169.254' }, /settings\.host/],
    [{ host: 'db.example.com', allow_private_network: false }, /settings\.tls\.mode/],
    [{ host: 'db.example.com', allow_private_network: false, tls: { mode: 'require' } }, /settings\.tls\.mode/],
    [{ host: 'db.example.com/x' }, /settings\.host/],
    [{ host: '' }, /settings\.host/],
    [{ port: 0 }, /settings\.port/],
    [{ tls: { mode: 'verify-full', ca: 'nonsense' } }, /settings\.tls\.ca/],
    [{ password: 'x' }, /settings: .*password/],
  ];
  for (const [more, why] of refused)
    expect([more, problemsOf(more).join('\n')]).toEqual([more, expect.stringMatching(why)]);
  expect(problemsOf({ host: '::1' })).toEqual([]);
  expect(problemsOf({ role_prefix: 'x'.repeat(31) })).toEqual([]);
  expect(provider.checkSecret({ username: 'a' })).toMatchObject({ ok: false });
  expect(provider.checkSecret({ username: 'a', password: 'b', value: 'c' })).toMatchObject({ ok: false });
});

test('the secret belongs to the host and port it is sent to', () => {
  const destination = (more: object): string | undefined => {
    const checkedSettings = provider.checkSettings(settings(more));
    if (!checkedSettings.ok) throw new Error(checkedSettings.problems.join());
    return provider.secretDestination?.(checkedSettings.value);
  };
  const here = destination({});
  expect(destination({ database: 'other' })).toBe(here);
  expect(destination({ host: 'other.internal' })).not.toBe(here);
  expect(destination({ port: 1 })).not.toBe(here);
  // Nor does it follow to where nobody checks whom it is told.
  expect(destination({ tls: { mode: 'require' } })).not.toBe(here);
});
