/** A backup that nobody takes: its file, and the next backup, do not wait for whoever stopped reading. */
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { expect, test } from '@jest/globals';
import { sendFile } from '../../src/http/admin/backups.ts';

async function* withoutEnd(): AsyncGenerator<Uint8Array> {
  for (;;) yield Buffer.alloc(64 * 1024);
}

test('whoever takes nothing for a while is cut off', async () => {
  let ended: (error: unknown) => void = () => undefined;
  const end = new Promise<unknown>((resolve) => {
    ended = resolve;
  });
  const server = createServer((_req, res) => void sendFile(withoutEnd(), res, 300).catch(ended));
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const address = server.address();
  const socket = connect(typeof address === 'object' && address ? address.port : 0, '127.0.0.1');
  try {
    socket.pause();
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    expect(await end).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
  } finally {
    socket.destroy();
    server.close();
  }
}, 10_000);
