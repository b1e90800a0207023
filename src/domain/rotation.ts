/** What is remembered of rotations: when secrets are to be replaced, each attempt at it, and who leads. Spelled as model.ts says. */

/** The keys of Warder itself, which are rotated by the same schedules. */
export const keyPolicies = ['key-encryption', 'signing'] as const;
export type KeyPolicy = (typeof keyPolicies)[number];

/** Counted from the last time, or at the times of a cron pattern; without a time zone these are UTC. */
export type RotationSchedule = { every_seconds: number } | { cron: string; time_zone?: string };

/** When a rotation may begin: minutes of the day in UTC, `from` inclusive to `to` exclusive; may wrap midnight. */
export interface RotationWindow {
  /** Days of the week on which the window opens, 0 = Sunday; absent = every day. */
  days?: number[];
  from: number;
  to: number;
}

export interface RotationPolicy {
  /** The connection's id, or which key of Warder's own. */
  id: string;
  connection_id: string | null;
  /** null: only when somebody asks. */
  schedule: RotationSchedule | null;
  /** null: at any time. */
  window: RotationWindow | null;
  /** How long the secret before keeps working. */
  grace_seconds: number;
  /** Whether grants of the secret before are fenced when the new one is in force. */
  fence: boolean;
  /** How, as an operator wrote it; null for the usual way of the provider, and for keys of Warder's own. */
  method: Record<string, unknown> | null;
  /** When what is in force now came into force; null while that was before the policy. */
  rotated_at: number | null;
  /** The due time that was last reported as passed, so that it is reported once. */
  overdue_reported: number | null;
  version: number;
  created_at: number;
  updated_at: number;
}

/** Why a rotation was asked for. */
export type RotationCause = 'asked' | 'schedule' | 'revocation' | 'incident';

/**
 * `asked` -> `running` -> `grace` -> `done`. From `running` also `failed`: the secret before is in force and nothing is
 * left of the new one. `stuck`: it needs somebody to look; it is tried again now and then, and nothing is deleted.
 * `cancelled`: never began.
 */
export type RotationStatus = 'asked' | 'running' | 'grace' | 'stuck' | 'done' | 'failed' | 'cancelled';
export const openRotationStatuses = ['asked', 'running', 'grace', 'stuck'] as const satisfies RotationStatus[];
export const isOpen = (status: RotationStatus): boolean => openRotationStatuses.some((open) => open === status);

/** What is about to be done, or was being done when it was last heard of. */
export type RotationStep = 'create' | 'set' | 'test' | 'finish' | 'retire' | 'undo';

/** One attempt to replace a secret. The next attempt is a row of its own, with another secret. */
export interface Rotation {
  id: string;
  /** The connection's id, or which key of Warder's own. */
  policy_id: string;
  connection_id: string | null;
  status: RotationStatus;
  step: RotationStep;
  /** The secret's number before, and the number of the new one once that is kept. */
  from_version: number | null;
  to_version: number | null;
  /** The settings and the method it began with: what it made there is undone there. Empty until it begins. */
  settings: Record<string, unknown>;
  method: Record<string, unknown>;
  grace_seconds: number;
  fence: boolean;
  /** What the provider journalled last; no secret in it. */
  handle: Record<string, unknown> | null;
  /** From 1; a failed rotation is followed by another one with the next number. */
  attempt: number;
  /** How often the step under way was tried and failed. */
  tries: number;
  cause: RotationCause;
  reason: string | null;
  requested_by: string;
  /** The revocation that asked for it. */
  revocation_id: string | null;
  /** Whether it begins at once, whatever the window says. */
  at_once: boolean;
  /** Before this moment nothing is tried. */
  not_before: number;
  /** When the secret before is retired; null until the new one is in force. */
  retire_at: number | null;
  /** What went wrong last, for people. */
  failure: string | null;
  started_at: number | null;
  /** When the new secret came into force. */
  finished_at: number | null;
  ended_at: number | null;
  version: number;
  created_at: number;
  updated_at: number;
}

/** Who may do a kind of work. `version` is the fencing token: it grows with each new holder, and with nothing else. */
export interface Lease {
  id: string;
  holder: string;
  /** Until this moment nobody else takes it. */
  until: number;
  version: number;
}
