/**
 * `projects.serviceAccounts.keys` of the IAM API: upload, list, get, delete, with the rights they need.
 * docs.cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts.keys
 */
import { randomBytes, X509Certificate } from 'node:crypto';
import { certificate as someCertificate } from '../vault/certificates.ts';
import { statusProblem } from './answers.ts';
import type { Account, GcpState, Token } from './state.ts';

const scopes = ['https://www.googleapis.com/auth/iam', 'https://www.googleapis.com/auth/cloud-platform'];
/** "Service account keys for each service account". */
const mostKeys = 10;

const resource = ({ email }: Account, id: string) => ({
  name: `projects/acme/serviceAccounts/${email}/keys/${id}`,
  keyAlgorithm: 'KEY_ALG_RSA_2048',
  keyType: 'USER_MANAGED',
});

const upload = (state: GcpState, account: Account, body: Record<string, unknown>) => {
  let uploaded: X509Certificate;
  const pem = Buffer.from(String(body['publicKeyData']), 'base64').toString('ascii');
  try {
    uploaded = new X509Certificate(pem);
  } catch {
    throw statusProblem(400, 'The public key is not an X.509 certificate.');
  }
  const { publicKey } = uploaded;
  const isGood = publicKey.asymmetricKeyType === 'rsa' && (publicKey.asymmetricKeyDetails?.modulusLength ?? 0) >= 2048;
  const now = Date.now();
  const isTimely = Date.parse(uploaded.validFrom) <= now && Date.parse(uploaded.validTo) > now;
  if (!isGood || !isTimely || !uploaded.verify(publicKey))
    throw statusProblem(400, 'The certificate is not acceptable.');
  if (account.keys.size >= mostKeys) throw statusProblem(429, 'Maximum number of keys on account reached.');
  const id = randomBytes(20).toString('hex');
  account.keys.set(id, publicKey);
  account.certificates.set(id, Buffer.from(pem).toString('base64'));
  account.knownAt.set(id, now + state.keyLagMs);
  return { ...resource(account, id), keyOrigin: 'USER_PROVIDED' };
};

export const aboutKeys = (
  state: GcpState,
  caller: Token | undefined,
  asked: { email: string; method: string; url: URL; body: Record<string, unknown> },
) => {
  if (!caller) throw statusProblem(401, 'Request had invalid authentication credentials.');
  if (!scopes.some((scope) => caller.scopes.includes(scope))) {
    throw statusProblem(403, 'Request had insufficient authentication scopes.');
  }
  const account = state.accounts.get(asked.email);
  if (!account) throw statusProblem(404, `Unknown service account ${asked.email}`);
  if (!account.keyAdmins.has(caller.principal)) {
    throw statusProblem(403, "Permission 'iam.serviceAccountKeys.create' denied on resource (or it may not exist).");
  }
  const [, verb, id] = /\/keys(:upload)?(?:\/([A-Za-z0-9]+))?$/.exec(asked.url.pathname) ?? [];
  if (asked.method === 'POST' && verb === ':upload') return upload(state, account, asked.body);
  if (asked.method === 'GET' && verb === undefined && id === undefined) {
    return { keys: [...account.keys.keys()].map((one) => resource(account, one)) };
  }
  if (id === undefined || !account.keys.has(id)) throw statusProblem(404, `Service account key ${id} does not exist.`);
  if (asked.method === 'DELETE') {
    account.keys.delete(id);
    return {};
  }
  if (asked.method !== 'GET') throw statusProblem(404, 'Method not found.');
  const wanted = asked.url.searchParams.get('publicKeyType') === 'TYPE_X509_PEM_FILE';
  // Of keys that Google made itself there is a certificate too: here one of some other key.
  const certificate = account.certificates.get(id) ?? Buffer.from(someCertificate).toString('base64');
  return { ...resource(account, id), ...(wanted ? { publicKeyData: certificate } : {}) };
};
