/** For whoever runs Warder: is it alive, is it ready, how is it doing. */
import { type RequestHandler, Router } from 'express';
import { Refused } from '../domain/refusals.ts';
import { authenticateOperator } from '../services/identity/authenticate.ts';
import { readiness } from '../services/readiness.ts';
import { bearerToken } from './bearer.ts';
import { docsHandler } from './docs-page.ts';
import { addressOf, type Edge } from './edge.ts';
import { openApi } from './openapi.ts';
import { sendJson } from './reply.ts';

export const metricsHandler =
  (edge: Edge): RequestHandler =>
  async (_req, res) => {
    const text = await edge.metrics.registry.metrics();
    res.setHeader('Content-Type', edge.metrics.registry.contentType);
    res.end(text);
  };

export const opsRoutes = (edge: Edge): Router => {
  const router = Router({ caseSensitive: true, strict: true });
  router.get('/healthz', (_req, res) => {
    sendJson(res, 200, { status: 'alive' });
  });
  router.get('/readyz', (_req, res) => {
    const state = readiness(edge.core);
    if (!state.ready) res.setHeader('Retry-After', '5');
    res.setHeader('Cache-Control', 'no-store');
    sendJson(res, state.ready ? 200 : 503, { status: state.ready ? 'ready' : 'not_ready', checks: state.checks });
  });
  router.get(
    '/metrics',
    async (req, res, next) => {
      try {
        const token = bearerToken(req);
        if (token === undefined) throw new Refused('unauthenticated', 'an operator token is needed');
        authenticateOperator(edge.core, token);
      } catch (error) {
        res.setHeader('WWW-Authenticate', 'Bearer');
        await edge.limits.failed(addressOf(req));
        throw error;
      }
      next();
    },
    metricsHandler(edge),
  );
  const description = openApi(edge.core);
  router.get('/openapi.json', (_req, res) => {
    sendJson(res, 200, description);
  });
  router.get('/docs', docsHandler());
  return router;
};
