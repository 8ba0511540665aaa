/** The graphs of generation end in scores, out of which the host draws tokens. */
import type { Graph, Value } from '../../autodiff/graph.ts';
import type { Scores } from '../../generate/sampler.ts';
import { Add } from '../../ops/add.ts';
import { Mul } from '../../ops/mul.ts';
import { Softmax } from '../../ops/softmax.ts';

export interface GenerationGraph {
  readonly graph: Graph;
  /** `scores` [rows, V], and per layer `k0`, `v0`, ... */
  readonly outputs: Readonly<Record<string, Value>>;
}

/** softmax((logits + bias) / temperature), or the logits as they are. */
export function scoresOf(graph: Graph, logits: Value, scores: Scores): Value {
  if (scores === 'logits') return logits;
  const bias = graph.input('logit_bias', 'float32', [logits.dim(1)]);
  const inverseTemperature = graph.input('inverse_temperature', 'float32', [1]);
  return Softmax(Mul(Add(logits, bias), inverseTemperature));
}
