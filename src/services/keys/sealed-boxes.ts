/** Every place where a sealed box is kept, and what each box is bound to: what a rotation of keys has to move. */
import type { SealedBox } from '../../domain/model.ts';
import { sealedBoxIn, withBox } from '../../domain/stored-handle.ts';
import type { SealedRow, Write } from '../../ports/ledger.ts';
import { boxOf as contextOfTokens } from '../accounts/authorization-tokens.ts';
import { boxOf as contextOfFlow } from '../accounts/connect-flow.ts';
import { streamBox as contextOfStream, webhookBox as contextOfWebhook } from '../alerts/sealed.ts';
import { boxOf as contextOfGrant } from '../issuing/provider-context.ts';
import { contextOf as contextOfSecret } from '../secrets/secrets.ts';
import type { BoxContext, Keyring } from './keyring.ts';
import { boxOf as contextOfSigningKey } from './signing-keys.ts';

interface Kept {
  context: BoxContext;
  box: SealedBox;
  /** The write that puts a box in the place of this one, and only of this one. */
  replace(box: SealedBox): Write;
}

const keptIn = (found: SealedRow): Kept | undefined => {
  const { table, row } = found;
  switch (table) {
    case 'secrets':
      return {
        context: contextOfSecret(row.connection_id, row.number),
        box: row.sealed,
        replace: (sealed) => ({ write: 'update', table, id: row.id, set: { sealed }, from: { sealed: row.sealed } }),
      };
    case 'signing_keys':
      return {
        context: contextOfSigningKey(row.id),
        box: row.sealed,
        replace: (sealed) => ({ write: 'update', table, id: row.id, set: { sealed }, from: { sealed: row.sealed } }),
      };
    case 'authorizations':
      return {
        context: contextOfTokens(row, row.tokens_version),
        box: row.sealed,
        replace: (sealed) => ({ write: 'update', table, id: row.id, set: { sealed }, from: { sealed: row.sealed } }),
      };
    case 'authorization_flows':
      return (
        (row.sealed && {
          context: contextOfFlow(row),
          box: row.sealed,
          replace: (sealed) => ({ write: 'update', table, id: row.id, set: { sealed }, from: { sealed: row.sealed } }),
        }) ??
        undefined
      );
    case 'grants': {
      const box = sealedBoxIn(row.handle);
      return (
        box && {
          context: contextOfGrant(row.id),
          box,
          replace: (sealed) => ({
            write: 'update',
            table,
            id: row.id,
            set: { handle: withBox(row.handle ?? {}, sealed) },
            from: { handle: row.handle },
          }),
        }
      );
    }
    case 'webhooks':
      return {
        context: contextOfWebhook(row),
        box: row.sealed,
        replace: (sealed) => ({ write: 'update', table, id: row.id, set: { sealed }, from: { sealed: row.sealed } }),
      };
    case 'signal_streams':
      return (
        (row.sealed && {
          context: contextOfStream(row),
          box: row.sealed,
          replace: (sealed) => ({ write: 'update', table, id: row.id, set: { sealed }, from: { sealed: row.sealed } }),
        }) ??
        undefined
      );
  }
};

/**
 * The write that seals a row's box under the current key-encryption key. It is a compare-and-swap on the box that was
 * opened, so what somebody else sealed meanwhile stands; no version is counted up, because nothing changes for anybody
 * who holds on to one.
 * @returns undefined when there is no box in it
 * @throws Refused `sealed`; Error when the box does not open
 */
export const resealing = (keyring: Keyring, row: SealedRow): Write | undefined => {
  const kept = keptIn(row);
  return kept?.replace(keyring.reseal(kept.context, kept.box));
};

/** @returns whether the box in this row opens; undefined when there is none in it. @throws Refused `sealed` */
export const opens = (keyring: Keyring, row: SealedRow): boolean | undefined => {
  keyring.requireUnsealed();
  const kept = keptIn(row);
  if (!kept) return undefined;
  try {
    keyring.decrypt(kept.context, kept.box).fill(0);
    return true;
  } catch {
    // Why it does not open is not known: the key, the context or the bytes are others than when it was sealed.
    return false;
  }
};
