/**
 * Advantages of responses that answer the same question, from their rewards alone.
 */
import { Fr1Error } from '../errors/fr1-error.ts';

/**
 * Group-normalised advantages: A_i = (s_i - mean) / (std + eps) over the group of i, the standard deviation with N - 1.
 * DAPO and GRPO both use this form. A group of equal scores gets zeros.
 *
 * scores  [N]  one reward per response
 * groups  [N]  the group of each response, any labels
 * ->      [N]
 *
 * @throws GROUP_TOO_SMALL when a group has fewer than two responses
 * @throws SHAPE_MISMATCH when the lists differ in length
 * @see Shao et al. 2024, arXiv:2402.03300 (GRPO); Yu et al. 2025, arXiv:2503.14476 (DAPO)
 */
export function groupNormalisedAdvantages(
  scores: ArrayLike<number>,
  groups: ArrayLike<number>,
  epsilon = 1e-6,
): Float64Array {
  return perGroup(scores, groups, (members) => {
    const mean = sum(members) / members.length;
    const variance = sum(members.map((score) => (score - mean) ** 2)) / (members.length - 1);
    const scale = Math.sqrt(variance) + epsilon;
    return members.map((score) => (score - mean) / scale);
  });
}

/**
 * Leave-one-out advantages: A_i = s_i - mean of the other scores of its group.
 *
 * Arguments and errors are those of {@link groupNormalisedAdvantages}.
 *
 * @see Ahmadian et al. 2024, arXiv:2402.14740
 */
export function leaveOneOutAdvantages(scores: ArrayLike<number>, groups: ArrayLike<number>): Float64Array {
  return perGroup(scores, groups, (members) => {
    const total = sum(members);
    return members.map((score) => score - (total - score) / (members.length - 1));
  });
}

/**
 * REINFORCE++ advantages: every token's return is its response's score, whitened over all tokens of the batch, so that a
 * long response weighs more in mean and variance. Groups play no part.
 *
 *   A_i = (s_i - m) / sqrt(v + 1e-8),  m and v (with N - 1) over tokens
 *
 * scores   [N]
 * lengths  [N]  tokens of each response
 * ->       [N]
 *
 * @throws GROUP_TOO_SMALL when there are fewer than two tokens
 * @throws SHAPE_MISMATCH when the lists differ in length
 * @see Hu et al. 2025, arXiv:2501.03262
 */
export function whitenedAdvantages(scores: ArrayLike<number>, lengths: ArrayLike<number>): Float64Array {
  if (scores.length !== lengths.length) {
    throw new Fr1Error('SHAPE_MISMATCH', `${scores.length} scores do not fit ${lengths.length} lengths`);
  }
  let tokens = 0;
  let total = 0;
  for (let i = 0; i < scores.length; i++) {
    tokens += lengths[i]!;
    total += lengths[i]! * scores[i]!;
  }
  if (tokens < 2) throw new Fr1Error('GROUP_TOO_SMALL', `a batch of ${tokens} tokens has no variance`);
  const mean = total / tokens;
  let squares = 0;
  for (let i = 0; i < scores.length; i++) squares += lengths[i]! * (scores[i]! - mean) ** 2;
  const scale = Math.sqrt(squares / (tokens - 1) + 1e-8);
  return Float64Array.from(scores, (score) => (score - mean) / scale);
}

function perGroup(
  scores: ArrayLike<number>,
  groups: ArrayLike<number>,
  advantagesOf: (members: number[]) => number[],
): Float64Array {
  if (scores.length !== groups.length) {
    throw new Fr1Error('SHAPE_MISMATCH', `${scores.length} scores do not fit ${groups.length} group labels`);
  }
  const indicesOf = new Map<number, number[]>();
  for (let index = 0; index < groups.length; index++) {
    const group = groups[index]!;
    const indices = indicesOf.get(group);
    if (indices === undefined) indicesOf.set(group, [index]);
    else indices.push(index);
  }
  const advantages = new Float64Array(scores.length);
  for (const [group, indices] of indicesOf) {
    if (indices.length < 2) {
      throw new Fr1Error('GROUP_TOO_SMALL', `group ${group} has one response; an advantage needs at least two`);
    }
    const values = advantagesOf(indices.map((index) => scores[index]!));
    indices.forEach((index, position) => {
      advantages[index] = values[position]!;
    });
  }
  return advantages;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
