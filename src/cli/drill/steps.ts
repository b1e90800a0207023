/**
 * The drill: an incident from beginning to end on an agent, a connection and an entitlement that exist for it alone. The
 * connection issues JWTs of Warder's own, so that no upstream is needed and nothing outside the broker is touched.
 */
import { verifyReceipt } from '../../domain/verify-receipt.ts';
import { type Answer, type Api, askOpenly, parseJson, segment } from '../api.ts';
import { exitCodes, Failure, failed } from '../failure.ts';
import { type Fields, fieldsOf } from '../fields.ts';
import { type AgentCalls, agentCalls, type Told } from './agent-calls.ts';

/** A step that did not do what it should. */
const expect = (holds: boolean, ...what: string[]): void => {
  if (!holds) throw failed(...what);
};

/** By these what a drill made is told from everything else. */
export const drillPrefix = 'drill-';
export const drillOwner = 'drill@warder.invalid';
export const drillAudience = 'https://drill.invalid';

interface Obtained {
  agentToken: string;
  /** JWTs, and the grants behind them. */
  tokens: string[];
  grants: string[];
}

/** What the steps know of each other. */
export interface Drill {
  api: Api;
  /** `drill-…`: of the agent and the connection. */
  name: string;
  agent: AgentCalls;
  /** The broker's own name for itself, which need not be the address it is reached at. */
  issuer: string;
  /** What exists by now, below `/admin/v1/`. */
  made: string[];
  entitlement: string;
  incident: string;
  revocation: string;
  obtained: Obtained;
}

export interface Step {
  name: string;
  /** @returns what is worth telling of it */
  run(drill: Drill): Promise<string>;
}

const post = (drill: Drill, path: string, body: object): Promise<Answer> => drill.api.call('POST', path, { body });
const incident = (drill: Drill, ...more: string[]): string => ['incidents', segment(drill.incident), ...more].join('/');

const makeScratch = async (drill: Drill): Promise<string> => {
  const { name } = drill;
  drill.issuer = (await askOpenly(drill.api.url, '/.well-known/oauth-authorization-server')).fields.raw('issuer');
  expect(drill.issuer !== '', 'the metadata of the broker names no issuer');
  const made = await post(drill, 'agents', { name, owner: drillOwner, purpose: 'an incident drill' });
  drill.made.push(`agents/${segment(name)}`);
  drill.agent = agentCalls(drill.api.url, {
    id: made.fields.raw('client_id'),
    secret: made.fields.raw('client_secret'),
  });
  await post(drill, 'connections', {
    name,
    provider: 'internal-jwt',
    settings: { audience: drillAudience, scopes: ['read', 'write'] },
  });
  drill.made.push(`connections/${segment(name)}`);
  const entitled = await post(drill, 'entitlements', {
    agent: name,
    connection: name,
    scopes: ['read', 'write'],
    max_ttl_seconds: 600,
    reason: 'an incident drill',
  });
  drill.entitlement = entitled.fields.text('id');
  return `agent, connection and entitlement ${name}`;
};

const tokenOf = (told: Told, what: string): string => {
  expect(told.status === 200, `${what} was refused: ${told.status} ${told.fields.text('error')}`);
  return told.fields.raw('access_token');
};

const grantWith = (drill: Drill, token: string, scopes: string[]): Promise<Told> =>
  drill.agent.bearer('/v1/grants', token, { connection: drill.name, scopes, ttl_seconds: 300, reason: 'a drill' });

const directly = (drill: Drill): Promise<Told> =>
  drill.agent.form('/token', {
    grant_type: 'client_credentials',
    resource: `${drill.issuer}/connections/${drill.name}`,
    scope: 'read',
  });

