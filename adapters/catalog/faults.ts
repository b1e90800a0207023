/** What must hold between the parts of a preset, beyond the shape of each. */
import { type CompiledRule, compileRule, matches } from '../../src/domain/gateway-rules.ts';
import {
  clientId,
  expandPreset,
  type Preset,
  type PresetRule,
  providersOf,
  type Risk,
  risks,
} from '../../src/domain/preset.ts';
import {
  type PresetVariable,
  placeholdersIn,
  standsIn,
  type VariablePattern,
  variableFault,
} from '../../src/domain/preset-variables.ts';
import type { Provider } from '../../src/ports/provider.ts';

export interface Fault {
  path: readonly PropertyKey[];
  message: string;
}

/** @param providers judge the settings a preset expands to; one that is not there judges nothing */
export const presetFaults = (preset: Preset, providers: ReadonlyMap<string, Provider>): Fault[] => {
  const found = [
    ...providerFaults(preset),
    ...variableFaults(preset),
    ...Object.keys(preset.scopes).flatMap((name) => riskFaults(preset, name)),
  ];
  // Settings made of what is wrong already would say it once more in other words.
  return found.length > 0 ? found : settingsFaults(preset, providers);
};

const providerFaults = (preset: Preset): Fault[] =>
  providersOf(preset).length === 0 ? [{ path: [], message: 'api_key or oauth2 is needed' }] : [];

// ---- variables -----------------------------------------------------------------------------------------------------

const urlsOf = (preset: Preset): { path: string[]; url: string }[] => [
  { path: ['base_url'], url: preset.base_url },
  ...(['authorization_endpoint', 'token_endpoint', 'revocation_endpoint'] as const).flatMap((key) => {
    const url = preset.oauth2?.[key];
    return url === undefined ? [] : [{ path: ['oauth2', key], url }];
  }),
];

/** Where a variable goes beside URLs: into the user name of HTTP Basic, or into a header beside the secret. */
const injectedTexts = (preset: Preset): { path: string[]; text: string }[] => {
  const inject = preset.api_key?.inject;
  const path = ['api_key', 'inject'];
  if (inject && 'basic' in inject) return [{ path: [...path, 'basic', 'username'], text: inject.basic.username }];
  return inject && 'value' in inject && inject.value !== undefined
    ? [{ path: [...path, 'value'], text: inject.value }]
    : [];
};

const variableFaults = (preset: Preset): Fault[] => {
  const declared = preset.variables ?? {};
  const texts = injectedTexts(preset);
  const audience = preset.oauth2?.audience;
  const places = [
    ...urlsOf(preset).map(({ path, url }) => ({ path, text: url })),
    ...texts,
    ...(audience === undefined ? [] : [{ path: ['oauth2', 'audience'], text: audience }]),
  ];
  const used = new Set(places.flatMap(({ text }) => [...placeholdersIn(text)]));
  return [
    ...places.flatMap(({ path, text }) =>
      [...placeholdersIn(text)]
        .filter((name) => !Object.hasOwn(declared, name))
        .map(() => ({ path, message: 'names a variable that is not declared' })),
    ),
    ...texts.flatMap(({ path, text }) =>
      [...placeholdersIn(text)].flatMap((name) => {
        const pattern = Object.hasOwn(declared, name) ? declared[name]?.pattern : undefined;
        const fits = pattern === undefined || standsIn[pattern].includes('username');
        return fits ? [] : [{ path, message: `a variable of pattern ${pattern} cannot stand here` }];
      }),
    ),
    ...Object.entries(declared).flatMap(([name, variable]) => [
      ...(used.has(name) ? [] : [{ path: ['variables', name], message: 'is named nowhere' }]),
      ...(['default', 'example'] as const).flatMap((key) => {
        const value = variable[key];
        const fault = value === undefined ? undefined : variableFault(variable, value);
        return fault === undefined ? [] : [{ path: ['variables', name, key], message: fault }];
      }),
    ]),
    ...urlsOf(preset).flatMap(({ path, url }) => {
      const message = urlFault(url, (name) => (Object.hasOwn(declared, name) ? declared[name] : undefined));
      return message === undefined ? [] : [{ path, message }];
    }),
  ];
};

const urlShape = /^https:\/\/([a-z0-9._{}-]+)((?:\/[A-Za-z0-9._~{}-]+)*)$/;
const wholePlaceholder = /^\{([a-z][a-z0-9_]*)\}$/;

/**
 * A variable is a whole label of the host (a `dns-name`: its beginning) or a whole segment of the path. Half a label
 * would let a value choose a neighbour's name; anything behind the path, where the secret goes.
 */
