/**
 * The report of an incident as sections of sentences, pairs and tables: what Markdown and HTML write out alike. Every
 * text in it is plain: names, paths and reasons are what agents and strangers made them, and are escaped by who writes.
 */
import type { IncidentReport, Short } from './incident-report.ts';

export interface Table {
  head: string[];
  rows: string[][];
  /** What is said below it. */
  note?: string;
}

export interface Section {
  title: string;
  /** Sentences of Warder's own. */
  text?: string[];
  pairs?: [string, string][];
  table?: Table;
}

export interface ReportDocument {
  title: string;
  sections: Section[];
}

/** Tables for people stop here; the JSON has all. */
const shownRows = 60;

const count = (value: number): string => String(value).replaceAll(/\B(?=(?:\d{3})+$)/g, ',');
const bytes = (value: number): string => `${count(value)} B`;
const time = (iso: string): string => iso.replace(/^(\S+)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z$/, '$1 $2Z');
const timeOr = (iso: string | null, otherwise: string): string => (iso === null ? otherwise : time(iso));
const numbers = (of: Record<string, number>): string =>
  Object.entries(of)
    .sort(([, a], [, b]) => b - a)
    .map(([name, value]) => `${name} ${count(value)}`)
    .join(', ');

const table = <T>(head: string[], { items, more }: Short<T>, row: (item: T) => string[]): Table => {
  const hidden = items.length - shownRows;
  const notes = [
    ...(hidden > 0 ? [`${count(hidden)} more kinds are in the JSON report`] : []),
    ...(more > 0 ? [`${count(more)} more came when the list was full, and are in the sums only`] : []),
  ];
  return {
    head,
    rows: items.slice(0, shownRows).map(row),
    ...(notes.length > 0 ? { note: `${notes.join('; ')}.` } : {}),
  };
};

/** `4m 12s` */
const span = (from: string, to: string | null): string => {
  if (to === null) return '';
  const seconds = Math.max(0, Math.round((Date.parse(to) - Date.parse(from)) / 1000));
  return seconds < 60 ? `, after ${seconds}s` : `, after ${Math.floor(seconds / 60)}m ${seconds % 60}s`;
};

const sentences = ({ obtained, did, live_now, read }: IncidentReport): string[] => {
  const connections = new Set(obtained.by_connection.items.map((one) => one.connection)).size;
  return [
    `${count(obtained.grants)} grants were obtained on ${count(connections)} connections, and ${count(did.calls)} calls ` +
      `made through the gateway. ${count(live_now.grants)} matching grants are alive at this moment, ` +
      `${count(live_now.upstream)} of them upstream.`,
    ...(read.cut_at === null
      ? []
      : [`The window is longer than one report takes: what came after ${time(read.cut_at)} is not in it.`]),
  ];
};

const summary = (report: IncidentReport): Section => {
  const { incident, made_at, read } = report;
  const about = Object.entries(incident.selector).map(([field, value]) =>
    value === true ? field : `${field}=${value}`,
  );
  const since = (at: string | null): string => `${timeOr(at, 'not yet')}${span(incident.opened_at, at)}`;
  return {
    title: 'Summary',
    text: sentences(report),
    pairs: [
      ['incident', incident.id],
      ['status', `${incident.status}${incident.drill ? ' (a drill)' : ''}`],
      ['severity', incident.severity],
      ['about', about.join(' ')],
      ['window', `${time(incident.window.from)} to ${timeOr(incident.window.to ?? incident.closed_at, 'now')}`],
      ['reason', incident.reason],
      ['opened', `${time(incident.opened_at)} by ${incident.opened_by}`],
      ['contained', since(incident.contained_at)],
      ['recovered', since(incident.recovered_at)],
      ['closed', since(incident.closed_at)],
      [
        'made',
        `${time(made_at)} from an audit log of ${count(read.log_size)} entries; ${count(read.matched)} of the ` +
          `${count(read.entries)} looked at are about this`,
      ],
    ],
  };
};

const obtained = ({ obtained: all }: IncidentReport): Section => ({
  title: 'What was obtained',
  text: [`${count(all.grants)} grants, ${count(all.renewals)} renewals, ${count(all.agent_tokens)} tokens of agents.`],
  table: table(
    ['agent', 'connection', 'credential', 'enforced by', 'scopes', 'grants', 'first', 'last'],
    all.by_connection,
    (one) => [
      one.agent,
      one.connection,
      `${one.credential_type} (${one.provider})`,
      one.enforcement,
      one.scopes.join(' '),
      count(one.count),
      time(one.first),
      time(one.last),
    ],
  ),
});

const systems = ({ did }: IncidentReport): Section => ({
  title: 'What was done: systems',
  text: [
    `${count(did.calls)} calls through the gateway; ${bytes(did.bytes_sent)} sent, ${bytes(did.bytes_received)} received. ` +
      'What was done with credentials of the systems themselves is in the logs of those systems.',
  ],
  table: table(
    ['agent', 'connection', 'calls', 'methods', 'statuses', 'sent', 'received', 'first', 'last'],
    did.systems,
    (one) => [
      one.agent,
      one.connection,
      count(one.count),
      numbers(one.methods),
      numbers(one.statuses),
      bytes(one.bytes_sent),
      bytes(one.bytes_received),
      time(one.first),
      time(one.last),
    ],
  ),
});

