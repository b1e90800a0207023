/** What is written is what is read: every table, every kind of value, now and after the store was opened anew. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { LedgerSnapshot, LedgerStore, TableName, Tables, Write } from '../../src/ports/ledger.ts';
import * as make from './ledger-rows.ts';
import { lease, rotation, rotationPolicy } from './rotation-rows.ts';

const { accept, changeset, insert, update } = make;

/** Text that quoting, encoding or JSON could spoil. (Not NUL: PostgreSQL has no text with it, and names refuse it.) */
const hostile = `'"\\\`; DROP TABLE agents;-- %s ?1 $1 :a \n\t\u202e\u200b${String.fromCodePoint(0x1f511)} ä ﬁ ]]>`;
// Parsed, because written out it would set the prototype instead of a key.
const document = (): Record<string, unknown> =>
  JSON.parse(
    `{"__proto__":{"polluted":true},"constructor":1,"nothing":null,"yes":true,"no":false,"zero":0,"fraction":0.1,"big":9007199254740991,"list":[1,[2,{}]],"text":${JSON.stringify(hostile)}}`,
  );

type Samples = { [T in TableName]: Tables[T][] };

/** Of each table one row with every nullable field null, and one with every field filled. */
const samples = (): Samples => {
  const agents = [
    make.agent(),
    make.agent({
      name: hostile,
      owner: hostile,
      purpose: hostile,
      auth: {
        method: 'private_key_jwt',
        algorithms: ['ES256', 'EdDSA'],
        jwks: { keys: [document()] },
        jwks_uri: 'https://a/b',
        allow_private_network: true,
      },
      dpop: 'required',
      status: 'suspended',
      version: 7,
      created_at: 0,
      updated_at: Number.MAX_SAFE_INTEGER,
    }),
  ] as const;
  const connections = [
    make.connection(),
    make.connection({ owner: hostile, settings: document(), status: 'suspended', secret_version: 3 }),
    make.connection({
      secret_source: {
        connection_id: hostile,
        path: hostile,
        fields: { [hostile]: hostile },
        version: 7,
        max_age_seconds: 0,
      },
    }),
  ] as const;
  const incidents = [
    make.incident(),
    make.incident({
      title: hostile,
      severity: 'critical',
      status: 'recovered',
      drill: true,
      selector: { everything: true },
      names: { agent: hostile, connection: hostile, issuer: hostile },
      window_to: make.now,
      reason: hostile,
      opened_by: hostile,
      measures: {
        revocations: [hostile],
        freezes: ['frz_1'],
        suspended: [{ id: 'agt_1', name: hostile, at: make.now }],
        held: ['agt_1', 'agt_2'],
        rotations: [{ connection: hostile, rotation: hostile }],
        resumed: [{ id: 'agt_1', name: hostile }],
      },
      changes: [
        {
          entitlement: 'ent_1',
          agent: hostile,
          connection: hostile,
          before: { scopes: [hostile, ''], max_ttl_seconds: 60, approval: 'none', expires_at: null },
          after: null,
        },
      ],
      contained_at: make.now,
      recovered_at: make.now,
      closed_at: make.now,
    }),
  ] as const;
  return {
    agents: [...agents],
    operators: [
      make.operator({ roles: [] }),
      make.operator({ roles: ['admin', 'responder'], expires_at: make.now, status: 'suspended' }),
    ],
    connections: [...connections],
    secrets: [
      make.secret(connections[0]),
      make.secret(connections[1], {
        number: 3,
        state: 'retired',
        sealed: { ...make.secret({ id: '' }).sealed, kek: 9 },
      }),
    ],
    entitlements: [
      make.entitlement(agents[0], connections[0], { scopes: [] }),
      make.entitlement(agents[1], connections[1], {
        scopes: ['a', hostile],
        approval: 'required',
        hours: { from: 1320, to: 360 },
        budget: { grants: 5, per_seconds: 60 },
        reason: hostile,
        on_behalf_of: [hostile, 'corp:*'],
        expires_at: make.now,
      }),
    ],
    trusted_issuers: [
      make.trustedIssuer(),
      make.trustedIssuer({
        name: hostile,
        issuer: hostile,
        keys: { from: 'jwks', jwks: { keys: [document()] } },
        audiences: [hostile],
        uses: ['workload', 'subject'],
        subject_claim: hostile,
        claims: { sub: hostile, '/kubernetes.io/namespace': ['a', 'b'] },
        single_use: false,
        status: 'suspended',
      }),
    ],
    grants: [
      make.grant(),
      make.grant({
        subject: hostile,
        scopes: [hostile, ''],
        enforcement: 'upstream',
        credential_type: 'bearer',
        status: 'unrevocable',
        token_digest: 'ab',
        issuers: ['iss_1', hostile],
        jkt: hostile,
        authorization_details: [{ type: 'warder_connection', connection: hostile, scopes: [hostile], ttl_seconds: 1 }],
        handle: document(),
        upstream: 'unrevocable',
        reason: '',
        revocation_id: 'rev_1',
      }),
    ],
    agent_tokens: [
      make.agentToken(),
      make.agentToken({
        status: 'revoked',
        owner: hostile,
        subject: hostile,
        issuers: ['iss_1'],
        jkt: hostile,
        subject_expires_at: make.now,
      }),
    ],
    fences: [make.fence({ everything: true }), make.fence({ agent: hostile, subject: hostile })],
    revocations: [
      make.revocation(),
      make.revocation({
        selector: { owner: hostile },
        suspend: true,
        suspended: [{ id: 'agt_1', name: hostile }],
        owned_agents: ['agt_1', hostile],
        rotate: true,
        rotations: [{ connection: { id: 'con_1', name: hostile }, by_hand: hostile }],
        grants: 0,
        completed_at: make.now,
        reason: hostile,
      }),
    ],
    key_encryption_keys: [
      make.keyEncryptionKey(),
      make.keyEncryptionKey({ state: 'previous', wrapped: hostile }),
      make.keyEncryptionKey({ state: 'retired', wrapped: '' }),
    ],
    signing_keys: [
      make.signingKey(),
      make.signingKey({
        purpose: 'receipt',
        algorithm: 'Ed25519',
        public_jwk: document(),
        state: 'next',
        retire_at: 1,
      }),
    ],
    rotation_policies: [
      rotationPolicy(),
      rotationPolicy({
        id: connections[0].id,
        connection_id: connections[0].id,
        schedule: { cron: hostile, time_zone: hostile },
        window: { days: [0, 6], from: 1320, to: 240 },
        fence: true,
        method: document(),
        rotated_at: make.now,
        overdue_reported: make.now,
      }),
    ],
    rotations: [
      rotation(),
      rotation({
        connection_id: hostile,
        status: 'stuck',
        step: 'undo',
        from_version: 3,
        to_version: 4,
        settings: document(),
        method: document(),
        fence: true,
        handle: document(),
        cause: 'revocation',
        reason: hostile,
        requested_by: hostile,
        revocation_id: 'rev_1',
        at_once: true,
        retire_at: make.now,
        failure: hostile,
        started_at: make.now,
        finished_at: make.now,
        ended_at: make.now,
      }),
    ],
    leases: [lease(), lease({ holder: hostile, version: 7 })],
    used_once: [make.usedOnce(), make.usedOnce({ id: hostile })],
    budget_uses: [make.budgetUse(), make.budgetUse({ used: 12 })],
    authorizations: [
      make.authorization(connections[0]),
      make.authorization(connections[1], {
        subject: hostile,
        status: 'needs_reconnect',
        scopes: ['a', hostile],
        account: hostile,
        redeeming: { by: 'me', from: 3, until: make.now },
        last_refreshed_at: make.now,
        failure: 'invalid_grant',
      }),
    ],
    authorization_flows: [
      make.authorizationFlow(connections[0]),
      make.authorizationFlow(connections[1], {
        subject: hostile,
        status: 'failed',
        state_digest: 'cd',
        cookie_digest: 'ef',
        sealed: make.authorization({ id: '' }).sealed,
        failure: 'access_denied',
        authorization_id: 'aut_1',
      }),
    ],
    freezes: [
      make.freeze(),
      make.freeze({
        selector: { agent: hostile, owner: hostile },
        reason: hostile,
        incident_id: 'inc_1',
        created_by: hostile,
        lifted_at: make.now,
        lifted_by: hostile,
        lift_reason: hostile,
        version: 2,
      }),
    ],
    incidents: [...incidents],
    incident_items: [
      make.incidentItem(incidents[0]),
      make.incidentItem(incidents[1], {
        kind: 'by_hand',
        about: hostile,
        text: hostile,
        assigned_to: hostile,
        status: 'waived',
        note: hostile,
        closed_by: hostile,
        closed_at: make.now,
      }),
    ],
    webhooks: [
      make.webhook(),
      make.webhook({
        name: hostile,
        url: hostile,
        events: ['*', hostile],
        allow_private_network: true,
        status: 'disabled',
        disabled_because: hostile,
        secret_number: 7,
        previous_until: make.now,
        cursor: Number.MAX_SAFE_INTEGER,
        cursor_part: hostile,
        tries: 3,
        next_try_at: make.now,
        failing_since: make.now,
        failing_told: true,
        last_failure: hostile,
        last_delivered_at: make.now,
      }),
    ],
    signal_streams: [
      make.signalStream(),
      make.signalStream({
        name: hostile,
        aud: [hostile, 'b'],
        events_supported: [],
        events_requested: [hostile],
        allow_private_network: true,
        share_reasons: true,
        method: 'push',
        endpoint_url: hostile,
        sealed: make.authorization({ id: '' }).sealed,
        status: 'paused',
        status_reason: hostile,
        description: hostile,
        acked: [hostile],
        cursor_part: hostile,
        failing_told: true,
      }),
    ],
  };
};

