/** Streams of events: whoever listens has a place, and nobody else. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Response } from 'express';
import { type EventStream, EventStreams } from '../../src/http/event-streams.ts';
import type { CoreWithSecrets } from '../../src/services/issuing/provider-context.ts';
import * as make from '../conformance/ledger-rows.ts';
import { removeTemporaryDirs } from '../support/broker.ts';
import { openServices } from '../support/services.ts';

let core: CoreWithSecrets;
let close: () => Promise<void>;
beforeEach(async () => {
  ({ core, close } = await openServices());
});
afterEach(async () => {
  await close();
  removeTemporaryDirs();
});

test('who is gone before the answer begins takes nobody’s place', async () => {
  const streams = new EventStreams(core);
  let opened: (stream: EventStream) => void = () => undefined;
  const stream = new Promise<EventStream>((resolve) => {
    opened = resolve;
  });
  const leaving = new AbortController();
  const server = createServer((_req, res) => {
    // As when whoever asked goes while the ledger is asked whether there is such a thing.
    res.once('close', () => {
      opened(streams.open(res as Response, make.operator()));
    });
    leaving.abort();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await expect(fetch(`http://127.0.0.1:${port}/`, { signal: leaving.signal })).rejects.toThrow('aborted');
  expect([(await stream).signal.aborted, streams.size]).toEqual([true, 0]);
  server.close();
});
