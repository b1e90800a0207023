/** Taking away what a drill made: at its end, when it breaks off, and what one that was killed left behind. */
import { type Api, segment } from '../api.ts';
import { Failure } from '../failure.ts';
import type { Fields } from '../fields.ts';
import { type Drill, drillAudience, drillOwner, drillPrefix } from './steps.ts';

/** Closes an incident of a drill, and before that lifts what stands of it and waives what is open. Nobody is resumed. */
const endIncident = async (api: Api, id: string): Promise<void> => {
  const path = `incidents/${segment(id)}`;
  const { fields } = await api.call('GET', path);
  const status = fields.text('status');
  if (status === 'closed') return;
  if (status !== 'open') {
    await api.call('POST', `${path}/recover`, { body: { reason: 'a drill that broke off', resume: false } });
  }
  for (const item of fields.items('items').filter((one) => one.text('status') === 'open')) {
    const body = { status: 'waived', note: 'a drill that broke off' };
    await api.call('PATCH', `${path}/items/${segment(item.text('number'))}`, { body });
  }
  await api.call('POST', `${path}/close`, { body: { summary: 'a drill that broke off' } });
};

/** @returns what could not be removed, and why; somebody has to */
const removeAll = async (api: Api, incidents: readonly string[], paths: readonly string[]): Promise<string[]> => {
  const left: string[] = [];
  const attempt = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      left.push(`${what} (${error.lines[0] ?? ''})`);
    }
  };
  for (const id of incidents) await attempt(`incident ${id}`, () => endIncident(api, id));
  for (const path of paths) await attempt(path, () => api.call('DELETE', path));
  return left;
};

/** Entitlements go with their agent. */
export const removeScratch = ({ api, incident, made }: Drill, keep: boolean): Promise<string[]> =>
  removeAll(api, incident === '' ? [] : [incident], keep ? [] : made);

const allOf = async (api: Api, path: string, query: Record<string, string> = {}): Promise<Fields[]> => {
  const found: Fields[] = [];
  for (let cursor: string | undefined; ; ) {
    const { fields } = await api.call('GET', path, { query: { ...query, limit: 500, cursor } });
    found.push(...fields.items('items'));
    cursor = fields.maybe('next_cursor');
    if (cursor === undefined) return found;
  }
};

/** What drills left: of those that were killed, that could not clean up, or that were told to keep it. */
export interface Leftovers {
  incidents: string[];
  /** Agents and connections, below `/admin/v1/`. */
  paths: string[];
}

export const findLeftovers = async (api: Api): Promise<Leftovers> => {
  const isDrills = (item: Fields): boolean => item.text('name').startsWith(drillPrefix);
  const agents = (await allOf(api, 'agents')).filter((one) => isDrills(one) && one.text('owner') === drillOwner);
  const connections = (await allOf(api, 'connections')).filter(
    (one) => isDrills(one) && one.within('settings').text('audience') === drillAudience,
  );
  const incidents: Fields[] = [];
  for (const status of ['open', 'contained', 'remediating', 'recovered']) {
    const found = await allOf(api, 'incidents', { status });
    incidents.push(...found.filter((one) => one.flag('drill') && one.text('title').startsWith(`Drill ${drillPrefix}`)));
  }
  return {
    incidents: incidents.map((one) => one.text('id')),
    paths: [
      ...agents.map((one) => `agents/${segment(one.text('name'))}`),
      ...connections.map((one) => `connections/${segment(one.text('name'))}`),
    ],
  };
};

export const removeLeftovers = (api: Api, { incidents, paths }: Leftovers): Promise<string[]> =>
  removeAll(api, incidents, paths);
