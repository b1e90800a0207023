/**
 * The catalogue: presets of well-known services, and of those that somebody wrote for this broker. What is in it is
 * fixed at start. Those of somebody's own are read and checked then; the shipped ones, which tests have checked, when
 * they are asked for: a hundred files would make every start slower.
 */
import type { Preset } from '../domain/preset.ts';

export interface CatalogEntry {
  preset: Preset;
  /** SHA-256 of the preset's canonical JSON, hexadecimal: what an audit entry names it by. */
  digest: string;
  /** Shipped with Warder, or from the folder WARDER_CATALOG_DIR names. */
  source: 'built-in' | 'custom';
}

export interface Catalog {
  /** All of them, by name, in order. Lets other work go on between one file and the next. */
  entries(): Promise<readonly CatalogEntry[]>;
  named(name: string): CatalogEntry | undefined;
}