const obtain = async (drill: Drill): Promise<string> => {
  const agentToken = tokenOf(await drill.agent.form('/token', { grant_type: 'client_credentials' }), 'an agent token');
  const granted = await grantWith(drill, agentToken, ['read']);
  expect(granted.status === 201, `a grant was refused: ${granted.status} ${granted.fields.text('code')}`);
  const first = granted.fields.within('credential').raw('token');
  const second = await directly(drill);
  const tokens = [first, tokenOf(second, 'a grant at the token endpoint')];
  drill.obtained = {
    agentToken,
    tokens,
    grants: [granted.fields.within('grant').text('id'), second.fields.text('grant_id')],
  };
  for (const token of [agentToken, ...tokens]) expect(await isActive(drill, token), 'what was issued is not active');
  const listed = await drill.agent.bearer('/v1/connections', agentToken);
  expect(listed.status === 200, 'the agent token was refused at /v1/connections');
  return 'an agent token and two grants, all of them used';
};

const isActive = async (drill: Drill, token: string): Promise<boolean> => {
  const { status, fields } = await drill.agent.form('/introspect', { token });
  expect(status === 200, `introspection was refused: ${status}`);
  return fields.flag('active');
};

const open = async (drill: Drill): Promise<string> => {
  const opened = await post(drill, 'incidents', {
    title: `Drill ${drill.name}`,
    severity: 'low',
    selector: { agent: drill.name },
    reason: 'a drill',
    drill: true,
  });
  drill.incident = opened.fields.text('id');
  return drill.incident;
};

const contain = async (drill: Drill): Promise<string> => {
  const { fields } = await post(drill, incident(drill, 'contain'), { reason: 'a drill' });
  drill.revocation = fields.within('revocation').text('id');
  expect(drill.revocation !== '' && fields.has('freeze'), 'the answer names no revocation or no freeze');
  return `fence ${fields.within('revocation').text('fence')}, ${fields.within('freeze').text('id')}`;
};

/** Every door that what was obtained could go through, and every way to obtain more. */
const tryEverything = async (drill: Drill): Promise<string> => {
  const { agent, obtained } = drill;
  const doors: [string, () => Promise<Told>, (told: Told) => boolean][] = [
    ['/v1/connections', () => agent.bearer('/v1/connections', obtained.agentToken), (told) => told.status === 401],
    ['/v1/grants', () => grantWith(drill, obtained.agentToken, ['read']), (told) => told.status === 401],
    ...obtained.grants.map((id): [string, () => Promise<Told>, (told: Told) => boolean] => [
      '/v1/grants/:id/renew',
      () => agent.bearer(`/v1/grants/${segment(id)}/renew`, obtained.agentToken, {}),
      (told) => told.status === 401,
    ]),
    [
      '/token, for an agent token',
      () => agent.form('/token', { grant_type: 'client_credentials' }),
      (told) => told.fields.text('error') === 'access_denied',
    ],
    ['/token, for a grant', () => directly(drill), (told) => told.fields.text('error') === 'access_denied'],
    [
      '/token, in exchange',
      () =>
        agent.form('/token', {
          grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
          subject_token: obtained.agentToken,
          subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        }),
      (told) => told.status === 400,
    ],
  ];
  for (const [door, call, isShut] of doors) {
    const told = await call();
    expect(
      isShut(told),
      `${door} is not shut: ${told.status} ${told.fields.maybe('code') ?? told.fields.text('error')}`,
    );
  }
  for (const token of [obtained.agentToken, ...obtained.tokens]) {
    expect(!(await isActive(drill, token)), 'introspection says that something is still active');
  }
  return `${doors.length + 1 + obtained.tokens.length} doors are shut`;
};

const suspend = async (drill: Drill): Promise<string> => {
  const { fields } = await post(drill, incident(drill, 'contain'), {
    reason: 'a drill',
    revoke: false,
    freeze: false,
    suspend: true,
  });
  expect(fields.texts('suspended').includes(drill.name), 'the agent was not suspended');
  const told = await drill.agent.form('/token', { grant_type: 'client_credentials' });
  expect(
    told.fields.text('error') === 'unauthorized_client',
    `a suspended agent was told ${told.fields.text('error')}`,
  );
  return drill.name;
};

