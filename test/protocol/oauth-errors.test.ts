/** Every way Warder says no has a name at the OAuth endpoints, and one that clients know. */
import { describe, expect, test } from '@jest/globals';
import { type RefusalCode, refusalStatus } from '../../src/domain/refusals.ts';
import { oauthErrorFor } from '../../src/http/oauth/errors.ts';

/** RFC 6749 sections 4.1.2.1 and 5.2, RFC 8707 section 2, RFC 9449 section 5. */
const registered = new Set([
  'invalid_request',
  'invalid_client',
  'invalid_grant',
  'unauthorized_client',
  'unsupported_grant_type',
  'invalid_scope',
  'invalid_target',
  'invalid_dpop_proof',
  'access_denied',
  'server_error',
  'temporarily_unavailable',
]);

describe('a refusal at an OAuth endpoint', () => {
  test.each(Object.keys(refusalStatus) as RefusalCode[])('%s has a registered name and a fitting status', (code) => {
    const { error, status } = oauthErrorFor(code);
    expect(registered).toContain(error);
    // 401 is for invalid_client and for nothing else (section 5.2).
    expect(status === 401).toBe(error === 'invalid_client');
    // What is Warder's own trouble stays that: nobody may take it for a mistake of the client.
    expect(status >= 500).toBe(refusalStatus[code] >= 500);
    if (status >= 500) expect(['temporarily_unavailable', 'server_error']).toContain(error);
  });
});
