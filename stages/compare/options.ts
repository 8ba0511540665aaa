/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Sets the predictions of several models on the same test items side by side and tests the differences.
 */
export interface CompareOptions {
  /**
   * Predictions of the models in the order in which they are compared: each with the one before it.
   *
   * @minItems 1
   *
   * Items: One model.
   */
  runs: {
    /**
     * Name in tables and metrics.
     */
    name: string;
    /**
     * Its predictions.
     */
    predictions: Artifact;
  }[];
  /**
   * Which accuracy is compared: by containment of the label in the answer, or the strict one (closed: exactly one option; open: exactly one answer, without the thought).
   */
  metric: 'containment' | 'strict';
}
