import { describe, expect, test } from '@jest/globals';
import { reportHtml } from '../../../src/domain/incident-html.ts';
import { reportMarkdown } from '../../../src/domain/incident-markdown.ts';
import type { IncidentReport } from '../../../src/domain/incident-report.ts';

/** What an agent, a person or an upstream could choose to be called. */
const hostile = [
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(1)>',
  '" onmouseover="alert(1)',
  "' onfocus='alert(1)",
  '</style></table><h1>All is well',
  '| a | b |',
  '`code` and ``more``',
  '`',
  '\\|',
  'line\nbreak\r\n\n## Another section',
  '[click](javascript:alert(1)) ![x](http://evil.example/x.png)',
  'http://evil.example/ www.evil.example',
  '\u001b[31mred\u0007\u0000',
  '\u202eesrever\u200b\u2066',
  '&lt;b&gt; &amp;',
  '*bold* _it_ ~~no~~ $x$',
  '=1+1',
  '<!-- -->',
  '{{7*7}}',
  '',
];
const time = '2026-11-22T10:00:00.000Z';
const span = { count: 3, first: time, last: time };

/** A report in which every text that somebody else chose is this one. */
const reportOf = (text: string): IncidentReport => ({
  incident: {
    id: 'inc_1',
    title: text,
    severity: 'high',
    status: 'contained',
    drill: false,
    selector: { agent: text, subject: text },
    window: { from: time, to: null },
    reason: text,
    opened_by: text,
    opened_at: time,
    contained_at: time,
    recovered_at: null,
    closed_at: null,
  },
  made_at: time,
  read: { log_size: 10, entries: 5, matched: 4, cut_at: null, history: { from: time, entries: 0, whole: false } },
  obtained: {
    grants: 3,
    renewals: 0,
    agent_tokens: 1,
    by_connection: {
      items: [
        {
          ...span,
          agent: text,
          connection: text,
          provider: text,
          enforcement: text,
          credential_type: text,
          scopes: [text, text],
        },
      ],
      more: 2,
    },
  },
  did: {
    calls: 3,
    bytes_sent: 1,
    bytes_received: 1_234_567,
    systems: {
      items: [
        {
          ...span,
          agent: text,
          connection: text,
          methods: { [text]: 3 },
          statuses: { '2xx': 3 },
          bytes_sent: 1,
          bytes_received: 2,
        },
      ],
      more: 0,
    },
    paths: { items: [{ ...span, connection: text, method: text, path: text }], more: 0 },
  },
  refused: {
    count: 3,
    attempts: { items: [{ ...span, agent: text, connection: text, type: text, code: text }], more: 0 },
  },
  people: { items: [{ ...span, subject: text }], more: 0 },
  approvals: [],
  first_time: { items: [{ ...span, agent: text, kind: 'path', what: text }], more: 0 },
  live_now: { grants: 0, upstream: 0 },
  contained: {
    revocations: [
      {
        id: 'rev_1',
        fence: 7,
        fenced_at: time,
        reason: text,
        grants: null,
        upstream: { pending: 1, revoked: 0, unrevocable: 0 },
        completed_at: null,
        receipt: '/admin/v1/revocations/rev_1/receipt',
        rotations: [{ connection: text, rotation: null, by_hand: text }],
      },
    ],
    freezes: [{ id: 'frz_1', standing: true, created_at: time, lifted_at: null }],
    suspended: [text],
    resumed: [],
    rotations: [{ connection: text, rotation: text }],
  },
  items: [{ number: 1, kind: 'tell', text, assigned_to: text, status: 'done', note: text, closed_by: text }],
  changes: [
    {
      entitlement: text,
      agent: text,
      connection: text,
      before: { scopes: [text], max_ttl_seconds: 60, approval: 'none', expires_at: null },
      after: null,
    },
  ],
});
const plain = reportOf('reporter');

/** Everything that cannot be seen, but for the line ends of the format itself. */
const unseen = /[\p{Cf}\p{Zl}\p{Zp}\p{Cs}]|(?!\n)\p{Cc}/u;

/** Markdown without its code spans: what a reader would take for markup. */
const outsideSpans = (markdown: string): string => markdown.replaceAll(/(?<!`)(`+)(?!`)[\s\S]*?(?<!`)\1(?!`)/g, 'S');

describe('the report in Markdown', () => {
  test.each(hostile)('holds %j as text: the same lines, sections and cells as with a plain name', (text) => {
    const [ours, theirs] = [reportMarkdown(reportOf(text)), reportMarkdown(plain)];
    const shape = (markdown: string): string[] =>
      outsideSpans(markdown)
        .split('\n')
        .map((line) => line.replaceAll(/\bS\b|–/g, 'S'));
    // Each foreign text is one span, whatever is in it; an empty one is a dash.
    expect(shape(ours)).toEqual(shape(theirs));
    expect(ours).not.toMatch(unseen);
  });

  test('has the pipes of a cell escaped, and of nothing else', () => {
    const markdown = reportMarkdown(reportOf('a|b'));
    expect(markdown).toContain('# Incident: `a|b`');
    expect(markdown).toContain('| `a\\|b` |');
  });

  test('says what is left out of a list', () => {
    expect(reportMarkdown(plain)).toContain('2 more came when the list was full, and are in the sums only.');
  });
});

describe('the report in HTML', () => {
  const allowed = new Set(
    'html head meta title style body h1 h2 p span section dl dt dd table thead tbody tr th td'.split(' '),
  );

  test.each(hostile)('holds %j as text: the same tags and attributes as with a plain name', (text) => {
    const [ours, theirs] = [reportHtml(reportOf(text)), reportHtml(plain)];
    const tags = (html: string): string[] => html.match(/<[^>]*>/g) ?? [];
    expect(tags(ours)).toEqual(tags(theirs));
    for (const tag of tags(ours).slice(1)) expect(allowed).toContain(/^<\/?([a-z0-9]+)/.exec(tag)?.[1]);
    expect(ours).not.toMatch(unseen);
    expect(ours).not.toMatch(/<script|javascript:[^<]*["']|<[^>]+\son\w+=/i);
  });

  test('loads nothing and runs nothing', () => {
    const html = reportHtml(plain);
    expect(html).toContain("default-src 'none'; style-src 'unsafe-inline'");
    expect(html).not.toMatch(/\b(src|href)=|url\(|@import/);
  });
});
