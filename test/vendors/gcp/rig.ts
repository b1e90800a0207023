/** Google Cloud for the tests of `gcp-service-account`: test/vendors/gcp, or the real one when the environment names it. */
import { createPublicKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Upstream } from '../../conformance/provider.ts';
import { startTroubledServer } from '../../support/troubled-http.ts';
import { gcpServer } from './server.ts';
import { type Account, type GcpState, nowOf, type Token } from './state.ts';

export interface Gcp {
  /** Of the settings: addresses and who is impersonated. */
  settings: Record<string, unknown>;
  /** The text of a key file. */
  keyJson: string;
  storageUrl: string;
  /** Has `daily/one.csv`; the target may read and create objects in it. */
  bucket: string;
  /** Only of the server in the test. */
  upstream?: Upstream;
  close(): Promise<void>;
}

export const source = 'warder@acme.iam.gserviceaccount.com';
export const target = 'agents@acme.iam.gserviceaccount.com';
export const devstorage = 'https://www.googleapis.com/auth/devstorage.';

const env = process.env;
const keyFile = env['WARDER_TEST_GCP_KEY_FILE'];

/** Whether the tests run against the real Google: WARDER_TEST_GCP_{KEY_FILE,TARGET,BUCKET}; _URL for an emulator of it. */
export const isReal = keyFile !== undefined;

const emulator = env['WARDER_TEST_GCP_URL'];

/** The services under one address, as an emulator and the server of these tests have them. */
const allAt = (url: string) => ({
  token_url: `${url}/token`,
  iam_credentials_url: url,
  sts_url: `${url}/v1/token`,
  iam_url: url,
  allow_private_network: true,
});

const realGcp = (file: string): Gcp => ({
  settings: { target_service_account: env['WARDER_TEST_GCP_TARGET'], ...(emulator ? allAt(emulator) : {}) },
  keyJson: readFileSync(file, 'utf8'),
  storageUrl: emulator ?? 'https://storage.googleapis.com',
  bucket: String(env['WARDER_TEST_GCP_BUCKET']),
  close: async () => undefined,
});

const sourceKey = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  publicKeyEncoding: { type: 'spki', format: 'pem' },
});

/** As `gcloud iam service-accounts keys create` writes it. */
export const keyFileOf = (privateKey: string, more: object = {}): string =>
  JSON.stringify({
    type: 'service_account',
    project_id: 'acme',
    private_key_id: '0123456789abcdef',
    private_key: privateKey,
    client_email: source,
    client_id: '100000000000000000001',
    auth_uri: 'https://accounts.google.com/o/oauth2/auth',
    token_uri: 'https://oauth2.googleapis.com/token',
    auth_provider_x509_cert_url: 'https://www.googleapis.com/oauth2/v1/certs',
    client_x509_cert_url: `https://www.googleapis.com/robot/v1/metadata/x509/${encodeURIComponent(source)}`,
    universe_domain: 'googleapis.com',
    ...more,
  });

export const account = (email: string, tokenCreators: string[] = []): [string, Account] => [
  email,
  {
    email,
    keys: new Map(),
    certificates: new Map(),
    knownAt: new Map(),
    keyAdmins: new Set(),
    tokenCreators: new Set(tokenCreators),
    extended: false,
  },
];

export const gcpState = (): GcpState => {
  const accounts = new Map([account(source), account(target, [source])]);
  accounts.get(source)?.keys.set('0123456789abcdef', createPublicKey(sourceKey.publicKey));
  const objects = new Map([
    ['daily/one.csv', Buffer.from('1')],
    ['private/two.csv', Buffer.from('2')],
  ]);
  const bucket = () => ({ policy: new Map([[target, ['roles/storage.objectUser']]]), objects: new Map(objects) });
  return {
    accounts,
    buckets: new Map([
      ['reports', bucket()],
      ['payroll', bucket()],
    ]),
    pool: undefined,
    tokens: new Map(),
    clockOffsetMs: 0,
    keyLagMs: 0,
    intercept: undefined,
  };
};

export type TestGcp = Gcp & { url: string; state: GcpState; upstream: Upstream };

/**
 * @param kind the tokens that reach agents, and so are counted
 * @param troubledPath only requests to it meet trouble
 */
export const startTestGcp = async (
  kind: Token['kind'] = 'impersonated',
  troubledPath = /:generateAccessToken$/,
): Promise<TestGcp> => {
  const state = gcpState();
  const { url, trouble, close } = await startTroubledServer(
    gcpServer(state),
    (req) => !troubledPath.test(req.url ?? ''),
  );
  return {
    url,
    settings: { target_service_account: target, ...allAt(url) },
    keyJson: keyFileOf(sourceKey.privateKey),
    storageUrl: url,
    bucket: 'reports',
    state,
    upstream: {
      trouble,
      artefacts: async () =>
        [...state.tokens]
          .filter(([, token]) => token.kind === kind && token.expiresAt > nowOf(state))
          .map(([text]) => text.slice(0, 14)),
      elapse: async () => {
        for (const token of state.tokens.values()) token.expiresAt = 0;
      },
    },
    close,
  };
};

export const startGcp = async (kind?: Token['kind'], troubledPath?: RegExp): Promise<Gcp> =>
  keyFile ? realGcp(keyFile) : startTestGcp(kind, troubledPath);

/** @returns the status Cloud Storage answers an agent with */
export const readObject = async (gcp: Gcp, token: unknown, object = 'daily/one.csv', bucket = gcp.bucket) => {
  const response = await fetch(`${gcp.storageUrl}/storage/v1/b/${bucket}/o/${encodeURIComponent(object)}`, {
    headers: { authorization: `Bearer ${token}` },
  });
  await response.arrayBuffer();
  return response.status;
};

export const createObject = async (gcp: Gcp, token: unknown, name = `warder-test/${randomUUID()}`) => {
  const path = `/upload/storage/v1/b/${gcp.bucket}/o?uploadType=media&name=${encodeURIComponent(name)}`;
  const response = await fetch(`${gcp.storageUrl}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'text/plain' },
    body: 'x',
  });
  await response.arrayBuffer();
  return response.status;
};
