/**
 * The two graphs of generation. Prefill reads whole prompts and puts out the keys and values of every layer; decode adds one
 * token to every sequence and writes its keys and values into the cache (key-value-cache.ts), in place.
 *
 * Named sizes: B prompts of T tokens (prefill); S sequences with room for C time steps (decode).
 */
import { multiplyDims } from '../../autodiff/dim.ts';
import type { Graph, Value } from '../../autodiff/graph.ts';
import type { ScoreRule } from '../../generate/sampler.ts';
import {
  type CachePlaces,
  cachedAttention,
  cachedInput,
  cachePlaces,
  withNewToken,
} from '../../nn/cached-attention.ts';
import { ModelGraph, type WeightLayout } from '../../nn/model-graph.ts';
import { type SharedPrefix, sharedPrefixAttention } from '../../nn/shared-prefix-attention.ts';
import { Reshape } from '../../ops/reshape.ts';
import type { Qwen25VLConfig } from './config.ts';
import { forwardOfPrompts } from './forward.ts';
import { type GenerationGraph, scoresOf } from './scores.ts';
import { textHead, textModel, tokenEmbeddings } from './text.ts';
import type { VisionLayoutKind } from './vision.ts';

/** Right-padded prompts to the scores of their last tokens [B, V], keys and values [B, K, T, D]. Feeds: buildBatch(). */
export function prefillGraph(
  config: Qwen25VLConfig,
  visionKind: VisionLayoutKind | null,
  rule: ScoreRule,
  layout?: WeightLayout,
): GenerationGraph {
  const graph = new ModelGraph(layout);
  const outputs: Record<string, Value> = {};
  const logits = forwardOfPrompts(graph, config, visionKind, (k, v, layer) => {
    outputs[`k${layer}`] = k;
    outputs[`v${layer}`] = v;
  });
  outputs['scores'] = scoresOf(graph, logits, rule);
  return { graph, outputs };
}

/** One token of every sequence to the scores of the next [S, V]; the cache's tensors come out with it (`next_k0`, ...). */
export function decodeGraph(config: Qwen25VLConfig, rule: ScoreRule, options: DecodeOptions = {}): GenerationGraph {
  const { numKeyValueHeads: groups } = config.text;
  return decoding(config, rule, options, (graph) => {
    const places = cachePlaces(graph, groups);
    return { places, attend: (q, keys, values) => cachedAttention(q, keys, values, groups, places) };
  });
}

/** As the decode graph, where sequences share the keys and values of their prompts; see SharedPrefixCache. */
export function sharedDecodeGraph(
  config: Qwen25VLConfig,
  rule: ScoreRule,
  options: DecodeOptions = {},
): GenerationGraph {
  const { headDim, numKeyValueHeads: groups } = config.text;
  return decoding(config, rule, options, (graph) => {
    const places = cachePlaces(graph, groups);
    const shared: SharedPrefix = {
      toGrid: Reshape(graph.input('to_grid', 'int32', ['G', 'W']), ['G*W']),
      fromGrid: graph.input('from_grid', 'int32', ['S']),
      mask: Reshape(graph.input('prefix_mask', 'float32', ['G', 'R']), ['G', 1, 1, 'R']),
      grid: ['G', 'W'],
    };
    const prefix = (name: string) =>
      Reshape(graph.input(`prefix_${name}`, 'float32', [multiplyDims('G', groups, 'R'), headDim]), [
        'G',
        groups,
        'R',
        headDim,
      ]);
    return {
      places,
      attend: (q, keys, values, layer) =>
        sharedPrefixAttention(q, [prefix(`k${layer}`), prefix(`v${layer}`)], [keys, values], places, shared),
    };
  });
}

export interface DecodeOptions {
  readonly layout?: WeightLayout;
  /** Whether weights are the left factors of products, see ModelGraph. */
  readonly weightsFirst?: boolean;
}

/** Rotated queries [S, H, 1, D], cached keys and values with those of the new token [S*K*C, D] -> [S, H, 1, D]. */
type AttendToCache = (q: Value, keys: Value, values: Value, layer: number) => Value;

function decoding(
  config: Qwen25VLConfig,
  rule: ScoreRule,
  { layout, weightsFirst = false }: DecodeOptions,
  attention: (graph: Graph) => { readonly places: CachePlaces; readonly attend: AttendToCache },
): GenerationGraph {
  const { headDim, numKeyValueHeads: groups } = config.text;
  const graph = new ModelGraph(layout, { weightsFirst });
  const ids = graph.input('ids', 'int32', ['S']);
  const cos = graph.input('cos', 'float32', ['S', 1, headDim / 2]);
  const sin = graph.input('sin', 'float32', ['S', 1, headDim / 2]);
  const { places, attend } = attention(graph);
  const outputs: Record<string, Value> = {};
  const embeddings = tokenEmbeddings(graph, config, ids);
  const hidden = textModel(graph, config.text, embeddings, { cos, sin }, (q, k, v, layer) => {
    const cached = (name: string, added: Value) => {
      const next = withNewToken(cachedInput(graph, `past_${name}`, groups, headDim), added, places);
      outputs[`next_${name}`] = next;
      return next;
    };
    return attend(q, cached(`k${layer}`, k), cached(`v${layer}`, v), layer);
  });
  outputs['scores'] = scoresOf(graph, textHead(graph, config, hidden), rule);
  return { graph, outputs };
}

/** Bytes of keys and values per sequence and time step. */
export function cacheBytesPerToken({ text }: Qwen25VLConfig): number {
  return 2 * text.numHiddenLayers * text.numKeyValueHeads * text.headDim * Float32Array.BYTES_PER_ELEMENT;
}
