/**
 * The cache key of a stage: a struct of named fields. It is known once the stage's inputs are, since it holds their
 * content digests and not the names of the stages that made them.
 *
 * The effective seed is a field of its own; a renamed stage has another derived seed, thus another fingerprint.
 *
 * Versions of the struct: 1 first.
 */
import { createHash } from 'node:crypto';
import { pointerSegments } from '../config/tree.ts';
import { canonicalJson } from './canonical-json.ts';
import type { Fingerprint, FingerprintFields, Numerics, PlannedStage } from './types.ts';

export const FINGERPRINT_VERSION = 1;

/**
 * @param inputDigests content digest by pointer, for each of `stage.inputs`
 * @throws RangeError when a digest is absent or superfluous: a fault of the caller
 */
export function fingerprintStage(
  stage: PlannedStage,
  inputDigests: Readonly<Record<string, string>>,
  numerics: Numerics,
): Fingerprint {
  const pointers = stage.inputs.map(({ pointer }) => pointer);
  const missing = pointers.filter((pointer) => inputDigests[pointer] === undefined);
  const superfluous = Object.keys(inputDigests).filter((pointer) => !pointers.includes(pointer));
  if (missing.length > 0 || superfluous.length > 0) {
    const list = [...missing.map((each) => `no ${each}`), ...superfluous.map((each) => `unknown ${each}`)];
    throw new RangeError(`digests of the inputs of stage "${stage.name}" do not fit: ${list.join(', ')}`);
  }
  const fields: FingerprintFields = {
    version: FINGERPRINT_VERSION,
    kind: stage.definition.kind,
    stageVersion: stage.definition.version,
    ...(stage.definition.origin && { code: stage.definition.origin.code }),
    options: decidingOptions(stage),
    inputs: Object.fromEntries(pointers.map((pointer) => [pointer, inputDigests[pointer]!])),
    seed: stage.seed,
    engine: stage.resources.device
      ? {
          fr1: numerics.fr1,
          onnxruntime: numerics.onnxruntime,
          provider: numerics.provider,
          threads: numerics.threads,
        }
      : { fr1: numerics.fr1 },
  };
  return { digest: digestOf(fields), fields };
}

/** `sha256:<hex>` of the canonical JSON. */
export function digestOf(fields: FingerprintFields): string {
  return `sha256:${createHash('sha256').update(canonicalJson(fields)).digest('hex')}`;
}

/** Options that decide the result, with `null` where an artifact stands; the seed is a field of its own. */
function decidingOptions(stage: PlannedStage): Record<string, unknown> {
  const cosmetic = new Set([...(stage.definition.cosmeticOptions ?? []), 'seed']);
  const kept = Object.entries(stage.options).filter(([key, value]) => !cosmetic.has(key) && value !== undefined);
  const options = structuredClone(Object.fromEntries(kept));
  for (const { pointer } of stage.inputs) {
    if (!cosmetic.has(pointerSegments(pointer)[0] ?? '')) replaceAt(options, pointer, null);
  }
  return options;
}

function replaceAt(options: Record<string, unknown>, pointer: string, value: unknown): void {
  const segments = pointerSegments(pointer);
  const last = segments.pop()!;
  let parent: Record<string, unknown> = options;
  for (const segment of segments) parent = parent[segment] as Record<string, unknown>;
  parent[last] = value;
}
