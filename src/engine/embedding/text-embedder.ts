/** Unit vectors of texts by a model of transformers.js: SigLIP's or CLIP's text tower, or any model for feature extraction. */
import { tokeniseTexts } from './tokenise-texts.ts';
import { chosenModel, type ModelChoice, normalised, type Tensor, unitRows, unloadable } from './transformers-model.ts';

export interface TextEmbedder extends AsyncDisposable {
  /** What is recorded beside results. */
  readonly name: string;
  /** [texts][width], each of length 1. */
  embed(texts: readonly string[]): Promise<Float32Array[]>;
}

/** SigLIP was trained on texts of exactly this many tokens, padding included. */
const SIGLIP_TOKENS = 64;

/**
 * @param threads that onnxruntime may use. @default all
 * @throws CHECKPOINT_UNREADABLE when the model cannot be loaded
 */
export async function openTextEmbedder(choice: ModelChoice, threads?: number): Promise<TextEmbedder> {
  const transformers = await import('@huggingface/transformers');
  const { AutoConfig, AutoTokenizer } = transformers;
  const { name, record, options } = await chosenModel(choice, threads);
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
      name: record,
      async embed(texts) {
        const inputs = tokeniseTexts(tokenizer, texts, kind === 'siglip' ? SIGLIP_TOKENS : undefined);
        const fed = kind === 'siglip' ? { input_ids: inputs['input_ids']! } : inputs;
        const outputs = (await model(fed)) as Record<string, Tensor>;
        const pooled = outputs['text_embeds'] ?? outputs['pooler_output'];
        return pooled ? unitRows(pooled) : meanRows(outputs['last_hidden_state']!, inputs['attention_mask']);
      },
      async [Symbol.asyncDispose]() {
        await model.dispose();
      },
    };
  } catch (cause) {
    const hint = 'it needs config.json, tokenizer.json and onnx/model.onnx (onnx/text_model.onnx for SigLIP and CLIP)';
    throw unloadable('text model', choice, hint, cause);
  }
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
