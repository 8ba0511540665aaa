/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Gives every image a positive of its own class and a negative of another class.
 */
export interface TripletsOptions {
  /**
   * The labelled images; every class needs at least two.
   */
  data: Artifact;
  /**
   * The negative's class. similar: the one nearest in attributes, or in words of the name where attributes are unknown, and of those that are as near one that shares most groups; hierarchy: one that shares most groups (manufacturer and family, make, genus word, species); embedding: the one whose images look most alike to `model`; random: any other.
   */
  negative: 'similar' | 'hierarchy' | 'embedding' | 'random';
  /**
   * For negative: hierarchy, a JSON file with the groups of each class, coarse before fine; the groups that the dataset tells where it is not given.
   */
  hierarchy?: Artifact;
  /**
   * For negative: embedding, the Qwen2.5-VL checkpoint whose vision tower looks at the images.
   */
  model?: Artifact;
  /**
   * as-is: images stay as they are; fr1's tapo gives each its own grid. anchor: positive and negative are resized to the size of their anchor, which trainers need that reuse the anchor's grid, such as the released code of Fine-R1 (and fr1's tapo with viewLayout anchor).
   */
  sizes: 'as-is' | 'anchor';
  /**
   * Share of the triplets whose question offers four options, the nearest other classes among them. Fine-R1 offers none.
   */
  closedShare: number;
}
