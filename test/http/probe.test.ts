import { expect, test } from '@jest/globals';
import { startBroker } from '../support/broker.ts';
test('probe', async () => {
  const b = await startBroker();
  const out: unknown[] = [];
  const raw = async (method: string, path: string, body: string | Uint8Array, ct = 'application/json', token = b.adminToken) => {
    const r = await fetch(b.url + path, { method, headers: { authorization: `Bearer ${token}`, 'content-type': ct }, body: body as never });
    out.push([method, path, ct, String(body).slice(0, 60), r.status, (await r.text()).slice(0, 200)]);
  };
  const u16 = Buffer.from('{"name":"a1","owner":"\u2200' + '"}', 'utf16le');
  await raw('POST', '/admin/v1/agents', u16, 'application/json; charset=utf-16le');
  await raw('POST', '/admin/v1/agents', `{"owner":"x","purpose":${'['.repeat(30000)}${']'.repeat(30000)}}`);
  await raw('POST', '/admin/v1/agents', Buffer.from(`{"x":"\u2200","purpose":${'['.repeat(15000)}${']'.repeat(15000)}}`, 'utf16le'), 'application/json; charset=utf-16le');
  await raw('POST', '/admin/v1/agents', '\ufeff{"name":"bom","owner":"x"}');
  await raw('POST', '/admin/v1/agents', '{"name":"dup1","name":"dup2","owner":"x"}');
  await raw('POST', '/admin/v1/agents', Buffer.from([...Buffer.from('{"name":"latin","owner":"x'), 0xff, ...Buffer.from('"}')]));
  const scopes = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`s${i}`, [{ methods: ['GET'], path: `/${'x'.repeat(900)}` }]]));
  await raw('POST', '/admin/v1/connections', JSON.stringify({ name: 'big', provider: 'api-key', settings: { base_url: 'https://x.example', scopes } }));
  await raw('POST', '/admin/v1/connections', JSON.stringify({ name: 'sur', provider: 'internal-jwt', settings: { audience: '\ud800', scopes: ['a'] } }));
  await raw('POST', '/admin/v1/revocations', JSON.stringify({ selector: { entitlement: '\ud800' }, reason: 'x' }));
  await raw('POST', '/admin/v1/agents', JSON.stringify({ name: 'jwk', owner: 'x', auth: { method: 'private_key_jwt', jwks: { keys: [{ kty: 'RSA', n: 5, extra: 'secret' }] } } }));
  const agent = await b.agent('a');
  const t = await b.agentToken(agent);
  await raw('POST', '/v1/grants', JSON.stringify({ connection: '\ud800', scopes: ['a'] }), undefined, t);
  await raw('POST', '/v1/grants/x/renew', 'null', undefined, t);
  await raw('POST', '/v1/grants', '{', undefined, 'nobody');
  for (const q of ['/audit?cursor=', '/audit?limit=0x10', '/agents?cursor=%00', '/agents?__proto__=1', '/agents?limit=1e1', '/agents/%00', '/agents/%zz'])
    out.push([q, (await b.admin('GET', q)).status]);
  for (const o of out) console.log(JSON.stringify(o));
  await b.close();
  expect(1).toBe(1);
});
