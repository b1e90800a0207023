/** What is remembered of incidents and freezes; spelled as model.ts says. What an incident may do next is decided here. */
import type { Selector } from './model.ts';

/** While it stands, nothing new is issued for what its selector matches. What is out goes on working. */
export interface Freeze {
  id: string;
  /** The number of the entry that created it. */
  seq: number;
  selector: Selector;
  reason: string;
  /** The incident it belongs to; null when it stands alone. */
  incident_id: string | null;
  /** The name of the operator, or of the part of Warder that asked for it. */
  created_by: string;
  created_at: number;
  /** Null while it stands. */
  lifted_at: number | null;
  lifted_by: string | null;
  lift_reason: string | null;
  version: number;
}

/** What a freeze may be for: not one grant, which is issued already. */
export const freezeSelectorFields = [
  'everything',
  'agent',
  'connection',
  'provider',
  'owner',
  'subject',
  'issuer',
  'entitlement',
] as const satisfies (keyof Selector)[];

export const incidentStatuses = ['open', 'contained', 'remediating', 'recovered', 'closed'] as const;
export type IncidentStatus = (typeof incidentStatuses)[number];

export const incidentSeverities = ['low', 'medium', 'high', 'critical'] as const;
export type IncidentSeverity = (typeof incidentSeverities)[number];

export interface Incident {
  id: string;
  title: string;
  severity: IncidentSeverity;
  status: IncidentStatus;
  /** A rehearsal on a scratch agent (`warder incident drill`). */
  drill: boolean;
  /** Whom and what it is about. */
  selector: Selector;
  /** What the ids in it were called when it was opened: agents and connections are deleted, reports are read later. */
  names: { agent?: string; connection?: string; issuer?: string };
  /** When it began, as far as it is known. */
  window_from: number;
  /** When it ended; null while nobody knows: then the report goes on until it is closed. */
  window_to: number | null;
  reason: string;
  opened_by: string;
  /** What was done to contain it. */
  measures: Measures;
  /** What recovering changed. */
  changes: EntitlementChange[];
  contained_at: number | null;
  recovered_at: number | null;
  closed_at: number | null;
  version: number;
  created_at: number;
  updated_at: number;
}

/** Ids, each in the order of what was done. */
export interface Measures {
  revocations: string[];
  freezes: string[];
  /** Agents that containing it suspended, and when; those that were suspended before are not among them. */
  suspended: { id: string; name: string; at: number }[];
  /** All agents it reached when suspending was asked for: no other incident's recovery resumes them while this one lasts. */
  held: string[];
  rotations: { connection: string; rotation: string }[];
  /** Agents that recovering resumed. */
  resumed: { id: string; name: string }[];
}

export const noMeasures: Readonly<Measures> = {
  revocations: [],
  freezes: [],
  suspended: [],
  held: [],
  rotations: [],
  resumed: [],
};

/** What an entitlement allowed before an incident and allows since; null: it was removed. */
export interface EntitlementChange {
  entitlement: string;
  agent: string;
  connection: string;
  before: EntitlementLimits;
  after: EntitlementLimits | null;
}

export interface EntitlementLimits {
  scopes: string[];
  max_ttl_seconds: number;
  approval: 'none' | 'required';
  /** ISO 8601. */
  expires_at: string | null;
}

/** `rotate` a secret, take something back `by_hand`, `disconnect` an account, `narrow` an entitlement, `tell` somebody. */
export const itemKinds = ['rotate', 'by_hand', 'disconnect', 'narrow', 'tell', 'other'] as const;
export type ItemKind = (typeof itemKinds)[number];

/** One line of the check list of an incident. */
export interface IncidentItem {
  /** `<incident>:<number>`. */
  id: string;
  incident_id: string;
  /** From 1, in the order they were added. */
  number: number;
  kind: ItemKind;
  /** What it is about (`connection:con_…`), so that it is not put on the list twice. */
  about: string;
  /** What to do, for people. */
  text: string;
  assigned_to: string | null;
  status: 'open' | 'done' | 'waived';
  /** How it was done, or why it need not be. */
  note: string | null;
  closed_by: string | null;
  closed_at: number | null;
  version: number;
  created_at: number;
  updated_at: number;
}

/** What somebody may do to an incident. */
export type IncidentStep = 'contain' | 'remediate' | 'recover' | 'close';

/**
 * @returns the status after this step, or why it cannot be taken now. Steps may be repeated; containing what was
 * recovered begins anew.
 */
export const statusAfter = (
  step: IncidentStep,
  status: IncidentStatus,
): { ok: true; status: IncidentStatus } | { ok: false; why: string } => {
  if (status === 'closed') return { ok: false, why: 'this incident is closed; open another one' };
  switch (step) {
    case 'contain':
      return { ok: true, status: status === 'remediating' ? 'remediating' : 'contained' };
    case 'remediate':
      return { ok: true, status: status === 'recovered' ? 'recovered' : 'remediating' };
    case 'recover':
      return status === 'open'
        ? { ok: false, why: 'nothing was contained or remediated yet; close it if it was no incident' }
        : { ok: true, status: 'recovered' };
    case 'close':
      return { ok: true, status: 'closed' };
  }
};
