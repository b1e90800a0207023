/**
 * A preset: what is known of a service before anybody has an account there. Plain data; a connection made from one is
 * expanded into the settings of its provider and knows nothing of the preset afterwards.
 */
import { fill, type PresetVariable, placeholdersIn, variableValues } from './preset-variables.ts';

/** What an agent can do with a scope: look; change; or what nobody can take back. */
export const risks = ['read', 'write', 'destructive'] as const;
export type Risk = (typeof risks)[number];

export const presetCategories = [
  'ai',
  'analytics',
  'cloud',
  'commerce',
  'communication',
  'content',
  'data',
  'design',
  'developer-tools',
  'documents',
  'email',
  'finance',
  'identity',
  'observability',
  'payments',
  'project-management',
  'sales',
  'scheduling',
  'search',
  'support',
] as const;
export type PresetCategory = (typeof presetCategories)[number];

export const presetProviders = ['api-key', 'oauth2'] as const;
export type PresetProvider = (typeof presetProviders)[number];

export interface PresetRule {
  methods: readonly string[];
  path: string;
  /** A POST that only looks something up: why a `read` scope may have it. */
  search?: true | undefined;
}

export interface PresetScope {
  risk: Risk;
  description: string;
  rules: readonly PresetRule[];
  /** The scopes to ask the authorization server for; empty where it knows none for this. */
  oauth2?: readonly string[] | undefined;
}

export type PresetInject =
  | { header: string; value?: string | undefined }
  | { query: string }
  | { basic: { username: string } };

/** Whether the vendor has a call for it, and what a person does where it has none. */
export interface PresetAbility {
  api: boolean;
  how: string;
}

export interface PresetApiKey {
  /** How to obtain a key at the vendor. */
  obtain: string;
  /** How keys begin, as plain text: for people to compare with, nothing matches against it. */
  looks_like?: readonly string[] | undefined;
  inject: PresetInject;
  /** `overlap`: two keys can be valid at once, so a rotation has no gap. */
  rotation: PresetAbility & { overlap: boolean };
  revocation: PresetAbility;
}

export interface PresetOAuth2 {
  /** Where to register the client, and what the vendor's pages call it. */
  obtain: string;
  documentation: string;
  grant: 'authorization_code' | 'client_credentials';
  authorization_endpoint?: string | undefined;
  token_endpoint: string;
  /** RFC 7009; absent where the vendor has none. */
  revocation_endpoint?: string | undefined;
  /** Whether the vendor checks a PKCE challenge (RFC 7636, S256). */
  pkce: boolean;
  /** `comma`: what a scope asks for is sent as one word (`read,write`), which is how such a server reads it. */
  scope_separator: 'space' | 'comma';
  client_authentication: 'client_secret_basic' | 'client_secret_post';
  /** `rotating`: each refresh gives a new one and ends the old; `none`: access tokens last until they are revoked. */
  refresh_tokens: 'rotating' | 'reusable' | 'none';
  /** Asked for at consent beside those of the scopes, such as `offline_access`. */
  connect_scopes?: readonly string[] | undefined;
  audience?: string | undefined;
  /** Further parameters of the authorization request, such as Google's `access_type=offline`. */
  authorization_parameters?: Readonly<Record<string, string>> | undefined;
}

export interface Preset {
  name: string;
  title: string;
  category: PresetCategory;
  documentation: string;
  base_url: string;
  variables?: Readonly<Record<string, PresetVariable>> | undefined;
  api_key?: PresetApiKey | undefined;
  oauth2?: PresetOAuth2 | undefined;
  scopes: Readonly<Record<string, PresetScope>>;
  notes?: readonly string[] | undefined;
}

/** The providers a preset can be used with; the first is taken where none is named. */
export const providersOf = (preset: Preset): PresetProvider[] => [
  ...(preset.api_key ? (['api-key'] as const) : []),
  ...(preset.oauth2 ? (['oauth2'] as const) : []),
];

export interface PresetRequest {
  provider?: string | undefined;
  variables?: Readonly<Record<string, string>> | undefined;
  /** Which of the preset's scopes; all of them unless told. */
  scopes?: readonly string[] | undefined;
  /** Replace what the preset says, top-level key by top-level key. */
  settings?: Readonly<Record<string, unknown>> | undefined;
}

