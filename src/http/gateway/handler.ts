/** The gateway: any method of `/gateway/<connection>/<path>`, the secret put in, the answer streamed back. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Request, RequestHandler, Response } from 'express';
import { parseGatewayTarget } from '../../domain/gateway-path.ts';
import { holdsWarderToken } from '../../domain/gateway-query.ts';
import { Refused } from '../../domain/refusals.ts';
import type { CallRequest, RefusedRequest } from '../../services/gateway/gateway-calls.ts';
import { presentedToken } from '../access-token.ts';
import { challenge } from '../bearer.ts';
import { addressOf, type Edge, requestId } from '../edge.ts';
import { Forwarding } from './forwarding.ts';
import { framingFault } from './framing.ts';

/** What was asked, or why that cannot be told. */
type Asked =
  | { ok: true; request: Omit<CallRequest, 'token' | 'scheme' | 'proof'> }
  /** `ends`: the connection must end with it. */
  | { ok: false; why: string; refused: Refused; ends?: true };

const asked = (req: Request): Asked => {
  const fault = framingFault(req);
  if (fault !== undefined) {
    const refused = new Refused('invalid_request', `this request is ambiguous (${fault})`);
    return { ok: false, why: fault, refused, ends: true };
  }
  const target = parseGatewayTarget(req.originalUrl);
  if (!target.ok && target.why === 'not_gateway') {
    // The resource itself, as a client of RFC 9728 asks for it: it learns where to get a token.
    return { ok: false, why: target.why, refused: new Refused('unauthenticated', 'name a connection and a path') };
  }
  if (!target.ok) {
    const detail = `this path could be read in more than one way (${target.why}); it is not sent`;
    return { ok: false, why: target.why, refused: new Refused('invalid_request', detail) };
  }
  const { connection, path, query } = target;
  // It would stand in the upstream's log, and in the audit log for ever.
  if (holdsWarderToken(path) || holdsWarderToken(query)) {
    const refused = new Refused('invalid_request', 'a token of Warder belongs into the Authorization header only');
    return { ok: false, why: 'token_in_target', refused };
  }
  return { ok: true, request: { connection, method: req.method, path, query } };
};

const nothingPresented = { token: undefined, scheme: undefined, proof: undefined };

/** Of a header that is not an access token nothing can be known. */
const tokenOrNothing = (req: Request): string | undefined => {
  try {
    return presentedToken(req)?.token;
  } catch {
    return undefined;
  }
};

/** Records a refusal and says what would help. @throws Refused `rate_limited`, `ledger_unavailable` */
const refuse = async (edge: Edge, req: Request, res: Response, asked: RefusedRequest, error: Refused) => {
  if (error.refusal.code === 'ledger_unavailable') return;
  const holder = await edge.calls.holderOf(tokenOrNothing(req));
  // A stranger's guesses are limited before they are recorded, or he could fill the ledger. Whoever has a token that is
  // bound to a key, and not the key, is one.
  if (!holder || error.refusal.code === 'invalid_dpop_proof') await edge.limits.failed(addressOf(req));
  await edge.calls.recordRefusal(holder, asked, { requestId: requestId(req), address: addressOf(req) }, error);
  challenge(req, res, edge.core.issuer, '/gateway', error);
};

const open = async (edge: Edge, req: Request, res: Response): Promise<Forwarding> => {
  const what = asked(req);
  // Where framing was in doubt, what follows may be anything (RFC 9112 section 6.3).
  if (!what.ok && what.ends) res.setHeader('Connection', 'close');
  try {
    if (!what.ok) throw what.refused;
    const { token, scheme, proof } = presentedToken(req) ?? nothingPresented;
    const request: CallRequest = { token, scheme, proof, ...what.request };
    const call = await edge.calls.open(request, { requestId: requestId(req), address: addressOf(req) });
    return new Forwarding(edge, req, res, call, request);
  } catch (error) {
    if (error instanceof Refused) {
      await refuse(edge, req, res, what.ok ? what.request : { method: req.method, why: what.why }, error);
    }
    throw error;
  }
};

/** The newest response of each connection, to which later ones queue up. */
const newest = new WeakMap<Socket, Response>();

/**
 * Waits for its turn behind requests sent before it over the same connection: what may change something must not run
 * beside another (RFC 9112 section 9.3.2).
 * @returns whether there is still somebody to answer
 */
const turn = async (req: Request, res: Response): Promise<boolean> => {
  const { socket } = req;
  const before = newest.get(socket);
  newest.set(socket, res);
  if (before !== undefined && !before.closed) await once(before, 'close');
  // The answer before may have been the last one.
  return socket.writable;
};

export const gatewayHandler =
  (edge: Edge): RequestHandler =>
  async (req, res) => {
    if (!(await turn(req, res))) return;
    const forwarding = await open(edge, req, res);
    forwarding.start();
  };
