/** Unit vectors of texts by a model of transformers.js: SigLIP's or CLIP's text tower, or any model for feature extraction. */
import path from 'node:path';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import type { EvalOptions } from './options.ts';

export interface TextEmbedder extends AsyncDisposable {
  /** What is recorded beside results. */
  readonly name: string;
  /** [texts][width], each of length 1. */
  embed(texts: readonly string[]): Promise<Float32Array[]>;
}

/** SigLIP was trained on texts of exactly this many tokens, padding included. */
const SIGLIP_TOKENS = 64;

/** @throws CHECKPOINT_UNREADABLE when the model cannot be loaded */
export async function openTextEmbedder(choice: NonNullable<EvalOptions['similarity']>): Promise<TextEmbedder> {
  const transformers = await import('@huggingface/transformers');
  const { env, AutoConfig, AutoTokenizer } = transformers;
  const local = choice.model?.path;
  const name = local ? path.basename(local) : choice.hub!;
  const digest = choice.model?.digest ?? choice.revision;
  const options = {
    dtype: 'fp32',
    device: 'cpu',
    revision: choice.revision,
    local_files_only: local !== undefined,
  } as const;
  if (local) env.localModelPath = path.dirname(local);
  try {
    const { model_type: type } = await AutoConfig.from_pretrained(name, options);
    const tokenizer = await AutoTokenizer.from_pretrained(name, options);
    const kind = type === 'siglip' || type === 'siglip2' ? 'siglip' : type === 'clip' ? 'clip' : 'other';
    const loader = {
      siglip: transformers.SiglipTextModel,
      clip: transformers.CLIPTextModelWithProjection,
      other: transformers.AutoModel,
    };
    const model = await loader[kind].from_pretrained(name, options);
    return {
      name: `${name}@${digest}`,
      async embed(texts) {
        const padding =
          kind === 'siglip'
            ? ({ padding: 'max_length', max_length: SIGLIP_TOKENS } as const)
            : ({ padding: true } as const);
        const inputs = tokenizer([...texts], { ...padding, truncation: true }) as Record<string, Tensor>;
        const fed = kind === 'siglip' ? { input_ids: inputs['input_ids']! } : inputs;
        const outputs = (await model(fed)) as Record<string, Tensor>;
        const pooled = outputs['text_embeds'] ?? outputs['pooler_output'];
        return pooled
          ? rowsOf(pooled).map(normalised)
          : meanRows(outputs['last_hidden_state']!, inputs['attention_mask']);
      },
      async [Symbol.asyncDispose]() {
        await model.dispose();
      },
    };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw new Fr1Error('CHECKPOINT_UNREADABLE', `the text model ${local ?? name} cannot be loaded: ${reason}`, {
      hint: local
        ? 'it needs config.json, tokenizer.json and onnx/model.onnx (onnx/text_model.onnx for SigLIP and CLIP)'
        : 'is the network there, and does the model have ONNX files?',
      cause,
    });
  }
}

interface Tensor {
  readonly dims: readonly number[];
  readonly data: ArrayLike<number | bigint>;
}

function rowsOf({ dims, data }: Tensor): Float32Array[] {
  const width = dims.at(-1)!;
  return Array.from({ length: dims[0]! }, (_, row) =>
    Float32Array.from({ length: width }, (_, i) => Number(data[row * width + i])),
  );
}

/** Means of the hidden states [B, T, C] over the tokens that are not padding. */
function meanRows({ dims, data }: Tensor, mask: Tensor | undefined): Float32Array[] {
  const [rows, tokens, width] = dims as [number, number, number];
  return Array.from({ length: rows }, (_, row) => {
    const sum = new Float32Array(width);
    for (let t = 0; t < tokens; t++) {
      if (mask && Number(mask.data[row * tokens + t]) === 0) continue;
      for (let i = 0; i < width; i++) sum[i]! += Number(data[(row * tokens + t) * width + i]);
    }
    return normalised(sum);
  });
}

function normalised(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
}
