/** What is asked of the ledger about freezes and incidents. */
import type { Freeze, Incident, IncidentItem, IncidentStatus } from '../../domain/incident.ts';
import type { Grant } from '../../domain/model.ts';

export interface IncidentReader {
  freeze(id: string): Promise<Freeze | undefined>;
  /** Newest first. @param filter.standing only those that stand, or only those that were lifted */
  freezes(
    filter: { standing?: boolean | undefined; incident_id?: string | undefined },
    page: { before?: string | undefined; limit: number },
  ): Promise<Freeze[]>;
  incident(id: string): Promise<Incident | undefined>;
  /** Newest first. */
  incidents(
    filter: { status?: IncidentStatus | undefined },
    page: { before?: string | undefined; limit: number },
  ): Promise<Incident[]>;
  /** The check list, in its order. */
  incidentItems(incidentId: string): Promise<IncidentItem[]>;
  /** Grants that these revocations killed and that could not be ended upstream, or end there by themselves later. */
  grantsLeftUpstream(revocationIds: string[], limit: number): Promise<Grant[]>;
  /** Entries of these types, in order, from `from` up to but not including `to`. No type of every day. */
  auditOfTypes(types: string[], from: number, to: number, limit: number): Promise<{ seq: number; body: string }[]>;
}
