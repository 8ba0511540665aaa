import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Mul } from './mul.ts';
import { Neg } from './neg.ts';
import { Reshape } from './reshape.ts';
import { requireFloat, shapeMismatch } from './shapes.ts';

/** Probabilities below this are taken as this, so that the logarithm stays finite: log is about -87. */
const SMALLEST = 1.2e-38;

export const TOKEN_LOG_PROB: Operator<null> = {
  type: 'TokenLogProb',
  infer: (inputs) => {
    const [logits, pairs] = inputs as [Value, Value];
    requireFloat('TokenLogProb', [logits]);
    if (logits.rank !== 2 || pairs.rank !== 2 || pairs.dim(0) !== logits.dim(0) || pairs.dtype !== 'int64') {
      throw shapeMismatch('TokenLogProb', inputs, 'logits are [N, V], pairs int64 [N, 2]');
    }
    return [
      { dtype: 'float32', shape: [logits.dim(0)] },
      { dtype: 'float32', shape: logits.shape },
    ];
  },
  emit: (node, emitter) => {
    const [logits, pairs] = node.inputs as [Value, Value];
    const [logProb, probabilities] = node.outputs as [Value, Value];
    emitter.op('Softmax', [logits], [probabilities], { attributes: { axis: -1 } });
    const [picked] = emitter.op('GatherND', [probabilities, pairs]);
    const [positive] = emitter.op('Max', [picked!, emitter.scalar(SMALLEST)]);
    emitter.op('Log', [positive!], [logProb]);
  },
  gradient: (node, [dy]) => {
    // d log p(target) / d logits = onehot(target) - p
    const [, pairs] = node.inputs as [Value, Value];
    const probabilities = node.outputs[1]!;
    const weighted = Mul(probabilities, Reshape(Neg(dy!), [dy!.dim(0), 1]));
    return [apply(ADD_AT_PAIRS, [weighted, pairs, dy!], null), null];
  },
};

const ADD_AT_PAIRS: Operator<null> = {
  type: 'AddAtPairs',
  infer: ([x]) => [{ dtype: 'float32', shape: x!.shape }],
  emit: (node, emitter) => {
    // Each row occurs in one pair only, so this scatter never adds twice at one place.
    emitter.op('ScatterND', node.inputs, node.outputs, { attributes: { reduction: 'add' } });
  },
  gradient: { forbidden: 'second derivatives are not taken' },
};

/**
 * Log-probability of one token per row: log softmax(logits)[i, target[i]].
 *
 * logits [N, V]
 * pairs  [N, 2] int64: (i, target of row i)
 * ->     [N]
 */
export function TokenLogProb(logits: Value, pairs: Value): Value {
  return logits.graph.apply(TOKEN_LOG_PROB, [logits, pairs], null)[0]!;
}