/** Parents before children. */
const order = [
  'agents',
  'operators',
  'connections',
  'secrets',
  'entitlements',
  'trusted_issuers',
  'grants',
  'agent_tokens',
  'fences',
  'revocations',
  'key_encryption_keys',
  'signing_keys',
  'used_once',
  'budget_uses',
  'authorizations',
  'authorization_flows',
  'rotation_policies',
  'rotations',
  'leases',
  'freezes',
  'incidents',
  'incident_items',
  'webhooks',
  'signal_streams',
] as const satisfies TableName[];

const inserts = (rows: Samples): Write[] =>
  order.flatMap((table) => (rows[table] as Tables[typeof table][]).map((row) => insert(table, row)));

type InSnapshot = Exclude<keyof LedgerSnapshot, 'size' | 'newestAt'>;
const inSnapshot: InSnapshot[] = [
  'agents',
  'operators',
  'connections',
  'entitlements',
  'trusted_issuers',
  'authorizations',
  'fences',
  'key_encryption_keys',
  'signing_keys',
  'rotation_policies',
  'rotations',
  'webhooks',
  'signal_streams',
];

/** Two tables are never read row by row: a swap that names every field finds the row as it was written. */
const holdsExactly = async (
  store: LedgerStore,
  table: 'used_once' | 'budget_uses',
  rows: Samples,
): Promise<boolean> => {
  const results = await Promise.all(
    rows[table].map((row) => store.ledger.commit(changeset(update(table, row.id, { ...row }, { ...row })))),
  );
  return results.every((result) => result.ok);
};

