/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Labelled images for fine-tuning and reinforcement, test items of seen and unseen classes, or chats and triplets that were made elsewhere.
 */
export interface DatasetOptions {
  /**
   * Where the data comes from. procedural-birds: drawn on the spot. fgvc-aircraft to oxford-iiit-pet: official folders. image-folder, jsonl, parquet: labelled images of your own. sharegpt: chats of LLaMA-Factory, fills `chats`. easyr1: triplets as Parquet or JSON lines, fills `triplets`. fine-r1-eval: test items as JSON lines, fills `seen` and `unseen`.
   */
  source:
    | 'procedural-birds'
    | 'fgvc-aircraft'
    | 'cub-200-2011'
    | 'stanford-cars'
    | 'stanford-dogs'
    | 'oxford-flowers-102'
    | 'oxford-iiit-pet'
    | 'image-folder'
    | 'jsonl'
    | 'parquet'
    | 'sharegpt'
    | 'easyr1'
    | 'fine-r1-eval';
  /**
   * The folder (or file) of the data; every source but procedural-birds needs it. docs/datasets.md shows the layouts.
   */
  root?: Artifact;
  /**
   * Where image files lie when not where the lists say: beginnings of the paths in the lists (`.` for all), each with the folder in its stead, e.g. { bird_200/images: ../CUB_200_2011/images }.
   */
  images?: {
    [k: string]: Artifact;
  };
  /**
   * Test items whose images must not be trained on. Rows and images for training that show one of them, by content and not by name, are left out and counted.
   *
   * @minItems 1
   *
   * Items: Test items of this or another stage.
   */
  notIn?: Artifact[];
  /**
   * Rows whose image file does not exist. fail: stop and name them; skip: leave them out and say how many.
   */
  missingImages: 'fail' | 'skip';
  /**
   * Image files that cannot be decoded to their end, such as downloads that were cut off. fail: stop and name them; skip: leave their rows out and say how many; keep: store what can be decoded as PNG, the rest grey.
   */
  damagedImages: 'fail' | 'skip' | 'keep';
  /**
   * Classes that training may use; procedural-birds takes 36 where it is not given, other sources seenFraction.
   */
  seenClasses?: number;
  /**
   * Classes that only the test of unseen classes uses; procedural-birds takes 24 where it is not given, other sources all that are not seen.
   */
  unseenClasses?: number;
  /**
   * Share of the classes that are seen, rounded down, chosen by the seed; 0.6 where neither this nor seenClasses nor split is given.
   */
  seenFraction?: number;
  /**
   * A folder that lists the classes instead: seen.txt and unseen.txt with a class a line, or Fine-R1's <category>_seen.jsonl and <category>_unseen.jsonl.
   */
  split?: Artifact;
  /**
   * Images for fine-tuning per seen class; 2 where it is not given for procedural-birds, 1 for other sources.
   */
  sftShots?: number;
  /**
   * Images for reinforcement per seen class, none of which is used for fine-tuning; 8 where it is not given for procedural-birds, 4 for other sources.
   */
  rlShots?: number;
  /**
   * Test images per split, spread evenly over its classes; 400 where it is not given for procedural-birds, all for other sources.
   */
  testImages?: number;
  /**
   * Share of each class's images that become test images, where the source has no test images; 0.2 where it is not given. For a source with a split of its own it cuts the test images from the training images.
   */
  testFraction?: number;
  /**
   * Which classes the wrong options come from. names: those that share most words; hierarchy: those that share most groups (manufacturer, genus word, species); embedding: those whose training images look most alike to `model`; random: any. `names` where it is not given.
   */
  similarity?: 'names' | 'hierarchy' | 'embedding' | 'random';
  /**
   * A JSON file with the groups of each class, coarse before fine, e.g. { "Boeing 707-320": ["Boeing", "Boeing 707"] }.
   */
  hierarchy?: Artifact;
  /**
   * The Qwen2.5-VL checkpoint whose vision tower `similarity: embedding` asks.
   */
  model?: Artifact;
  /**
   * Nearest classes among which the three wrong options of each item are drawn; 6 where it is not given.
   */
  optionPool?: number;
  /**
   * Place of the right option in the files. shuffled: any; label-first: the first, as in Fine-R1's files, which an evaluation without shuffling gives away. `shuffled` where it is not given.
   */
  optionOrder?: 'shuffled' | 'label-first';
  /**
   * How classes are written, for image-folder, jsonl and parquet; `_` becomes a blank. `as-written` where it is not given.
   */
  labelStyle?: 'as-written' | 'title' | 'lower';
  /**
   * What the data is called, for sources of your own; the name of the root where it is not given.
   */
  name?: string;
  /**
   * What all classes have in common, e.g. bird: used in questions and in open-world scores, and by fine-r1-eval to choose its files. `object` where it is not given.
   */
  superCategory?: string;
  /**
   * Names of the columns of jsonl and parquet where they are not these, e.g. { image: image_path, label: species }.
   */
  fields?: {
    /**
     * Column of the row's name.
     */
    id?: string;
    /**
     * Column of the image: a path, or bytes in Parquet.
     */
    image?: string;
    /**
     * Column of the class.
     */
    label?: string;
    /**
     * Column that says train or test.
     */
    split?: string;
    /**
     * Column of the question.
     */
    question?: string;
    /**
     * Column of the four options.
     */
    options?: string;
    /**
     * Column of known visual attributes.
     */
    attributes?: string;
  };
  /**
   * Chooses classes and images; without it the stage's seed does.
   */
  seed?: number;
}
