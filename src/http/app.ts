/** The HTTP edge: one Express application. The order of what stands here is the order of what a request meets. */
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import express, { type Express, type RequestHandler } from 'express';
import helmet from 'helmet';
import { Refused } from '../domain/refusals.ts';
import { newId } from '../services/core.ts';
import { adminRoutes } from './admin/router.ts';
import { agentRoutes } from './agent/routes.ts';
import { addressOf, type Edge, setFacts, startedAt } from './edge.ts';
import { gatewayHandler } from './gateway/handler.ts';
import { connectPages } from './oauth/connect.ts';
import { oauthErrorHandler } from './oauth/errors.ts';
import { oauthRoutes } from './oauth/routes.ts';
import { metricsHandler, opsRoutes } from './ops.ts';
import { errorHandler } from './problem.ts';
import { ssfMetadata, ssfRoutes } from './ssf/routes.ts';
import { sshRoutes } from './ssh.ts';

/** Which room a request belongs to: the label of its metrics, never its path. */
const roomOf = (path: string): string => {
  const first = path.split('/', 2)[1] ?? '';
  return ['v1', 'admin', 'gateway', 'token', 'introspect', 'revoke', 'jwks', 'connect', 'oauth', 'ssf'].includes(first)
    ? `/${first}`
    : 'other';
};

const identify =
  (edge: Edge): RequestHandler =>
  (req, res, next) => {
    const id = newId(edge.core, 'req');
    setFacts(req, { id, startedAt: performance.now() });
    res.setHeader('Request-Id', id);
    const room = roomOf(req.path);
    res.once('finish', () => {
      const ms = performance.now() - startedAt(req);
      edge.metrics.request(room, res.statusCode, ms / 1000);
      edge.core.log.debug({ request_id: id, method: req.method, room, status: res.statusCode, ms }, 'request');
    });
    edge.limits.admit(addressOf(req)).then(() => next(), next);
  };

/**
 * An API serves no pages: nothing may be loaded, framed or sniffed; what only concerns pages is left out. None of these
 * headers depends on the request, so helmet is asked once, not a middleware a header on every request.
 */
const securityHeaders = (issuer: string): RequestHandler => {
  const set = helmet({
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
    strictTransportSecurity: issuer.startsWith('https:'),
    referrerPolicy: { policy: 'no-referrer' },
    crossOriginOpenerPolicy: false,
    originAgentCluster: false,
    xDnsPrefetchControl: false,
    xDownloadOptions: false,
    xPermittedCrossDomainPolicies: false,
    xPoweredBy: false,
    xXssProtection: false,
  });
  const sample = new ServerResponse(new IncomingMessage(new Socket()));
  set(sample.req, sample, (error) => {
    if (error) throw error;
  });
  const headers = Object.entries(sample.getHeaders()).map(([name, value]) => [name, String(value)] as const);
  return (_req, res, next) => {
    for (const [name, value] of headers) res.setHeader(name, value);
    next();
  };
};

export const createApp = (edge: Edge, options: { trustProxy: readonly string[] }): Express => {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.enable('case sensitive routing');
  app.enable('strict routing');
  app.set('trust proxy', options.trustProxy.length === 0 ? false : [...options.trustProxy]);
  app.set('query parser', 'simple');
  app.use(identify(edge));

  // The answers of the gateway are the upstream’s own: Warder adds nothing to what they say.
  app.use('/gateway', gatewayHandler(edge));

  app.use(securityHeaders(edge.core.issuer));
  // The busiest first: a request walks past every router that stands before its own.
  app.use('/v1', agentRoutes(edge));
  app.use(oauthRoutes(edge));
  app.use(connectPages(edge));
  app.use('/admin/v1', adminRoutes(edge));
  app.use(opsRoutes(edge));
  app.use('/ssh', sshRoutes(edge));
  app.use('/ssf', ssfRoutes(edge));
  app.use(ssfMetadata(edge));
  app.use((_req, _res) => {
    throw new Refused('not_found', 'there is no such route');
  });
  app.use(oauthErrorHandler(edge));
  app.use(errorHandler(edge.core.log));
  return app;
};

/** For a listener of its own, on an address only the monitoring reaches: no token is asked for. */
export const createMetricsApp = (edge: Edge): Express => {
  const app = express();
  app.disable('x-powered-by');
  app.use(identify(edge));
  app.get('/metrics', metricsHandler(edge));
  app.use((_req, _res) => {
    throw new Refused('not_found', 'there is only /metrics here');
  });
  app.use(errorHandler(edge.core.log));
  return app;
};
