/** What pre-training takes of the host's memory, worked out before any weight is there. */
import type { Row } from '../../src/engine/models/qwen2_5_vl/batch.ts';
import { type BatchSize, feedBytes } from '../../src/engine/models/qwen2_5_vl/batch-size.ts';
import type { Qwen25VLConfig } from '../../src/engine/models/qwen2_5_vl/config.ts';
import type { MemoryPlan } from '../../src/engine/models/qwen2_5_vl/estimate.ts';
import { defaultExecution } from '../../src/engine/models/qwen2_5_vl/execution.ts';
import { parameterSpecs } from '../../src/engine/models/qwen2_5_vl/parameters.ts';
import type { MemoryKnobs } from '../../src/engine/models/qwen2_5_vl/require-memory.ts';
import { trainedParameter } from '../../src/engine/models/qwen2_5_vl/training-model.ts';
import type { ImageGrid } from '../../src/engine/models/qwen2_5_vl/vision-layout.ts';
import type { PretrainOptions } from './options.ts';

export const PRETRAIN_KNOBS: MemoryKnobs = {
  trainedWeights: 'make the model smaller under architecture',
  images: 'lower batchSize',
  batch: 'lower microBatchSize',
  activations: 'lower microBatchSize, or make the model smaller under architecture',
};

export interface PretrainSize extends Pick<PretrainOptions, 'batchSize' | 'microBatchSize'> {
  /** Images on which perception is measured at a time. */
  readonly probed: number;
}

/**
 * @param samples rows, and rows on which perception is measured, among which some are about as long as any
 * @param grid of each image
 */
export function pretrainPlan(
  config: Qwen25VLConfig,
  samples: { readonly rows: readonly Row[]; readonly probes: readonly Row[] },
  grid: ImageGrid,
  { batchSize, microBatchSize, probed }: PretrainSize,
): MemoryPlan {
  const rows = Math.min(batchSize, microBatchSize);
  const parts = Math.ceil(batchSize / microBatchSize);
  const size = batchOf(samples.rows, rows, grid);
  return {
    config,
    execution: defaultExecution(config),
    weights: {
      frozenBytes: 0,
      trained: { parameters: parameterSpecs(config).map(trainedParameter) },
      dtypeOf: () => 'float32',
      adapterOf: () => undefined,
    },
    training: { ...size, accumulates: parts > 1 },
    logProbs: batchOf(samples.probes, probed, grid),
    // All micro-batches of an update and of the next; the training counts one of each.
    imageBytes: 2 * (parts - 1) * feedBytes(config, size),
  };
}

/** So many rows as long as the longest of some. */
function batchOf(samples: readonly Row[], rows: number, grid: ImageGrid): BatchSize {
  let [tokens, targets] = [0, 0];
  for (const { prefix, branches } of samples) {
    const ids = branches.reduce((sum, branch) => sum + branch.ids.length, 0);
    const asked = branches.reduce(
      (sum, { ids, isTarget }) => sum + (isTarget ? Array.from(isTarget).filter(Boolean).length : ids.length),
      0,
    );
    tokens = Math.max(tokens, prefix.length + ids);
    targets = Math.max(targets, asked);
  }
  return { rows, tokens, targets: rows * targets, images: Array.from({ length: rows }, () => grid) };
}
