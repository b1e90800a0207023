/** The report of an incident: what was obtained and done in its window, what was done about it, what is left. */
import type { Incident } from '../../domain/incident.ts';
import type { IncidentReport, ReportRevocation } from '../../domain/incident-report.ts';
import type { Revocation } from '../../domain/model.ts';
import type { Core } from '../core.ts';
import { ownedBy } from '../revocation/revoke.ts';
import { readActivity } from './activity.ts';
import { readHabits } from './first-time.ts';
import { incidentCalled } from './incidents.ts';

const iso = (ms: number): string => new Date(ms).toISOString();
const isoOrNull = (ms: number | null): string | null => (ms === null ? null : iso(ms));

/**
 * Reads the log of the window and of the time before it. Takes seconds for a million entries; nobody waits for it but
 * who asked.
 * @param shownSelector the selector with names instead of ids
 * @throws Refused `not_found`, or the signal's reason when it is aborted
 */
export const makeReport = async (
  core: Core,
  id: string,
  shownSelector: (incident: Incident) => Record<string, unknown>,
  signal?: AbortSignal,
): Promise<IncidentReport> => {
  const incident = await incidentCalled(core, id);
  const { size } = await core.reader.treeHead();
  const habits = await readHabits(core, incident, signal);
  const {
    entries,
    matched,
    cutAt,
    reached: _reached,
    used: _used,
    ...activity
  } = await readActivity(core, incident, habits, size, signal);
  const [live, contained, items] = await Promise.all([
    liveNow(core, incident),
    containedBy(core, incident),
    core.reader.incidentItems(id),
  ]);
  return {
    incident: {
      id: incident.id,
      title: incident.title,
      severity: incident.severity,
      status: incident.status,
      drill: incident.drill,
      selector: shownSelector(incident),
      window: { from: iso(incident.window_from), to: isoOrNull(incident.window_to) },
      reason: incident.reason,
      opened_by: incident.opened_by,
      opened_at: iso(incident.created_at),
      contained_at: isoOrNull(incident.contained_at),
      recovered_at: isoOrNull(incident.recovered_at),
      closed_at: isoOrNull(incident.closed_at),
    },
    made_at: iso(core.clock.now()),
    read: { log_size: size, entries, matched, cut_at: isoOrNull(cutAt), history: habits.read },
    ...activity,
    approvals: [],
    live_now: live,
    contained,
    items: items.map(({ number, kind, text, assigned_to, status, note, closed_by }) => ({
      number,
      kind,
      text,
      assigned_to,
      status,
      note,
      closed_by,
    })),
    changes: incident.changes,
  };
};

const liveNow = async (core: Core, { selector }: Incident): Promise<IncidentReport['live_now']> => {
  const owned = ownedBy(core, selector);
  const { total, upstream } = await core.reader.countLiveGrants(selector, core.clock.now(), owned, null);
  return { grants: total, upstream };
};

const containedBy = async (core: Core, incident: Incident): Promise<IncidentReport['contained']> => {
  const { measures } = incident;
  const revocations = await Promise.all(
    measures.revocations.map(async (id) => {
      const row = await core.reader.revocation(id);
      return row ? [await revocationView(core, row)] : [];
    }),
  );
  const freezes = await core.reader.freezes({ incident_id: incident.id }, { limit: 100 });
  return {
    revocations: revocations.flat(),
    freezes: freezes.reverse().map((freeze) => ({
      id: freeze.id,
      standing: freeze.lifted_at === null,
      created_at: iso(freeze.created_at),
      lifted_at: isoOrNull(freeze.lifted_at),
    })),
    suspended: [...new Set(measures.suspended.map((agent) => agent.name))],
    resumed: [...new Set(measures.resumed.map((agent) => agent.name))],
    rotations: measures.rotations,
  };
};

const revocationView = async (core: Core, row: Revocation): Promise<ReportRevocation> => {
  // Until it is complete its row has the counts of the beginning; what the drain has done is counted from the grants.
  const progress = row.completed_at === null ? await core.reader.upstreamProgress(row.id) : undefined;
  const revoked = progress?.revoked ?? row.upstream_revoked;
  const unrevocable = progress?.unrevocable ?? row.upstream_unrevocable;
  return {
    id: row.id,
    fence: row.seq,
    fenced_at: iso(row.created_at),
    reason: row.reason,
    grants: row.grants,
    upstream: {
      pending: progress
        ? Math.max(progress.livesOn, row.upstream_pending - progress.revoked - progress.unrevocable)
        : row.upstream_pending,
      revoked,
      unrevocable,
    },
    completed_at: isoOrNull(row.completed_at),
    receipt: `/admin/v1/revocations/${row.id}/receipt`,
    rotations: (row.rotations ?? []).map((one) => ({
      connection: one.connection.name,
      rotation: 'rotation' in one ? one.rotation : null,
      by_hand: 'by_hand' in one ? one.by_hand : null,
    })),
  };
};
