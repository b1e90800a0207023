import { ledgerConformance } from '../../../conformance/ledger.ts';
import { openTemporary } from './temporary-store.ts';

ledgerConformance('the SQLite ledger', openTemporary);
