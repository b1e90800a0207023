/** What endpoints have that is secret, in sealed boxes of their rows: how it is put there and how it is read. */
import type { SealedBox } from '../../domain/model.ts';
import type { SignalStream } from '../../domain/signals.ts';
import type { Webhook, WebhookSecrets } from '../../domain/webhook.ts';
import type { BoxContext, Keyring } from '../keys/keyring.ts';

export const webhookBox = (row: Pick<Webhook, 'id' | 'secret_number'>): BoxContext => ({
  purpose: 'webhook',
  webhook: row.id,
  number: String(row.secret_number),
});

export const streamBox = (row: Pick<SignalStream, 'id'>): BoxContext => ({ purpose: 'signal-stream', stream: row.id });

/** @throws Refused `sealed` */
export const sealSecrets = (
  keyring: Keyring,
  row: Pick<Webhook, 'id' | 'secret_number'>,
  secrets: WebhookSecrets,
): SealedBox => keyring.encrypt(webhookBox(row), Buffer.from(JSON.stringify(secrets)));

/** @throws Refused `sealed`; Error when the box does not open */
export const openSecrets = (keyring: Keyring, row: Webhook): WebhookSecrets =>
  JSON.parse(keyring.decrypt(webhookBox(row), row.sealed).toString());

/** @throws Refused `sealed` */
export const sealAuthorization = (keyring: Keyring, row: Pick<SignalStream, 'id'>, header: string): SealedBox =>
  keyring.encrypt(streamBox(row), Buffer.from(header));

/** @returns the Authorization header of a push, where the receiver wants one. @throws as {@link openSecrets} */
export const openAuthorization = (keyring: Keyring, row: SignalStream): string | undefined =>
  row.sealed ? keyring.decrypt(streamBox(row), row.sealed).toString() : undefined;
