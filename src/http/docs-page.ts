/** `/docs`: every route on one plain page, without script, rendered once from the table the routes are made of. */
import { hash } from 'node:crypto';
import type { RequestHandler } from 'express';
import { adminTable } from './admin/router.ts';

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (found) => escapes[found] ?? found);

const style = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ccc;vertical-align:top}
code{font-family:ui-monospace,monospace}`;

/** For agents and for everybody: routes that are not in the operators' table. */
const open: readonly [string, string, string][] = [
  ['GET', '/.well-known/oauth-authorization-server', 'Authorization server metadata (RFC 8414)'],
  ['GET', '/jwks', 'Keys that verify Warder’s JWTs (RFC 7517)'],
  ['POST', '/token', 'Agent token, or with a resource a grant (RFC 6749, RFC 8707)'],
  ['POST', '/introspect', 'Is this token alive? (RFC 7662)'],
  ['POST', '/revoke', 'Give a token back (RFC 7009)'],
  ['GET', '/v1/connections', 'What this agent may ask for'],
  ['POST', '/v1/grants', 'Ask for a grant'],
  ['GET', '/v1/grants/:id', 'Look at a grant'],
  ['POST', '/v1/grants/:id/renew', 'Prolong a grant within its longest life'],
  ['DELETE', '/v1/grants/:id', 'Give a grant back early'],
  ['any', '/gateway/:connection/…', 'A call upstream, with the secret put in'],
  ['GET', '/connect/:link', 'The page on which a person connects an account'],
  ['GET', '/oauth/callback', 'Where authorization servers send the browser back to'],
  ['GET', '/healthz', 'Is the process alive?'],
  ['GET', '/readyz', 'Can it do its work, and if not, why?'],
  ['GET', '/metrics', 'Prometheus metrics (operator token)'],
];

const rows = (routes: readonly (readonly string[])[]): string =>
  routes
    .map(
      ([method = '', path = '', ...rest]) =>
        `<tr><td><code>${escapeHtml(method)}</code></td><td><code>${escapeHtml(path)}</code></td>${rest
          .map((cell) => `<td>${escapeHtml(cell)}</td>`)
          .join('')}</tr>`,
    )
    .join('\n');

const page = (): string => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Warder API</title><style>${style}</style></head><body>
<h1>Warder API</h1>
<p>The whole description, with schemas: <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>
<h2>For agents and services</h2>
<table><tr><th>method</th><th>path</th><th>does</th></tr>
${rows(open)}
</table>
<h2>For operators</h2>
<p>With <code>Authorization: Bearer wdr_op_…</code>, below <code>/admin/v1</code>.</p>
<table><tr><th>method</th><th>path</th><th>does</th><th>roles</th></tr>
${rows(adminTable.map((entry) => [entry.method, entry.path, entry.summary, entry.roles.join(', ')]))}
</table>
</body></html>
`;

export const docsHandler = (): RequestHandler => {
  const text = page();
  // The one style sheet there is, named by its hash: nothing else may be loaded.
  const policy = `default-src 'none'; style-src 'sha256-${hash('sha256', style, 'base64')}'; frame-ancestors 'none'`;
  return (_req, res) => {
    res.setHeader('Content-Security-Policy', policy);
    res.setHeader('Content-Type', 'text/html; charset=utf-8');
    res.end(text);
  };
};
