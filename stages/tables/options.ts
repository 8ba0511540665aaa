/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Lays evaluations out like the tables of Fine-R1's paper, beside the paper's rows, with the prompts and rules that each row was made with.
 */
export interface TablesOptions {
  /**
   * The rows, in order.
   *
   * @minItems 1
   *
   * Items: One model.
   */
  runs: {
    /**
     * What the row is called.
     */
    name: string;
    /**
     * Its predictions; test sets must be called <category>-seen and <category>-unseen, where a category is aircraft, bird, car, dog, flower or pet. What is missing stays empty.
     */
    predictions: Artifact;
  }[];
  /**
   * Which rows of the paper stand above: all; compared: Qwen2.5-VL and Fine-R1; none.
   */
  paperRows: 'all' | 'compared' | 'none';
  /**
   * containment: the metric of the paper; strict: answers that name the label and nothing else.
   */
  metric: 'containment' | 'strict';
}
