/** A graph over the weights of a model: knows how each weight is stored and which linear layers carry an adapter. */
import type { Shape } from '../autodiff/dim.ts';
import { Graph, type Value } from '../autodiff/graph.ts';
import { Cast } from '../ops/cast.ts';
import type { DType } from '../tensor.ts';

/** The low-rank update of one linear layer: y = x W^T + b + scale * (dropout(x) A^T) B^T. */
export interface LoraLayer {
  readonly rank: number;
  readonly scale: number;
  /** Share of the inputs of A that are zeroed in training. */
  readonly dropout: number;
}

/** What a graph has to know of weights whose values it does not need. */
export interface WeightLayout {
  /** Element type in which a weight is fed. */
  dtypeOf(name: string): DType;
  /** The adapter of a linear layer, by the layer's canonical name without `.weight`. */
  adapterOf(module: string): LoraLayer | undefined;
}

/** All weights in float32, no adapters. */
export const PLAIN_WEIGHTS: WeightLayout = { dtypeOf: () => 'float32', adapterOf: () => undefined };

export class ModelGraph extends Graph {
  /** Whether dropout is on. */
  readonly hasDropout: boolean;
  /** Whether weights of layers that read the same input come as one, see `linears()`. */
  readonly joinsWeights: boolean;
  /**
   * Whether weights are the left factors of products. On the CPU onnxruntime lays the right factor out anew in every product and
   * the left one only where it is transposed: for few rows that is most of the work, and should fall to the rows.
   */
  readonly weightsFirst: boolean;
  readonly #layout: WeightLayout;

  constructor(
    layout: WeightLayout = PLAIN_WEIGHTS,
    {
      hasDropout = false,
      joinsWeights = false,
      weightsFirst = false,
    }: { readonly hasDropout?: boolean; readonly joinsWeights?: boolean; readonly weightsFirst?: boolean } = {},
  ) {
    super();
    this.#layout = layout;
    this.hasDropout = hasDropout;
    this.joinsWeights = joinsWeights;
    this.weightsFirst = weightsFirst;
  }

  /** A weight in the element type in which it is stored. */
  storedWeight(name: string, shape: Shape): Value {
    return this.parameter(name, shape, this.#layout.dtypeOf(name));
  }

  /** A weight in float32; one that is stored narrower is widened where it is used. */
  weight(name: string, shape: Shape): Value {
    return Cast(this.storedWeight(name, shape), 'float32');
  }

  adapterOf(module: string): LoraLayer | undefined {
    return this.#layout.adapterOf(module);
  }
}
