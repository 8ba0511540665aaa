/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */

/**
 * Labelled images for fine-tuning and reinforcement, and test items of seen and unseen classes.
 */
export interface DatasetOptions {
  /**
   * Where the images come from. procedural-birds: drawn birds of 900 species, made on the spot.
   */
  source: 'procedural-birds';
  /**
   * Classes that training may use.
   */
  seenClasses: number;
  /**
   * Classes that only the test of unseen classes uses.
   */
  unseenClasses: number;
  /**
   * Images for fine-tuning per seen class.
   */
  sftShots: number;
  /**
   * Images for reinforcement per seen class; none of them is used for fine-tuning.
   */
  rlShots: number;
  /**
   * Test images per split, spread evenly over its classes.
   */
  testImages: number;
  /**
   * Chooses classes and images; without it the stage's seed does.
   */
  seed?: number;
}
