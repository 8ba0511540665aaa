/** Answers as TAPO trains on them: laid out in rows, weighted in the means of the loss, fed to its graph. */
import { needsNegative, type TapoTerms } from '../loss/tapo.ts';
import { float32, type HostTensor, int32 } from '../tensor.ts';
import { microBatches, type PromptRow, tokensOf } from './prompt-rows.ts';
import type { Prompt, Rollout } from './tapo.ts';

/** An answer as it is trained on. */
export interface Trajectory {
  readonly view: Rollout['view'];
  readonly tokenIds: readonly number[];
  /** [tokens] as sampled. */
  readonly sampled: readonly number[] | null;
  readonly advantage: number;
  readonly isImitated: boolean;
  /** [tokens] under the policy that sampled, on the image that is trained on; absent when a single update follows. */
  old?: Float32Array;
  /** [tokens] under the policy that sampled, on the negative image; absent where that is trained through. */
  negative?: Float32Array;
  /** [tokens] under the reference policy, on the image that is trained on. */
  reference?: Float32Array;
  /** [tokens] 0 for those that the negative divergence leaves out in the present update, else 1. */
  kept?: ArrayLike<number>;
}

/** Answers that share a prompt. */
export interface TrainedRow extends PromptRow<Prompt, Trajectory> {
  /** Whether the prompt shows the negative image to answers that count in a row about their own. @default false */
  readonly isNegative?: boolean;
}

/** What is computed together under any budget: a row, and its answers about the negative image where these are trained. */
export type Unit = readonly [own: TrainedRow, negative?: TrainedRow];

/** Weights of an answer's tokens in the means of the loss. */
interface AnswerWeights {
  /** Of a token in a mean over tokens. */
  readonly token: number;
  /** Of a token in the mean of the policy and the divergences. */
  readonly averaged: number;
  /** Of a token in the mean over imitated answers. */
  readonly imitated: number;
}

/** @param means answers that share a mean; the means count alike */
export function weightsOf(
  means: readonly (readonly Trajectory[])[],
  averaging: 'token' | 'sequence',
): ReadonlyMap<Trajectory, AnswerWeights> {
  const weights = new Map<Trajectory, AnswerWeights>();
  const share = 1 / means.length;
  for (const answers of means) {
    const token = share / tokensOf(answers);
    const imitatedTokens = tokensOf(answers.filter(({ isImitated }) => isImitated));
    for (const answer of answers) {
      const averaged = averaging === 'token' ? token : share / answers.length / answer.tokenIds.length;
      weights.set(answer, { token, averaged, imitated: answer.isImitated ? share / imitatedTokens : 0 });
    }
  }
  return weights;
}

/** The tokens of an answer among those of a batch. */
export interface Span {
  readonly trajectory: Trajectory;
  readonly isNegative: boolean;
  readonly start: number;
  readonly length: number;
}

export function spansOf(rows: readonly TrainedRow[]): Span[] {
  let start = 0;
  return rows.flatMap(({ trajectories, isNegative = false }) =>
    trajectories.map((trajectory) => {
      const span = { trajectory, isNegative, start, length: trajectory.tokenIds.length };
      start += span.length;
      return span;
    }),
  );
}

/** Feeds of the loss, token by token in the order of the rows. All tokens up to the end token count. */
export function lossInputs(
  rows: readonly TrainedRow[],
  terms: TapoTerms,
  weights: ReadonlyMap<Trajectory, AnswerWeights>,
  fading: number,
): Record<string, HostTensor> {
  const spans = spansOf(rows);
  const count = spans.reduce((sum, { length }) => sum + length, 0);
  const perToken = (write: (to: Float32Array, trajectory: Trajectory, weights: AnswerWeights) => void) => {
    const values = new Float32Array(count);
    for (const { trajectory, isNegative, start, length } of spans) {
      if (!isNegative) write(values.subarray(start, start + length), trajectory, weights.get(trajectory)!);
    }
    return float32([count], values);
  };
  return {
    advantages: perToken((to, { advantage }) => to.fill(advantage)),
    weight: perToken((to, _, { averaged }) => to.fill(averaged)),
    token_weight: perToken((to, _, { token }) => to.fill(token)),
    ...(terms.oldPolicy === 'fed' && { old_log_probs: perToken((to, { old }) => to.set(old!)) }),
    ...(needsNegative(terms) &&
      (terms.negativeBranch === 'trained'
        ? negativePlaces(spans, count)
        : { negative_log_probs: perToken((to, { negative }) => to.set(negative!)) })),
    ...(terms.negativeKl?.isMasked && {
      negative_kl_weight: perToken((to, { kept }, { averaged }) => {
        for (let i = 0; i < to.length; i++) to[i] = averaged * kept![i]!;
      }),
    }),
    ...(terms.referenceKl && { reference_log_probs: perToken((to, { reference }) => to.set(reference!)) }),
    ...(terms.imitation && { imitation_weight: perToken((to, _, { imitated }) => to.fill(imitated)) }),
    ...(terms.rolloutDifference && { rollout_log_probs: perToken((to, { sampled }) => to.set(sampled!)) }),
    ...(terms.isFading && { fading: float32([], Float32Array.of(fading)) }),
  };
}

/** Where the tokens of the rows about their own images stand in those about the negative ones, and the reverse. */
function negativePlaces(spans: readonly Span[], count: number): Record<string, HostTensor> {
  const index = new Int32Array(count).fill(count);
  const uses = new Int32Array(count).fill(count);
  const negatives = new Map(spans.filter(({ isNegative }) => isNegative).map((span) => [span.trajectory, span.start]));
  for (const { trajectory, start, length } of spans.filter(({ isNegative }) => !isNegative)) {
    const twin = negatives.get(trajectory)!;
    for (let i = 0; i < length; i++) {
      index[start + i] = twin + i;
      uses[twin + i] = start + i;
    }
  }
  return { negative_index: int32([count], index), negative_uses: int32([count, 1], uses) };
}

/** Rows in parts of at most `maxTokens`, padding included. The loss does not depend on the split. */
export function inMicroBatches(units: readonly Unit[], maxTokens: number): TrainedRow[][] {
  const sized = units.map((unit) => {
    const rows = unit.filter((row) => row !== undefined);
    return { rows, count: rows.length, length: rows.reduce((most, { length }) => Math.max(most, length), 0) };
  });
  return microBatches(sized, maxTokens).map((part) => part.flatMap(({ rows }) => rows));
}

/** Consecutive parts of the given size; the last may be smaller. */
export function chunksOf<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}
