/** The authorization server of the tests from outside, and a browser without a screen. */
import { join } from 'node:path';
import type { Upstream } from '../../conformance/provider.ts';
import { type Child, runScript } from '../../faults/child-process.ts';

export interface OidcStats {
  redemptions: number;
  families_revoked: number;
  token_requests: number;
  /** How often each refresh token was redeemed, by its id. */
  redeemed: Record<string, number>;
}

export interface OidcServer {
  url: string;
  client: { id: string; secret: string };
  set(what: {
    rotates?: boolean;
    /** Whether revoking an access token leaves alone what came of the same consent. */
    families_part?: boolean;
    access_token_seconds?: number;
    account?: string;
    denies?: boolean;
    redirect_uris?: string[];
  }): Promise<void>;
  /** One more client, which may have several secrets and manage them at `/manage/secrets` with the scope `admin`. */
  addClient(): Promise<{ id: string; secret: string; key_id: string }>;
  clientSecrets(id: string, secret?: string): Promise<{ count: number; accepted: boolean }>;
  stats(): Promise<OidcStats>;
  /** Access tokens that work. */
  tokens(): Promise<string[]>;
  refreshTokens(): Promise<{ id: string; consumed: boolean }[]>;
  elapse(): Promise<void>;
  /** Revokes everything, as a person does in the settings of his account. */
  forget(): Promise<void>;
  trouble: Upstream['trouble'];
  stop(): Promise<void>;
}

export const startOidcServer = async (): Promise<OidcServer> => {
  const child: Child = runScript(join(import.meta.dirname, 'server.ts'));
  const line = await child.line('http');
  const [url = '', control = ''] = line.split(' ');
  const post = async (path: string, body: object = {}): Promise<unknown> => {
    const response = await fetch(`${control}/${path}`, { method: 'POST', body: JSON.stringify(body) });
    return response.json();
  };
  const into = (mode: string) => async (): Promise<void> => void (await post(`trouble/${mode}`));
  return {
    url,
    client: { id: 'warder', secret: 'client-secret-of-warder-0123456789' },
    set: async (what) => void (await post('control/set', what)),
    addClient: async () => (await post('control/client')) as { id: string; secret: string; key_id: string },
    clientSecrets: async (id, secret) =>
      (await post('control/client-secrets', { id, secret })) as { count: number; accepted: boolean },
    stats: async () => (await post('control/stats')) as OidcStats,
    tokens: async () => (await post('control/tokens')) as string[],
    refreshTokens: async () => (await post('control/refresh-tokens')) as { id: string; consumed: boolean }[],
    elapse: async () => void (await post('control/elapse')),
    forget: async () => void (await post('control/forget')),
    trouble: {
      down: into('down'),
      nonsense: into('nonsense'),
      halfDone: into('halfDone'),
      late: into('late'),
      hangs: into('hangs'),
      well: into('well'),
      slow: async (ms) => void (await post(`trouble/slow/${ms}`)),
    },
    stop: async () => {
      child.process.kill('SIGKILL');
      await child.ended;
    },
  };
};

export interface Browser {
  /** One request, with the cookies of its host; redirects are not followed. */
  visit(url: string, method?: string): Promise<Response>;
  /** Follows redirects until a page, or until `stop` says so of an address. */
  follow(url: string, stop?: (url: string) => boolean): Promise<{ url: string; status: number; text: string }>;
}

/** Keeps cookies by host and port, which is what tells the servers of these tests apart. */
export const openBrowser = (): Browser => {
  const jars = new Map<string, Map<string, string>>();
  const browser: Browser = {
    visit: async (url, method = 'GET') => {
      const { host } = new URL(url);
      const jar = jars.get(host) ?? new Map<string, string>();
      jars.set(host, jar);
      const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
      const response = await fetch(url, { method, redirect: 'manual', headers: cookie === '' ? {} : { cookie } });
      for (const line of response.headers.getSetCookie()) {
        const [name = '', value = ''] = line.split(';', 1)[0]?.split(/=(.*)/s) ?? [];
        if (value === '') jar.delete(name);
        else jar.set(name, value);
      }
      return response;
    },
    follow: async (url, stop = () => false) => {
      for (let at = url, method = 'GET', hops = 0; hops < 20; hops += 1) {
        if (stop(at)) return { url: at, status: 0, text: '' };
        const response = await browser.visit(at, method);
        const location = response.headers.get('location');
        const text = await response.text();
        if (location !== null) {
          at = new URL(location, at).href;
          method = 'GET';
        } else if (method === 'GET' && text.includes('<form method="post">')) method = 'POST';
        else return { url: at, status: response.status, text };
      }
      throw new Error('redirected in circles');
    },
  };
  return browser;
};

/** Opens a link and consents, as one person in one browser. */
export const consent = async (link: string, browser = openBrowser()) => browser.follow(link);
