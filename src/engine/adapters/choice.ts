/** What is trained, as options spell it: everything, a new adapter, or the adapter that the model has. */
import type { Towers, Training } from '../models/qwen2_5_vl/open-training-model.ts';
import { ALL_LINEAR } from './target-modules.ts';

export interface AdapterChoice {
  readonly kind: 'full' | 'lora' | 'continue';
  /** @default 16 */
  readonly rank?: number;
  /** @default 2 * rank */
  readonly alpha?: number;
  /** @default 0 */
  readonly dropout?: number;
  /** @default false */
  readonly rankStabilised?: boolean;
  /** @default 'all-linear' */
  readonly targetModules?: readonly string[] | string;
}

/** Rank of an adapter that is given none. */
export const LORA_DEFAULT_RANK = 16;

/** @param seed decides the first values of a new adapter */
export function trainingOf(choice: AdapterChoice, towers: Towers, seed: number): Training {
  if (choice.kind === 'continue') return { kind: 'continue' };
  if (choice.kind === 'full') return { kind: 'full', towers };
  const {
    rank = LORA_DEFAULT_RANK,
    alpha = 2 * rank,
    dropout = 0,
    rankStabilised = false,
    targetModules = ALL_LINEAR,
  } = choice;
  return {
    kind: 'lora',
    towers,
    settings: { rank, alpha, dropout, isRankStabilised: rankStabilised },
    targetModules,
    seed,
  };
}

/** Settings that say something about a new adapter where there is none. */
export function strayAdapterSettings(choice: AdapterChoice): string[] {
  return choice.kind === 'lora' ? [] : Object.keys(choice).filter((key) => key !== 'kind');
}
