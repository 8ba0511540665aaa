/** How many prompts are read and how many sequences decoded together; used by the generator and by estimates of memory. */
import type { Qwen25VLConfig } from './config.ts';
import { cacheBytesPerToken } from './decoder.ts';

export interface GenerationLimits {
  /** Sequences decoded together. @default 256 */
  readonly maxBatch: number;
  /** Tokens and image patches read in one run. @default 16384 */
  readonly maxPrefillTokens: number;
  /** Memory of the key/value cache; where it is short, fewer sequences are decoded together. @default 2 GiB */
  readonly maxCacheBytes: number;
  /** Sequences share their prompt's cache where prompt tokens times (sequences of a prompt - 1) reach this. @default 768 */
  readonly sharePromptsFrom: number;
}

export function generationLimits(given: Partial<GenerationLimits> = {}): GenerationLimits {
  return {
    maxBatch: given.maxBatch ?? 256,
    maxPrefillTokens: given.maxPrefillTokens ?? 16384,
    maxCacheBytes: given.maxCacheBytes ?? 2 * 1024 ** 3,
    sharePromptsFrom: given.sharePromptsFrom ?? 768,
  };
}

/** Whether sequences read the keys and values of their prompt together; for few or short ones a copy each is faster. */
export function sharesPrompts(limits: GenerationLimits, promptTokens: number, perPrompt: number): boolean {
  return promptTokens > 1 && promptTokens * (perPrompt - 1) >= limits.sharePromptsFrom;
}

/** Sequences that are decoded together after prompts of at most that length. */
export function mostSequences(
  config: Qwen25VLConfig,
  { maxBatch, maxCacheBytes }: GenerationLimits,
  promptTokens: number,
  { maxNewTokens, samples, areShared }: { maxNewTokens: number; samples: number; areShared: boolean },
): number {
  const own = areShared ? promptTokens / samples : promptTokens;
  const bytes = (own + maxNewTokens) * cacheBytesPerToken(config);
  return Math.max(1, Math.min(maxBatch, Math.floor(maxCacheBytes / bytes)));
}

/** Whether one more prompt can be read together with others. */
export function fitsPrefill(
  { maxPrefillTokens }: Pick<GenerationLimits, 'maxPrefillTokens'>,
  { longest, rows, patches }: { readonly longest: number; readonly rows: number; readonly patches: number },
): boolean {
  return longest * rows + patches <= maxPrefillTokens;
}