export type Expanded =
  | { ok: true; provider: PresetProvider; settings: Record<string, unknown> }
  | { ok: false; problems: string[] };

/**
 * The plain settings of a connection to this service. Whether they are right is the provider's to say.
 *
 * @returns settings with every variable filled in, or every problem, naming the field; never a value
 */
export const expandPreset = (preset: Preset, request: PresetRequest): Expanded => {
  const offered = providersOf(preset);
  const provider = offered.find((one) => one === (request.provider ?? offered[0]));
  if (provider === undefined) {
    return { ok: false, problems: [`provider: preset ${preset.name} is for ${offered.join(' or ')}`] };
  }
  const given = request.settings ?? {};
  const { chosen, problems } = chosenScopes(preset, request);
  const settings = Object.fromEntries(
    Object.entries(settingsFor(preset, provider, chosen)).filter(
      ([key, value]) => value !== undefined && !Object.hasOwn(given, key),
    ),
  );
  const declared = declaredVariables(preset, provider);
  const values = variableValues(preset.name, declared, request.variables ?? {}, placeholdersIn(settings), problems);
  if (problems.length > 0) return { ok: false, problems };
  const filled = fill(settings, values);
  return { ok: true, provider, settings: { ...asSettings(filled), ...given } };
};

const asSettings = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? { ...value } : {};

const chosenScopes = (
  preset: Preset,
  request: PresetRequest,
): { chosen: [string, PresetScope][]; problems: string[] } => {
  const all = Object.entries(preset.scopes);
  const { scopes } = request;
  if (scopes === undefined) return { chosen: all, problems: [] };
  if (request.settings && Object.hasOwn(request.settings, 'scopes')) {
    return { chosen: [], problems: ['scopes: settings.scopes replaces those of the preset; give one of the two'] };
  }
  const unknown = scopes.some((name) => !Object.hasOwn(preset.scopes, name));
  const rule = `scopes: preset ${preset.name} has ${all.map(([name]) => name).join(', ')}`;
  return { chosen: all.filter(([name]) => scopes.includes(name)), problems: unknown ? [rule] : [] };
};

const settingsFor = (
  preset: Preset,
  provider: PresetProvider,
  chosen: readonly [string, PresetScope][],
): Record<string, unknown> => {
  const rules = (scope: PresetScope): object[] => scope.rules.map(({ methods, path }) => ({ methods, path }));
  if (provider === 'api-key') {
    return {
      base_url: preset.base_url,
      inject: preset.api_key?.inject,
      scopes: Object.fromEntries(chosen.map(([name, scope]) => [name, rules(scope)])),
    };
  }
  const oauth = preset.oauth2;
  return {
    authorization_endpoint: oauth?.authorization_endpoint,
    token_endpoint: oauth?.token_endpoint,
    revocation_endpoint: oauth?.revocation_endpoint,
    client_id: '{client_id}',
    client_auth: oauth?.client_authentication,
    grant: oauth?.grant,
    // Few servers narrow a token that was consented to; the rules hold for all of them.
    narrowing: 'gateway',
    base_url: preset.base_url,
    scopes: Object.fromEntries(
      chosen.map(([name, scope]) => [name, { oauth_scopes: oauthScopes(preset, scope), rules: rules(scope) }]),
    ),
    connect_scopes: oauth?.connect_scopes,
    authorize_params: oauth?.authorization_parameters,
    audience: oauth?.audience,
  };
};

const oauthScopes = (preset: Preset, { oauth2 = [] }: PresetScope): readonly string[] =>
  preset.oauth2?.scope_separator === 'comma' && oauth2.length > 0 ? [oauth2.join(',')] : oauth2;

/** What every authorization server hands out with a client's registration, and every `oauth2` preset asks for. */
export const clientId = {
  name: 'client_id',
  variable: { description: 'the id of the client you registered with the vendor', pattern: 'id' },
} as const satisfies { name: string; variable: PresetVariable };

/** The variables there are for a provider. */
const declaredVariables = (preset: Preset, provider: PresetProvider): Record<string, PresetVariable> => ({
  ...preset.variables,
  ...(provider === 'oauth2' ? { [clientId.name]: clientId.variable } : {}),
});
