import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { RandomStream } from '../random.ts';
import { shapeMismatch } from './shapes.ts';

export interface DropoutMaskAttributes {
  /** Columns of the mask. */
  readonly width: number;
  /** Share of zeros, in [0, 1). */
  readonly rate: number;
  /** Keys of the columns are derived from this name. */
  readonly layer: string;
}

/** An odd random number per column: odd, so that a row's products are as spread out as the row's key. */
export function columnKeys({ width, layer }: DropoutMaskAttributes): Int32Array {
  const stream = new RandomStream('dropout', layer);
  return Int32Array.from({ length: width }, () => stream.uint32() | 1);
}

/** Hashes at or below this are dropped: the integer below which lies a share `rate` of all 2^32. */
export function dropThreshold(rate: number): number {
  return Math.round(rate * 2 ** 32) - 2 ** 31 - 1;
}

export const DROPOUT_MASK: Operator<DropoutMaskAttributes> = {
  type: 'DropoutMask',
  infer: (inputs, { width }) => {
    const [scale, shift] = inputs as [Value, Value];
    const fits = [scale, shift].every((key) => key.dtype === 'int32' && key.rank === 2 && key.dim(1) === 1);
    if (!fits || scale.dim(0) !== shift.dim(0)) throw shapeMismatch('DropoutMask', inputs, 'both are int32 [N, 1]');
    return [{ dtype: 'float32', shape: [scale.dim(0), width] }];
  },
  emit: (node, emitter) => {
    const { width, rate } = node.attributes;
    const [scale, shift] = node.inputs as [Value, Value];
    const int32 = (shape: readonly number[], data: Int32Array) => emitter.constant({ dtype: 'int32', shape, data });
    const [product] = emitter.op('Mul', [scale, int32([1, width], columnKeys(node.attributes))]);
    const [hash] = emitter.op('Add', [product!, shift]);
    const [isKept] = emitter.op('Greater', [hash!, int32([], Int32Array.of(dropThreshold(rate)))]);
    const [kept] = emitter.op('Cast', [isKept!], 1, { attributes: { to: 1 } });
    emitter.op('Mul', [kept!, emitter.scalar(1 / (1 - rate))], node.outputs);
  },
  gradient: { zero: 'the mask is random, not computed from anything that learns' },
};

/**
 * Random factors 0 and 1 / (1 - rate): mask[i, j] = 0 where scale[i] * key[j] + shift[i], modulo 2^32, is among the
 * lowest `rate` of all integers.
 *
 * scale, shift [N, 1] int32, random -> [N, width]
 *
 * @see Dietzfelbinger 1996, "Universal hashing and k-wise independent random variables via integer arithmetic"
 */
export function DropoutMask(scale: Value, shift: Value, attributes: DropoutMaskAttributes): Value {
  return apply(DROPOUT_MASK, [scale, shift], attributes);
}
