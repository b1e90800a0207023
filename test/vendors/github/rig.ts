/** GitHub for the tests of `github-app`: the one in test/vendors/github, or a real one when the environment names it. */
import { createPublicKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Upstream } from '../../conformance/provider.ts';
import { startTroubledServer } from '../../support/troubled-http.ts';
import { githubServer } from './server.ts';
import { type GitHubState, githubState, nowOf } from './state.ts';

export interface GitHub {
  url: string;
  appId: number;
  installationId: number;
  /** PEM, PKCS #8. */
  privateKey: string;
  /** `owner/name`, with a README.md; the installation has contents: write and issues: read. */
  repository: string;
  /** Only of the server in the test. */
  state?: GitHubState;
  upstream?: Upstream;
  close(): Promise<void>;
}

const env = process.env;
const keyFile = env['WARDER_TEST_GITHUB_PRIVATE_KEY_FILE'];

/** Whether the tests run against a real GitHub: WARDER_TEST_GITHUB_{PRIVATE_KEY_FILE,APP_ID,INSTALLATION_ID,REPOSITORY}. */
export const isReal = keyFile !== undefined;

const realGitHub = (file: string): GitHub => ({
  url: env['WARDER_TEST_GITHUB_URL'] ?? 'https://api.github.com',
  appId: Number(env['WARDER_TEST_GITHUB_APP_ID']),
  installationId: Number(env['WARDER_TEST_GITHUB_INSTALLATION_ID']),
  privateKey: readFileSync(file, 'utf8'),
  repository: String(env['WARDER_TEST_GITHUB_REPOSITORY']),
  close: async () => undefined,
});

const appKey = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  publicKeyEncoding: { type: 'spki', format: 'pem' },
});

export const startTestGitHub = async (): Promise<GitHub & { state: GitHubState; upstream: Upstream }> => {
  const state = githubState(createPublicKey(appKey.publicKey));
  const { url, trouble, close } = await startTroubledServer(githubServer(state));
  return {
    url,
    appId: state.app.id,
    installationId: state.installation.id,
    privateKey: appKey.privateKey,
    repository: 'acme/site',
    state,
    upstream: {
      trouble,
      artefacts: async () =>
        [...state.tokens.values()].filter((one) => one.expiresAt > nowOf(state)).map((one) => one.value.slice(0, 8)),
      elapse: async () => {
        for (const token of state.tokens.values()) token.expiresAt = 0;
      },
    },
    close,
  };
};

export const startGitHub = async (): Promise<GitHub> => (keyFile ? realGitHub(keyFile) : startTestGitHub());

/** @returns the status GitHub answers an agent with */
export const useToken = async (github: GitHub, token: unknown, method: string, path: string, body?: object) => {
  const response = await fetch(`${github.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'user-agent': 'warder-test', accept: 'application/vnd.github+json' },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  await response.arrayBuffer();
  return response.status;
};

export const readsFile = async (github: GitHub, token: unknown, repository = github.repository): Promise<boolean> =>
  (await useToken(github, token, 'GET', `/repos/${repository}/contents/README.md`)) === 200;

export const writesFile = async (github: GitHub, token: unknown): Promise<boolean> => {
  const path = `/repos/${github.repository}/contents/warder-test/${randomUUID()}.txt`;
  const body = { message: 'A test of Warder', content: Buffer.from('x').toString('base64') };
  return (await useToken(github, token, 'PUT', path, body)) === 201;
};
