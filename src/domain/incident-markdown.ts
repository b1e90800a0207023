/** The report of an incident in Markdown (CommonMark with GitHub's tables). */
import type { IncidentReport } from './incident-report.ts';
import { reportDocument, type Table } from './incident-sections.ts';
import { visibleLine } from './visible-line.ts';

/**
 * A text as it is, in a code span: nothing in one is markup, a link or HTML (CommonMark section 6.1). Only a pipe ends a
 * cell even there (GFM section 4.10), and only in a table its backslash is taken away again.
 */
const span = (text: string, inTable: boolean): string => {
  const line = visibleLine(text);
  if (line === '') return '';
  const runs = [...line.matchAll(/`+/g)].map(([run]) => run.length);
  const fence = '`'.repeat(Math.max(0, ...runs) + 1);
  // A backtick at an end would join the fence; a space at both ends is taken away by who reads.
  const padded = /^[` ]|[` ]$/.test(line) ? ` ${line} ` : line;
  return `${fence}${inTable ? padded.replaceAll('|', '\\|') : padded}${fence}`;
};

const cell = (text: string): string => span(text, true) || '–';

const tableText = ({ head, rows, note }: Table): string[] =>
  rows.length === 0
    ? ['None.', '']
    : [
        `| ${head.join(' | ')} |`,
        `|${' --- |'.repeat(head.length)}`,
        ...rows.map((row) => `| ${row.map(cell).join(' | ')} |`),
        '',
        ...(note === undefined ? [] : [note, '']),
      ];

export const reportMarkdown = (report: IncidentReport): string => {
  const { title, sections } = reportDocument(report);
  const lines = [`# Incident: ${span(title, false) || '–'}`, ''];
  for (const section of sections) {
    lines.push(`## ${section.title}`, '');
    for (const sentence of section.text ?? []) lines.push(sentence, '');
    for (const [name, value] of section.pairs ?? []) lines.push(`- ${name}: ${span(value, false) || '–'}`);
    if (section.pairs) lines.push('');
    if (section.table) lines.push(...tableText(section.table));
  }
  return `${lines.join('\n').trimEnd()}\n`;
};
