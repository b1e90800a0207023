#!/usr/bin/env node
/**
 * A rotation script for a service with API keys. docs/rotation-methods.md says what Warder asks on standard input and
 * what it expects on standard output. Change the calls to those of your service.
 *
 * Exit codes: 0 done, 10 refused (the reason is in the answer), everything else: whether it was done is not known.
 */
import { text } from 'node:stream/consumers';

const asked = JSON.parse(await text(process.stdin));
const { step, rotation_id: rotationId, connection, current } = asked;
const service = connection.settings.base_url;

const answer = (what) => process.stdout.write(JSON.stringify(what));
const refuse = (reason) => {
  answer({ reason });
  process.exitCode = 10;
};

/** The admin key, where the secret of the connection has one, may make and delete keys. */
const manager = current.admin_key ?? current.value;

const call = async (key, method, path, body) => {
  const response = await fetch(`${service}${path}`, {
    method,
    redirect: 'error',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(20_000),
  });
  const received = await response.text();
  return { status: response.status, body: received === '' ? {} : JSON.parse(received) };
};

/** What is none of the expected statuses ends this script with 1: Warder asks again. */
const expected = ({ status, body }, ...statuses) => {
  if (!statuses.includes(status)) throw new Error(`the service answered ${status}`);
  return body;
};

const deleteKey = async (id) =>
  // 404: it is gone already, which is what is wanted.
  expected(await call(manager, 'DELETE', `/v1/keys/${encodeURIComponent(id)}`), 204, 404);

/** All keys that this rotation made: a call before may have done its work without anybody hearing of it. */
const deleteMade = async () => {
  const found = [];
  for (let cursor = '0'; cursor !== undefined; ) {
    const page = expected(await call(manager, 'GET', `/v1/keys?cursor=${cursor}`), 200);
    found.push(...page.data.filter(({ name }) => name === rotationId));
    cursor = page.next_cursor;
  }
  for (const { id } of found) if (id !== current.id) await deleteKey(id);
};

switch (step) {
  case 'create': {
    await deleteMade();
    // The name finds it again when this answer is lost.
    const made = await call(manager, 'POST', '/v1/keys', { name: rotationId });
    if (made.status === 401 || made.status === 403)
      refuse(`the service answered ${made.status}: this key may not make keys`);
    else {
      const { data } = expected(made, 201);
      answer({ secret: { value: data.key, id: data.id } });
    }
    break;
  }
  case 'test': {
    const { status } = await call(asked.secret.value, 'GET', '/v1/me');
    if (status === 401 || status === 403) refuse(`the service answered ${status}`);
    else if (status === 200) answer({});
    else throw new Error(`the service answered ${status}`);
    break;
  }
  case 'undo':
    await deleteMade();
    answer({});
    break;
  case 'retire':
    await deleteKey(asked.previous.id);
    answer({});
    break;
  default:
    // set: nothing, a key of this service works from the moment it is made.
    answer({});
}
