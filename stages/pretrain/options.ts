/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */

/**
 * Trains a small Qwen2.5-VL model from random weights on a procedural world.
 */
export interface PretrainOptions {
  /**
   * What the model learns to see. procedural-birds: chats about drawn birds, made while training.
   */
  world: 'procedural-birds';
  /**
   * Training images, each seen once.
   */
  images: number;
  /**
   * Images per update.
   */
  batchSize: number;
  /**
   * Images that are in memory at once; their gradients are summed.
   */
  microBatchSize: number;
  /**
   * Peak rate of AdamW.
   */
  learningRate: number;
  /**
   * Updates over which the rate rises from 0.
   */
  warmupSteps: number;
  /**
   * Decoupled weight decay of matrices.
   */
  weightDecay: number;
  /**
   * Gradients are scaled to at most this norm.
   */
  maxGradNorm: number;
  /**
   * Updates between saved training states.
   */
  saveEvery: number;
  /**
   * Element type of the saved weights.
   */
  dtype: 'float32' | 'bfloat16' | 'float16';
  /**
   * Sizes of the model; everything else is Qwen2.5-VL's.
   */
  architecture: {
    /**
     * Width of the language model.
     */
    hiddenSize: number;
    /**
     * Layers of the language model.
     */
    layers: number;
    /**
     * Query heads.
     */
    heads: number;
    /**
     * Key/value heads.
     */
    keyValueHeads: number;
    /**
     * Width of the feed-forward layers.
     */
    intermediateSize: number;
    /**
     * Width of the vision tower.
     */
    visionHiddenSize: number;
    /**
     * Layers of the vision tower.
     */
    visionLayers: number;
    /**
     * Heads of the vision tower.
     */
    visionHeads: number;
    /**
     * Width of the vision tower's feed-forward layers.
     */
    visionIntermediateSize: number;
  };
}
