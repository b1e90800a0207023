/** `/admin/v1/keys`: the keys that seal secrets and sign tokens, where they are kept, and changing them. */
import { z } from 'zod';
import { readKeyServiceName } from '../../domain/key-service-name.ts';
import { commitChanges } from '../../services/change.ts';
import { record } from '../../services/core.ts';
import { migrateKeys } from '../../services/keys/migrate-keys.ts';
import { rotateKek } from '../../services/keys/rotate-keys.ts';
import * as field from '../schemas.ts';
import { InvalidRequest } from '../validate.ts';
import { iso, isoOrNull } from '../views.ts';
import { type AdminRoute, admins, created, managers, ok, route } from './route.ts';

const migration = z.strictObject({ to: field.keyService, dry_run: z.boolean().default(false) });

export const keyRoutes: AdminRoute[] = [
  route({
    method: 'GET',
    path: '/keys',
    roles: ['admin', 'operator', 'auditor'],
    summary: 'List key-encryption keys and signing keys, without their secret halves; how far a rotation has come',
    handle: async ({ edge }) => {
      const { state, keyring, reader } = edge.core;
      const seal = keyring.state();
      const boxes = new Map((await reader.sealedBoxes()).map((counted) => [counted.kek, counted.boxes]));
      return ok({
        sealed: seal.sealed,
        why: seal.sealed ? seal.why : null,
        kms: keyring.kmsName,
        configured_kms: keyring.configuredKmsName,
        key_encryption_keys: state.keyEncryptionKeys
          .all()
          .sort((a, b) => a.number - b.number)
          .map((key) => ({
            number: key.number,
            kms: key.kms,
            state: key.state,
            boxes: boxes.get(key.number) ?? 0,
            created_at: iso(key.created_at),
          })),
        signing_keys: state.signingKeys.all().map((key) => ({
          id: key.id,
          purpose: key.purpose,
          algorithm: key.algorithm,
          state: key.state,
          retire_at: isoOrNull(key.retire_at),
          created_at: iso(key.created_at),
        })),
      });
    },
  }),
  route({
    method: 'POST',
    path: '/keys/rotate',
    roles: admins,
    summary: 'Seal with a new key-encryption key from now on; what is under older ones is moved in the background',
    handle: async ({ edge, caller }) => {
      const row = await rotateKek(edge.core, caller);
      return created({ number: row.number, kms: row.kms, created_at: iso(row.created_at) }, '/admin/v1/keys');
    },
  }),
  route({
    method: 'POST',
    path: '/keys/migrate',
    roles: admins,
    summary: 'Have the key-encryption keys wrapped by another key service; WARDER_KMS must name it at the next start',
    body: migration,
    handle: async ({ edge, body, caller }) => {
      const to = readKeyServiceName(body.to);
      if (!to.ok) throw new InvalidRequest([`to: ${to.rule}`]);
      return ok(await migrateKeys(edge.core, { to: to.value, dryRun: body.dry_run }, caller));
    },
  }),
  route({
    method: 'POST',
    path: '/keys/receipts/rotate',
    roles: managers,
    summary: 'Sign receipts with a new key from now on; the old one stays published for good',
    handle: async ({ edge, caller }) => {
      const { core } = edge;
      const { writes, from, to } = await core.signingKeys.receiptRotation();
      await commitChanges(core, {
        writes,
        audit: [record(core, caller, { type: 'signing_key.rotated', data: { purpose: 'receipt', from, to } })],
      });
      return created({ from, to }, '/admin/v1/keys');
    },
  }),
  route({
    method: 'POST',
    path: '/keys/signing/rotate',
    roles: managers,
    summary: 'Sign JWTs with the next key from now on; the old one stays published until nothing it signed is alive',
    handle: async ({ edge, caller }) => {
      const { core } = edge;
      const { writes, from, to } = await core.signingKeys.rotation();
      await commitChanges(core, {
        writes,
        audit: [record(core, caller, { type: 'signing_key.rotated', data: { from, to } })],
      });
      return created({ from, to }, '/admin/v1/keys');
    },
  }),
];
