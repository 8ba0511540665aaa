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
   * The negative's class. similar: the one nearest in attributes, or in words of the name where attributes are unknown; random: any other.
   */
  negative: 'similar' | 'random';
  /**
   * Share of the triplets whose question offers four options, the nearest other classes among them. Fine-R1 offers none.
   */
  closedShare: number;
}
