/** Answers as rows of a training batch, several to a prompt, and rows as micro-batches; also for estimates of memory. */

/** What decides how answers are laid out. */
export interface Answer {
  readonly tokenIds: { readonly length: number };
}

/** A prompt as rows see it. */
export interface RowPrompt {
  readonly inputIds: { readonly length: number };
}

/** Answers that share a prompt, as the branches of a row. */
export interface PromptRow<P extends RowPrompt, A extends Answer> {
  readonly prompt: P;
  readonly trajectories: readonly A[];
  /** Tokens of the row. */
  readonly length: number;
}

/**
 * Rows for all answers to a prompt, none with more than `maxTokens` unless a single answer has.
 *
 * A row of k branches of length L after a prefix of P tokens saves k - 1 prefixes, but its attention grows with
 * (P + kL)^2. With some 12 C^2 multiplications per token and 2 C per pair of tokens in a layer of width C, the cost per
 * answer is least at kL = sqrt(P^2 + 6 C P).
 */
export function packRows<P extends RowPrompt, A extends Answer>(
  prompt: P,
  trajectories: readonly A[],
  { maxTokens, width }: { readonly maxTokens: number; readonly width: number },
): PromptRow<P, A>[] {
  const shared = prompt.inputIds.length - 1;
  const total = tokensOf(trajectories);
  const best = Math.sqrt(shared ** 2 + 6 * width * shared);
  const target = total / Math.max(1, Math.round(total / best));
  const rows: { prompt: P; trajectories: A[]; length: number }[] = [];
  for (const trajectory of trajectories) {
    const own = trajectory.tokenIds.length;
    const row = rows.at(-1);
    if (row && row.length + own <= maxTokens && row.length - shared + own / 2 <= target) {
      row.trajectories.push(trajectory);
      row.length += own;
    } else rows.push({ prompt, trajectories: [trajectory], length: shared + own });
  }
  return rows;
}

/**
 * Rows in parts of at most `maxTokens`, padding included; sorted by length.
 *
 * @param rows `count` rows of at most the length, which stay together; one where it is absent
 */
export function microBatches<Row extends { readonly length: number; readonly count?: number }>(
  rows: readonly Row[],
  maxTokens: number,
): Row[][] {
  const parts: Row[][] = [];
  let count = 0;
  for (const row of [...rows].sort((a, b) => a.length - b.length)) {
    const own = row.count ?? 1;
    const part = parts.at(-1);
    if (part && row.length * (count + own) <= maxTokens) {
      part.push(row);
      count += own;
    } else {
      parts.push([row]);
      count = own;
    }
  }
  return parts;
}

export function tokensOf(answers: readonly Answer[]): number {
  return answers.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0);
}
