/**
 * A broker on a disk without room: a backup and a restore are refused, nothing is left of them, and it goes on. Run it on
 * a small disk of its own. Arguments: a folder on that disk, a backup, its root key. Prints one line of JSON.
 */
import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { openBackupFile, sealFile } from '../../adapters/stores/sqlite/backup-file.ts';
import { downloadBackup, restore } from '../support/backups.ts';
import { startBroker } from '../support/broker.ts';

const [folder = '', backup = '', rootKey = ''] = process.argv.slice(2);
const at = (name: string): string => join(folder, name);
const leaveRoom = (bytes: number): void => {
  rmSync(at('ballast'), { force: true });
  const { bavail, bsize } = statfsSync(folder);
  writeFileSync(at('ballast'), Buffer.alloc(bavail * bsize - bytes));
};
const nameOf = (error: unknown): string => (error instanceof Error ? error.name : String(error));
const refused: unknown[] = [];

const dataDir = at('data');
const broker = await startBroker({ dataDir });
leaveRoom(4 * 1024 * 1024);
const answer = await broker.admin('POST', '/backups');
refused.push(answer.status, answer.body['code']);
const made = await broker.admin('POST', '/agents', { name: 'while-full', owner: 'a@example.com' });

// Told before anything is written.
mkdirSync(at('empty'));
copyFileSync(rootKey, at('empty/root.key'));
const { header } = await openBackupFile(backup);
refused.push(await restore({ file: backup, dataDir: at('empty'), url: header.issuer }).then(String, nameOf));

// And where the room goes while it is being written.
rmSync(at('ballast'));
const plain = randomBytes(1_000_000);
writeFileSync(at('plain'), plain);
const identity = await generateX25519Identity();
const recipient = await identityToRecipient(identity);
await sealFile(at('plain'), at('sealed'), { ...header, database_bytes: plain.length }, recipient);
const sealed = await openBackupFile(at('sealed'));
leaveRoom(64 * 1024);
refused.push(await sealFile(at('plain'), at('again'), header, recipient).then(String, nameOf));
rmSync(at('again'));
leaveRoom(64 * 1024);
refused.push(await sealed.unpack(identity, at('unpacked')).then(String, nameOf));

rmSync(at('ballast'));
const left = [...readdirSync(dataDir), ...readdirSync(at('empty'))].filter((name) => /^warder\.db\./.test(name));
const whole = await downloadBackup(broker);
await broker.close();
console.log(JSON.stringify({ refused, left, wentOn: [made.status, whole.length > 0 ? 200 : 0] }));
process.exit(0);
