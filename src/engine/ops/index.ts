/** The explicit list of operators. */
import { ADD } from './add.ts';
import { CAST } from './cast.ts';
import { CLIP } from './clip.ts';
import { CONCAT } from './concat.ts';
import { DIV } from './div.ts';
import { DROPOUT_MASK } from './dropout-mask.ts';
import { EMBEDDING } from './embedding.ts';
import { ERF } from './erf.ts';
import { EXP } from './exp.ts';
import { EXPAND } from './expand.ts';
import { FLAT_PART } from './flat-part.ts';
import { GATHER_ROWS } from './gather-rows.ts';
import { GELU } from './gelu.ts';
import { GEMM } from './gemm.ts';
import { LESS } from './less.ts';
import { LOG } from './log.ts';
import { MAT_MUL } from './mat-mul.ts';
import { MAX } from './max.ts';
import { MIN } from './min.ts';
import { MUL } from './mul.ts';
import { NEG } from './neg.ts';
import { RECIPROCAL } from './reciprocal.ts';
import { REDUCE_MEAN } from './reduce-mean.ts';
import { REDUCE_SUM } from './reduce-sum.ts';
import { REPETITION_PENALTY } from './repetition-penalty.ts';
import { RESHAPE } from './reshape.ts';
import { RMS_NORM } from './rms-norm.ts';
import { ROTARY_EMBEDDING } from './rotary-embedding.ts';
import { SCATTER_ROWS } from './scatter-rows.ts';
import { SIGMOID } from './sigmoid.ts';
import { SILU } from './silu.ts';
import { SOFTMAX } from './softmax.ts';
import { SPLIT } from './split.ts';
import { SQRT } from './sqrt.ts';
import { STOP_GRADIENT } from './stop-gradient.ts';
import { SUB } from './sub.ts';
import { TANH } from './tanh.ts';
import { TOKEN_LOG_PROB } from './token-log-prob.ts';
import { TRANSPOSE } from './transpose.ts';

export const OPERATORS = [
  ADD,
  CAST,
  CLIP,
  CONCAT,
  DIV,
  DROPOUT_MASK,
  EMBEDDING,
  ERF,
  EXP,
  EXPAND,
  FLAT_PART,
  GATHER_ROWS,
  GELU,
  GEMM,
  LESS,
  LOG,
  MAT_MUL,
  MAX,
  MIN,
  MUL,
  NEG,
  RECIPROCAL,
  REDUCE_MEAN,
  REDUCE_SUM,
  REPETITION_PENALTY,
  RESHAPE,
  RMS_NORM,
  ROTARY_EMBEDDING,
  SCATTER_ROWS,
  SIGMOID,
  SILU,
  SOFTMAX,
  SPLIT,
  SQRT,
  STOP_GRADIENT,
  SUB,
  TANH,
  TOKEN_LOG_PROB,
  TRANSPOSE,
] as const;