const paths = ({ did }: IncidentReport): Section => ({
  title: 'What was done: paths',
  text: ['An asterisk stands for one identifier, two for the rest of a path. Queries and bodies are not recorded.'],
  table: table(['connection', 'method', 'path', 'calls', 'first', 'last'], did.paths, (one) => [
    one.connection,
    one.method,
    one.path,
    count(one.count),
    time(one.first),
    time(one.last),
  ]),
});

const refused = ({ refused: all }: IncidentReport): Section => ({
  title: 'What was refused',
  text: [`${count(all.count)} attempts.`],
  table: table(['agent', 'connection', 'entry', 'code', 'times', 'first', 'last'], all.attempts, (one) => [
    one.agent,
    one.connection,
    one.type,
    one.code,
    count(one.count),
    time(one.first),
    time(one.last),
  ]),
});

const people = ({ people: all }: IncidentReport): Section => ({
  title: 'People it acted for',
  table: table(['person', 'times', 'first', 'last'], all, (one) => [
    one.subject,
    count(one.count),
    time(one.first),
    time(one.last),
  ]),
});

const firstTimes = ({ first_time, read }: IncidentReport): Section => ({
  title: 'First-time behaviour',
  text: [
    `Held against ${count(read.history.entries)} entries since ${time(read.history.from)}` +
      `${read.history.whole ? '' : ', the newest of a longer history: what is listed may have been done before that'}.` +
      `${read.history.entries === 0 ? ' There is no history: everything is new.' : ''}`,
  ],
  table: table(['first', 'agent', 'new', 'what', 'times'], first_time, (one) => [
    time(one.first),
    one.agent,
    one.kind,
    one.what,
    count(one.count),
  ]),
});

const approvals = (): Section => ({
  title: 'Approvals',
  text: ['None: nothing here is decided by approvals yet.'],
});

const contained = ({ contained: done }: IncidentReport): Section[] => [
  {
    title: 'What was done about it',
    pairs: [
      ['suspended', done.suspended.join(', ') || 'nobody'],
      ['resumed', done.resumed.join(', ') || 'nobody'],
      ['rotations', done.rotations.map((one) => `${one.connection} (${one.rotation})`).join(', ') || 'none'],
      [
        'freezes',
        done.freezes
          .map(
            (one) =>
              `${one.id} since ${time(one.created_at)}${one.standing ? ', stands' : `, lifted ${timeOr(one.lifted_at, '')}`}`,
          )
          .join('; ') || 'none',
      ],
    ],
  },
  {
    title: 'Revocations',
    table: table(
      ['revocation', 'fence', 'fenced', 'grants', 'upstream', 'completed', 'rotations', 'receipt'],
      { items: done.revocations, more: 0 },
      (one) => [
        one.id,
        String(one.fence),
        time(one.fenced_at),
        one.grants === null ? 'being counted' : count(one.grants),
        numbers(one.upstream),
        timeOr(one.completed_at, 'not yet'),
        one.rotations.map((each) => `${each.connection}: ${each.rotation ?? each.by_hand ?? ''}`).join('; '),
        one.receipt,
      ],
    ),
  },
];

const items = (report: IncidentReport): Section => ({
  title: 'Check list',
  text: [
    `${count(report.items.filter((item) => item.status === 'open').length)} of ${count(report.items.length)} are open.`,
  ],
  table: table(['#', 'kind', 'what', 'who', 'status', 'how or why'], { items: report.items, more: 0 }, (item) => [
    String(item.number),
    item.kind,
    item.text,
    item.assigned_to ?? '',
    item.status,
    [item.note, item.closed_by && `(${item.closed_by})`].filter(Boolean).join(' '),
  ]),
});

const limits = (of: IncidentReport['changes'][number]['before'] | null): string =>
  of === null
    ? 'removed'
    : [
        of.scopes.join(' '),
        `${of.max_ttl_seconds} s`,
        ...(of.approval === 'required' ? ['needs approval'] : []),
        ...(of.expires_at === null ? [] : [`until ${time(of.expires_at)}`]),
      ].join(', ');

const changes = (report: IncidentReport): Section => ({
  title: 'What changed',
  text: report.changes.length === 0 ? ['No entitlement was changed in recovering.'] : [],
  table: table(['entitlement', 'agent', 'connection', 'before', 'after'], { items: report.changes, more: 0 }, (one) => [
    one.entitlement,
    one.agent,
    one.connection,
    limits(one.before),
    limits(one.after),
  ]),
});

export const reportDocument = (report: IncidentReport): ReportDocument => ({
  title: report.incident.title,
  sections: [
    summary(report),
    obtained(report),
    systems(report),
    paths(report),
    refused(report),
    people(report),
    firstTimes(report),
    approvals(),
    ...contained(report),
    items(report),
    changes(report),
  ],
});
