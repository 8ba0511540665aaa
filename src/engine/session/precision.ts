/** How matrix products are computed on CUDA. */
import { Fr1Error } from '../../errors/fr1-error.ts';

/**
 * `float32`; `tf32`: float32 operands are rounded to 10 bits of mantissa; `bfloat16`: operands and results are rounded to
 * bfloat16, everything else, master weights and moments included, stays float32.
 */
export type Precision = 'float32' | 'tf32' | 'bfloat16';

const PRECISIONS: readonly Precision[] = ['float32', 'tf32', 'bfloat16'];

/**
 * The precision that FR1_CUDA_PRECISION names. @default tf32
 *
 * @throws DEVICE_UNAVAILABLE for anything else
 */
export function cudaPrecision(): Precision {
  const name = process.env['FR1_CUDA_PRECISION'] || 'tf32';
  const found = PRECISIONS.find((precision) => precision === name);
  if (found) return found;
  throw new Fr1Error('DEVICE_UNAVAILABLE', `FR1_CUDA_PRECISION is "${name}"`, { hint: `use ${PRECISIONS.join(', ')}` });
}
