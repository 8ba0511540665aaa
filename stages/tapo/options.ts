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
   * What options are when they are not given: the method of Fine-R1 at a small size; its released scripts; or a method to compare with.
   */
  preset: 'tapo' | 'fine-r1-3b' | 'fine-r1-7b' | 'dapo' | 'grpo' | 'rloo' | 'reinforce++' | 'papo' | 'noisy-rollout';
  /**
   * Steps: each rolls out answers and updates the model `updatesPerStep` times. Either this or `epochs`, unless the preset has epochs.
   */
  steps?: number;
  /**
   * Passes over the data, as steps: what does not fill a step is left out. By default that of the preset: fine-r1-3b 10, fine-r1-7b 5.
   */
  epochs?: number;
  /**
   * Groups that a step trains on. A group is all answers to one question. By preset: fine-r1-3b 384, fine-r1-7b 192, else 16.
   */
  groupsPerStep?: number;
  /**
   * Answers about each image of a group: as many about the anchor as about the positive image. By default 5.
   */
  rollouts?: number;
  /**
   * Answers per group where `views.positive` is none; 2 * rollouts by default, so that groups stay as large.
   */
  groupSize?: number;
  /**
   * Questions of one draw, at most groupsPerStep; a pass over the data ends with its last whole draw. By preset: fine-r1-3b 128, fine-r1-7b 64, else at first as many as a step needs and then as many as are likely missing.
   */
  questionsPerDraw?: number;
  /**
   * Draws of questions in a step, as long as informative groups are missing. Then the step trains on the groups that it has, and is skipped where it has none.
   */
  maxDraws: number;
  /**
   * Sampling temperature. The loss takes likelihoods at the same temperature, as Fine-R1's code does. By default 1.
   */
  temperature?: number;
  /**
   * Samples from the smallest set of likeliest tokens with this probability; 1 takes all, as the loss assumes. By preset: fine-r1 0.99, else 1.
   */
  topP?: number;
  /**
   * Samples from so many of the likeliest tokens; 0 takes all, as the loss assumes.
   */
  topK: number;
  /**
   * Longest answer in tokens; a longer one is cut off. By default 2048.
   */
  maxNewTokens?: number;
  /**
   * Updates per pass of a step, each on its share of the groups. 1 in a single pass stays on-policy. By preset: fine-r1 3, else 1.
   */
  updatesPerStep?: number;
  /**
   * Times that a step goes over its groups.
   */
  passes: number;
  /**
   * Rate of AdamW. By default 1e-6.
   */
  learningRate?: number;
  /**
   * How the rate goes on after warm-up: cosine falls to 0.
   */
  schedule: 'constant' | 'cosine';
  /**
   * Steps over which the rate rises from 0.
   */
  warmupSteps: number;
  /**
   * Decoupled weight decay of matrices. By default 0.01.
   */
  weightDecay?: number;
  /**
   * Gradients are scaled to at most this norm.
   */
  maxGradNorm: number;
  /**
   * The likelihood ratio is clipped at 1 - clipLow from below. By default 0.2.
   */
  clipLow?: number;
  /**
   * The likelihood ratio is clipped at 1 + clipHigh from above. By preset: grpo 0.2, else 0.28.
   */
  clipHigh?: number;
  /**
   * Bound on the likelihood ratio of answers that are worse than their group. By default 3.
   */
  dualClip?: number;
  /**
   * Which images beside the anchor take part. By preset: tapo and fine-r1 same-class and other-class; papo none and masked; noisy-rollout noise and none; else none and none.
   */
  views?: {
    /**
     * same-class: half of each group answers about the positive image of the triplet; noise: about the anchor with noise that gets less as training goes on; none: all answer about the anchor.
     */
    positive?: 'same-class' | 'noise' | 'none';
    /**
     * other-class: the terms negativeKl and negativeEntropy compare with the negative image of the triplet; masked: with the anchor in which most cells are black; none: neither term exists.
     */
    negative?: 'other-class' | 'masked' | 'none';
    /**
     * Share of the cells of a masked image that are black. 0.6 by default.
     */
    maskedShare?: number;
    /**
     * How the noise of the positive view fades: strength / (1 + exp(steepness (progress - midpoint))), with progress from 0 to 1.
     */
    noise?: {
      /**
       * Noise at the start, in steps of a diffusion of 1000; 500 by default.
       */
      strength?: number;
      /**
       * Share of training after which half of it is left; 2/3 by default.
       */
      midpoint?: number;
      /**
       * How suddenly it fades there; 30 by default.
       */
      steepness?: number;
    };
  };
  /**
   * Which image answers about the positive one are trained on: own, as Fine-R1's code does, or the anchor, as its paper says. By preset: noisy-rollout anchor, else own.
   */
  positiveConditioning?: 'own' | 'anchor';
  /**
   * How rewards become advantages: group: distance from the group's mean in its standard deviations (GRPO, DAPO); leave-one-out: distance from the mean of the others of the group (RLOO); reinforce++: whitened over all tokens of the step. By preset.
   */
  advantages?: 'group' | 'leave-one-out' | 'reinforce++';
  /**
   * Groups that are trained on, by the mean accuracy of their answers; null trains on all. By preset: grpo, rloo and reinforce++ null, else above 0.01 and below 0.99.
   */
  filter?: {
    /**
     * Lower bound, exclusive.
     */
    above: number;
    /**
     * Upper bound, exclusive.
     */
    below: number;
  } | null;
  /**
   * Coefficient of the divergence from the likelihoods under the negative image, which is raised; with further settings as a mapping. 0 or null leaves the term out. By preset: tapo, fine-r1 and papo 0.01.
   */
  negativeKl?:
    | number
    | null
    | {
        /**
         * Coefficient; 0 leaves the term out.
         */
        coefficient: number;
        /**
         * Estimate per token, with x the difference of the log-likelihoods: k3 is e^-x + x - 1, k1 x, abs |x|, k2 x^2 / 2.
         */
        estimator: 'k3' | 'k1' | 'abs' | 'k2';
        /**
         * Most that a token's divergence counts; unbounded by default.
         */
        clip?: number;
        /**
         * Share of an answer's tokens that count, those with the greatest divergence; the mean is still over all of them. By default all count.
         */
        topShare?: number;
        /**
         * Coefficient at the end, reached linearly; both entropies fade in the same proportion. Constant by default.
         */
        fadeTo?: number;
        /**
         * Share of training after which fadeTo is reached.
         */
        fadeShare: number;
      };
  /**
   * Coefficient of the entropy under the answer's own image, which is lowered. 0 or null leaves the term out. By preset: tapo, fine-r1 and papo 0.03.
   */
  ownEntropy?: number | null;
  /**
   * Coefficient of the entropy under the negative image, which is lowered. It is reported and, without negativeGradient, has no gradient, so that it changes no weight. 0 or null leaves the term out. By preset: fine-r1 and papo 0.03.
   */
  negativeEntropy?: number | null;
  /**
   * Whether negativeKl and negativeEntropy also train the likelihoods under the negative image, as a formula of the paper suggests. Fine-R1's code holds them constant. Answers are then computed twice in an update.
   */
  negativeGradient: boolean;
  /**
   * Coefficient of the divergence from the model that training started from, which is lowered; that model stays in memory. 0 or null leaves the term out. By preset: grpo 0.04.
   */
  referenceKl?:
    | number
    | null
    | {
        /**
         * Coefficient; 0 leaves the term out.
         */
        coefficient: number;
        /**
         * Estimate per token, with x the difference of the log-likelihoods: k3 is e^-x + x - 1, k1 x, abs |x|, k2 x^2 / 2.
         */
        estimator: 'k3' | 'k1' | 'abs' | 'k2';
      };
  /**
   * Coefficient of the likelihood of right answers, which is raised; with a bound as a mapping. 0 or null leaves the term out.
   */
  imitation:
    | number
    | null
    | {
        /**
         * Coefficient; 0 leaves the term out. Fine-R1's code: 0.001 where it is on.
         */
        coefficient: number;
        /**
         * Answers with a greater accuracy are imitated.
         */
        accuracyAbove: number;
      };
  /**
   * Whether the policy's and the divergences' terms are means over all tokens, or means over answers of each answer's mean. Entropies are means over tokens always. By preset: grpo sequence, else token.
   */
  lossAveraging?: 'token' | 'sequence';
  /**
   * How the question is put: as Fine-R1 does, or short for models that were trained on short prompts.
   */
  prompt: 'fine-r1' | 'compact';
  /**
   * How an answer is rewarded.
   */
  reward: {
    /**
     * Share of the reward that the form <think>...</think><answer>...</answer> earns; the rest is earned by a right answer (see rewardRule).
     */
    formatWeight: number;
    /**
     * A JavaScript module of yours that rewards instead: export default ({ response, label, question }) => number or { overall, accuracy, ... }. It is tried on a right and a wrong answer before training.
     */
    function?: Artifact;
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
   * full: all weights of the parts under `trainable`. lora: a new low-rank adapter on linear layers of these parts; the output then holds the model and the adapter in PEFT's format. continue: the adapter that the model has.
   */
  adapter: {
    /**
     * What is trained.
     */
    kind: 'full' | 'lora' | 'continue';
    /**
     * Rank of a new adapter; 16 by default.
     */
    rank?: number;
    /**
     * The adapter's update is scaled by alpha / rank; 2 * rank by default.
     */
    alpha?: number;
    /**
     * Share of a layer's inputs that its adapter does not see in a training step; 0 by default.
     */
    dropout?: number;
    /**
     * Scales by alpha / sqrt(rank) instead (rsLoRA).
     */
    rankStabilised?: boolean;
    /**
     * Layers that get an adapter: a list of names or ends of names (q_proj, mlp.0), a regular expression that matches whole names, or `all-linear`, the default.
     */
    targetModules?: string | string[];
  };
  /**
   * Set of switches below: sound, or reference, which repeats what Fine-R1's released code does even where that is a flaw. Single switches override it.
   */
  set: 'sound' | 'reference';
  /**
   * What becomes of a draw (see `questionsPerDraw`) in which no group has both right and wrong answers. By default that of the set: sound drop, reference keep-all.
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
   * When an answer is rewarded as right. exact: each tag stands once and the answer is the label; containment: the first answer contains the label, however many others it names. By default that of the set: sound exact, reference containment.
   */
  rewardRule?: 'exact' | 'containment';
  /**
   * step: one mean over all answer tokens of an update; micro: the mean of the means over `answersPerMean` answers each. By default that of the set: sound step, reference micro.
   */
  lossNormalisation?: 'step' | 'micro';
  /**
   * Groups where `views.positive` is none. whole: 2 * rollouts answers (or groupSize), `groupsPerStep` groups and `updatesPerStep` updates; halved: `rollouts` answers, twice the groups and twice the updates, as Fine-R1's code does. By default that of the set: sound whole, reference halved.
   */
  groupsWithoutPositive?: 'whole' | 'halved';
  /**
   * Tokens and positions in which positive and negative images are scored. own: those of their own size; anchor: those of the anchor, as Fine-R1's code does, which is wrong where shapes differ and an error where they have more or fewer tokens. By default that of the set: sound own, reference anchor.
   */
  viewLayout?: 'own' | 'anchor';
  /**
   * Answers of each mean where lossNormalisation is micro; Fine-R1's code has 4 on each device.
   */
  answersPerMean: number;
  /**
   * Tokens, padding included, that are computed at once; their gradients are summed.
   */
  microBatchTokens: number;
  /**
   * Answers that are generated at once.
   */
  generationBatch: number;
  /**
   * Images of a smaller area in pixels are scaled up to it, cutting sides to whole pixels, before the model folder's own resize. By preset: fine-r1 200704, else they are not.
   */
  minPixels?: number;
  /**
   * Images of a larger area in pixels are scaled down to it, cutting sides to whole pixels, before the model folder's own resize. By preset: fine-r1 1003520, else they are not.
   */
  maxPixels?: number;
  /**
   * Steps between saved training states.
   */
  saveEvery: number;
  /**
   * Groups of each step whose answers are kept in the output `samples`, with their images.
   */
  sampleGroups: number;
  /**
   * Element type of the saved weights (of the adapter, where one is trained); the following stages compute with them.
   */
  dtype: 'float32' | 'bfloat16' | 'float16';
  /**
   * Decides the order of the questions and the sampling; derived from the pipeline's seed by default.
   */
  seed?: number;
}
