import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { requireFloat, shapeMismatch } from './shapes.ts';

export const REPETITION_PENALTY: Operator<null> = {
  type: 'RepetitionPenalty',
  infer: (inputs) => {
    const [logits, seen, penalty] = inputs as [Value, Value, Value];
    requireFloat('RepetitionPenalty', [logits, penalty]);
    const fits = logits.rank === 2 && seen.rank === 2 && seen.dim(0) === logits.dim(0) && seen.dtype === 'int32';
    if (!fits || penalty.rank !== 1) {
      throw shapeMismatch('RepetitionPenalty', inputs, 'logits are [N, V], seen is int32 [N, Y], the penalty is [1]');
    }
    return [{ dtype: 'float32', shape: logits.shape }];
  },
  emit: (node, emitter) => {
    const [logits, seen, penalty] = node.inputs as [Value, Value, Value];
    const attributes = { axis: 1 };
    const [found] = emitter.op('GatherElements', [logits, seen], 1, { attributes });
    const [isNegative] = emitter.op('Less', [found!, emitter.scalar(0)]);
    const [multiplied] = emitter.op('Mul', [found!, penalty]);
    const [divided] = emitter.op('Div', [found!, penalty]);
    const [changed] = emitter.op('Where', [isNegative!, multiplied!, divided!]);
    // NOTE: an index that occurs twice in a row writes the same value twice, so its order does not matter.
    emitter.op('ScatterElements', [logits, seen, changed!], node.outputs, { attributes });
  },
  gradient: { forbidden: 'a repetition penalty is used for sampling, which is not differentiated' },
};

/**
 * Divides the positive and multiplies the negative logits of tokens that were seen, each once.
 *
 * logits  [N, V]
 * seen    [N, Y] int32  token ids; shorter lists are filled up with one of their own
 * penalty [1]
 * ->      [N, V]
 *
 * @see Keskar et al. 2019, arXiv:1909.05858; the rule for negative logits is that of transformers
 */
export function RepetitionPenalty(logits: Value, seen: Value, penalty: Value): Value {
  return apply(REPETITION_PENALTY, [logits, seen, penalty], null);
}
