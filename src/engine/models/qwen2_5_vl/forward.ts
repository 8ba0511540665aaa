/** The whole model on a batch: tokens and pixels in, logits of the rows that are asked for out. Feeds: buildBatch(). */
import type { Dim } from '../../autodiff/dim.ts';
import type { Value } from '../../autodiff/graph.ts';
import { attention } from '../../nn/attention.ts';
import type { ModelGraph } from '../../nn/model-graph.ts';
import { Embedding } from '../../ops/embedding.ts';
import { GatherRows } from '../../ops/gather-rows.ts';
import { Reshape } from '../../ops/reshape.ts';
import type { Qwen25VLConfig } from './config.ts';
import { embedTokens, textHead, textInputs, textModel } from './text.ts';
import { type VisionLayoutKind, visionInputs, visionModel } from './vision.ts';

export interface ForwardValues {
  /** Of the rows in `label_index` [N, V]. */
  readonly logits: Value;
  /** [M, C] in window order; null without images. */
  readonly imageEmbeddings: Value | null;
}

/** Named sizes: B rows of T tokens, N labelled rows, and those of the vision tower. */
export function forward(graph: ModelGraph, config: Qwen25VLConfig, visionKind: VisionLayoutKind | null): ForwardValues {
  const { text, embeddings, imageEmbeddings } = inputEmbeddings(graph, config, visionKind);
  const hidden = textModel(graph, config.text, embeddings, text, (q, k, v) => attention(q, k, v, text.bias));
  const labelled = GatherRows(
    hidden,
    graph.input('label_index', 'int32', ['N']),
    graph.input('label_uses', 'int32', ['B*T', 1]),
  );
  return { logits: textHead(graph, config, labelled), imageEmbeddings };
}

/**
 * The forward pass of prompts, each of which has one labelled row: logits [B, V]. The last layer computes those rows only.
 *
 * @param onLayer is told the rotated keys and the values of every layer [B, K, T, D]
 */
export function forwardOfPrompts(
  graph: ModelGraph,
  config: Qwen25VLConfig,
  visionKind: VisionLayoutKind | null,
  onLayer: (k: Value, v: Value, layer: number) => void,
): Value {
  const { text, embeddings } = inputEmbeddings(graph, config, visionKind);
  const index = graph.input('label_index', 'int32', ['B']);
  const { numHiddenLayers, headDim } = config.text;
  const keptRows = (x: Value, width: Dim) => Embedding(Reshape(x, ['B*T', width]), index);
  const angles = (x: Value) => Reshape(keptRows(x, headDim / 2), ['B', 1, headDim / 2]);
  const kept = { index, cos: angles(text.cos), sin: angles(text.sin) };
  const keptBias = Reshape(keptRows(text.bias, 'T'), ['B', 1, 1, 'T']);
  const attend = (q: Value, k: Value, v: Value, layer: number) => {
    onLayer(k, v, layer);
    return attention(q, k, v, layer === numHiddenLayers - 1 ? keptBias : text.bias);
  };
  return textHead(graph, config, textModel(graph, config.text, embeddings, text, attend, kept));
}

function inputEmbeddings(graph: ModelGraph, config: Qwen25VLConfig, visionKind: VisionLayoutKind | null) {
  const text = textInputs(graph, config.text);
  const imageEmbeddings = visionKind
    ? graph.scope('vision', () => visionModel(graph, config.vision, visionInputs(graph, config.vision, visionKind)))
    : null;
  const images = imageEmbeddings && {
    embeddings: imageEmbeddings,
    index: graph.input('slot', 'int32', ['B*T']),
    uses: graph.input('slot_uses', 'int32', [imageEmbeddings.dim(0), 'R']),
  };
  return { text, embeddings: embedTokens(graph, config, text, images), imageEmbeddings };
}
