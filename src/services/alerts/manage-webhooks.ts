/** Webhooks: adding, changing, their secrets, and where in the log they are. */
import { movedTo, placeAt } from '../../domain/delivery.ts';
import { endpointOrigin, endpointUrlProblem } from '../../domain/endpoint-url.ts';
import { Refused } from '../../domain/refusals.ts';
import { makeWebhookSecret, type Webhook, webhookSecretBytes } from '../../domain/webhook.ts';
import type { Write } from '../../ports/ledger.ts';
import { commitChanges, differing } from '../change.ts';
import { type Caller, type Core, newId, record } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import { openSecrets, sealSecrets } from './sealed.ts';

export interface WebhookInput {
  name: string;
  url: string;
  events: string[];
  allow_private_network: boolean;
}
export type WebhookPatch = Partial<Omit<WebhookInput, 'name'> & Pick<Webhook, 'status'>>;

/** Each has one message under way at most: so many are sent at once. */
export const maxWebhooks = 50;

/** @throws Refused `not_found` */
export const webhookCalled = (core: Core, nameOrId: string): Webhook => {
  const row = core.state.webhooks.named(nameOrId) ?? core.state.webhooks.get(nameOrId);
  if (!row) throw new Refused('not_found', 'there is no such webhook');
  return row;
};

const named = (row: Webhook) => ({ webhook: { id: row.id, name: row.name } });

/** @throws InvalidInput */
const requireEndpoint = (row: Pick<Webhook, 'url' | 'allow_private_network'>): void => {
  const problem = endpointUrlProblem(row.url, row.allow_private_network);
  if (problem !== undefined) throw new InvalidInput([`url: ${problem}`]);
};

const change = (row: Webhook, set: Partial<Webhook>): Write => ({
  write: 'update',
  table: 'webhooks',
  id: row.id,
  set,
  // Its place moves on while it is being changed; who changes that as well holds on to it.
  from: { version: row.version, ...(set.progress === undefined ? {} : { progress: row.progress }) },
});

/** @returns the webhook and its secret, which nobody will see again. It is told of what happens from now on. */
export const createWebhook = async (core: Core, input: WebhookInput, caller: Caller) => {
  requireEndpoint(input);
  if (core.state.webhooks.named(input.name)) throw new Refused('conflict', `there is a webhook ${input.name} already`);
  if (core.state.webhooks.size >= maxWebhooks)
    throw new Refused('conflict', `there are ${maxWebhooks} webhooks already`);
  const now = core.clock.now();
  const id = newId(core, 'whk');
  const secret = makeWebhookSecret(core.entropy(webhookSecretBytes));
  const row: Webhook = {
    id,
    ...input,
    status: 'active',
    disabled_because: null,
    sealed: sealSecrets(core.keyring, { id, secret_number: 1 }, { current: secret, previous: null }),
    secret_number: 1,
    previous_until: null,
    ...placeAt(core.state.newestSeq + 1),
    version: 1,
    created_at: now,
    updated_at: now,
  };
  await commitChanges(core, {
    writes: [{ write: 'insert', table: 'webhooks', row }],
    audit: [
      record(core, caller, {
        type: 'webhook.created',
        data: {
          ...named(row),
          origin: endpointOrigin(row.url),
          events: row.events,
          allow_private_network: row.allow_private_network,
        },
      }),
    ],
  });
  return { webhook: core.state.webhooks.get(id) ?? row, secret };
};

