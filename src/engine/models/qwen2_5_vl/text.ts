/**
 * The language model of Qwen2.5-VL as a training graph: token and image embeddings in, hidden states out.
 *
 * @see Bai et al. 2025, arXiv:2502.13923
 */
import type { Graph, Value } from '../../autodiff/graph.ts';
import { joinHeads, splitHeads } from '../../nn/attention.ts';
import { linear, linearByColumns, linears, rowsTimes } from '../../nn/linear.ts';
import type { ModelGraph } from '../../nn/model-graph.ts';
import { Add } from '../../ops/add.ts';
import { Cast } from '../../ops/cast.ts';
import { Embedding } from '../../ops/embedding.ts';
import { GatherRows } from '../../ops/gather-rows.ts';
import { Mul } from '../../ops/mul.ts';
import { RmsNorm } from '../../ops/rms-norm.ts';
import { RotaryEmbedding } from '../../ops/rotary-embedding.ts';
import { Silu } from '../../ops/silu.ts';
import { TokenLogProb } from '../../ops/token-log-prob.ts';
import { Transpose } from '../../ops/transpose.ts';
import type { Qwen25VLConfig, Qwen25VLTextConfig } from './config.ts';

/** Named sizes: B rows, T tokens of a row. */
export interface TextInputs {
  /** Token id of every position [B*T] int32; padding and image positions hold any valid id. */
  readonly ids: Value;
  /** 1 for a text token, 0 for an image token or padding [B*T, 1]. */
  readonly isText: Value;
  /** Rotary angles with the three position axes merged [B, T, D/2]. */
  readonly cos: Value;
  readonly sin: Value;
  /** Attention bias [B, 1, T, T]. */
  readonly bias: Value;
}

/** Image embeddings [M, C] and where they go. */
export interface ImageSlots {
  readonly embeddings: Value;
  /** Row of `embeddings` at every position [B*T] int32; M at text positions. */
  readonly index: Value;
  /** Uses of each row, see GatherRows [M, U] int32. */
  readonly uses: Value;
}

export function textInputs(graph: Graph, config: Qwen25VLTextConfig): TextInputs {
  const half = config.headDim / 2;
  return {
    ids: graph.input('ids', 'int32', ['B*T']),
    isText: graph.input('is_text', 'float32', ['B*T', 1]),
    cos: graph.input('cos', 'float32', ['B', 'T', half]),
    sin: graph.input('sin', 'float32', ['B', 'T', half]),
    bias: graph.input('bias', 'float32', ['B', 1, 'T', 'T']),
  };
}

/** Token embeddings with image embeddings in the image slots: [B*T, C]. */
export function embedTokens(
  graph: ModelGraph,
  config: Qwen25VLConfig,
  inputs: TextInputs,
  images: ImageSlots | null,
): Value {
  const tokens = tokenEmbeddings(graph, config, inputs.ids);
  if (!images) return tokens;
  return Add(Mul(tokens, inputs.isText), GatherRows(images.embeddings, images.index, images.uses));
}

/** Rows of the embedding table [N, C]; only these are widened where the table is stored in 16 bits. */
export function tokenEmbeddings(graph: ModelGraph, { text }: Qwen25VLConfig, ids: Value): Value {
  const table = graph.storedWeight('model.embed_tokens.weight', [text.vocabSize, text.hiddenSize]);
  return Cast(Embedding(table, ids), 'float32');
}

/** Rotated queries [B, H, T, D], rotated keys and values [B, K, T, D] -> [B, H, T, D]. */
export type Attend = (q: Value, k: Value, v: Value, layer: number) => Value;

/** Rotary angles [B, T, D/2]. */
export interface Angles {
  readonly cos: Value;
  readonly sin: Value;
  /** Of the queries, where a factor on both scales them on the way. @default as of the keys */
  readonly ofQueries?: { readonly cos: Value; readonly sin: Value };
}

/** Rows of a layer's input that are asked for, one per row of the batch. */
export interface KeptRows {
  /** Their places among the hidden states [B] int32. */
  readonly index: Value;
  /** Their angles [B, 1, D/2]. */
  readonly cos: Value;
  readonly sin: Value;
}

/**
 * Hidden states after the last norm: [B*T, C], or [B, C] of the rows that are kept.
 *
 * @param attend how a layer attends; decoding puts a cache here
 * @param kept what the last layer computes, of which the layers before must know all rows; `attend` then gets [B, H, 1, D]
 *   there
 */
export function textModel(
  graph: ModelGraph,
  config: Qwen25VLTextConfig,
  embeddings: Value,
  angles: Angles,
  attend: Attend,
  kept?: KeptRows,
): Value {
  const last = config.numHiddenLayers - 1;
  let hidden = embeddings;
  for (let i = 0; i <= last; i++) {
    hidden = textLayer(graph, config, i, hidden, angles, attend, i === last ? kept : undefined);
  }
  return finalNorm(graph, config, hidden);
}

