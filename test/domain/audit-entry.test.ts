import { describe, expect, test } from '@jest/globals';
import canonicalize from 'canonicalize';
import fc from 'fast-check';
import { type AuditEvent, auditRecord, maxEntryBytes } from '../../src/domain/audit-entry.ts';
import { makeId } from '../../src/domain/ids.ts';
import { makeToken } from '../../src/domain/tokens.ts';

const at = Date.UTC(2026, 10, 22, 12);
const event = (over: Partial<AuditEvent> = {}): AuditEvent => ({
  type: 'grant.issued',
  at,
  actor: { kind: 'system', name: 'test' },
  outcome: 'done',
  ...over,
});

describe('an audit entry', () => {
  test('is the canonical JSON of what it says, with the columns it is found by', () => {
    const record = auditRecord(
      event({
        actor: { kind: 'agent', id: 'agt_1', name: 'reporter' },
        agent: { id: 'agt_1', name: 'reporter' },
        connection: { id: 'con_1', name: 'billing-db' },
        grant: 'grt_1',
        request_id: 'req_1',
        data: { z: 1, a: ['x', null], text: 'é"\n' },
      }),
    );
    expect(record).toEqual({
      type: 'grant.issued',
      at,
      agent_id: 'agt_1',
      connection_id: 'con_1',
      grant_id: 'grt_1',
      body:
        '{"actor":{"id":"agt_1","kind":"agent","name":"reporter"},"agent":{"id":"agt_1","name":"reporter"},' +
        '"connection":{"id":"con_1","name":"billing-db"},"data":{"a":["x",null],"text":"é\\"\\n","z":1},' +
        '"grant":"grt_1","outcome":"done","request_id":"req_1","time":"2026-11-22T12:00:00.000Z",' +
        '"type":"grant.issued","v":1}',
    });
  });

  test('leaves out what is not known', () => {
    const record = auditRecord(event());
    expect(record).toMatchObject({ agent_id: null, connection_id: null, grant_id: null });
    expect(Object.keys(JSON.parse(record.body))).toEqual(['actor', 'outcome', 'time', 'type', 'v']);
  });

  test('is spelled as RFC 8785 says, whatever its data', () => {
    // Keys that look like array indexes, too: objects do not keep those in the order they were given.
    const key = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 4 }), fc.nat({ max: 120 }).map(String));
    const data = fc.dictionary(key, fc.jsonValue({ maxDepth: 3, stringUnit: 'grapheme' }));
    fc.assert(
      fc.property(data, (facts) => {
        const { body } = auditRecord(event({ data: facts }));
        expect(body).toBe(canonicalize(JSON.parse(body)));
        expect(JSON.parse(body).data).toEqual(JSON.parse(JSON.stringify(facts)));
      }),
    );
  });

  test('is one line of valid UTF-8 of at most 65 535 bytes, or an error', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        if (!text.isWellFormed()) {
          expect(() => auditRecord(event({ data: { text } }))).toThrow();
          return;
        }
        const { body } = auditRecord(event({ data: { text } }));
        expect([...body].every((char) => char >= ' ')).toBe(true);
        expect(Buffer.from(body).toString()).toBe(body);
      }),
    );
    const overhead = Buffer.byteLength(auditRecord(event({ data: { text: '' } })).body);
    const fits = 'x'.repeat(maxEntryBytes - overhead);
    expect(Buffer.byteLength(auditRecord(event({ data: { text: fits } })).body)).toBe(maxEntryBytes);
    expect(() => auditRecord(event({ data: { text: `${fits}x` } }))).toThrow(RangeError);
    expect(() => auditRecord(event({ data: { text: 'é'.repeat(maxEntryBytes / 2) } }))).toThrow(RangeError);
  });

  test.each(['agent', 'gateway', 'operator'] as const)('never holds a token (%s), wherever one was put', (kind) => {
    const prefix = { agent: 'tok', gateway: 'grt', operator: 'op' } as const;
    const token = makeToken(kind, makeId(prefix[kind], at, new Uint8Array(10).fill(3)), new Uint8Array(32).fill(200));
    const clientSecret = `wdr_cs_${Buffer.alloc(32, 201).toString('base64url')}`;
    const { body } = auditRecord(
      event({
        actor: { kind: 'anonymous', address: token },
        grant: token,
        request_id: clientSecret,
        data: { asked: token, deep: [{ path: `/v1/${token}/${clientSecret}?x` }], reason: `${token}${clientSecret}` },
      }),
    );
    expect(body).not.toContain('wdr_');
    expect(JSON.parse(body).data.deep).toEqual([{ path: '/v1/[redacted]/[redacted]?x' }]);
    expect(body).toBe(canonicalize(JSON.parse(body)));
  });
});
