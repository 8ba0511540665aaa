/** The whole model on a batch: tokens and pixels in, logits of the rows that are asked for out. Feeds: buildBatch(). */
import type { Value } from '../../autodiff/graph.ts';
import { attention } from '../../nn/attention.ts';
import type { ModelGraph } from '../../nn/model-graph.ts';
import { GatherRows } from '../../ops/gather-rows.ts';
import type { Qwen25VLConfig } from './config.ts';
import { embedTokens, textHead, textInputs, textModel } from './text.ts';
import { type VisionLayoutKind, visionInputs, visionModel } from './vision.ts';

export interface ForwardValues {
  /** Of the rows in `label_index` [N, V]. */
  readonly logits: Value;
  /** [M, C] in window order; null without images. */
  readonly imageEmbeddings: Value | null;
}

/**
 * Named sizes: B rows of T tokens, N labelled rows, and those of the vision tower.
 *
 * @param onLayer is told the rotated keys and the values of every layer [B, K, T, D]
 */
export function forward(
  graph: ModelGraph,
  config: Qwen25VLConfig,
  visionKind: VisionLayoutKind | null,
  onLayer: (k: Value, v: Value, layer: number) => void = () => {},
): ForwardValues {
  const text = textInputs(graph, config.text);
  const imageEmbeddings = visionKind
    ? graph.scope('vision', () => visionModel(graph, config.vision, visionInputs(graph, config.vision, visionKind)))
    : null;
  const images = imageEmbeddings && {
    embeddings: imageEmbeddings,
    index: graph.input('slot', 'int32', ['B*T']),
    uses: graph.input('slot_uses', 'int32', [imageEmbeddings.dim(0), 'R']),
  };
  const embeddings = embedTokens(graph, config, text, images);
  const hidden = textModel(graph, config.text, embeddings, text, (q, k, v, layer) => {
    onLayer(k, v, layer);
    return attention(q, k, v, text.bias);
  });
  const labelled = GatherRows(
    hidden,
    graph.input('label_index', 'int32', ['N']),
    graph.input('label_uses', 'int32', ['B*T', 1]),
  );
  return { logits: textHead(graph, config, labelled), imageEmbeddings };
}
