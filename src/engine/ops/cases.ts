/**
 * Test cases of every operator. The harness (ops.test.ts) checks for each case: inferred shape = produced shape, values
 * against `reference` (plain float64 arithmetic), and the gradient along random directions by central differences.
 */
import type { Graph, Value } from '../autodiff/graph.ts';
import type { HostTensor } from '../tensor.ts';
import { Add } from './add.ts';
import { Cast } from './cast.ts';
import { Clip } from './clip.ts';
import { Concat } from './concat.ts';
import { Div } from './div.ts';
import { columnKeys, DropoutMask, dropThreshold } from './dropout-mask.ts';
import { Embedding } from './embedding.ts';
import { Erf } from './erf.ts';
import { Exp } from './exp.ts';
import { Expand } from './expand.ts';
import { FlatPart } from './flat-part.ts';
import { GatherRows, usesOf } from './gather-rows.ts';
import { Gelu } from './gelu.ts';
import { Gemm } from './gemm.ts';
import type { OPERATORS } from './index.ts';
import { Less } from './less.ts';
import { Log } from './log.ts';
import { MatMul } from './mat-mul.ts';
import { Max } from './max.ts';
import { Min } from './min.ts';
import { Mul } from './mul.ts';
import { Neg } from './neg.ts';
import { Reciprocal } from './reciprocal.ts';
import { ReduceMean } from './reduce-mean.ts';
import { ReduceSum } from './reduce-sum.ts';
import { RepetitionPenalty } from './repetition-penalty.ts';
import { Reshape } from './reshape.ts';
import { RmsNorm } from './rms-norm.ts';
import { RotaryEmbedding } from './rotary-embedding.ts';
import { ScatterRows } from './scatter-rows.ts';
import { Sigmoid } from './sigmoid.ts';
import { Silu } from './silu.ts';
import { Softmax } from './softmax.ts';
import { Split } from './split.ts';
import { Sqrt } from './sqrt.ts';
import { StopGradient } from './stop-gradient.ts';
import { Sub } from './sub.ts';
import { Tanh } from './tanh.ts';
import { TokenLogProb } from './token-log-prob.ts';
import { Transpose } from './transpose.ts';

export type OperatorType = (typeof OPERATORS)[number]['type'];

