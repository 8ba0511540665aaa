/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Writes a model for other tools: an adapter merged into its base or joined with it, in the element type and file sizes that are asked for.
 */
export interface ExportOptions {
  /**
   * The model; it may have an adapter.
   */
  model: Artifact;
  /**
   * A LoRA adapter in PEFT's format for a model that has none, e.g. one made elsewhere.
   */
  adapter?: Artifact;
  /**
   * true: one model whose weights contain the adapter. false: the model and its adapter side by side, as training leaves them.
   */
  merge: boolean;
  /**
   * Element type of the written weights; by default that of the model's, float32 where it has several. Without merge that of the adapter; by default float32.
   */
  dtype?: 'float32' | 'bfloat16' | 'float16';
  /**
   * Weights above this size are split over several files.
   */
  maxShardBytes: number;
  /**
   * Names in an adapter that is not merged: current are those of transformers since 4.52, legacy those before.
   */
  adapterKeys: 'current' | 'legacy';
}
