/** Cross-entropy as a weighted sum, so that any normalisation is a choice of weights. */
import type { LossBuilder } from '../models/qwen2_5_vl/training-model.ts';
import { Mul } from '../ops/mul.ts';
import { Neg } from '../ops/neg.ts';
import { ReduceSum } from '../ops/reduce-sum.ts';

/**
 * loss = sum_i weight_i * (-log p_i)
 *
 * weight [N] fed as `weight`; 1/N everywhere gives the mean over target tokens
 */
export const WEIGHTED_NLL: LossBuilder = {
  key: 'weighted-nll',
  build: (graph, logProbs) => ({
    loss: ReduceSum(Mul(Neg(logProbs), graph.input('weight', 'float32', ['N'])), [0]),
  }),
};
