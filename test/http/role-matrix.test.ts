/**
 * Who may do what at `/admin/v1`. The table below is written out once more on purpose: a change of a route's roles
 * fails here until somebody has written down that it is meant.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { roles as allRoles, type Role } from '../../src/domain/model.ts';
import { adminTable } from '../../src/http/admin/router.ts';
import type { Broker } from '../support/broker.ts';
import {
  closeConnections,
  eachOf,
  type Furniture,
  furnish,
  jsonType,
  noneOf,
  problemFault,
  type Received,
  send,
  startEdgeBroker,
  stateOf,
} from './support.ts';

const matrix = `
route                                           admin operator approver reviewer responder auditor
POST   /agents                                    x      x
GET    /agents                                    x      x        x        x         x        x
GET    /agents/:name                              x      x        x        x         x        x
PATCH  /agents/:name                              x      x                           x
POST   /agents/:name/secret                       x      x
DELETE /agents/:name                              x      x
POST   /connections                               x      x
GET    /connections                               x      x        x        x         x        x
GET    /connections/:name                         x      x        x        x         x        x
PATCH  /connections/:name                         x      x
PUT    /connections/:name/secret                  x      x
DELETE /connections/:name                         x      x
POST   /connections/:name/connect                 x      x
GET    /connections/:name/connect/:id             x      x
GET    /connections/:name/authorizations          x      x        x        x        x         x
DELETE /connections/:name/authorizations/:id      x      x
GET    /catalog                                   x      x        x        x         x        x
GET    /catalog/:name                             x      x        x        x         x        x
POST   /entitlements                              x      x
GET    /entitlements                              x      x        x        x         x        x
GET    /entitlements/:id                          x      x        x        x         x        x
PATCH  /entitlements/:id                          x      x
DELETE /entitlements/:id                          x      x
POST   /issuers                                   x
GET    /issuers                                   x      x        x        x         x        x
GET    /issuers/:name                             x      x        x        x         x        x
PATCH  /issuers/:name                             x
DELETE /issuers/:name                             x
POST   /operators                                 x
GET    /operators                                 x                                           x
GET    /operators/:name                           x                                           x
PATCH  /operators/:name                           x
POST   /operators/:name/token                     x
DELETE /operators/:name                           x
GET    /grants                                    x      x        x        x         x        x
GET    /grants/:id                                x      x        x        x         x        x
POST   /grants/:id/retry                          x      x                           x
POST   /revocations                               x      x                           x
GET    /revocations                               x      x        x        x         x        x
GET    /revocations/:id                           x      x        x        x         x        x
GET    /revocations/:id/events                    x      x        x        x         x        x
GET    /revocations/:id/receipt                   x      x        x        x         x        x
POST   /revocations/:id/retry                     x      x                           x
POST   /freezes                                   x      x                           x
GET    /freezes                                   x      x        x        x         x        x
GET    /freezes/:id                               x      x        x        x         x        x
POST   /freezes/:id/lift                          x      x                           x
POST   /incidents                                 x      x                           x
GET    /incidents                                 x      x                 x         x        x
GET    /incidents/:id                             x      x                 x         x        x
POST   /incidents/:id/contain                     x      x                           x
GET    /incidents/:id/report                      x      x                 x         x        x
GET    /incidents/:id/timeline                    x      x                 x         x        x
POST   /incidents/:id/remediate                   x      x                           x
POST   /incidents/:id/items                       x      x                           x
PATCH  /incidents/:id/items/:number               x      x                           x
POST   /incidents/:id/items/:number/rotate        x      x                           x
POST   /incidents/:id/recover                     x      x                           x
POST   /incidents/:id/notes                       x      x                           x
POST   /incidents/:id/close                       x      x                           x
GET    /audit                                     x      x                 x         x        x
GET    /audit/export                              x      x                 x         x        x
GET    /audit/checkpoint                          x      x                 x         x        x
POST   /audit/witness                             x      x                 x         x        x
GET    /audit/proof/:seq                          x      x                 x         x        x
GET    /keys                                      x      x                                    x
POST   /keys/rotate                               x
POST   /keys/migrate                              x
POST   /keys/signing/rotate                       x      x
POST   /keys/receipts/rotate                      x      x
GET    /rotations                                 x      x        x        x         x        x
GET    /rotations/history                         x      x        x        x         x        x
GET    /rotations/:id                             x      x        x        x         x        x
POST   /rotations                                 x      x                           x
DELETE /rotations/:id                             x      x                           x
PUT    /connections/:name/rotation                x      x
DELETE /connections/:name/rotation                x      x
PUT    /keys/rotation/:which                      x      x
DELETE /keys/rotation/:which                      x      x
POST   /backups                                   x
GET    /alerts                                    x     x        x        x        x         x
POST   /webhooks                                  x     x
GET    /webhooks                                  x     x        x        x        x         x
GET    /webhooks/:name                            x     x        x        x        x         x
PATCH  /webhooks/:name                            x     x
DELETE /webhooks/:name                            x     x
POST   /webhooks/:name/secret                     x     x
POST   /webhooks/:name/test                       x     x
GET    /webhooks/:name/deliveries                 x     x        x        x        x         x
POST   /webhooks/:name/replay                     x     x
POST   /streams                                   x     x
GET    /streams                                   x     x        x        x        x         x
GET    /streams/:name                             x     x        x        x        x         x
DELETE /streams/:name                             x     x
POST   /streams/:name/token                       x     x
POST   /streams/:name/verify                      x     x
POST   /streams/:name/resume                      x     x
GET    /streams/:name/deliveries                  x     x        x        x        x         x
POST   /streams/:name/replay                      x     x
POST   /apply                                     x      x
`;

interface Route {
  method: string;
  path: string;
  roles: Role[];
}

const readMatrix = (): Route[] => {
  const [header = '', ...lines] = matrix.trim().split('\n');
  return lines.map((line) => {
    const [method = '', path = ''] = line.split(/\s+/);
    const roles = allRoles.filter((role) => {
      const at = header.indexOf(` ${role}`) + 1;
      return line.slice(at, at + role.length).includes('x');
    });
    return { method, path, roles };
  });
};
const expected = readMatrix();
const named = ({ method, path, roles }: { method: string; path: string; roles: readonly Role[] }): string =>
  `${method} ${path}: ${allRoles.filter((role) => roles.includes(role)).join(' ')}`;

/** Nothing of these names exists, so that what passes the door changes nothing. */
const address = (path: string): string => `/admin/v1${path.replaceAll(/:[a-z]+/g, 'no-such-thing')}`;

