/**
 * Models of the Hugging Face hub that are on this machine: where its own tools keep what they downloaded. Reads the file
 * system only; `fr1 fetch` is what uses the network.
 *
 * @see https://huggingface.co/docs/huggingface_hub/guides/manage-cache
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';

export interface HubModel {
  /** `owner/name` */
  readonly repository: string;
  /** Branch, tag or commit. */
  readonly revision: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads `owner/name` or `owner/name@revision`; null for what is no such id. */
export function hubModel(written: string): HubModel | null {
  const match = /^([\w-][\w.-]*\/[\w-][\w.-]*)(?:@([\w-][\w./-]*))?$/.exec(written);
  if (!match || match[2]?.includes('..')) return null;
  return { repository: match[1]!, revision: match[2] ?? 'main' };
}

/** The cache folder, as the hub's Python and JavaScript libraries find it. */
export function hubCacheFolder(env: Environment = process.env): string {
  const home = env['HF_HOME'] ?? path.join(env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache'), 'huggingface');
  return env['HF_HUB_CACHE'] ?? env['HUGGINGFACE_HUB_CACHE'] ?? path.join(home, 'hub');
}

/** Folder of a downloaded model; undefined where it, or that revision of it, is not in the cache. */
export function cachedModel({ repository, revision }: HubModel, cache: string = hubCacheFolder()): string | undefined {
  const folder = path.join(cache, `models--${repository.replace('/', '--')}`);
  const reference = path.join(folder, 'refs', revision);
  const commit = existsSync(reference) ? readFileSync(reference, 'utf8').trim() : revision;
  const snapshot = path.join(folder, 'snapshots', commit);
  return /^[0-9a-f]{40}$/.test(commit) && existsSync(path.join(snapshot, 'config.json')) ? snapshot : undefined;
}
