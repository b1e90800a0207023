/** `/ssh/<connection>`: what servers that trust an authority of Warder fetch. Public: there is no secret in it. */
import { type Request, Router } from 'express';
import type { Connection } from '../domain/model.ts';
import { isName } from '../domain/names.ts';
import { Refused } from '../domain/refusals.ts';
import type { Provider } from '../ports/provider.ts';
import { RevocationLists } from '../services/revocation/revocation-lists.ts';
import type { Edge } from './edge.ts';

const providerType = 'ssh';

/** @throws Refused `not_found`, the same for a connection of another kind as for none */
const connectionOf = (edge: Edge, req: Request): { connection: Connection; provider: Provider } => {
  const name = String(req.params['connection']);
  const connection = isName(name) ? edge.core.state.connections.named(name) : undefined;
  const provider = edge.core.providers.get(providerType);
  if (connection?.provider !== providerType || !provider) throw new Refused('not_found', 'there is no such route');
  return { connection, provider };
};

export const sshRoutes = (edge: Edge): Router => {
  const router = Router({ caseSensitive: true, strict: true });
  const lists = new RevocationLists(edge.core);

  router.get('/:connection/krl', async (req, res) => {
    const { connection, provider } = connectionOf(edge, req);
    if (!provider.revocationList) throw new Refused('not_found', 'there is no such route');
    const { body, tag } = await lists.list(connection, provider.revocationList);
    // Weak: lists that say the same may differ in when they were made.
    res.setHeader('ETag', `W/"${tag}"`);
    res.setHeader('Cache-Control', 'no-cache');
    if (req.headers['if-none-match']?.split(',').some((known) => known.trim() === `W/"${tag}"`)) {
      res.status(304).end();
      return;
    }
    res.setHeader('Content-Type', 'application/octet-stream');
    res.setHeader('Content-Length', body.byteLength);
    res.end(body);
  });

  router.get('/:connection/ca.pub', async (req, res) => {
    const { connection, provider } = connectionOf(edge, req);
    const { core } = edge;
    const held = await core.secrets.open(core.reader, connection);
    if (!held || !provider.publicKey) throw new Refused('not_found', 'there is no such route');
    res.setHeader('Cache-Control', 'no-cache');
    res.setHeader('Content-Type', 'text/plain; charset=us-ascii');
    res.end(`${provider.publicKey(connection, held)}\n`);
  });

  for (const path of ['/:connection/krl', '/:connection/ca.pub']) {
    router.all(path, (_req, res) => {
      res.setHeader('Allow', 'GET, HEAD');
      throw new Refused('method_not_allowed', 'this route takes GET');
    });
  }
  return router;
};