const urlFault = (url: string, variableOf: (name: string) => PresetVariable | undefined): string | undefined => {
  const [, host, path = ''] = urlShape.exec(url) ?? [];
  if (host === undefined) return 'https:// with a host and a plain path: no port, user, query or slash at its end';
  const labels = host.split('.');
  for (const [place, parts] of [
    ['host', labels],
    ['path', path.split('/')],
  ] as const) {
    for (const [index, part] of parts.entries()) {
      if (!/[{}]/.test(part)) continue;
      const variable = variableOf(wholePlaceholder.exec(part)?.[1] ?? '');
      if (!variable) return 'a variable must be a whole label of the host or a whole segment of the path';
      const { pattern } = variable;
      if (!standsIn[pattern].includes(place)) return `a variable of pattern ${pattern} cannot stand in the ${place}`;
      if (pattern === 'dns-name' && index > 0) return 'a dns-name can only begin a host';
      if (pattern === 'dns-label' && place === 'host' && fewestLabels(labels.slice(index + 1), variableOf) < 2) {
        return 'a dns-label can only stand before a domain of two labels or more';
      }
    }
  }
  return undefined;
};

/** How many labels parts of a host come to, at the least. */
const fewestLabels = (parts: readonly string[], variableOf: (name: string) => PresetVariable | undefined): number =>
  parts
    .map((part) => variableOf(wholePlaceholder.exec(part)?.[1] ?? '')?.choices ?? [part])
    .reduce((sum, choices) => sum + Math.min(...choices.map((choice) => choice.split('.').length)), 0);

// ---- risks ---------------------------------------------------------------------------------------------------------

const looking = new Set(['GET', 'HEAD', 'OPTIONS']);
const searching = new Set(['POST', 'QUERY', 'SEARCH', 'REPORT', 'PROPFIND']);

const methodFault = (risk: Risk, rule: PresetRule): string | undefined => {
  if (risk === 'read') {
    const fine = rule.methods.every((method) => looking.has(method) || (rule.search && searching.has(method)));
    return fine ? undefined : 'a read scope has GET, HEAD, OPTIONS, or a POST marked with search: true';
  }
  if (risk === 'destructive') return undefined;
  return rule.methods.some((method) => method === 'DELETE' || method === '*')
    ? 'DELETE belongs into a destructive scope'
    : undefined;
};

/** One path that a pattern takes: the least specific way to be asked for. */
const samplePath = (pattern: string): string => pattern.replaceAll('/**', '/x').replaceAll('/*', '/x');

const compiledRules = (preset: Preset, name: string): CompiledRule[] =>
  (preset.scopes[name]?.rules ?? []).flatMap((rule) => {
    const compiled = compileRule(rule);
    return compiled.ok ? [compiled.rule] : [];
  });

/** A scope lets nothing through that stands in a riskier one: or its mark would say too little. */
const riskFaults = (preset: Preset, name: string): Fault[] => {
  const scope = preset.scopes[name];
  if (!scope) return [];
  const rank = risks.indexOf(scope.risk);
  const calmer = Object.entries(preset.scopes).filter(([, other]) => risks.indexOf(other.risk) < rank);
  return scope.rules.flatMap((rule, index) => {
    const path = ['scopes', name, 'rules', index];
    const fault = methodFault(scope.risk, rule);
    // A riskier scope often brings what is needed to look, too; that is no leak.
    const acts = rule.methods.filter((method) => !looking.has(method));
    const also = calmer.find(([other]) =>
      compiledRules(preset, other).some((one) => acts.some((method) => matches(one, method, samplePath(rule.path)))),
    );
    return [
      ...(fault === undefined ? [] : [{ path, message: fault }]),
      ...(also === undefined ? [] : [{ path, message: `is ${scope.risk}, and allowed by ${also[0]} as well` }]),
    ];
  });
};

// ---- the expanded settings -----------------------------------------------------------------------------------------

const samples: Record<Exclude<VariablePattern, 'choice'>, string> = {
  'dns-label': 'example',
  'dns-name': 'host.example.com',
  id: 'Example-1',
  number: '1',
  email: 'somebody@example.com',
};

/** Every combination would be too many; each choice is tried, the other variables at their sample. */
const sampleValues = (preset: Preset): Record<string, string>[] => {
  const variables = Object.entries(preset.variables ?? {});
  const base = Object.fromEntries(
    variables.map(([name, { pattern, choices }]) => [
      name,
      pattern === 'choice' ? (choices?.[0] ?? '') : samples[pattern],
    ]),
  );
  return [
    base,
    ...variables.flatMap(([name, { choices = [] }]) => choices.map((choice) => ({ ...base, [name]: choice }))),
  ];
};

const settingsFaults = (preset: Preset, providers: ReadonlyMap<string, Provider>): Fault[] => {
  const messages = new Set<string>();
  for (const type of providersOf(preset)) {
    const provider = providers.get(type);
    if (!provider) continue;
    for (const variables of sampleValues(preset)) {
      const given = type === 'oauth2' ? { ...variables, [clientId.name]: 'client' } : variables;
      const expanded = expandPreset(preset, { provider: type, variables: given });
      const checked = expanded.ok ? provider.checkSettings(expanded.settings) : expanded;
      if (!checked.ok) for (const problem of checked.problems) messages.add(`as ${type}: ${problem}`);
    }
  }
  return [...messages].map((message) => ({ path: [], message }));
};