const checkReceipt = async (drill: Drill): Promise<string> => {
  const keys = (await askOpenly(drill.api.url, '/jwks')).body;
  const published = fieldsOf(parseJson(keys)).items('keys').length;
  const jwks = parseJson(keys) as { keys: Record<string, unknown>[] };
  expect(published > 0, '/jwks has no keys');
  const file = await drill.api.stream(`revocations/${segment(drill.revocation)}/receipt`, {});
  const verdict = await verifyReceipt(file, { trusted: { jwks: jwks.keys } });
  if (!verdict.ok) throw failed(`the receipt does not verify: ${verdict.fault}`);
  return `signed by ${verdict.kid}`;
};

const report = async (drill: Drill): Promise<string> => {
  const { fields } = await drill.api.call('GET', incident(drill, 'report'), { query: { format: 'json' } });
  const obtained = fields.within('obtained').number('grants');
  expect(obtained === drill.obtained.grants.length, `the report names ${obtained} grants`);
  expect(fields.within('live_now').number('grants') === 0, 'the report says that something is alive');
  const kinds = new Set(
    fields
      .within('first_time')
      .items('items')
      .map((one) => one.text('kind')),
  );
  expect(kinds.has('connection') && kinds.has('scope'), 'the report shows nothing that is new of a new agent');
  const refused = fields.within('refused').number('count') ?? 0;
  expect(refused > 0, 'the report does not have what was refused');
  return `${obtained} grants, ${refused} refused attempts`;
};

const remediate = async (drill: Drill): Promise<string> => {
  const made = (await post(drill, incident(drill, 'remediate'), {})).fields;
  const items = made.within('incident').items('items');
  expect(items.length > 0, 'the check list is empty');
  expect(
    await isRefused(() => post(drill, incident(drill, 'close'), { summary: 'too early' })),
    'it was closed with items open',
  );
  for (const item of items) {
    const path = incident(drill, 'items', item.text('number'));
    await drill.api.call('PATCH', path, { body: { status: 'waived', note: 'a drill' } });
  }
  return `${items.length} items; it cannot be closed before they are done`;
};

const isRefused = async (call: () => Promise<unknown>): Promise<boolean> => {
  try {
    await call();
    return false;
  } catch (error) {
    if (error instanceof Failure && error.exitCode === exitCodes.failed) return true;
    throw error;
  }
};

const recover = async (drill: Drill): Promise<string> => {
  const { fields } = await post(drill, incident(drill, 'recover'), {
    reason: 'a drill',
    narrow: [{ entitlement: drill.entitlement, scopes: ['read'] }],
  });
  const [change] = fields.items('changes');
  const after: Fields | undefined = change?.within('after');
  expect(after?.texts('scopes').join() === 'read', 'the entitlement was not narrowed');
  return 'lifted, resumed, narrowed to read';
};

const worksNarrowly = async (drill: Drill): Promise<string> => {
  const token = tokenOf(await drill.agent.form('/token', { grant_type: 'client_credentials' }), 'an agent token');
  const read = await grantWith(drill, token, ['read']);
  expect(read.status === 201, `reading is refused: ${read.status} ${read.fields.text('code')}`);
  const write = await grantWith(drill, token, ['write']);
  expect(write.fields.text('code') === 'scope_not_allowed', `writing was told ${write.status}`);
  for (const old of drill.obtained.tokens) expect(!(await isActive(drill, old)), 'what was revoked lives again');
  return 'read is issued, write is refused, what was revoked stays dead';
};

const close = async (drill: Drill): Promise<string> => {
  const { fields } = await post(drill, incident(drill, 'close'), { summary: 'a drill' });
  expect(fields.text('status') === 'closed', 'it is not closed');
  return drill.incident;
};

export const steps: readonly Step[] = [
  { name: 'make a scratch agent', run: makeScratch },
  { name: 'obtain credentials and use them', run: obtain },
  { name: 'open an incident', run: open },
  { name: 'contain it: revoke and freeze', run: contain },
  { name: 'try every door', run: tryEverything },
  { name: 'suspend the agent, too', run: suspend },
  { name: 'fetch the receipt and check it', run: checkReceipt },
  { name: 'report', run: report },
  { name: 'remediate', run: remediate },
  { name: 'recover with narrowed rights', run: recover },
  { name: 'obtain again, narrowly', run: worksNarrowly },
  { name: 'close', run: close },
];
