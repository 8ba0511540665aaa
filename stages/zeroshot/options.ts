/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Contrastive zero-shot accuracy: each image gets the label whose description is nearest to it in the space of a CLIP-like model. The CLIP and SigLIP rows of Fine-R1's Table 1.
 */
export interface ZeroshotOptions {
  /**
   * A local folder of a CLIP or SigLIP model in the layout of transformers.js: config.json, preprocessor_config.json, tokenizer.json, onnx/vision_model.onnx and onnx/text_model.onnx; either this or `hub`. It runs in float32 on the CPU.
   */
  model?: Artifact;
  /**
   * A model of the Hugging Face hub with ONNX files, e.g. Xenova/clip-vit-large-patch14; needs the network once.
   */
  hub?: string;
  /**
   * Branch, tag or commit of the hub's model; give a commit for a result that lasts.
   */
  revision: string;
  /**
   * Test sets by name, e.g. `{ seen: ..., unseen: ... }`; metrics carry the names.
   */
  data: {
    /**
     * A test set.
     */
    [k: string]: Artifact;
  };
  /**
   * The description of a label, which stands for {} with spaces instead of `_`; e.g. "a photo of a {}, a type of bird".
   */
  template: string;
  /**
   * Looks at at most this many items of each test set, drawn at random; all by default. The same items as those of `eval` with this limit and seed.
   */
  limit?: number;
  /**
   * Seed of the choice of items under `limit`; independent of the run's seed, so that models are asked the same.
   */
  optionSeed: number;
  /**
   * Images looked at at a time.
   */
  batchSize: number;
}
