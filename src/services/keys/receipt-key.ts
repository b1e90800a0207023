/** The key that signs receipts: new ledgers are made with one, those of earlier versions get theirs when they are unsealed. */
import { type Core, commit, record } from '../core.ts';
import { systemCaller } from '../revocation/revoke.ts';

/** Makes the key where there is none; while sealed it waits. @throws Refused `ledger_unavailable` */
export const ensureReceiptKey = async (core: Core): Promise<void> => {
  if (core.signingKeys.hasReceiptKey || core.keyring.state().sealed) return;
  const { writes, to } = await core.signingKeys.receiptRotation();
  // Refused when another process has made it at this moment: then there is one.
  await commit(core, {
    writes,
    audit: [record(core, systemCaller('keys'), { type: 'signing_key.made', data: { purpose: 'receipt', key: to } })],
  });
};
