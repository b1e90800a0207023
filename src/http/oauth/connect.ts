/**
 * The pages a person meets who connects an account: the link (`/connect/…`) and the redirect URI (`/oauth/callback`).
 *
 * Looking at the link changes nothing, as programs that preview links do so; the button opens it. The page says whose
 * account will be used by whom: whoever was sent a link by somebody else sees what it is for before consenting.
 */
import { type Request, type RequestHandler, type Response, Router } from 'express';
import { Refused, refusalStatus } from '../../domain/refusals.ts';
import { callbackPath, consentMs, offeredFlow, openLink } from '../../services/accounts/connect-flow.ts';
import { finishFlow, recordRefusal } from '../../services/accounts/finish-flow.ts';
import { commit, record } from '../../services/core.ts';
import { addressOf, anonymous, type Edge, requestId } from '../edge.ts';
import { refusalOf } from '../problem.ts';

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (found) => escapes[found] ?? found);

/** Of these words nothing is a caller's own: names and details are checked ones, escaped all the same. */
const sendPage = (res: Response, status: number, title: string, lines: readonly string[], form = ''): void => {
  const body = lines.map((line) => `<p>${escapeHtml(line)}</p>`).join('\n');
  const text = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${escapeHtml(title)}</title></head><body>
<h1>${escapeHtml(title)}</h1>
${body}
${form}</body></html>
`;
  res.status(status);
  res.setHeader('Cache-Control', 'no-store');
  res.setHeader('Content-Type', 'text/html; charset=utf-8');
  res.setHeader('Content-Length', Buffer.byteLength(text));
  res.end(text);
};

/**
 * One cookie a flow, so that two in one browser do not disturb each other. `__Host-` (RFC 6265bis section 4.1.3.2): no
 * other host of the domain can set it; browsers take it over https only.
 */
const cookieName = (issuer: string, flowId: string): string =>
  `${issuer.startsWith('https:') ? '__Host-' : ''}warder-${flowId}`;

/** Lax: the answer comes by a link from the authorization server's page. */
const setCookie = (res: Response, issuer: string, flowId: string, value: string, maxAgeSeconds: number): void => {
  const secure = issuer.startsWith('https:') ? '; Secure' : '';
  res.setHeader(
    'Set-Cookie',
    `${cookieName(issuer, flowId)}=${value}; Path=/; Max-Age=${maxAgeSeconds}; HttpOnly; SameSite=Lax${secure}`,
  );
};

const cookieCalled = (req: Request, name: string): string | undefined =>
  req.headers.cookie
    ?.split(';')
    .map((pair) => pair.trim())
    .find((pair) => pair.startsWith(`${name}=`))
    ?.slice(name.length + 1);

/**
 * A link, a state: what does not stand for anything is a stranger's guess, counted before it is recorded.
 * @returns what to answer: what was thrown, or why it could not be recorded
 */
const recordedStranger = async (edge: Edge, req: Request, thrown: unknown): Promise<unknown> => {
  if (refusalOf(thrown).code !== 'not_found') return thrown;
  try {
    await edge.limits.failed(addressOf(req));
    // Looking at a link that is none changes nothing.
    if (req.method !== 'GET' || req.path === callbackPath) await recordStranger(edge, req);
    return thrown;
  } catch (error) {
    return error;
  }
};

const recordStranger = async (edge: Edge, req: Request): Promise<void> => {
  await commit(edge.core, {
    writes: [],
    audit: [
      record(edge.core, anonymous(req), {
        type: 'authorization.refused',
        outcome: 'refused',
        data: { why: 'unknown_flow' },
      }),
    ],
  });
};

/** Errors as pages: a person reads them. */
const pages =
  (edge: Edge, handle: (req: Request, res: Response) => Promise<void>): RequestHandler =>
  async (req: Request, res: Response) => {
    try {
      await handle(req, res);
    } catch (thrown) {
      const error = await recordedStranger(edge, req, thrown);
      const refusal = refusalOf(error);
      if (refusal.retryAfterSeconds !== undefined) res.setHeader('Retry-After', String(refusal.retryAfterSeconds));
      if (refusalStatus[refusal.code] >= 500) {
        edge.core.log.error({ err: error, request_id: requestId(req), code: refusal.code }, 'a request failed');
      }
      res.setHeader('Warder-Error', refusal.code);
      sendPage(res, refusalStatus[refusal.code], 'This account was not connected', [
        `${refusal.detail}.`,
        `Request ${requestId(req)}.`,
      ]);
    }
  };

const linkOf = (req: Request): string => String(req.params['token'] ?? '');

/**
 * Whether a request was sent by a page of Warder's own, as far as browsers tell (Fetch, section 3.2; Fetch Metadata,
 * section 2.2): they send `Origin` with every POST. Another site that sends the form would spare the person the page that
 * says whose account will be used by whom, and a server that knows him may ask nothing.
 */
const isFromHere = (req: Request, issuer: string): boolean => {
  const { origin } = req.headers;
  const site = req.headers['sec-fetch-site'];
  return (origin === undefined || origin === new URL(issuer).origin) && (site === undefined || site === 'same-origin');
};

const showLink = (edge: Edge) => async (req: Request, res: Response) => {
  const { flow, connection, host } = await offeredFlow(edge.core, linkOf(req));
  const whose = flow.subject === null ? 'everybody whom its operators allow' : `agents that act for ${flow.subject}`;
  // With `no-referrer` browsers would say `Origin: null` when the button is used.
  res.setHeader('Referrer-Policy', 'same-origin');
  sendPage(
    res,
    200,
    `Connect an account to ${connection.name}`,
    [
      `You will be asked by ${host} to let Warder use an account of yours there.`,
      `It will be used through the connection ${connection.name}, by ${whose}.`,
      'If nobody told you to expect this, close this page.',
    ],
    '<form method="post"><button type="submit">Go on</button></form>\n',
  );
};

const openTheLink = (edge: Edge) => async (req: Request, res: Response) => {
  if (!isFromHere(req, edge.core.issuer)) {
    const { flow } = await offeredFlow(edge.core, linkOf(req));
    await recordRefusal(edge.core, flow, anonymous(req), 'another_site');
    throw new Refused('forbidden', 'this was sent by another site; open the link, and use the button there');
  }
  const { flow, url, cookie } = await openLink(edge.core, linkOf(req), anonymous(req));
  setCookie(res, edge.core.issuer, flow.id, cookie, consentMs / 1000);
  res.setHeader('Cache-Control', 'no-store');
  // 303: a GET there, whatever brought the browser here (RFC 9110 section 15.4.4).
  res.status(303).setHeader('Location', url).end();
};

const answered = (edge: Edge) => async (req: Request, res: Response) => {
  const { core } = edge;
  const from = req.url.indexOf('?');
  const answer = new URLSearchParams(from < 0 ? '' : req.url.slice(from));
  let flowId: string | undefined;
  const cookieOf = (id: string): string | undefined => {
    flowId = id;
    return cookieCalled(req, cookieName(core.issuer, id));
  };
  const { connection, authorization } = await finishFlow(core, answer, cookieOf, anonymous(req));
  if (flowId !== undefined) setCookie(res, core.issuer, flowId, '', 0);
  const whose = authorization.account === null ? 'The account' : `The account ${authorization.account}`;
  sendPage(res, 200, 'Connected', [`${whose} is connected to ${connection.name}.`, 'You can close this page.']);
};

export const connectPages = (edge: Edge): Router => {
  const router = Router({ caseSensitive: true, strict: true });
  router.get('/connect/:token', pages(edge, showLink(edge)));
  router.post('/connect/:token', pages(edge, openTheLink(edge)));
  router.get(callbackPath, pages(edge, answered(edge)));
  return router;
};
