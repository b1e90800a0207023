/**
 * What people must hear of: the types of audit entries that are alerts. Webhooks choose among these by name, and each is
 * sent with its severity, its title and what it means. Whoever adds a type of entry that somebody must act on, or would
 * be angry not to have heard of, adds it here; `docs/alerts.md` is held to this list by a test.
 */

/** `critical`: act now. `warning`: look at it today. `info`: nothing is wrong; it ends or explains something. */
export type Severity = 'info' | 'warning' | 'critical';

export interface AlertEvent {
  severity: Severity;
  title: string;
  /** One sentence for somebody who has never seen it: what is so, and what to do about it. */
  means: string;
  /**
   * Fields of the entry's `data` that leave the house with the alert, beside who, when, agent, connection and grant.
   * What is not named here stays in the audit log.
   */
  facts: readonly string[];
}

const of =
  (severity: Severity) =>
  (title: string, means: string, facts: readonly string[] = []): AlertEvent => ({ severity, title, means, facts });
const info = of('info');
const warning = of('warning');
const critical = of('critical');

/** By type of audit entry. */
export const alertEvents = {
  'revocation.created': warning('Access was revoked', 'A fence stands: what its selector matches is dead at once.', [
    'revocation',
    'selector',
    'reason',
    'suspend',
  ]),
  'revocation.completed': info(
    'A revocation is complete',
    'Nothing it killed is left upstream, or what is left is listed.',
    ['revocation', 'revoked', 'unrevocable'],
  ),
  'grant.unrevocable': critical(
    'A credential could not be revoked upstream',
    'The upstream refused or did not answer until the last try: take it back there by hand.',
    ['revocation', 'failure', 'by_hand', 'status'],
  ),
  'grant.lives_on': warning(
    'A credential lives on until it ends by itself',
    'The upstream has no way to take it back; the entry says when it ends.',
    ['revocation', 'ends_by'],
  ),
  'agent.suspended': warning('An agent was suspended', 'It obtains nothing until it is resumed.', [
    'revocation',
    'reason',
  ]),
  'agent.resumed': info('An agent was resumed', 'It may obtain credentials again.'),
  'authorization.needs_reconnect': warning(
    'An account must be connected anew',
    'The authorization server takes its refresh token no more: somebody has to consent again.',
    ['authorization', 'subject', 'failure'],
  ),
  'rotation.failed': warning(
    'A rotation failed',
    'The working secret stays in force; the entry says at which step and why. It is tried again.',
    ['rotation', 'key', 'step', 'attempt', 'failure', 'next', 'next_at'],
  ),
  'rotation.stuck': critical(
    'A rotation does not get on',
    'It gave up, or waits for a person: look at it before the secret in force ends.',
    ['rotation', 'key', 'step', 'attempt', 'tries', 'failure', 'next_at'],
  ),
  'rotation.overdue': warning('A rotation is overdue', 'By its policy the secret should have been rotated by now.', [
    'rotation',
    'key',
    'due_at',
    'failure',
  ]),
  'incident.opened': critical('An incident was opened', 'Somebody responds to something: see the incident.', [
    'incident',
    'drill',
    'title',
    'severity',
    'selector',
    'reason',
  ]),
  'incident.contained': warning('An incident is contained', 'What it concerns is revoked, suspended or frozen.', [
    'incident',
    'drill',
    'revocation',
    'freeze',
    'suspended',
    'rotate',
    'reason',
  ]),
  'incident.closed': info('An incident was closed', 'Its report says what was done.', [
    'incident',
    'drill',
    'summary',
    'open_seconds',
  ]),
  'freeze.created': critical(
    'Issuing was frozen',
    'Nothing new is issued for what the freeze names, until it is lifted.',
    ['freeze', 'selector', 'reason', 'incident'],
  ),
  'freeze.lifted': info('A freeze was lifted', 'What it named may be issued again.', [
    'freeze',
    'selector',
    'reason',
    'incident',
  ]),
  'audit.contradicted': critical(
    'The audit log contradicts a checkpoint',
    'It went back, or has other entries than were signed: an older database is in its place, or it was changed.',
    ['result', 'shown_size', 'size', 'missing'],
  ),
  'backup.failed': warning('A backup failed', 'There is no newer backup than before; the entry says why.', [
    'backup',
    'why',
  ]),
  'backup.restored': critical(
    'A backup was restored',
    'The data is that of the backup; everything issued before is dead unless it was told to be kept.',
    ['backup', 'made_at', 'entries', 'missing_entries', 'kept_grants', 'reason'],
  ),
  'operator.created': warning('An operator was added', 'Somebody new may administer; the entry names the roles.', [
    'operator',
    'name',
    'roles',
    'expires_at',
  ]),
  'operator.recovered': critical(
    'An admin was made on the machine itself',
    'Somebody with access to the data directory made an admin: it should have been one of you.',
    ['operator', 'name'],
  ),
  'operator.updated': warning('An operator was changed', 'Its roles, state or end; the entry says which.', [
    'operator',
    'name',
    'fields',
    'roles',
    'status',
  ]),
  'operator.token_renewed': info('An operator has a new token', 'The old one is dead.', ['operator', 'name']),
  'key.rotated': info(
    'The key-encryption key was rotated',
    'What is sealed moves under the new one in the background.',
    ['from', 'to'],
  ),
  'key.migrated': warning('The keys moved to another key service', 'WARDER_KMS must name it from the next start on.'),
  'signing_key.rotated': info('The signing key was rotated', 'New tokens are signed by another key of /jwks.', [
    'from',
    'to',
  ]),
  'webhook.failed': warning(
    'An alert could not be delivered',
    'The endpoint did not take it until the last try; it can be replayed.',
    ['webhook', 'message', 'message_type', 'seq', 'failure'],
  ),
  'webhook.failing': critical(
    'A webhook is failing',
    'Its endpoint has taken nothing for a long time: alerts do not arrive there.',
    ['webhook', 'since', 'failure'],
  ),
  'webhook.recovered': info('A webhook works again', 'Its endpoint takes alerts again.', ['webhook', 'since']),
  'webhook.disabled': critical('A webhook was disabled', 'Nothing is sent to it until it is enabled.', [
    'webhook',
    'why',
  ]),
  'webhook.created': warning('A webhook was added', 'From now on alerts go to another address, too.', [
    'webhook',
    'origin',
    'events',
  ]),
  'webhook.updated': warning('A webhook was changed', 'Alerts go somewhere else, or others than before.', [
    'webhook',
    'fields',
    'origin',
    'events',
  ]),
  'webhook.deleted': warning('A webhook was removed', 'Nobody is told of alerts there any more.', ['webhook']),
  'stream.failed': warning(
    'A signal could not be delivered',
    'The receiver did not take it until the last try, or refused it.',
    ['stream', 'message', 'message_type', 'seq', 'failure'],
  ),
  'stream.failing': critical('A signal stream is failing', 'Its receiver has taken nothing for a long time.', [
    'stream',
    'since',
    'failure',
  ]),
  'stream.created': warning('A receiver of signals was added', 'It learns of revocations from now on.', [
    'stream',
    'aud',
    'origin',
  ]),
  'stream.deleted': warning('A receiver of signals was removed', 'It learns of no revocation any more.', ['stream']),
  'stream.recovered': info('A signal stream works again', 'Its receiver takes signals again.', ['stream', 'since']),
} as const satisfies Record<string, AlertEvent>;

export type AlertType = keyof typeof alertEvents;

/** Every type that is an alert, in the order of the catalogue. */
export const alertTypes = Object.keys(alertEvents) as readonly AlertType[];

/** @returns what is known of an alert of this type, or undefined when entries of this type are none */
export const alertEvent = (type: string): AlertEvent | undefined =>
  Object.hasOwn(alertEvents, type) ? alertEvents[type as AlertType] : undefined;
