/** The methods that docs/rotation-methods.md shows are ones that Warder takes, and its calls are those of the pages. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { openNetwork } from '../../../adapters/network.ts';
import { openApiKeyProvider } from '../../../adapters/providers/api-key.ts';
import { openOauth2Provider } from '../../../adapters/providers/oauth2.ts';
import { rotationOf } from '../../conformance/rotation-attempt.ts';
import { recipe, settingsOf } from './rig.ts';

const page = readFileSync(join(import.meta.dirname, '../../../docs/rotation-methods.md'), 'utf8');
const methods = [...page.matchAll(/```yaml\n(.*?)```/gs)].map(([, text = '']) => parse(text) as Record<string, object>);

const network = openNetwork();
afterAll(() => network.close());

const oauth2 = openOauth2Provider(network);
const oauthSettings = oauth2.checkSettings({
  token_endpoint: 'https://login.example.com/token',
  client_id: 'warder',
  grant: 'client_credentials',
  scopes: { read: { oauth_scopes: ['read'] } },
});

test.each(methods.map((method) => [JSON.stringify(method).slice(0, 80), method] as const))('%s…', (_name, method) => {
  const forOauth = 'oauth_scopes' in (method['recipe'] ?? {});
  const provider = forOauth ? oauth2 : openApiKeyProvider({ network, scripts: '/etc/warder/rotate' });
  if (!oauthSettings.ok) throw new Error(oauthSettings.problems.join());
  const settings = forOauth ? oauthSettings.value : settingsOf('https://api.example.com');
  expect(rotationOf(provider).checkMethod(method, settings)).toMatchObject({ ok: true });
});

test('the recipe of the page is the one that the tests run', () => {
  expect(methods).toHaveLength(5);
  expect(methods[0]).toEqual({ recipe });
});
