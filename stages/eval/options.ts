/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Answers test questions about images with a model and scores the answers, closed-world (choose among options) and open-world (name it freely).
 */
export interface EvalOptions {
  /**
   * The model that answers.
   */
  model: Artifact;
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
   * `closed` offers the options in the prompt, `open` does not.
   *
   * @minItems 1
   */
  modes: ('closed' | 'open')[];
  /**
   * Which family of prompts is used: that of Fine-R1, or short ones for models that were trained on these.
   */
  prompts: 'fine-r1' | 'compact';
  /**
   * Order of the options in closed-world prompts: shuffled for each item, the same for every model, or as the data lists them (in published data the right one comes first).
   */
  optionOrder: 'shuffled' | 'as-shipped';
  /**
   * Seed of the option order and of the choice of items under `limit`; independent of the run's seed, so that models are asked the same.
   */
  optionSeed: number;
  /**
   * What open-world scoring searches for the label when an output has no answer: nothing, or the whole output with its thought.
   */
  openFallback: 'none' | 'whole-output';
  /**
   * Whether the super-category, which decides how car labels are compared, comes from the data set or is guessed from the image path.
   */
  standardFrom: 'super-category' | 'path';
  /**
   * How a car label of at most two words is compared in the open world, where the last two words of car labels are left out.
   */
  emptyCarLabel: 'whole-label' | 'matches-anything';
  /**
   * Longest output, in tokens.
   */
  maxNewTokens: number;
  /**
   * Sampling temperature; 0 always takes the likeliest token. By default what generation_config.json of the model says.
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
   * Items answered at a time. A larger batch is faster and needs more memory.
   */
  batchSize: number;
  /**
   * Evaluates at most this many items of each test set, drawn at random; all by default.
   */
  limit?: number;
}