/** A float64 array with a shape: what reference functions read. */
export interface Nd {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

export interface OperatorCase {
  readonly title: string;
  /** Shapes of the differentiable float32 inputs. */
  readonly inputs: readonly (readonly number[])[];
  /** Range of the random inputs. @default [-2, 2] */
  readonly range?: readonly [number, number];
  /** Data without gradient (indices, angles), made by the case. */
  readonly data?: Readonly<Record<string, HostTensor>>;
  /** Names of inputs whose axes are symbolic in the graph: one shape spelled with names per input. */
  readonly symbolic?: readonly (readonly (number | string)[])[];
  build(inputs: readonly Value[], data: Readonly<Record<string, Value>>, graph: Graph): Value;
  reference(inputs: readonly Nd[]): ArrayLike<number>;
}

/** More columns than a vector register has lanes, so that both ends of a loop are met. */
const DROPPED = { width: 37, rate: 0.25, layer: 'layer' } as const;

const unary = (
  build: (x: Value) => Value,
  reference: (x: number) => number,
  range?: readonly [number, number],
): OperatorCase[] => [
  {
    title: 'maps every element',
    inputs: [[3, 5]],
    ...(range ? { range } : {}),
    build: ([x]) => build(x!),
    reference: ([x]) => x!.data.map(reference),
  },
];

/** Index of an element of `shape` after broadcasting into `into`. */
function broadcastIndex(flat: number, into: readonly number[], shape: readonly number[]): number {
  let index = 0;
  let stride = 1;
  let rest = flat;
  for (let axis = into.length - 1; axis >= 0; axis--) {
    const at = rest % into[axis]!;
    rest = Math.floor(rest / into[axis]!);
    const own = axis - into.length + shape.length;
    if (own >= 0) {
      if (shape[own] !== 1) index += at * stride;
      stride *= shape[own]!;
    }
  }
  return index;
}

const binary = (
  build: (a: Value, b: Value) => Value,
  reference: (a: number, b: number) => number,
  range?: readonly [number, number],
): OperatorCase[] => {
  const shapes: [string, number[], number[], number[]][] = [
    ['takes equal shapes', [2, 3], [2, 3], [2, 3]],
    ['broadcasts a row', [4, 3], [3], [4, 3]],
    ['broadcasts both sides', [2, 1, 3], [4, 1], [2, 4, 3]],
    ['broadcasts a scalar', [], [2, 2], [2, 2]],
  ];
  return shapes.map(([title, a, b, out]) => ({
    title,
    inputs: [a, b],
    ...(range ? { range } : {}),
    build: ([x, y]) => build(x!, y!),
    reference: ([x, y]) =>
      Float64Array.from({ length: out.reduce((p, q) => p * q, 1) }, (_, i) =>
        reference(x!.data[broadcastIndex(i, out, a)]!, y!.data[broadcastIndex(i, out, b)]!),
      ),
  }));
};

/** Abramowitz & Stegun 7.1.5: the Maclaurin series of erf, exact enough for |x| <= 3. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 60; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

function matmul(a: Nd, b: Nd, transA: boolean, transB: boolean, alpha = 1): Float64Array {
  const [m, k] = transA ? [a.shape.at(-1)!, a.shape.at(-2)!] : [a.shape.at(-2)!, a.shape.at(-1)!];
  const n = transB ? b.shape.at(-2)! : b.shape.at(-1)!;
  const batch = a.shape.slice(0, -2).reduce((p, q) => p * q, 1);
  const out = new Float64Array(batch * m * n);
  for (let s = 0; s < batch; s++) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let l = 0; l < k; l++) {
          const left = a.data[s * m * k + (transA ? l * m + i : i * k + l)]!;
          const right = b.data[s * k * n + (transB ? j * k + l : l * n + j)]!;
          sum += left * right;
        }
        out[s * m * n + i * n + j] = alpha * sum;
      }
    }
  }
  return out;
}

const transposes = [
  [false, false],
  [false, true],
  [true, false],
  [true, true],
] as const;

function rows(x: Nd, map: (row: Float64Array, index: number) => ArrayLike<number>): Float64Array {
  const width = x.shape.at(-1)!;
  const out: number[] = [];
  for (let i = 0; i < x.data.length / width; i++) {
    out.push(...Array.from(map(x.data.subarray(i * width, (i + 1) * width), i)));
  }
  return Float64Array.from(out);
}

function softmaxRow(row: Float64Array): Float64Array {
  const max = Math.max(...row);
  const powers = row.map((value) => Math.exp(value - max));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

const indices = (values: readonly number[]): HostTensor => ({
  dtype: 'int32',
  shape: [values.length],
  data: Int32Array.from(values),
});

const SCATTER_INDEX = [2, 0, 2, 2, 3];

function scatterIndex(places: readonly number[]): HostTensor<'int64'> {
  return { dtype: 'int64', shape: [places.length, 1], data: BigInt64Array.from(places, BigInt) };
}

const GATHER_INDEX = [2, 0, 4, 2, 3, 2];
const GATHER_USES = usesOf(GATHER_INDEX, 4);
const ANGLES = Float32Array.from({ length: 2 * 3 * 2 }, (_, i) => 0.3 * i - 1);
const TARGETS = [4, 0, 2];

export const OPERATOR_CASES: Readonly<Record<OperatorType, readonly OperatorCase[]>> = {
  Add: binary(Add, (a, b) => a + b),
  Sub: binary(Sub, (a, b) => a - b),
  Mul: binary(Mul, (a, b) => a * b),
  Div: binary(Div, (a, b) => a / b, [0.5, 2]),
  Max: binary(Max, Math.max),
  Min: binary(Min, Math.min),
  Less: binary(
    (a, b) => Cast(Less(a, b), 'float32'),
    (a, b) => (a < b ? 1 : 0),
  ),
  Exp: unary(Exp, Math.exp),
  Log: unary(Log, Math.log, [0.3, 3]),
  Neg: unary(Neg, (x) => -x),
  Sqrt: unary(Sqrt, Math.sqrt, [0.3, 3]),
  StopGradient: unary(StopGradient, (x) => x),
  Reciprocal: unary(Reciprocal, (x) => 1 / x, [0.5, 2]),
  Sigmoid: unary(Sigmoid, sigmoid),
  Tanh: unary(Tanh, Math.tanh),
  Erf: unary(Erf, erf),
  Silu: unary(Silu, (x) => x * sigmoid(x)),
  Gelu: unary(Gelu, (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2))),
  Cast: unary(
    (x) => Cast(Cast(x, 'float16'), 'float32'),
    (x) => x,
  ),
  Clip: unary(
    (x) => Clip(x, -0.7, 1.1),
    (x) => Math.min(Math.max(x, -0.7), 1.1),
  ),
  Reshape: [
    {
      title: 'keeps the order of elements',
      inputs: [[2, 6]],
      build: ([x]) => Reshape(x!, [3, 4]),
      reference: ([x]) => x!.data,
    },
    {
      title: 'splits a product of named sizes',
      inputs: [
        [6, 4],
        [2, 3],
      ],
      symbolic: [
        ['B*T', 4],
        ['B', 'T'],
      ],
      build: ([x, y]) => Mul(Reshape(x!, ['B', 'T', 2, 2]), Reshape(y!, ['B', 'T', 1, 1])),
      reference: ([x, y]) => x!.data.map((value, i) => value * y!.data[Math.floor(i / 4)]!),
    },
  ],
  Transpose: [
    {
      title: 'permutes the axes',
      inputs: [[2, 3, 4]],
      build: ([x]) => Transpose(x!, [2, 0, 1]),
      reference: ([x]) =>
        Float64Array.from({ length: 24 }, (_, i) => {
          const [c, a, b] = [Math.floor(i / 6), Math.floor(i / 3) % 2, i % 3];
          return x!.data[a * 12 + b * 4 + c]!;
        }),
    },
  ],
  ReduceSum: [
    {
      title: 'sums two axes and drops them',
      inputs: [[2, 3, 4]],
      build: ([x]) => ReduceSum(x!, [0, -1]),
      reference: ([x]) =>
        Float64Array.from({ length: 3 }, (_, j) => {
          let sum = 0;
          for (let i = 0; i < 2; i++) for (let k = 0; k < 4; k++) sum += x!.data[i * 12 + j * 4 + k]!;
          return sum;
        }),
    },
  ],
  ReduceMean: [
    {
      title: 'averages the last axis and keeps it',
      inputs: [[3, 4]],
      build: ([x]) => ReduceMean(x!, [-1], { keepDims: true }),
      reference: ([x]) => rows(x!, (row) => [row.reduce((a, b) => a + b, 0) / 4]),
    },
  ],
  Expand: [
    {
      title: 'repeats along new and unit axes',
      inputs: [[3, 1]],
      build: ([x]) => Expand(x!, [2, 3, 2]),
      reference: ([x]) => Float64Array.from({ length: 12 }, (_, i) => x!.data[Math.floor(i / 2) % 3]!),
    },
  ],
  Concat: [
    {
      title: 'joins along the last axis',
      inputs: [
        [2, 2],
        [2, 3],
      ],
      build: ([a, b]) => Concat([a!, b!], -1),
      reference: ([a, b]) =>
        Float64Array.from({ length: 10 }, (_, i) => {
          const [row, column] = [Math.floor(i / 5), i % 5];
          return column < 2 ? a!.data[row * 2 + column]! : b!.data[row * 3 + column - 2]!;
        }),
    },
  ],
  Split: [
    {
      title: 'cuts an axis into parts of named sizes',
      inputs: [
        [2, 3],
        [2, 2],
      ],
      symbolic: [
        ['N', 'A'],
        ['N', 'B'],
      ],
      build: ([a, b]) => {
        const [first] = Split(Concat([a!, b!], 1), 1, ['A', 'B']);
        return Mul(first!, first!);
      },
      reference: ([a]) => a!.data.map((x) => x * x),
    },
    {
      title: 'cuts an axis; an unused part has zero gradient',
      inputs: [[2, 6]],
      build: ([x]) => {
        const [first, , last] = Split(x!, 1, [2, 2, 2]);
        return Mul(first!, last!);
      },
      reference: ([x]) =>
        Float64Array.from({ length: 4 }, (_, i) => {
          const row = Math.floor(i / 2) * 6;
          return x!.data[row + (i % 2)]! * x!.data[row + 4 + (i % 2)]!;
        }),
    },
  ],
  Gemm: transposes.map(([transA, transB]) => ({
    title: `multiplies with transA ${transA}, transB ${transB}`,
    inputs: [transA ? [4, 3] : [3, 4], transB ? [5, 4] : [4, 5]],
    build: ([a, b]) => Gemm(a!, b!, { transA, transB }),
    reference: ([a, b]) => matmul(a!, b!, transA, transB),
  })),
  MatMul: transposes.map(([transA, transB]) => ({
    title: `multiplies each pair with transA ${transA}, transB ${transB}`,
    inputs: [transA ? [2, 2, 4, 3] : [2, 2, 3, 4], transB ? [2, 2, 5, 4] : [2, 2, 4, 5]],
    build: ([a, b]) => MatMul(a!, b!, { transA, transB, alpha: 0.5 }),
    reference: ([a, b]) => matmul(a!, b!, transA, transB, 0.5),
  })),
  Softmax: [
    {
      title: 'normalises the last axis',
      inputs: [[3, 5]],
      build: ([x]) => Softmax(x!),
      reference: ([x]) => rows(x!, softmaxRow),
    },
  ],
  RmsNorm: [
    {
      title: 'scales rows to unit mean square times gain',
      inputs: [[2, 3, 4], [4]],
      build: ([x, gain]) => RmsNorm(x!, gain!, 1e-6),
      reference: ([x, gain]) =>
        rows(x!, (row) => {
          const scale = 1 / Math.sqrt(row.reduce((a, b) => a + b * b, 0) / 4 + 1e-6);
          return row.map((value, i) => value * scale * gain!.data[i]!);
        }),
    },
  ],
  RotaryEmbedding: [
    {
      title: 'rotates the two halves of each head',
      inputs: [[2, 2, 3, 4]],
      data: {
        cos: { dtype: 'float32', shape: [2, 3, 2], data: ANGLES.map(Math.cos) },
        sin: { dtype: 'float32', shape: [2, 3, 2], data: ANGLES.map(Math.sin) },
      },
      build: ([x], { cos, sin }) => RotaryEmbedding(x!, cos!, sin!),
      reference: ([x]) =>
        rows(x!, (row, i) => {
          const angle = (half: number) => ANGLES[(Math.floor(i / 6) * 3 + (i % 3)) * 2 + half]!;
          return [0, 1, 2, 3].map((k) => {
            const half = k % 2;
            const [c, s] = [Math.cos(angle(half)), Math.sin(angle(half))];
            return k < 2 ? row[k]! * c - row[k + 2]! * s : row[k]! * c + row[k - 2]! * s;
          });
        }),
    },
  ],
  Embedding: [
    {
      title: 'looks rows up, repeated ones too',
      inputs: [[5, 3]],
      data: { ids: indices([4, 0, 4, 2]) },
      build: ([table], { ids }) => Embedding(table!, ids!),
      reference: ([table]) => [4, 0, 4, 2].flatMap((id) => Array.from(table!.data.subarray(id * 3, id * 3 + 3))),
    },
  ],
  RepetitionPenalty: [
    {
      title: 'divides positive and multiplies negative logits of seen tokens, each once',
      inputs: [[2, 5]],
      data: {
        seen: { dtype: 'int32', shape: [2, 3], data: Int32Array.of(0, 3, 3, 4, 4, 4) },
        penalty: { dtype: 'float32', shape: [1], data: Float32Array.of(1.25) },
      },
      build: ([logits], { seen, penalty }) => RepetitionPenalty(logits!, seen!, penalty!),
      reference: ([logits]) => logits!.data.map((x, i) => ([0, 3, 9].includes(i) ? (x < 0 ? x * 1.25 : x / 1.25) : x)),
    },
  ],
  DropoutMask: [
    {
      title: 'hashes keys of rows and columns',
      inputs: [],
      data: {
        scale: { dtype: 'int32', shape: [3, 1], data: Int32Array.of(1999999999, -7, 123456789) },
        shift: { dtype: 'int32', shape: [3, 1], data: Int32Array.of(-1, 2 ** 31 - 1, 42) },
      },
      build: (_, { scale, shift }) => DropoutMask(scale!, shift!, DROPPED),
      reference: () =>
        [
          [1999999999, -1],
          [-7, 2 ** 31 - 1],
          [123456789, 42],
        ].flatMap(([scale, shift]) =>
          Array.from(columnKeys(DROPPED), (key) =>
            ((Math.imul(scale!, key) + shift!) | 0) > dropThreshold(DROPPED.rate) ? 1 / (1 - DROPPED.rate) : 0,
          ),
        ),
    },
  ],
  GatherRows: [
    {
      title: 'picks rows, the index past the end gives zeros',
      inputs: [[4, 2]],
      data: {
        index: indices(GATHER_INDEX),
        uses: { dtype: 'int32', shape: GATHER_USES.shape, data: GATHER_USES.data },
      },
      build: ([x], { index, uses }) => GatherRows(x!, index!, uses!),
      reference: ([x]) =>
        GATHER_INDEX.flatMap((row) => (row === 4 ? [0, 0] : Array.from(x!.data.subarray(row * 2, row * 2 + 2)))),
    },
  ],
  FlatPart: [
    {
      title: 'is a tensor out of the middle of a vector',
      inputs: [[10]],
      build: ([flat]) => FlatPart(flat!, 3, [2, 3]),
      reference: ([flat]) => flat!.data.slice(3, 9),
    },
  ],
  ScatterRows: [
    {
      title: 'adds rows, several to one place too',
      inputs: [
        [4, 2],
        [SCATTER_INDEX.length, 2],
      ],
      data: { index: scatterIndex(SCATTER_INDEX) },
      build: ([table, rows], { index }) => ScatterRows(table!, index!, rows!, { add: true }),
      reference: ([table, rows]) => {
        const sum = Float64Array.from(table!.data);
        rows!.data.forEach((value, i) => {
          const at = SCATTER_INDEX[i >> 1]! * 2 + (i & 1);
          sum[at] = sum[at]! + value;
        });
        return sum;
      },
    },
    {
      title: 'replaces rows',
      inputs: [
        [4, 2],
        [2, 2],
      ],
      data: { index: scatterIndex([2, 0]) },
      build: ([table, rows], { index }) => ScatterRows(table!, index!, rows!, { add: false }),
      reference: ([table, rows]) => [
        ...rows!.data.subarray(2, 4),
        ...table!.data.subarray(2, 4),
        ...rows!.data.subarray(0, 2),
        ...table!.data.subarray(6, 8),
      ],
    },
  ],
  TokenLogProb: [
    {
      title: 'is the log-softmax at the target',
      inputs: [[3, 5]],
      data: {
        pairs: {
          dtype: 'int64',
          shape: [3, 2],
          data: BigInt64Array.from(TARGETS.flatMap((target, row) => [BigInt(row), BigInt(target)])),
        },
      },
      build: ([logits], { pairs }) => TokenLogProb(logits!, pairs!),
      reference: ([logits]) => rows(logits!, (row, i) => [Math.log(softmaxRow(row)[TARGETS[i]!]!)]),
    },
  ],
};