/** Enabled again, it goes on where it was, at once. */
export const updateWebhook = async (
  core: Core,
  row: Webhook,
  patch: WebhookPatch,
  caller: Caller,
): Promise<Webhook> => {
  const fields = differing(row, patch);
  if (fields.length === 0) {
    await commitChanges(core, {
      writes: [],
      audit: [record(core, caller, { type: 'webhook.unchanged', data: named(row) })],
    });
    return row;
  }
  const enabled = fields.includes('status') && patch.status === 'active';
  const disabled = fields.includes('status') && patch.status === 'disabled';
  const elsewhere = fields.includes('url') || fields.includes('allow_private_network');
  const set: Partial<Webhook> = {
    ...patch,
    // Another address is tried at once.
    ...(elsewhere ? { ...movedTo(row, row.cursor), cursor_part: row.cursor_part } : {}),
    ...(enabled
      ? { disabled_because: null, ...movedTo(row, row.cursor), cursor_part: row.cursor_part, failing_since: null }
      : {}),
    ...(enabled ? { failing_told: false } : {}),
    ...(disabled ? { disabled_because: 'operator' } : {}),
    version: row.version + 1,
    updated_at: core.clock.now(),
  };
  const changed: Webhook = { ...row, ...set };
  requireEndpoint(changed);
  await commitChanges(core, {
    writes: [change(row, set)],
    audit: [
      record(core, caller, {
        type: disabled ? 'webhook.disabled' : enabled ? 'webhook.enabled' : 'webhook.updated',
        data: {
          ...named(row),
          fields,
          ...(disabled ? { why: 'operator' } : {}),
          ...(patch.url === undefined ? {} : { origin: endpointOrigin(patch.url) }),
          ...(patch.events === undefined ? {} : { events: patch.events }),
          ...(patch.allow_private_network === undefined ? {} : { allow_private_network: patch.allow_private_network }),
        },
      }),
    ],
  });
  return core.state.webhooks.get(row.id) ?? changed;
};

export const deleteWebhook = async (core: Core, row: Webhook, caller: Caller): Promise<void> => {
  await commitChanges(core, {
    writes: [{ write: 'delete', table: 'webhooks', id: row.id, from: { version: row.version } }],
    audit: [record(core, caller, { type: 'webhook.deleted', data: named(row) })],
  });
};

/**
 * A new secret. The one before signs as well until the grace is over, so that no message is refused meanwhile.
 * @returns the new one, which nobody will see again
 * @throws Refused `sealed`, `conflict`
 */
export const rotateWebhookSecret = async (core: Core, row: Webhook, graceSeconds: number, caller: Caller) => {
  const { current: before } = openSecrets(core.keyring, row);
  const now = core.clock.now();
  const secret = makeWebhookSecret(core.entropy(webhookSecretBytes));
  const secretNumber = row.secret_number + 1;
  const kept = graceSeconds > 0 ? before : null;
  const set = {
    sealed: sealSecrets(core.keyring, { id: row.id, secret_number: secretNumber }, { current: secret, previous: kept }),
    secret_number: secretNumber,
    previous_until: kept === null ? null : now + graceSeconds * 1000,
    version: row.version + 1,
    updated_at: now,
  };
  await commitChanges(core, {
    writes: [change(row, set)],
    audit: [
      record(core, caller, {
        type: 'webhook.secret_rotated',
        data: { ...named(row), number: secretNumber, grace_seconds: graceSeconds },
      }),
    ],
  });
  return { webhook: core.state.webhooks.get(row.id) ?? { ...row, ...set }, secret };
};

/** Where in the log to go on: a number, or with what happens from now on. @throws InvalidInput */
export const placeNamed = (core: Core, from: number | 'now'): number => {
  const end = core.state.newestSeq + 1;
  if (from === 'now') return end;
  if (from > end) throw new InvalidInput([`from: the log has ${end} entries`]);
  return from;
};

/** What was sent from there on is sent again, under the same names; what lies before it is not. */
export const replayWebhook = async (
  core: Core,
  row: Webhook,
  from: number | 'now',
  caller: Caller,
): Promise<Webhook> => {
  const cursor = placeNamed(core, from);
  const set = { ...movedTo(row, cursor), version: row.version + 1, updated_at: core.clock.now() };
  await commitChanges(core, {
    writes: [change(row, set)],
    audit: [record(core, caller, { type: 'webhook.replayed', data: { ...named(row), from: cursor, was: row.cursor } })],
  });
  return core.state.webhooks.get(row.id) ?? { ...row, ...set };
};
