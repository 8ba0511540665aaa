/**
 * Reads every artifact of a workspace again and compares it with its digest. A damaged one is marked, so that the next
 * run that needs it makes it again; one that is gone is named too. Called with the workspace locked.
 */
import type { CacheEntry, Workspace } from './workspace.ts';

export interface UnusableArtifact {
  readonly digest: string;
  /** `stage.output` of each finished stage that made it; empty for an artifact that no cache entry names. */
  readonly madeBy: readonly string[];
  readonly reason: string;
}

export interface VerifyReport {
  readonly version: 1;
  readonly intact: number;
  readonly bytes: number;
  readonly damaged: readonly UnusableArtifact[];
  /** Named by the cache, but not in the store. */
  readonly missing: readonly UnusableArtifact[];
}

/** `onArtifact` is called before each artifact is read. */
export async function verifyStore(
  workspace: Workspace,
  options: { signal?: AbortSignal; onArtifact?: (done: number, total: number) => void } = {},
): Promise<VerifyReport> {
  const { signal, onArtifact } = options;
  const makers = makersOf(await workspace.cacheEntries());
  const digests = await workspace.store.digests();
  const damaged: UnusableArtifact[] = [];
  let intact = 0;
  let bytes = 0;
  for (const [done, digest] of digests.entries()) {
    signal?.throwIfAborted();
    onArtifact?.(done, digests.length);
    const found = await workspace.store.inspect(digest, { full: true, ...(signal && { signal }) });
    if (found.state === 'damaged') {
      await workspace.store.distrust(digest);
      damaged.push({ digest, madeBy: makers.get(digest) ?? [], reason: found.reason });
    } else {
      intact++;
      bytes += (await workspace.store.bytesOf(digest)) ?? 0;
    }
  }
  const present = new Set(digests);
  const missing = [...makers]
    .filter(([digest]) => !present.has(digest))
    .map(([digest, madeBy]) => ({ digest, madeBy, reason: 'it is not in the store' }));
  return { version: 1, intact, bytes, damaged, missing };
}

/** `stage.output` by digest. */
export function makersOf(entries: readonly CacheEntry[]): Map<string, string[]> {
  const makers = new Map<string, string[]>();
  for (const { stage, outputs } of entries) {
    for (const [output, { digest }] of Object.entries(outputs)) {
      const names = makers.get(digest) ?? [];
      makers.set(digest, names);
      const name = `${stage}.${output}`;
      if (!names.includes(name)) names.push(name);
    }
  }
  return makers;
}
