/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Answers test questions about images with a model and scores the answers, closed-world (choose among options) and open-world (name it freely).
 */
export interface EvalOptions {
  /**
   * The model that answers; either this or `outputs`.
   */
  model?: Artifact;
  /**
   * Answers that exist already, to be scored: predictions of another `eval`, or a folder of result files of Fine-R1's evaluation, <model>_<category>_<seen or unseen>_<closed or open>.json.
   */
  outputs?: Artifact;
  /**
   * For `outputs` without `data`: the folder of Fine-R1's evaluation files, <category>_<seen or unseen>.jsonl; no image is needed.
   */
  lists?: Artifact;
  /**
   * Test sets by name, e.g. `{ seen: ..., unseen: ... }`; metrics carry the names.
   */
  data?: {
    /**
     * A test set.
     */
    [k: string]: Artifact;
  };
  /**
   * `closed` offers the options in the prompt, `open` does not.
   *
   * @minItems 1
   */
  modes: ('closed' | 'open')[];
  /**
   * Which family of prompts is used: that of Fine-R1; short ones for models that were trained on these; or answer-only, with which Fine-R1's authors asked models that do not think.
   */
  prompts: 'fine-r1' | 'compact' | 'answer-only';
  /**
   * Set of the switches below: sound, or reference, which repeats what Fine-R1's released evaluation does even where that is a flaw. Single switches override it.
   */
  set: 'sound' | 'reference';
  /**
   * Order of the options in closed-world prompts: shuffled for each item, the same for every model, or as the data lists them (in published data the right one comes first). By default that of the set: sound shuffled, reference as-shipped.
   */
  optionOrder?: 'shuffled' | 'as-shipped';
  /**
   * Seed of the option order and of the choice of items under `limit`; independent of the run's seed, so that models are asked the same.
   */
  optionSeed: number;
  /**
   * What open-world scoring searches for the label, and `similarity` compares with it, when an output has no answer: nothing (a similarity of 0), or the whole output with its thought, empty or not. By default that of the set: sound none, reference whole-output.
   */
  openFallback?: 'none' | 'whole-output';
  /**
   * Whether the super-category, which decides how car labels are compared and what similarity is relative to, comes from the data set or is guessed from the path of the image. By default that of the set: sound super-category, reference path.
   */
  standardFrom?: 'super-category' | 'path';
  /**
   * How a car label of at most two words is compared in the open world, where the last two words of car labels are left out. By default that of the set: sound whole-label, reference matches-anything.
   */
  emptyCarLabel?: 'whole-label' | 'matches-anything';
  /**
   * Longest output, in tokens.
   */
  maxNewTokens: number;
  /**
   * Sampling temperature; 0 always takes the likeliest token. By default what generation_config.json of the model says, and 0 in the set reference.
   */
  temperature?: number;
  /**
   * Samples among the fewest likeliest tokens with this probability together; by default what generation_config.json says, else 1.
   */
  topP?: number;
  /**
   * Samples among this many likeliest tokens, 0 for all; by default what generation_config.json says, else 0.
   */
  topK?: number;
  /**
   * Penalty on tokens that occurred before; 1 is none. By default what generation_config.json says, else 1 (Qwen2.5-VL: 1.05, as in Fine-R1's evaluation).
   */
  repetitionPenalty?: number;
  /**
   * Items answered at a time. A larger batch is faster and needs more memory. By default 16 on the CPU, 256 on another device; images of 1 GiB together fill a batch as well.
   */
  batchSize?: number;
  /**
   * Evaluates at most this many items of each test set, drawn at random; all by default.
   */
  limit?: number;
  /**
   * Smallest area of a resized image in pixels. By default that of the set: sound the model folder's, reference 3136.
   */
  minPixels?: number;
  /**
   * Largest area of a resized image in pixels. By default that of the set: sound the model folder's, reference 12845056.
   */
  maxPixels?: number;
  /**
   * Also scores how near open-world answers are to the label in meaning, with a text model of transformers.js: SigLIP, CLIP, or any for feature extraction. Fine-R1: google/siglip-base-patch16-256.
   */
  similarity?: {
    /**
     * A local folder with config.json, tokenizer.json and onnx/.
     */
    model?: Artifact;
    /**
     * A model of the Hugging Face hub with ONNX files, e.g. Xenova/siglip-base-patch16-256; needs the network once.
     */
    hub?: string;
    /**
     * Branch, tag or commit of the hub's model; give a commit for a result that lasts.
     */
    revision: string;
  };
}
