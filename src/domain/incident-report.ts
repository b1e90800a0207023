/**
 * What the report of an incident says: data, spelled as the API answers it; incident-markdown.ts and incident-html.ts
 * write it out for people. Times are ISO 8601 in UTC.
 */
import type { EntitlementChange, IncidentItem, IncidentSeverity, IncidentStatus } from './incident.ts';

/** A list that was kept short: how much is not in it. */
export interface Short<T> {
  items: T[];
  /** How many more there were; of what was counted together when the list was full, how many times. */
  more: number;
}

export interface Span {
  count: number;
  first: string;
  last: string;
}

export interface Obtained extends Span {
  agent: string;
  connection: string;
  provider: string;
  enforcement: string;
  credential_type: string;
  scopes: string[];
}

export interface SystemTouched extends Span {
  agent: string;
  connection: string;
  methods: Record<string, number>;
  /** By class (`2xx`); `none` where no answer came. */
  statuses: Record<string, number>;
  /** Of request bodies, from the agent to the upstream. */
  bytes_sent: number;
  /** Of answers, from the upstream to the agent. */
  bytes_received: number;
}

export interface PathTouched extends Span {
  connection: string;
  method: string;
  /** Identifiers in it are `*`; what came when the list was full is counted under shorter ones, ending in `**`. */
  path: string;
}

export interface RefusedAttempts extends Span {
  agent: string;
  connection: string;
  type: string;
  code: string;
}

export const firstTimeKinds = ['connection', 'scope', 'method', 'path', 'hour', 'address'] as const;
export type FirstTimeKind = (typeof firstTimeKinds)[number];

/** Something this agent had never done before the window, as far as its history was looked at. */
export interface FirstTime extends Span {
  agent: string;
  kind: FirstTimeKind;
  what: string;
}

export interface ReportRevocation {
  id: string;
  fence: number;
  fenced_at: string;
  reason: string;
  /** Null until they are counted. */
  grants: number | null;
  upstream: { pending: number; revoked: number; unrevocable: number };
  completed_at: string | null;
  /** Where its receipt is fetched. */
  receipt: string;
  rotations: { connection: string; rotation: string | null; by_hand: string | null }[];
}

export interface IncidentReport {
  incident: {
    id: string;
    title: string;
    severity: IncidentSeverity;
    status: IncidentStatus;
    drill: boolean;
    selector: Record<string, unknown>;
    window: { from: string; to: string | null };
    reason: string;
    opened_by: string;
    opened_at: string;
    contained_at: string | null;
    recovered_at: string | null;
    closed_at: string | null;
  };
  made_at: string;
  read: {
    /** The audit log had so many entries when this was made. */
    log_size: number;
    /** Entries of the window that were looked at, and how many of them it is about. */
    entries: number;
    matched: number;
    /** The window was longer than one report takes: what came after this is not in it. Null: all of it is. */
    cut_at: string | null;
    history: {
      from: string;
      entries: number;
      /** Whether all of it was looked at; otherwise only its newest part was. */
      whole: boolean;
    };
  };
  obtained: { grants: number; renewals: number; agent_tokens: number; by_connection: Short<Obtained> };
  did: {
    calls: number;
    bytes_sent: number;
    bytes_received: number;
    systems: Short<SystemTouched>;
    paths: Short<PathTouched>;
  };
  refused: { count: number; attempts: Short<RefusedAttempts> };
  /** People it acted for. */
  people: Short<Span & { subject: string }>;
  /** Of approvals asked for and given: this version has none. */
  approvals: never[];
  first_time: Short<FirstTime>;
  /** Credentials that match and are alive at this moment. */
  live_now: { grants: number; upstream: number };
  contained: {
    revocations: ReportRevocation[];
    freezes: { id: string; standing: boolean; created_at: string; lifted_at: string | null }[];
    suspended: string[];
    resumed: string[];
    rotations: { connection: string; rotation: string }[];
  };
  items: Pick<IncidentItem, 'number' | 'kind' | 'text' | 'assigned_to' | 'status' | 'note' | 'closed_by'>[];
  /** What recovering changed. */
  changes: EntitlementChange[];
}
