/** A connection from a preset: the settings it stands for, written out, so that the catalogue may change afterwards. */
import { expandPreset } from '../../domain/preset.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Catalog, CatalogEntry } from '../../ports/catalog.ts';

/** What a connection may be asked for by: a provider with its settings, or a preset and what it leaves open. */
export interface PresetInput {
  provider?: string | undefined;
  preset?: string | undefined;
  variables?: Readonly<Record<string, string>> | undefined;
  /** Which of the preset's scopes; all unless told. */
  scopes?: readonly string[] | undefined;
  settings?: unknown;
}

/** Where settings came from, for the audit entry: the digest tells which edition of the preset it was. */
export interface PresetOrigin {
  name: string;
  source: CatalogEntry['source'];
  digest: string;
}

/** @throws Refused `not_found` */
export const presetCalled = (catalog: Catalog, name: string): CatalogEntry => {
  const entry = catalog.named(name);
  if (!entry) throw new Refused('not_found', 'there is no such preset');
  return entry;
};

export type ExpandedInput =
  | { ok: true; provider: string; settings: unknown; origin: PresetOrigin | undefined }
  | { ok: false; problems: string[] };

/** @returns what is to be stored, for the provider to check; or every problem, naming its field */
export const expandedInput = (catalog: Catalog, input: PresetInput): ExpandedInput => {
  const { provider, preset: name, variables, scopes, settings } = input;
  if (name === undefined) {
    const astray = (['variables', 'scopes'] as const).filter((field) => input[field] !== undefined);
    if (astray.length > 0) return { ok: false, problems: astray.map((field) => `${field}: only with a preset`) };
    if (provider === undefined) return { ok: false, problems: ['provider: is needed where no preset is given'] };
    return { ok: true, provider, settings, origin: undefined };
  }
  const entry = catalog.named(name);
  if (!entry) return { ok: false, problems: ['preset: there is none of this name'] };
  const overriding = typeof settings === 'object' && settings !== null ? { ...settings } : {};
  const expanded = expandPreset(entry.preset, { provider, variables, scopes, settings: overriding });
  const { source, digest } = entry;
  return expanded.ok ? { ...expanded, origin: { name, source, digest } } : expanded;
};
