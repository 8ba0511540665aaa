/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Writes a chain of thought and an answer for every labelled image, and keeps those that pass the check.
 */
export interface RewriteOptions {
  /**
   * The labelled images.
   */
  data: Artifact;
  /**
   * Who writes. attributes: sentences from the known attributes of procedural-birds.
   */
  teacher: 'attributes';
  /**
   * Whether the answer is preceded by a chain of thought; without it only the answer is written.
   */
  thoughts: boolean;
  /**
   * Whether each image also gets a chat whose prompt offers four options, and in which family of prompts. Fine-R1 fine-tunes on open-ended questions only, which is `none`.
   */
  closedPrompts: 'none' | 'compact' | 'fine-r1';
}
