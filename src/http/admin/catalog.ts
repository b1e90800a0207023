/** `/admin/v1/catalog`: presets of well-known services. Nothing in it is anybody's secret. */
import { z } from 'zod';
import { presetCategories, providersOf } from '../../domain/preset.ts';
import type { CatalogEntry } from '../../ports/catalog.ts';
import { presetCalled } from '../../services/access/expand-preset.ts';
import * as field from '../schemas.ts';
import { type AdminRoute, everyone, ok, pageOf, route } from './route.ts';

const list = z.strictObject({
  // The cursor of a page is the name of its last preset.
  cursor: field.name.optional(),
  limit: field.digits(1, 500).default(100),
  search: z.string().min(1).max(100).optional(),
  category: z.enum(presetCategories).optional(),
});

const matches = ({ preset }: CatalogEntry, words: readonly string[]): boolean => {
  const text = [preset.name, preset.title, preset.category, ...Object.keys(preset.scopes)].join(' ').toLowerCase();
  return words.every((word) => text.includes(word));
};

const lineOf = ({ preset, source }: CatalogEntry) => ({
  name: preset.name,
  title: preset.title,
  category: preset.category,
  providers: providersOf(preset),
  scopes: Object.entries(preset.scopes).map(([name, { risk }]) => ({ name, risk })),
  variables: Object.keys(preset.variables ?? {}),
  source,
});

export const catalogRoutes: AdminRoute[] = [
  route({
    method: 'GET',
    path: '/catalog',
    roles: everyone,
    summary: 'List presets of well-known services; search looks for every word in name, title, category and scopes',
    query: list,
    handle: async ({ edge, query }) => {
      const words = (query.search ?? '')
        .toLowerCase()
        .split(/\s+/)
        .filter((word) => word !== '');
      const found = (await edge.core.catalog.entries()).filter(
        (entry) => (query.category === undefined || entry.preset.category === query.category) && matches(entry, words),
      );
      return pageOf(
        found.map((entry) => ({ id: entry.preset.name, entry })),
        query,
        ({ entry }) => lineOf(entry),
      );
    },
  }),
  route({
    method: 'GET',
    path: '/catalog/:name',
    roles: everyone,
    summary: 'Show a preset: how to get a key, what its scopes let through, what rotation and revocation can do',
    handle: async ({ edge, params }) => {
      const { preset, source, digest } = presetCalled(edge.core.catalog, params['name'] ?? '');
      return ok({ ...preset, providers: providersOf(preset), source, digest });
    },
  }),
];