const tokens = new Map<Role, string>();
let broker: Broker;
let furniture: Furniture;

const operator = async (name: string, roles: Role[], more: object = {}): Promise<string> => {
  const made = await broker.admin('POST', '/operators', { name, roles, ...more });
  if (made.status !== 201) throw new Error(made.text);
  return String(made.body['token']);
};

beforeAll(async () => {
  broker = await startEdgeBroker();
  furniture = await furnish(broker);
  for (const role of allRoles) tokens.set(role, await operator(`only-${role}`, [role]));
});
afterAll(async () => {
  closeConnections();
  await broker.close();
});

describe('the table of routes', () => {
  test('is the one that is written down here', () => {
    expect(adminTable.map(named).sort()).toEqual(expected.map(named).sort());
  });

  test('names every route once, and no role twice', () => {
    const routes = adminTable.map(({ method, path }) => `${method} ${path}`);
    expect(new Set(routes).size).toBe(routes.length);
    for (const entry of adminTable) expect(new Set(entry.roles).size).toBe(entry.roles.length);
  });
});

describe('an operator with one role', () => {
  test.each(allRoles)('who is %s passes exactly the doors of that role', async (role) => {
    const faults = await eachOf(expected, async ({ method, path, roles }) => {
      const body = method === 'GET' ? undefined : '{"no":"such field"}';
      const received = await send(broker.url, {
        method,
        path: address(path),
        token: tokens.get(role),
        body,
        headers: body === undefined ? {} : jsonType,
      });
      const at = `${method} ${path} as ${role}: ${received.status} ${received.text.slice(0, 120)}`;
      if (received.status === 401) return at;
      if (roles.includes(role)) return received.status === 403 || received.status >= 500 ? at : undefined;
      return received.status === 403 && received.json?.['code'] === 'forbidden' && !problemFault(received)
        ? undefined
        : at;
    });
    expect(noneOf(faults)).toEqual([]);
  });

  test('who has no role of a route is refused before the body is looked at', async () => {
    const huge = 'x'.repeat(2_000_000);
    const bodies = ['{', '[[[['.repeat(50_000), huge, '{"__proto__":{}}', '\u0000'];
    const refused = expected.filter(({ roles, method }) => !roles.includes('auditor') && method !== 'GET');
    expect(refused.length).toBeGreaterThan(10);
    const faults = await eachOf(refused, async ({ method, path }) => {
      for (const body of bodies) {
        for (const type of ['application/json', 'text/plain', 'application/json; charset=utf-16']) {
          const received = await send(broker.url, {
            method,
            path: address(path),
            token: tokens.get('auditor'),
            body,
            headers: { 'content-type': type },
          });
          if (received.status !== 403) return `${method} ${path} ${type}: ${received.status} ${received.text}`;
        }
      }
      return undefined;
    });
    expect(noneOf(faults)).toEqual([]);
  });

  test('who is responder may suspend and resume an agent, and change nothing else of it', async () => {
    const token = tokens.get('responder');
    const patch = (body: object) => broker.admin('PATCH', '/agents/reporter', body, token);
    expect((await patch({ status: 'suspended' })).body).toMatchObject({ status: 'suspended' });
    expect((await patch({ status: 'active' })).body).toMatchObject({ status: 'active' });
    for (const body of [
      { owner: 'me@example.com' },
      { purpose: 'mine' },
      { purpose: null },
      { auth: { method: 'client_secret_post' } },
      { status: 'suspended', owner: 'me@example.com' },
    ]) {
      expect((await patch(body)).body).toMatchObject({ code: 'forbidden' });
    }
    expect((await broker.admin('GET', '/agents/reporter')).body).toMatchObject({
      owner: 'finance@example.com',
      status: 'active',
    });
  });

  test('may do what any of several roles may', async () => {
    const token = await operator('two-hats', ['auditor', 'responder']);
    const status = async (method: string, path: string, body?: object) =>
      (await broker.admin(method, path, body, token)).status;
    expect(await status('GET', '/keys')).toBe(200);
    expect(await status('POST', '/revocations', {})).toBe(400);
    expect(await status('POST', '/agents', {})).toBe(403);
  });

  test('loses and gains rights with the very next request', async () => {
    const token = await operator('changing', ['operator']);
    expect((await broker.admin('POST', '/agents', {}, token)).status).toBe(400);
    await broker.admin('PATCH', '/operators/changing', { roles: ['auditor'] });
    expect((await broker.admin('POST', '/agents', {}, token)).status).toBe(403);
    expect((await broker.admin('GET', '/keys', undefined, token)).status).toBe(200);
    await broker.admin('PATCH', '/operators/changing', { roles: ['approver'] });
    expect((await broker.admin('GET', '/keys', undefined, token)).status).toBe(403);
  });
});

