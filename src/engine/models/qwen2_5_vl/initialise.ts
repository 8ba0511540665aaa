/** Random weights for a model that is trained from scratch. */

import type { ParameterStore } from '../../optim/parameter-store.ts';
import { RandomStream } from '../../random.ts';
import type { Qwen25VLConfig } from './config.ts';
import { parameterSpecs } from './parameters.ts';

/** Standard deviation of token embeddings. */
const EMBEDDING_SCALE = 0.05;

/**
 * Matrices N(0, 1 / fan-in), those that write into the residual stream divided by sqrt(2 layers); gains 1, biases 0.
 */
export function initialiseWeights(store: ParameterStore, config: Qwen25VLConfig, seed: number): void {
  for (const { name, shape, kind, tower } of parameterSpecs(config)) {
    const { data } = store.tensor(name);
    if (kind === 'vector') {
      data.fill(name.endsWith('.bias') ? 0 : 1);
      continue;
    }
    const fanIn = shape.slice(1).reduce((product, dim) => product * dim, 1);
    const layers = tower === 'text' ? config.text.numHiddenLayers : config.vision.depth;
    const writesResidual = /(o_proj|down_proj|attn\.proj)\.weight$/.test(name);
    const scale = kind === 'embedding' ? EMBEDDING_SCALE : 1 / Math.sqrt(fanIn * (writesResidual ? 2 * layers : 1));
    const stream = new RandomStream(seed, 'initialise', name);
    for (let i = 0; i < data.length; i++) data[i] = scale * stream.normal();
  }
}