export const tableTests = (open: make.OpenLedger): void => {
  let opened: make.OpenedLedger;
  let rows: Samples;
  beforeAll(async () => {
    opened = await open();
    rows = samples();
    await accept(opened.store.ledger, changeset(...inserts(rows)));
  });
  afterAll(() => opened.close());

  const readBack = (current: () => LedgerStore): void => {
    test.each(inSnapshot)('a row of %s is read as it was written', async (table) => {
      const snapshot = await current().reader.snapshot();
      const byId = (a: { id: string }, b: { id: string }): number => (a.id < b.id ? -1 : 1);
      expect([...snapshot[table]].sort(byId)).toStrictEqual([...rows[table]].sort(byId));
    });

    test('a key called __proto__ in a document stays a key', async () => {
      const snapshot = await current().reader.snapshot();
      const settings = snapshot.connections.find((row) => row.status === 'suspended')?.settings ?? {};
      expect(Object.keys(settings)).toEqual(Object.keys(document()));
      expect(Object.hasOwn(settings, '__proto__')).toBe(true);
      expect(settings['polluted']).toBeUndefined();
    });

    test('secrets, grants, agent tokens, flows and revocations are read one by one as they were written', async () => {
      const { reader } = current();
      for (const row of rows.secrets) expect(await reader.secret(row.connection_id, row.number)).toStrictEqual(row);
      for (const row of rows.grants) expect(await reader.grant(row.id)).toStrictEqual(row);
      for (const row of rows.agent_tokens) expect(await reader.agentToken(row.id)).toStrictEqual(row);
      for (const row of rows.authorization_flows) expect(await reader.authorizationFlow(row.id)).toStrictEqual(row);
      for (const row of rows.revocations) expect(await reader.revocation(row.id)).toStrictEqual(row);
    });

    test('rotations and leases are read one by one as they were written', async () => {
      const { reader } = current();
      for (const row of rows.rotations) expect(await reader.rotation(row.id)).toStrictEqual(row);
      for (const row of rows.leases) expect(await reader.lease(row.id)).toStrictEqual(row);
    });

    test('freezes, incidents and their check lists are read as they were written', async () => {
      const { reader } = current();
      for (const row of rows.freezes) expect(await reader.freeze(row.id)).toStrictEqual(row);
      for (const row of rows.incidents) expect(await reader.incident(row.id)).toStrictEqual(row);
      for (const row of rows.incident_items) {
        expect(await reader.incidentItems(row.incident_id)).toStrictEqual([row]);
      }
      const standing = rows.freezes.filter((row) => row.lifted_at === null);
      expect((await reader.snapshot()).freezes).toStrictEqual(standing);
    });

    test('what is not there is undefined', async () => {
      const { reader } = current();
      expect(await reader.secret(rows.secrets[0]?.connection_id ?? '', 99)).toBeUndefined();
      expect(await reader.grant(rows.agent_tokens[0]?.id ?? '')).toBeUndefined();
      expect(await reader.agentToken('')).toBeUndefined();
      expect(await reader.revocation(hostile)).toBeUndefined();
    });

    test('things used once and uses of budgets are kept as they were written', async () => {
      expect(await holdsExactly(current(), 'used_once', rows)).toBe(true);
      expect(await holdsExactly(current(), 'budget_uses', rows)).toBe(true);
    });
  };

  describe('as soon as it is acknowledged', () => readBack(() => opened.store));

  describe('after the store was opened anew', () => {
    let again: LedgerStore;
    let before: { snapshot: LedgerSnapshot; bodies: string[]; head: { size: number; root: Uint8Array } };
    beforeAll(async () => {
      before = {
        snapshot: await opened.store.reader.snapshot(),
        bodies: await make.allBodies(opened.store),
        head: await opened.store.reader.treeHead(),
      };
      again = await opened.reopen();
    });

    test('snapshot, log and tree are what they were', async () => {
      expect(await again.reader.snapshot()).toStrictEqual(before.snapshot);
      expect(await make.allBodies(again)).toEqual(before.bodies);
      expect(await again.reader.treeHead()).toEqual(before.head);
    });

    readBack(() => again);

    test('every field of a row can be changed, and back to null', async () => {
      const filled = rows.grants[1];
      const empty = rows.grants[0];
      if (!filled || !empty) throw new Error('two samples were made');
      await accept(again.ledger, changeset(update('grants', empty.id, { ...filled, id: empty.id })));
      expect(await again.reader.grant(empty.id)).toMatchObject({ handle: document(), subject: hostile });
      await accept(
        again.ledger,
        changeset(
          update('grants', empty.id, { handle: null, subject: null, reason: null, upstream: null, token_digest: null }),
        ),
      );
      expect(await again.reader.grant(empty.id)).toMatchObject({ handle: null, subject: null, upstream: null });
      await accept(again.ledger, changeset(update('revocations', rows.revocations[1]?.id ?? '', { suspend: false })));
      expect(await again.reader.revocation(rows.revocations[1]?.id ?? '')).toMatchObject({ suspend: false });
    });
  });
};