describe('whoever is no operator', () => {
  /** What they present. */
  const strangers: [string, () => Promise<Record<string, string>>][] = [
    ['with nothing', async () => ({})],
    ['with an empty header', async () => ({ authorization: '' })],
    ['with words', async () => ({ authorization: 'Bearer let me in' })],
    [
      'with another scheme',
      async () => ({ authorization: `Basic ${Buffer.from(`admin:${broker.adminToken}`).toString('base64')}` }),
    ],
    ['with the token and no scheme', async () => ({ authorization: broker.adminToken })],
    ['with the token in another header', async () => ({ 'x-authorization': `Bearer ${broker.adminToken}` })],
    ['with two tokens', async () => ({ authorization: `Bearer ${broker.adminToken}, Bearer ${broker.adminToken}` })],
    ['with a token in capitals', async () => ({ authorization: `Bearer ${broker.adminToken.toUpperCase()}` })],
    ['with a token cut off', async () => ({ authorization: `Bearer ${broker.adminToken.slice(0, -1)}` })],
    [
      'with a token changed in its last character',
      async () => {
        const last = broker.adminToken.endsWith('A') ? 'B' : 'A';
        return { authorization: `Bearer ${broker.adminToken.slice(0, -1)}${last}` };
      },
    ],
    ['with an agent token', async () => ({ authorization: `Bearer ${furniture.agentToken}` })],
    ['with a gateway token', async () => ({ authorization: `Bearer ${furniture.gatewayToken}` })],
    ['with a client secret', async () => ({ authorization: `Bearer ${furniture.agent.clientSecret}` })],
    [
      'suspended',
      async () => {
        const token = await operator('suspended', ['admin']);
        await broker.admin('PATCH', '/operators/suspended', { status: 'suspended' });
        return { authorization: `Bearer ${token}` };
      },
    ],
    [
      'whose time is over',
      async () => {
        const expires = new Date(Date.now() - 1000).toISOString();
        return { authorization: `Bearer ${await operator('expired', ['admin'], { expires_at: expires })}` };
      },
    ],
    [
      'deleted',
      async () => {
        const token = await operator('deleted', ['admin']);
        await broker.admin('DELETE', '/operators/deleted');
        return { authorization: `Bearer ${token}` };
      },
    ],
    [
      'with the token before it was renewed',
      async () => {
        const token = await operator('renewed', ['admin']);
        await broker.admin('POST', '/operators/renewed/token');
        return { authorization: `Bearer ${token}` };
      },
    ],
  ];
  const shapes = new Set<string>();
  const details = new Map<string, unknown>();
  /** All that differs from one answer to another, and says nothing. */
  const shapeOf = ({ status, headers, json }: Received): string =>
    JSON.stringify([
      status,
      Object.keys(headers)
        .filter((name) => !['date', 'connection', 'keep-alive'].includes(name))
        .sort(),
      headers['www-authenticate'],
      Object.keys(json ?? {}),
      json?.['code'],
      json?.['title'],
    ]);

  test.each(strangers)(
    '(%s) is refused at every door in one shape, before the body is looked at',
    async (who, headers) => {
      const presented = await headers();
      const before = await stateOf(broker);
      const faults = await eachOf(expected, async ({ method, path }) => {
        for (const body of method === 'GET' ? [undefined] : ['{}', '{', '[[[['.repeat(20_000)]) {
          const received = await send(broker.url, {
            method,
            path: address(path),
            headers: { ...presented, ...(body === undefined ? {} : jsonType) },
            body,
          });
          shapes.add(shapeOf(received));
          details.set(who, received.json?.['detail']);
          const fault = problemFault(received);
          if (received.status !== 401 || fault)
            return `${method} ${path}: ${received.status} ${fault} ${received.text}`;
        }
        return undefined;
      });
      expect(noneOf(faults)).toEqual([]);
      expect(await stateOf(broker)).toEqual(before);
    },
  );

  test('got the same shape of answer everywhere', () => {
    expect([...shapes]).toHaveLength(1);
    expect([...shapes][0]).toContain('"Bearer"');
  });

  test('does not learn from the answer whether a token ever was one', () => {
    const malformed = ['with nothing', 'with an empty header', 'with words', 'with another scheme', 'with two tokens'];
    const misplaced = ['with the token and no scheme', 'with the token in another header'];
    const told = strangers.map(([who]) => who).filter((who) => ![...malformed, ...misplaced].includes(who));
    expect(told).toHaveLength(10);
    expect(new Set(told.map((who) => details.get(who)))).toEqual(new Set(['no valid token was presented']));
  });

  test('reads the answer even while sending a body nobody wants', async () => {
    for (const size of [300_000, 4_000_000, 20_000_000]) {
      for (const chunked of [false, true]) {
        const received = await send(broker.url, {
          method: 'POST',
          path: '/admin/v1/apply',
          headers: jsonType,
          body: Buffer.alloc(size, 0x20),
          chunked,
        });
        expect(received.status).toBe(401);
      }
    }
  });
});
