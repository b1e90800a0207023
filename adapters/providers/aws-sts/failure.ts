/** What the SDK throws, as the port's failures: nothing that AWS said goes on but the name of its error. */
import { ProviderFailure } from '../../../src/ports/provider.ts';

/** Names as the SDK has them; AWS's own spelling where it has no class for one. */
const refusals: Readonly<Record<string, string>> = {
  AccessDenied: 'AWS does not allow Warder to do this: see the role’s trust policy and Warder’s own policy',
  AccessDeniedException: 'AWS does not allow Warder to do this: see the role’s trust policy and Warder’s own policy',
  ExpiredToken: 'AWS says that the session of Warder’s access key is over',
  ExpiredTokenException: 'AWS says that the session of Warder’s access key is over',
  InvalidClientTokenId: 'AWS does not know the access key',
  SignatureDoesNotMatch: 'AWS says that the secret access key is not the one of the access key',
  MalformedPolicyDocumentException: 'AWS does not take the session policy of these scopes',
  PackedPolicyTooLargeException: 'the session policy of these scopes is too large for AWS',
  RegionDisabledException: 'AWS STS is not enabled in this region for the account',
  NoSuchEntityException: 'AWS does not know the role or a policy',
  NoSuchEntity: 'AWS does not know a managed policy of these scopes',
  UnmodifiableEntityException: 'AWS lets nobody change this role',
  // The one validation that depends on the role and on how Warder itself came by its rights.
  ValidationError:
    'AWS does not take the request; the role may not allow sessions this long (one hour where Warder’s own key is a role’s)',
};

/** Answers of 4xx that the next try may not get. */
const passing = /^(?:Throttl|TooManyRequests|RequestLimitExceeded|SlowDown|ConcurrentModification|EntityTemporarily)/;

const word = (value: unknown): string => (typeof value === 'string' && /^\w{1,60}$/.test(value) ? value : '');

/** The name of AWS's error, and the status it came with; nothing for what is no answer of AWS. */
export const errorOf = (error: unknown): { name: string; status: number | undefined; attempts: number } => {
  const given = (typeof error === 'object' && error !== null ? error : {}) as Record<string, unknown>;
  const metadata = (given['$metadata'] ?? {}) as Record<string, unknown>;
  const { httpStatusCode: status, attempts } = metadata;
  return {
    name: word(given['name']),
    status: typeof status === 'number' ? status : undefined,
    attempts: typeof attempts === 'number' ? attempts : 1,
  };
};

/** The SDK's error carries the answer and the request's headers: its cause here is a new one, with its name and status. */
export const failureOf = (error: unknown, signal: AbortSignal): ProviderFailure => {
  if (error instanceof ProviderFailure) return error;
  const { name, status } = errorOf(error);
  const code = word((error as { code?: unknown } | null)?.code);
  const cause = new Error(`AWS: ${[name, code, status].filter(Boolean).join(' ') || 'no answer'}`);
  if (signal.aborted || name === 'AbortError' || name === 'TimeoutError') {
    return new ProviderFailure('timeout', 'AWS did not answer in time', { cause });
  }
  if (name === 'AddressRefused') {
    return new ProviderFailure('refused', 'the address of AWS is not one Warder may connect to', { cause });
  }
  if (name === 'CredentialsProviderError') {
    return new ProviderFailure('refused', 'this machine has no identity in AWS', { cause });
  }
  const known = Object.hasOwn(refusals, name) ? refusals[name] : undefined;
  if (known !== undefined) return new ProviderFailure('refused', known, { cause });
  const isNo = status !== undefined && status >= 400 && status < 500 && status !== 429 && !passing.test(name);
  if (isNo) return new ProviderFailure('refused', 'AWS refused the request', { cause });
  return new ProviderFailure('unavailable', 'AWS cannot be reached, or does not work', { cause });
};

/** AWS said no, or was not spoken to, at the first try: nothing was made. After a retry the first may have been heard. */
export const isClearNo = (error: unknown): boolean => {
  const { name, status = 0, attempts } = errorOf(error);
  return attempts === 1 && (name === 'AddressRefused' || (status >= 400 && status < 500));
};
