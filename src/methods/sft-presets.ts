/**
 * Named starting points for fine-tuning: what an option is when a pipeline does not give it. `sft` says nothing about the
 * length of training and fits images into no budget of its own; `fine-r1-3b` and `fine-r1-7b` are Fine-R1's released scripts
 * of its first stage, which differ in nothing but the model that they start from.
 */

export interface SftSettings {
  /** Where the steps of a pipeline are not given: passes over the data. */
  readonly epochs: number | null;
  readonly batchSize: number;
  readonly microBatchSize: number;
  readonly learningRate: number;
  readonly schedule: 'cosine' | 'constant';
  readonly warmupSteps: number;
  readonly weightDecay: number;
  readonly maxGradNorm: number;
  readonly maxTokens: number;
  /** null: images are not fitted into a budget before the model's own resize. */
  readonly minPixels: number | null;
  readonly maxPixels: number | null;
}

const SFT: SftSettings = {
  epochs: null,
  batchSize: 64,
  microBatchSize: 4,
  learningRate: 5e-6,
  schedule: 'cosine',
  warmupSteps: 0,
  weightDecay: 0.1,
  maxGradNorm: 1,
  maxTokens: 4096,
  minPixels: null,
  maxPixels: null,
};

/** Four devices with four chats each, four times before an update: 64 chats. */
const FINE_R1: SftSettings = { ...SFT, epochs: 10, warmupSteps: 6, minPixels: 1024, maxPixels: 768 * 768 };

export const SFT_PRESETS = {
  sft: SFT,
  'fine-r1-3b': FINE_R1,
  'fine-r1-7b': FINE_R1,
} as const satisfies Record<string, SftSettings>;

export type SftPreset = keyof typeof SFT_PRESETS;
