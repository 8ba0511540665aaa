/** A graph over the weights of a model: knows how each weight is stored and which linear layers carry an adapter. */
import type { Shape } from '../autodiff/dim.ts';
import { Graph, type Value } from '../autodiff/graph.ts';
import { Cast } from '../ops/cast.ts';
import type { DType } from '../tensor.ts';

/** What a graph has to know of weights whose values it does not need. */
export interface WeightLayout {
  /** Element type in which a weight is fed. */
  dtypeOf(name: string): DType;
}

/** All weights in float32, no adapters. */
export const PLAIN_WEIGHTS: WeightLayout = { dtypeOf: () => 'float32' };

export class ModelGraph extends Graph {
  readonly #layout: WeightLayout;

  constructor(layout: WeightLayout = PLAIN_WEIGHTS) {
    super();
    this.#layout = layout;
  }

  /** A weight in the element type in which it is stored. */
  storedWeight(name: string, shape: Shape): Value {
    return this.parameter(name, shape, this.#layout.dtypeOf(name));
  }

  /** A weight in float32; one that is stored narrower is widened where it is used. */
  weight(name: string, shape: Shape): Value {
    return Cast(this.storedWeight(name, shape), 'float32');
  }
}
