/** Rows of rotations for the conformance suite of the ledger. */
import type { Lease, Rotation, RotationPolicy } from '../../src/domain/rotation.ts';
import { id, now } from './ledger-rows.ts';

export const rotationPolicy = (over: Partial<RotationPolicy> = {}): RotationPolicy => ({
  id: id('con'),
  connection_id: null,
  schedule: null,
  window: null,
  grace_seconds: 0,
  fence: false,
  method: null,
  rotated_at: null,
  overdue_reported: null,
  version: 1,
  created_at: now,
  updated_at: now,
  ...over,
});

export const rotation = (over: Partial<Rotation> = {}): Rotation => ({
  id: id('rot'),
  policy_id: id('con'),
  connection_id: null,
  status: 'asked',
  step: 'create',
  from_version: null,
  to_version: null,
  settings: {},
  method: {},
  grace_seconds: 0,
  fence: false,
  handle: null,
  attempt: 1,
  tries: 0,
  cause: 'asked',
  reason: null,
  requested_by: 'ops',
  revocation_id: null,
  at_once: false,
  not_before: now,
  retire_at: null,
  failure: null,
  started_at: null,
  finished_at: null,
  ended_at: null,
  version: 1,
  created_at: now,
  updated_at: now,
  ...over,
});

export const lease = (over: Partial<Lease> = {}): Lease => ({
  id: id('rot'),
  holder: 'me',
  until: now,
  version: 1,
  ...over,
});
