/** `warder audit verify` on an export: entries a second on one core, and memory that does not grow. */
import { fork } from 'node:child_process';
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { auditRecord } from '../src/domain/audit-entry.ts';
import { checkpointLine, entryLine } from '../src/domain/audit-export.ts';
import { makeId } from '../src/domain/ids.ts';
import { append, emptyFrontier, leafHash, rootOf } from '../src/domain/merkle.ts';
import { checkpointBody, encodeVerifierKey, signNote } from '../src/domain/signed-note.ts';
import { verifyAuditExport } from '../src/services/audit/verify-audit.ts';
import type { Row } from './table.ts';

const writeExport = async (path: string, entries: number): Promise<void> => {
  const file = createWriteStream(path);
  const frontier = emptyFrontier();
  for (let seq = 0; seq < entries; seq += 1) {
    const { body } = auditRecord({
      type: 'gateway.completed',
      at: 1_795_000_000_000 + seq,
      actor: { kind: 'agent', id: makeId('agt', seq, randomBytes(10)), name: 'reporter' },
      outcome: 'done',
      agent: { id: makeId('agt', seq, randomBytes(10)), name: 'reporter' },
      connection: { id: makeId('con', seq, randomBytes(10)), name: 'stripe' },
      grant: makeId('grt', seq, randomBytes(10)),
      request_id: makeId('req', seq, randomBytes(10)),
      data: {
        call: seq,
        method: 'GET',
        path: `/v1/charges/${seq}`,
        status: 200,
        bytes_in: 0,
        bytes_out: 512,
        duration_ms: 3,
      },
    });
    append(frontier, leafHash(body));
    if (!file.write(entryLine(seq, body))) await once(file, 'drain');
  }
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = Buffer.from(String(publicKey.export({ format: 'jwk' }).x), 'base64url');
  const note = signNote(checkpointBody({ origin: 'bench/log', size: entries, root: rootOf(frontier) }), {
    name: 'bench/log',
    publicKey: raw,
    sign: (bytes) => sign(null, bytes, privateKey),
  });
  file.end(checkpointLine(note, encodeVerifierKey({ name: 'bench/log', publicKey: raw })));
  await once(file, 'finish');
};

/** In a process of its own, so that its memory is its own: prints seconds and peak memory. */
const child = async (path: string): Promise<void> => {
  const started = performance.now();
  const verdict = await verifyAuditExport(createReadStream(path, { highWaterMark: 1024 * 1024 }));
  const seconds = (performance.now() - started) / 1000;
  if (!verdict.ok) throw new Error(`the export does not verify: ${JSON.stringify(verdict)}`);
  process.send?.({ seconds, rssMb: process.resourceUsage().maxRSS / 1024 });
};

const measure = async (entries: number): Promise<{ perSecond: number; rssMb: number }> => {
  const folder = mkdtempSync(join(tmpdir(), 'warder-bench-'));
  const path = join(folder, 'export.jsonl');
  await writeExport(path, entries);
  const worker = fork(import.meta.filename, [path]);
  const [message] = await once(worker, 'message');
  rmSync(folder, { recursive: true });
  const { seconds, rssMb } = message as { seconds: number; rssMb: number };
  return { perSecond: entries / seconds, rssMb };
};

export const measureAuditVerification = async (quick: boolean): Promise<Row[]> => {
  const entries = quick ? 200_000 : 1_000_000;
  const small = await measure(entries / 10);
  const large = await measure(entries);
  return [
    {
      what: `audit verification, ${entries} entries`,
      value: `${large.perSecond.toFixed(0)} entries/s`,
      against: `peak ${large.rssMb.toFixed(0)} MB; ${small.rssMb.toFixed(0)} MB for a tenth`,
      bar: '>= 250000/s',
      met: large.perSecond >= 250_000,
      numbers: { perSecond: large.perSecond, rssMb: large.rssMb, rssMbTenth: small.rssMb },
    },
  ];
};

const [path] = process.argv.slice(2);
if (process.argv[1] === import.meta.filename && path !== undefined) await child(path);