/** One layer: hidden [B*T, C] -> [B*T, C], or [B, C] of the rows that are kept. */
export function textLayer(
  graph: ModelGraph,
  config: Qwen25VLTextConfig,
  index: number,
  hidden: Value,
  { cos, sin, ofQueries = { cos, sin } }: Angles,
  attend: Attend,
  kept?: KeptRows,
): Value {
  const { numAttentionHeads: heads, numKeyValueHeads: groups, headDim, hiddenSize } = config;
  const name = `model.layers.${index}`;
  const ofKept = (x: Value) => (kept ? Embedding(x, kept.index) : x);
  const projected = (x: Value): readonly Value[] => {
    const counts = { q: heads, k: groups, v: groups };
    const [q, ...others] = Object.entries(counts).map(
      ([which, count]) => [`${name}.self_attn.${which}_proj`, count * headDim] as const,
    ) as [readonly [string, number], ...(readonly [string, number])[]];
    if (!kept) return linears(graph, x, [q, ...others], { bias: true });
    return [linear(graph, ofKept(x), ...q, { bias: true }), ...linears(graph, x, others, { bias: true })];
  };
  const selfAttention = (x: Value): Value => {
    const queryAngles = kept ?? ofQueries;
    const perHead = (y: Value, { cos: of }: { readonly cos: Value }) =>
      splitHeads(y, of.dim(0), of.dim(1), (y.dim(1) as number) / headDim);
    const [q, k, v] = projected(x) as readonly [Value, Value, Value];
    const turned = [
      RotaryEmbedding(perHead(q, queryAngles), queryAngles.cos, queryAngles.sin),
      RotaryEmbedding(perHead(k, { cos }), cos, sin),
    ] as const;
    const mixed = attend(...turned, perHead(v, { cos }), index);
    return linear(graph, joinHeads(mixed, q.dim(0)), `${name}.self_attn.o_proj`, hiddenSize);
  };
  return graph.scope(name, () => {
    const attention = selfAttention(norm(graph, config, hidden, `${name}.input_layernorm`));
    const attended = Add(ofKept(hidden), attention);
    const normed = norm(graph, config, attended, `${name}.post_attention_layernorm`);
    return Add(attended, feedForward(graph, config, `${name}.mlp`, normed));
  });
}

/** What the output head reads: [N, C] -> [N, C]. */
export function finalNorm(graph: ModelGraph, config: Qwen25VLTextConfig, hidden: Value): Value {
  return norm(graph, config, hidden, 'model.norm');
}

/** silu(x gate^T) * (x up^T) down^T, with biases in the vision tower. */
export function feedForward(
  graph: ModelGraph,
  config: { readonly hiddenSize: number; readonly intermediateSize: number },
  name: string,
  x: Value,
  options: { bias?: boolean } = {},
): Value {
  if (graph.weightsFirst) return feedForwardByColumns(graph, config, name, x);
  const layers = ['gate_proj', 'up_proj'].map((layer) => [`${name}.${layer}`, config.intermediateSize] as const);
  const [gate, up] = linears(graph, x, layers, options) as readonly [Value, Value];
  return linear(graph, Mul(Silu(gate), up), `${name}.down_proj`, config.hiddenSize, options);
}

function feedForwardByColumns(
  graph: ModelGraph,
  { hiddenSize, intermediateSize }: { readonly hiddenSize: number; readonly intermediateSize: number },
  name: string,
  x: Value,
): Value {
  const [gate, up] = ['gate_proj', 'up_proj'].map((layer) =>
    linearByColumns(graph, x, `${name}.${layer}`, intermediateSize),
  ) as [Value, Value];
  const y = linearByColumns(graph, Mul(Silu(gate), up), `${name}.down_proj`, hiddenSize, { isTurned: true });
  return Transpose(y, [1, 0]);
}

function norm(graph: ModelGraph, config: Qwen25VLTextConfig, x: Value, name: string): Value {
  return RmsNorm(x, graph.weight(`${name}.weight`, [config.hiddenSize]), config.rmsNormEps);
}

/** Output head: hidden [N, C] -> logits [N, V]; the head is the embedding table where the model ties them. */
export function textHead(graph: ModelGraph, config: Qwen25VLConfig, hidden: Value): Value {
  const { vocabSize, hiddenSize } = config.text;
  const name = config.tieWordEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight';
  return rowsTimes(graph, hidden, graph.weight(name, [vocabSize, hiddenSize]));
}

/**
 * Log-probabilities of the tokens that the input `pairs` names: log softmax(logits / temperature)[i, token of row i].
 *
 * logits [N, V]
 * ->     [N]
 */
export function targetLogProbs(graph: ModelGraph, logits: Value, temperature: number): Value {
  const scaled = temperature === 1 ? logits : Mul(logits, graph.scalar(1 / temperature));
  return TokenLogProb(scaled, graph.input('pairs', 'int64', ['N', 2]));
}
