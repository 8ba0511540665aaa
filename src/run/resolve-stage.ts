/**
 * Turns a planned stage into one whose inputs are known: digests, fingerprint, and whether the cache has its result.
 * Shared by the executor and by `fr1 plan`, which asks without changing anything.
 */
import type { Artifact } from '../artifacts/types.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { explainRerun } from '../plan/explain-rerun.ts';
import { fingerprintStage } from '../plan/fingerprint.ts';
import type { Fingerprint, Numerics, PlannedStage } from '../plan/types.ts';
import type { OutputRecord, RunReason } from './events.ts';
import type { CacheEntry, Workspace } from './workspace.ts';

export type StageOutputs = Readonly<Record<string, OutputRecord>>;

/** Finds each artifact option's artifact, by pointer. `outputsOf` gives the outputs of a finished stage. */
export async function resolveInputs(
  stage: PlannedStage,
  outputsOf: (stage: string) => StageOutputs,
  workspace: Workspace,
  options: { remember: boolean; signal?: AbortSignal },
): Promise<Map<string, Artifact>> {
  const artifacts = new Map<string, Artifact>();
  for (const { pointer, source, position } of stage.inputs) {
    if (source.kind === 'artifact-ref') {
      const output = outputsOf(source.stage)[source.output];
      if (!output) throw new TypeError(`stage ${source.stage} has no output ${source.output}`);
      artifacts.set(pointer, { type: output.type, path: output.path, digest: output.digest });
    } else {
      const digest = await workspace.digestLocalInput(source.path, options).catch((cause: unknown) => {
        if (cause instanceof Fr1Error || options.signal?.aborted) throw cause;
        throw new Fr1Error('ARTIFACT_INVALID', `cannot read "${source.written}" for option ${pointer}`, {
          hint: `the path means ${source.path}`,
          at: position,
          cause,
        });
      });
      artifacts.set(pointer, { type: source.type, path: source.path, digest });
    }
  }
  return artifacts;
}

export function fingerprintWith(
  stage: PlannedStage,
  inputs: ReadonlyMap<string, Artifact>,
  numerics: Numerics,
): Fingerprint {
  const digests = Object.fromEntries([...inputs].map(([pointer, artifact]) => [pointer, artifact.digest]));
  return fingerprintStage(stage, digests, numerics);
}

/** The options with each artifact reference replaced by the artifact that it stands for, or by `null` until it is made. */
export function optionsWithArtifacts(
  options: Readonly<Record<string, unknown>>,
  artifacts: ReadonlyMap<string, Artifact | null>,
): Record<string, unknown> {
  const replace = (value: unknown, pointer: string): unknown => {
    const artifact = artifacts.get(pointer);
    if (artifact !== undefined) return artifact;
    if (Array.isArray(value)) return value.map((item, i) => replace(item, `${pointer}/${i}`));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, replace(item, `${pointer}/${escapePointer(key)}`)]),
    );
  };
  return replace(options, '') as Record<string, unknown>;
}

export type CacheDecision =
  | { readonly kind: 'cached'; readonly entry: CacheEntry; readonly outputs: StageOutputs }
  | { readonly kind: 'run'; readonly reason: RunReason; readonly warning?: string };

/** Looks the stage up in the cache; every artifact of a reused result has been verified. */
export async function consultCache(
  stage: PlannedStage,
  fingerprint: Fingerprint,
  workspace: Workspace,
  scope: string,
): Promise<CacheDecision> {
  if (stage.forced) return { kind: 'run', reason: { kind: 'forced' } };
  const entry = await workspace.readCache(fingerprint.digest);
  if (!entry) {
    if (await workspace.hasState(fingerprint.digest)) return { kind: 'run', reason: { kind: 'unfinished' } };
    const last = await workspace.readLastOf(scope, stage.name);
    if (!last) return { kind: 'run', reason: { kind: 'first' } };
    return { kind: 'run', reason: { kind: 'changed', changes: explainRerun(last.fields, fingerprint.fields) } };
  }
  const outputs: Record<string, OutputRecord> = {};
  for (const [name, { type, digest }] of Object.entries(entry.outputs)) {
    const found = await workspace.store.inspect(digest);
    if (found.state !== 'intact') {
      const detail = found.state === 'missing' ? 'it is not in the store' : found.reason;
      return {
        kind: 'run',
        reason: { kind: 'damaged', output: name, detail },
        warning: `stored output "${name}" cannot be reused and is made again: ${detail}`,
      };
    }
    outputs[name] = { type, digest, path: found.path };
  }
  return { kind: 'cached', entry, outputs };
}

function escapePointer(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1');
}
