/** The graphs of generation end in scores, out of which the host draws tokens. */
import type { Graph, Value } from '../../autodiff/graph.ts';
import type { ScoreRule } from '../../generate/sampler.ts';
import { Add } from '../../ops/add.ts';
import { Mul } from '../../ops/mul.ts';
import { RepetitionPenalty } from '../../ops/repetition-penalty.ts';
import { Softmax } from '../../ops/softmax.ts';

export interface GenerationGraph {
  readonly graph: Graph;
  /** `scores` [rows, V], and per layer `k0`, `v0`, ... */
  readonly outputs: Readonly<Record<string, Value>>;
}

/** softmax((penalised logits + bias) / temperature), without the parts that the rule leaves out. */
export function scoresOf(graph: Graph, logits: Value, { kind, hasPenalty, hasBans, hasTemperature }: ScoreRule): Value {
  let scores = logits;
  if (hasPenalty) {
    const seen = graph.input('seen', 'int32', [logits.dim(0), 'Y']);
    scores = RepetitionPenalty(scores, seen, graph.input('penalty', 'float32', [1]));
  }
  if (hasBans) scores = Add(scores, graph.input('logit_bias', 'float32', [logits.dim(1)]));
  if (kind === 'logits') return scores;
  if (hasTemperature) scores = Mul(scores, graph.input('inverse_temperature', 'float32', [1]));
  return Softmax(scores);
}
