/**
 * Fewer kernels for the same values. Moves of elements that stay where they are become views everywhere; where launching
 * kernels is what takes the time (WebGPU), one kernel computes what a graph spells out in several nodes. Only values that
 * nobody else reads disappear, so the backward pass of a training graph keeps what it needs.
 */
import { sameShape } from '../autodiff/dim.ts';
import type { Node, Value } from '../autodiff/graph.ts';
import type { Emitter } from '../onnx/emitter.ts';
import type { Provider } from '../session/runtime.ts';

/** What is emitted in place of one node or several. */
export interface Emission {
  readonly name: string;
  readonly type: string;
  readonly attributes: unknown;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  emit(emitter: Emitter): void;
}

type Rule = (emissions: readonly Emission[], uses: Uses) => readonly Emission[];

/** A node as it is. */
export function emissionOf(node: Node): Emission {
  const { name, operator, attributes, inputs, outputs } = node;
  return { name, type: operator.type, attributes, inputs, outputs, emit: (emitter) => operator.emit(node, emitter) };
}

/**
 * What to emit for a graph.
 *
 * @param emissions in the order of the graph
 * @param wanted values that must be there in the end
 */
export function fuse(
  emissions: readonly Emission[],
  wanted: readonly Value[],
  provider: Provider,
): readonly Emission[] {
  const rules = provider === 'webgpu' ? [...VIEWS, ...KERNELS] : VIEWS;
  return rules.reduce((list, rule) => rule(list, new Uses(list, wanted)), emissions);
}

/** Who makes and who reads the values of a list of emissions. */
class Uses {
  readonly #count = new Map<Value, number>();
  readonly #maker = new Map<Value, Emission>();

  constructor(emissions: readonly Emission[], wanted: readonly Value[]) {
    const count = (value: Value) => this.#count.set(value, this.of(value) + 1);
    wanted.forEach(count);
    for (const emission of emissions) {
      emission.inputs.forEach(count);
      for (const output of emission.outputs) this.#maker.set(output, emission);
    }
  }

  of(value: Value): number {
    return this.#count.get(value) ?? 0;
  }

  /** The emission of a type that makes a value. */
  maker(value: Value, type: string): Emission | undefined {
    const maker = this.#maker.get(value);
    return maker?.type === type ? maker : undefined;
  }

  /** Likewise, where the value has no other reader. */
  onlyFor(value: Value, type: string): Emission | undefined {
    return this.of(value) === 1 ? this.maker(value, type) : undefined;
  }
}

/** A transpose that moves axes of size 1 only leaves the elements where they are. */
const reshapeInsteadOfTranspose: Rule = (emissions) =>
  emissions.map((emission) => {
    if (emission.type !== 'Transpose') return emission;
    const [x] = emission.inputs as [Value];
    const { axes } = emission.attributes as { readonly axes: readonly number[] };
    const moved = axes.filter((axis) => x.shape[axis] !== 1);
    return moved.every((axis, i) => i === 0 || axis > moved[i - 1]!) ? reshape(emission, x) : emission;
  });

/** Of reshapes in a row the last one is enough. */
const oneReshape: Rule = (emissions, uses) => {
  const sources = new Map<Value, Value>();
  const superfluous = new Set<Emission>();
  const shortened = emissions.map((emission) => {
    if (emission.type !== 'Reshape') return emission;
    const [given] = emission.inputs as [Value];
    const before = uses.onlyFor(given, 'Reshape');
    const x = before ? (sources.get(given) ?? before.inputs[0]!) : given;
    sources.set(emission.outputs[0]!, x);
    if (before) superfluous.add(before);
    return x === given ? emission : reshape(emission, x);
  });
  return shortened.filter((_, i) => !superfluous.has(emissions[i]!));
};

function reshape({ name, outputs }: Emission, x: Value): Emission {
  const [y] = outputs as [Value];
  return {
    ...{ name, type: 'Reshape', attributes: { shape: y.shape }, inputs: [x], outputs },
    emit: (emitter) => emitter.op('Reshape', [x, emitter.reshapeTarget(y.shape, x.shape)], outputs),
  };
}

