/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Fine-tunes a model on chats: cross-entropy on the answers' tokens.
 */
export interface SftOptions {
  /**
   * The model to start from.
   */
  model: Artifact;
  /**
   * The chats to learn; of each, the last message is learnt.
   */
  data: Artifact;
  /**
   * What options are when they are not given: fr1's defaults, or one of the two released scripts of Fine-R1's first stage, which are alike but for their model.
   */
  preset: 'sft' | 'fine-r1-3b' | 'fine-r1-7b';
  /**
   * Chats that are not learnt; the loss on them is measured during training.
   */
  validation?: Artifact;
  /**
   * Passes over the data, each in an order of its own. Either this or `steps`, unless the preset has epochs: fine-r1 10.
   */
  epochs?: number;
  /**
   * Updates, over as many passes as they need. Either this or `epochs`.
   */
  steps?: number;
  /**
   * Chats per update; the last update of a pass takes what is left. By default 64.
   */
  batchSize?: number;
  /**
   * Chats that are computed at once; their gradients are summed. By default 4.
   */
  microBatchSize?: number;
  /**
   * Peak rate of AdamW. By default 5e-6.
   */
  learningRate?: number;
  /**
   * How the rate goes on after warm-up: cosine falls to 0. By default cosine.
   */
  schedule?: 'cosine' | 'constant';
  /**
   * Updates over which the rate rises from 0. By preset: fine-r1 6, else 0.
   */
  warmupSteps?: number;
  /**
   * Decoupled weight decay of matrices. By default 0.1.
   */
  weightDecay?: number;
  /**
   * Gradients are scaled to at most this norm. By default 1.
   */
  maxGradNorm?: number;
  /**
   * Set of switches: sound, or reference, which repeats what Fine-R1's released code does even where that is a flaw; here that is `lossNormalisation`.
   */
  set: 'sound' | 'reference';
  /**
   * step: one mean over all answer tokens of an update, whatever the micro-batches; chats are sorted by length within it. micro: the mean of the micro-batches' means, as LLaMA-Factory does for models with images. By default that of the set: sound step, reference micro.
   */
  lossNormalisation?: 'step' | 'micro';
  /**
   * Which parts learn. Fine-R1 trains the language model only.
   */
  trainable: {
    /**
     * The vision tower.
     */
    vision: boolean;
    /**
     * The layers between vision tower and language model.
     */
    projector: boolean;
    /**
     * The language model.
     */
    text: boolean;
  };
  /**
   * full: all weights of the parts under `trainable`. lora: a new low-rank adapter on linear layers of these parts; the output then holds the model and the adapter in PEFT's format. continue: the adapter that the model has.
   */
  adapter: {
    /**
     * What is trained.
     */
    kind: 'full' | 'lora' | 'continue';
    /**
     * Rank of a new adapter; 16 by default.
     */
    rank?: number;
    /**
     * The adapter's update is scaled by alpha / rank; 2 * rank by default.
     */
    alpha?: number;
    /**
     * Share of a layer's inputs that its adapter does not see in a training step; 0 by default.
     */
    dropout?: number;
    /**
     * Scales by alpha / sqrt(rank) instead (rsLoRA).
     */
    rankStabilised?: boolean;
    /**
     * Layers that get an adapter: a list of names or ends of names (q_proj, mlp.0), a regular expression that matches whole names, or `all-linear`, the default.
     */
    targetModules?: string | string[];
  };
  /**
   * Images of a smaller area in pixels are scaled up to it, cutting sides to whole pixels, before the model folder's own resize. By preset: fine-r1 1024, else they are not.
   */
  minPixels?: number;
  /**
   * Images of a larger area in pixels are scaled down to it, cutting sides to whole pixels, before the model folder's own resize. By preset: fine-r1 589824, else they are not.
   */
  maxPixels?: number;
  /**
   * Longest chat in tokens, image included; a longer one is an error, nothing is cut. By default 4096.
   */
  maxTokens?: number;
  /**
   * Updates between saved training states.
   */
  saveEvery: number;
  /**
   * Updates between measurements on `validation`; one more follows the last update.
   */
  validateEvery: number;
  /**
   * Which weights become the output: the last, or those with the least loss on `validation`.
   */
  keep: 'last' | 'best';
  /**
   * Element type of the saved weights (of the adapter, where one is trained); the following stages compute with them.
   */
  dtype: 'float32' | 'bfloat16' | 'float16';
  /**
   * Decides the order of the chats; derived from the pipeline's seed by default.
   */
  seed?: number;
}
