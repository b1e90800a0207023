/**
 * `npm run bench`: starts what it measures and what it is measured against, in one run on one machine, and prints
 * ratios; absolute numbers belong to the machine. `--quick` shortens it, `--json FILE` writes the numbers too.
 */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { measureAtScale } from './at-scale.ts';
import { measureAuditVerification } from './audit-verification.ts';
import { measureHttp } from './http.ts';
import { measurePostgres } from './postgres.ts';
import { stopAll } from './processes.ts';
import { type Row, table } from './table.ts';

const { values } = parseArgs({
  options: { json: { type: 'string' }, quick: { type: 'boolean', default: false }, only: { type: 'string' } },
});
const wanted = (part: string): boolean => values.only === undefined || values.only.split(',').includes(part);

const rows: Row[] = [];
try {
  if (wanted('http')) rows.push(...(await measureHttp(values.quick)));
  if (wanted('scale')) rows.push(...(await measureAtScale(values.quick)));
  if (wanted('postgres')) rows.push(...(await measurePostgres(values.quick)));
  if (wanted('audit')) rows.push(...(await measureAuditVerification(values.quick)));
} finally {
  stopAll();
}

const [cpu] = cpus();
const machine = `${cpus().length} x ${cpu?.model.trim() ?? 'unknown CPU'}, Node ${process.version}`;
console.log(`\n${machine}\n`);
console.log(table(rows));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, rows }, null, 2)}\n`);
process.exit(0);
