/** The report of an incident as one HTML page: nothing is loaded, nothing runs, and it prints. */
import type { IncidentReport } from './incident-report.ts';
import { reportDocument, type Table } from './incident-sections.ts';
import { visibleLine } from './visible-line.ts';

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** @returns the text for an element or a quoted attribute */
const escaped = (text: string): string => visibleLine(text).replaceAll(/[&<>"']/g, (found) => entities[found] ?? '');

const style = `
:root { color-scheme: light; }
body { font: 14px/1.45 system-ui, sans-serif; color: #1c1e21; background: #fff; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 1.8rem 0 .4rem; border-bottom: 1px solid #d5d8dc; padding-bottom: .2rem; }
p { margin: .3rem 0; }
.tag { display: inline-block; padding: .1rem .5rem; border-radius: .6rem; background: #e6e9ed; font-size: .85rem; }
.critical, .high { background: #fbdcdc; } .medium { background: #fdf0d0; } .low { background: #dff2e1; }
dl { display: grid; grid-template-columns: 9rem 1fr; gap: .15rem 1rem; margin: .5rem 0; }
dt { color: #5b626b; } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; font-size: .88rem; }
th { text-align: left; color: #5b626b; font-weight: 600; border-bottom: 2px solid #d5d8dc; }
th, td { padding: .25rem .5rem .25rem 0; vertical-align: top; }
td { border-bottom: 1px solid #eceef0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.note, .none { color: #5b626b; font-size: .88rem; }
@media print { body { margin: 0; max-width: none; font-size: 10px; } thead { display: table-header-group; } tr { break-inside: avoid; } h2 { break-after: avoid; } }
`;

const tableHtml = ({ head, rows, note }: Table): string =>
  rows.length === 0
    ? '<p class="none">None.</p>'
    : [
        '<table><thead><tr>',
        ...head.map((name) => `<th>${escaped(name)}</th>`),
        '</tr></thead><tbody>',
        ...rows.map((row) => `<tr>${row.map((one) => `<td>${escaped(one) || '–'}</td>`).join('')}</tr>`),
        '</tbody></table>',
        note === undefined ? '' : `<p class="note">${escaped(note)}</p>`,
      ].join('');

export const reportHtml = (report: IncidentReport): string => {
  const { title, sections } = reportDocument(report);
  const { severity, status, drill } = report.incident;
  const tags = [severity, status, ...(drill ? ['drill'] : [])];
  const body = sections.map((section) =>
    [
      `<section><h2>${escaped(section.title)}</h2>`,
      ...(section.text ?? []).map((sentence) => `<p>${escaped(sentence)}</p>`),
      section.pairs
        ? `<dl>${section.pairs.map(([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(value)}</dd>`).join('')}</dl>`
        : '',
      section.table ? tableHtml(section.table) : '',
      '</section>',
    ].join(''),
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">
<title>Incident: ${escaped(title)}</title><style>${style}</style></head><body>
<h1>${escaped(title)}</h1>
<p>${tags.map((tag) => `<span class="tag ${escaped(tag)}">${escaped(tag)}</span>`).join(' ')}</p>
${body.join('\n')}
</body></html>
`;
};
