/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Reinforcement learning on triplets: rewards right answers about an image and another of its class, and keeps them unlikely under an image of another class.
 */
export interface TapoOptions {
  /**
   * The model to start from; it must already answer in the form that the reward looks for, and sometimes rightly.
   */
  model: Artifact;
  /**
   * Anchor, positive and negative images with questions; best images that the model was not fine-tuned on.
   */
  data: Artifact;
  /**
   * Steps: each rolls out answers and updates the model `updatesPerStep` times.
   */
  steps: number;
  /**
   * Groups that a step trains on. A group is all answers to one question. Fine-R1: 384 (3B), 192 (7B).
   */
  groupsPerStep: number;
  /**
   * Answers about each image of a group: as many about the anchor as about the positive image.
   */
  rollouts: number;
  /**
   * Answers per group where `views.positive` is none; 2 * rollouts by default, so that groups stay as large.
   */
  groupSize?: number;
  /**
   * Draws of questions in a step, as long as informative groups are missing. Then the step trains on the groups that it has, and is skipped where it has none.
   */
  maxDraws: number;
  /**
   * Sampling temperature. The loss computes likelihoods at temperature 1.
   */
  temperature: number;
  /**
   * Samples from the smallest set of likeliest tokens with this probability; 1 takes all, as the loss assumes. Fine-R1: 0.99.
   */
  topP: number;
  /**
   * Longest answer in tokens; a longer one is cut off.
   */
  maxNewTokens: number;
  /**
   * Updates per step, each on its share of the groups. 1 stays on-policy. Fine-R1: 3.
   */
  updatesPerStep: number;
  /**
   * Rate of AdamW.
   */
  learningRate: number;
  /**
   * How the rate goes on after warm-up: cosine falls to 0.
   */
  schedule: 'constant' | 'cosine';
  /**
   * Steps over which the rate rises from 0.
   */
  warmupSteps: number;
  /**
   * Decoupled weight decay of matrices.
   */
  weightDecay: number;
  /**
   * Gradients are scaled to at most this norm.
   */
  maxGradNorm: number;
  /**
   * The likelihood ratio is clipped at 1 - clipLow from below.
   */
  clipLow: number;
  /**
   * The likelihood ratio is clipped at 1 + clipHigh from above.
   */
  clipHigh: number;
  /**
   * Bound on the likelihood ratio of answers that are worse than their group.
   */
  dualClip: number;
  /**
   * Which images beside the anchor take part.
   */
  views: {
    /**
     * same-class: half of each group answers about the positive image; none: all answer about the anchor.
     */
    positive: 'same-class' | 'none';
    /**
     * other-class: the terms negativeKl and negativeEntropy compare with the negative image; none: neither term exists.
     */
    negative: 'other-class' | 'none';
  };
  /**
   * Coefficient of the divergence from the likelihoods under the negative image, which is raised. 0 or null leaves the term out.
   */
  negativeKl: number | null;
  /**
   * Coefficient of the entropy under the answer's own image, which is lowered. 0 or null leaves the term out.
   */
  ownEntropy: number | null;
  /**
   * Coefficient of the entropy under the negative image. It is reported and has no gradient, so it changes no weight. Fine-R1: 0.03. 0 or null leaves the term out.
   */
  negativeEntropy: number | null;
  /**
   * How the question is put: as Fine-R1 does, or short for models that were trained on short prompts.
   */
  prompt: 'fine-r1' | 'compact';
  /**
   * How an answer is rewarded.
   */
  reward: {
    /**
     * Share of the reward that the form <think>...</think><answer>...</answer> earns; the rest is earned by an answer that contains the label.
     */
    formatWeight: number;
  };
  /**
   * Which parts learn. Fine-R1 trains all of them.
   */
  trainable: {
    /**
     * The vision tower.
     */
    vision: boolean;
    /**
     * The layers between vision tower and language model.
     */
    projector: boolean;
    /**
     * The language model.
     */
    text: boolean;
  };
  /**
   * Set of switches below: sound, or reference, which repeats what Fine-R1's released code does even where that is a flaw. Single switches override it.
   */
  set: 'sound' | 'reference';
  /**
   * What becomes of a draw without a group that has both right and wrong answers. By default that of the set: sound drop, reference keep-all.
   */
  whenNoneInformative?: 'drop' | 'keep-all';
  /**
   * Rate of the first step when there is no warm-up. By default that of the set: sound scheduled, reference zero.
   */
  firstStepLearningRate?: 'scheduled' | 'zero';
  /**
   * Whether every answer has random numbers of its own or all groups share them. By default that of the set: sound independent, reference shared.
   */
  rolloutSeeds?: 'independent' | 'shared';
  /**
   * step: one mean over all answer tokens of an update; micro: the mean of the micro-batches' means. By default that of the set: sound step, reference micro.
   */
  lossNormalisation?: 'step' | 'micro';
  /**
   * Tokens, padding included, that are computed at once; their gradients are summed.
   */
  microBatchTokens: number;
  /**
   * Answers that are generated at once.
   */
  generationBatch: number;
  /**
   * Smallest area of a resized image in pixels; the model folder's by default. Fine-R1: 200704.
   */
  minPixels?: number;
  /**
   * Largest area of a resized image in pixels; the model folder's by default. Fine-R1: 1003520.
   */
  maxPixels?: number;
  /**
   * Steps between saved training states.
   */
  saveEvery: number;
  /**
   * Groups of each step whose answers are kept in the stage's state folder for reading.
   */
  sampleGroups: number;
  /**
   * Element type of the saved weights; the following stages compute with them.
   */
  dtype: 'float32' | 'bfloat16' | 'float16';
  /**
   * Decides the order of the questions and the sampling; derived from the pipeline's seed by default.
   */
  seed?: number;
}
