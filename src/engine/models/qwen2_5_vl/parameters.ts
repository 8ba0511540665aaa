/**
 * Names and shapes of all weights of a Qwen2.5-VL model.
 *
 * The canonical names are those on disk: `model.*` and `lm_head.*` for the language model, `visual.*` for the vision
 * tower. transformers' module names and the checkpoints that use them put the same tensors under
 * `model.language_model.*` and `model.visual.*`.
 */
import type { Qwen25VLConfig } from './config.ts';

export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** Vectors are biases and norm gains: weight decay leaves them out in many recipes. */
  readonly kind: 'matrix' | 'vector' | 'embedding';
  readonly tower: 'vision' | 'projector' | 'text';
}

/** All parameters in the order in which the model uses them; a tied output head is not one of its own. */
export function parameterSpecs(config: Qwen25VLConfig): ParameterSpec[] {
  return [...visionSpecs(config), ...projectorSpecs(config), ...textSpecs(config)];
}

function visionSpecs({ vision }: Qwen25VLConfig): ParameterSpec[] {
  const { hiddenSize: c, intermediateSize, inChannels, temporalPatchSize, patchSize } = vision;
  const specs: ParameterSpec[] = [];
  const add = (name: string, ...shape: number[]) => specs.push(spec(`visual.${name}`, shape, 'vision'));
  add('patch_embed.proj.weight', c, inChannels, temporalPatchSize, patchSize, patchSize);
  for (let i = 0; i < vision.depth; i++) {
    const block = `blocks.${i}`;
    add(`${block}.norm1.weight`, c);
    add(`${block}.attn.qkv.weight`, 3 * c, c);
    add(`${block}.attn.qkv.bias`, 3 * c);
    add(`${block}.attn.proj.weight`, c, c);
    add(`${block}.attn.proj.bias`, c);
    add(`${block}.norm2.weight`, c);
    for (const gate of ['gate_proj', 'up_proj']) {
      add(`${block}.mlp.${gate}.weight`, intermediateSize, c);
      add(`${block}.mlp.${gate}.bias`, intermediateSize);
    }
    add(`${block}.mlp.down_proj.weight`, c, intermediateSize);
    add(`${block}.mlp.down_proj.bias`, c);
  }
  return specs;
}

function projectorSpecs({ vision }: Qwen25VLConfig): ParameterSpec[] {
  const merged = vision.hiddenSize * vision.spatialMergeSize ** 2;
  return [
    spec('visual.merger.ln_q.weight', [vision.hiddenSize], 'projector'),
    spec('visual.merger.mlp.0.weight', [merged, merged], 'projector'),
    spec('visual.merger.mlp.0.bias', [merged], 'projector'),
    spec('visual.merger.mlp.2.weight', [vision.outHiddenSize, merged], 'projector'),
    spec('visual.merger.mlp.2.bias', [vision.outHiddenSize], 'projector'),
  ];
}

function textSpecs({ text, tieWordEmbeddings }: Qwen25VLConfig): ParameterSpec[] {
  const { hiddenSize: c, intermediateSize, headDim, vocabSize } = text;
  const specs: ParameterSpec[] = [];
  const add = (name: string, ...shape: number[]) => specs.push(spec(name, shape, 'text'));
  specs.push({ name: 'model.embed_tokens.weight', shape: [vocabSize, c], kind: 'embedding', tower: 'text' });
  for (let i = 0; i < text.numHiddenLayers; i++) {
    const layer = `model.layers.${i}`;
    add(`${layer}.input_layernorm.weight`, c);
    for (const [projection, heads] of [
      ['q_proj', text.numAttentionHeads],
      ['k_proj', text.numKeyValueHeads],
      ['v_proj', text.numKeyValueHeads],
    ] as const) {
      add(`${layer}.self_attn.${projection}.weight`, heads * headDim, c);
      add(`${layer}.self_attn.${projection}.bias`, heads * headDim);
    }
    add(`${layer}.self_attn.o_proj.weight`, c, text.numAttentionHeads * headDim);
    add(`${layer}.post_attention_layernorm.weight`, c);
    add(`${layer}.mlp.gate_proj.weight`, intermediateSize, c);
    add(`${layer}.mlp.up_proj.weight`, intermediateSize, c);
    add(`${layer}.mlp.down_proj.weight`, c, intermediateSize);
  }
  add('model.norm.weight', c);
  if (!tieWordEmbeddings) add('lm_head.weight', vocabSize, c);
  return specs;
}

function spec(name: string, shape: readonly number[], tower: ParameterSpec['tower']): ParameterSpec {
  return { name, shape, kind: shape.length === 1 ? 'vector' : 'matrix', tower };
}

/** The canonical name of a tensor under any of the layouts in use; a name of no known layout stays as it is. */
export function canonicalName(name: string): string {
  if (name.startsWith('model.visual.')) return name.slice('model.'.length);
  if (name.startsWith('model.language_model.')) return `model.${name.slice('model.language_model.'.length)}`;
  return name;
}

/** transformers' module name of a canonical name. */
export function moduleName(canonical: string): string {
  if (canonical.startsWith('visual.')) return `model.${canonical}`;
  if (canonical.startsWith('model.')) return `model.language_model.${canonical.slice('model.'.length)}`;
  return canonical;
}