/** Gemm adds a bias itself. */
const biasInGemm: Rule = (emissions, uses) => {
  const fused = new Set<Emission>();
  const list = emissions.map((emission) => {
    if (emission.type !== 'Add') return emission;
    const [a, b] = emission.inputs as [Value, Value];
    for (const [product, bias] of [
      [a, b],
      [b, a],
    ] as const) {
      const gemm = uses.onlyFor(product, 'Gemm');
      if (!gemm || bias.rank !== 1 || bias.dim(0) !== product.dim(1)) continue;
      fused.add(gemm);
      return gemmWithBias(gemm, bias, emission.outputs);
    }
    return emission;
  });
  return list.filter((emission) => !fused.has(emission));
};

function gemmWithBias(
  { name, attributes, inputs: factors }: Emission,
  bias: Value,
  outputs: readonly Value[],
): Emission {
  const { transA, transB } = attributes as { readonly transA: boolean; readonly transB: boolean };
  const inputs = [...factors, bias];
  return {
    ...{ name, type: 'GemmWithBias', attributes, inputs, outputs },
    emit: (emitter) => emitter.op('Gemm', inputs, outputs, { attributes: { transA: +transA, transB: +transB } }),
  };
}

/**
 * Normalisation in one kernel, with the residual sum before it, where nobody asks for the root: WebGPU's kernels return a
 * wrong one.
 */
const wholeNorm: Rule = (emissions, uses) => {
  const normOfSum = new Map<Emission, Emission>();
  const replaced = new Map<Emission, Emission>();
  for (const norm of emissions) {
    if (norm.type !== 'RmsNorm' || uses.of(norm.outputs[1]!) > 0) continue;
    const [x, gain] = norm.inputs as [Value, Value];
    const sum = uses.maker(x, 'Add');
    // The norm moves up to the sum, so the gain must be there by then.
    const isResidual = sum?.inputs.every(({ shape }) => sameShape(shape, x.shape)) && gain.source.kind === 'parameter';
    if (sum && isResidual && !normOfSum.has(sum)) normOfSum.set(sum, norm);
    else replaced.set(norm, normAlone(norm));
  }
  const moved = new Set(normOfSum.values());
  return emissions
    .filter((emission) => !moved.has(emission))
    .map((emission) => {
      const norm = normOfSum.get(emission);
      return norm ? normWithSum(emission, norm, uses) : (replaced.get(emission) ?? emission);
    });
};

function epsilonOf({ attributes }: Emission) {
  return { epsilon: { float: (attributes as { readonly epsilon: number }).epsilon } };
}

function normAlone(norm: Emission): Emission {
  const outputs = [norm.outputs[0]!];
  return {
    ...{ ...norm, type: 'NormAlone', outputs },
    emit: (emitter) =>
      emitter.op('SimplifiedLayerNormalization', norm.inputs, outputs, {
        attributes: { axis: -1, stash_type: 1, ...epsilonOf(norm) },
      }),
  };
}

function normWithSum(sum: Emission, norm: Emission, uses: Uses): Emission {
  const [x, gain] = norm.inputs as [Value, Value];
  const y = norm.outputs[0]!;
  const isRead = uses.of(x) > 1;
  const inputs = [...sum.inputs, gain];
  return {
    ...{ name: norm.name, type: 'NormWithSum', attributes: norm.attributes, inputs, outputs: isRead ? [y, x] : [y] },
    emit: (emitter) =>
      emitter.op('SkipSimplifiedLayerNormalization', inputs, isRead ? [y, '', '', x] : [y], {
        domain: 'com.microsoft',
        attributes: epsilonOf(norm),
      }),
  };
}

/** Same bits. */
const VIEWS: readonly Rule[] = [reshapeInsteadOfTranspose, oneReshape];

/** Same values up to rounding. */
const KERNELS: readonly Rule[] = [biasInGemm, wholeNorm];
