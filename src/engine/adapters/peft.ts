/**
 * LoRA adapters in PEFT's format: adapter_config.json and adapter_model.safetensors. Reads the key names of transformers
 * 5 (`base_model.model.model.language_model.layers...`) and of versions before 4.52 (`base_model.model.model.layers...`).
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { canonicalName, moduleName, type ParameterSpec } from '../models/qwen2_5_vl/parameters.ts';
import type { LoraLayer } from '../nn/model-graph.ts';
import type { HostTensor } from '../tensor.ts';
import type { FloatDType } from '../weights/convert.ts';
import { keyPosition, readJsonObject, writeJson } from '../weights/json-file.ts';
import { openSafetensors, type SafetensorsFile, writeSafetensors } from '../weights/safetensors.ts';
import { type Adapter, loraNames } from './lora.ts';
import { type LinearModule, linearModules, spellTargets } from './target-modules.ts';

export const ADAPTER_CONFIG = 'adapter_config.json';
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors';

const KEY_PREFIX = 'base_model.model.';

/**
 * Reads an adapter and checks it against the weights of its base.
 *
 * @throws ADAPTER_UNREADABLE for missing files and kinds of adapters that fr1 does not compute
 * @throws ADAPTER_MISMATCH listing layers that the base lacks and matrices of other shapes
 * @throws SAFETENSORS_INVALID, SAFETENSORS_TRUNCATED
 */
export function readAdapter(dir: string, base: readonly ParameterSpec[]): Adapter {
  const path = join(dir, ADAPTER_CONFIG);
  if (!existsSync(path)) throw new Fr1Error('ADAPTER_UNREADABLE', `${dir} has no ${ADAPTER_CONFIG}`);
  const config = readJsonObject(path);
  refuseOtherKinds(config, path);
  const weights = join(dir, ADAPTER_WEIGHTS);
  if (!existsSync(weights)) {
    throw new Fr1Error('ADAPTER_UNREADABLE', `${dir} has no ${ADAPTER_WEIGHTS}`, {
      hint: 'adapters in other formats (adapter_model.bin) are not read; save it as safetensors',
    });
  }
  const file = openSafetensors(weights);
  const stored = storedMatrices(file);
  const layers = new Map<string, LoraLayer>();
  const problems: string[] = [];
  const modules = new Map(linearModules(base).map((module) => [module.name, module]));
  for (const name of new Set([...stored.keys()].map((key) => key.replace(/\.lora_[AB]\.weight$/, '')))) {
    const module = modules.get(name);
    const { a, b } = loraNames(name);
    const shapes = [a, b].map((matrix) => (stored.has(matrix) ? file.info(stored.get(matrix)!).shape : undefined));
    const problem = problemOf(name, module, shapes);
    if (problem) problems.push(`  ${problem}`);
    else layers.set(name, layerOf(config, path, moduleName(name), shapes[0]![0]!));
  }
  if (layers.size === 0 && problems.length === 0) problems.push(`  ${weights} holds no lora_A and lora_B`);
  if (problems.length > 0) {
    const shown = problems.slice(0, 20).join('\n') + (problems.length > 20 ? `\n  ... ${problems.length} in all` : '');
    throw new Fr1Error('ADAPTER_MISMATCH', `the adapter ${dir} does not fit its base:\n${shown}`, {
      hint: 'it was trained on another model, or the base is of another size',
    });
  }
  const cache = new Map<string, HostTensor<'float32'>>();
  return {
    layers,
    isRankStabilised: config['use_rslora'] === true,
    find(name) {
      const key = stored.get(name);
      if (key === undefined) return undefined;
      const known = cache.get(name) ?? file.readFloat32(key);
      cache.set(name, known);
      return known;
    },
  };
}

/** Settings that change what an adapter computes, and the values under which it is plain LoRA. */
const PLAIN_LORA: Readonly<Record<string, readonly unknown[]>> = {
  bias: ['none'],
  fan_in_fan_out: [false],
  lora_bias: [false],
  use_dora: [false],
  use_qalora: [false],
  use_bdlora: [false],
  modules_to_save: [],
  trainable_token_indices: [],
  layer_replication: [],
  target_parameters: [],
  alora_invocation_tokens: [],
  arrow_config: [],
  kasa_config: [],
  monteclora_config: [],
};

const LAYERS_WITHOUT_ADAPTERS = /^(?:lm_head|model\.embed_tokens|visual\.patch_embed\.proj)$/;

const MERGE_WITH_PEFT = 'merge the adapter with PEFT (merge_and_unload) and use the merged model';

/** Starts that take something out of the base; what is left of the base is not saved with the adapter. */
const STARTS_THAT_CHANGE_THE_BASE = /^(?:pissa|corda|olora|loftq|lora_ga)/i;

function refuseOtherKinds(config: Readonly<Record<string, unknown>>, path: string): void {
  if (config['peft_type'] !== 'LORA') {
    throw new Fr1Error(
      'ADAPTER_UNREADABLE',
      `${path}: peft_type is ${JSON.stringify(config['peft_type'])}, not "LORA"`,
      { at: keyPosition(path, 'peft_type') },
    );
  }
  for (const [key, plain] of Object.entries(PLAIN_LORA)) {
    const value = config[key];
    const isEmpty = value === undefined || value === null || (Array.isArray(value) && value.length === 0);
    if (isEmpty || plain.includes(value)) continue;
    throw new Fr1Error(
      'ADAPTER_UNREADABLE',
      `${path}: ${key} is ${JSON.stringify(value)}; only plain LoRA is computed`,
      {
        at: keyPosition(path, key),
        hint: MERGE_WITH_PEFT,
      },
    );
  }
  const start = config['init_lora_weights'];
  if (typeof start === 'string' && STARTS_THAT_CHANGE_THE_BASE.test(start)) {
    throw new Fr1Error(
      'ADAPTER_UNREADABLE',
      `${path}: init_lora_weights is "${start}", so the adapter belongs to a base that PEFT changed when it was made`,
      {
        at: keyPosition(path, 'init_lora_weights'),
        hint: 'save it again with PEFT as plain LoRA (save_pretrained with path_initial_model_for_weight_conversion), or merge it there',
      },
    );
  }
}

/** Keys of the file by canonical name. @throws ADAPTER_UNREADABLE for tensors that are no matrices of LoRA */
function storedMatrices(file: SafetensorsFile): Map<string, string> {
  const stored = new Map<string, string>();
  for (const key of file.names) {
    const [, module, which] = /^(?:base_model\.model\.)?(.+)\.(lora_[AB])(?:\.default)?\.weight$/.exec(key) ?? [];
    const name = module === undefined ? undefined : canonicalName(module);
    if (name === undefined || LAYERS_WITHOUT_ADAPTERS.test(name)) {
      throw new Fr1Error(
        'ADAPTER_UNREADABLE',
        `${file.path}: "${key}" is no matrix of an adapter that fr1 computes: of linear layers in blocks and mergers, without the output head`,
        { hint: MERGE_WITH_PEFT },
      );
    }
    stored.set(`${name}.${which}.weight`, key);
  }
  return stored;
}

function problemOf(
  name: string,
  module: LinearModule | undefined,
  [a, b]: readonly (readonly number[] | undefined)[],
): string | null {
  if (!module) return `${name} is no linear layer of the base`;
  if (!a || !b) return `${name} has no ${a ? 'lora_B' : 'lora_A'}`;
  const rank = a[0]!;
  const fits = a.length === 2 && b.length === 2 && b[1] === rank && rank > 0;
  if (fits && a[1] === module.inputSize && b[0] === module.outputSize) return null;
  const { inputSize, outputSize } = module;
  return `${name}: A [${a}] and B [${b}] do not fit its weight [${outputSize}, ${inputSize}]`;
}

function layerOf(config: Readonly<Record<string, unknown>>, path: string, module: string, rank: number): LoraLayer {
  const number = (key: string, value: unknown): number => {
    if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value;
    throw new Fr1Error('ADAPTER_UNREADABLE', `${path}: ${key} is ${JSON.stringify(value)}, not a number from 0`, {
      at: keyPosition(path, key),
    });
  };
  const alpha = number('lora_alpha', patternValue(config['alpha_pattern'], path, module) ?? config['lora_alpha']);
  return {
    rank,
    scale: alpha / (config['use_rslora'] === true ? Math.sqrt(rank) : rank),
    dropout: Math.min(number('lora_dropout', config['lora_dropout'] ?? 0), 0.99),
  };
}

/** The value of the first pattern that matches the end of a module's name, as PEFT reads rank_pattern and alpha_pattern. */
function patternValue(patterns: unknown, path: string, module: string): unknown {
  if (typeof patterns !== 'object' || patterns === null) return undefined;
  const matches = (pattern: string) => {
    try {
      return new RegExp(`^(?:.*\\.)?(?:${pattern})$`).test(module);
    } catch (cause) {
      throw new Fr1Error('ADAPTER_UNREADABLE', `${path}: "${pattern}" is no regular expression`, { cause });
    }
  };
  return Object.entries(patterns).find(([pattern]) => matches(pattern))?.[1];
}

/** Spelling of module names in a written adapter: that of transformers since 4.52, or the one before. */
export type KeyLayout = 'current' | 'legacy';

export interface WriteAdapterOptions {
  /** Parameters of the base. */
  readonly base: readonly ParameterSpec[];
  /** What other tools look the base up by: a folder or hub id. */
  readonly baseName: string;
  /** @default 'float32' */
  readonly dtype?: FloatDType;
  /** @default 'current' */
  readonly layout?: KeyLayout;
}

/** Writes an adapter folder that PEFT and vLLM load. @throws CHECKPOINT_WRITE_FAILED */
export async function writeAdapter(dir: string, adapter: Adapter, options: WriteAdapterOptions): Promise<void> {
  const { layers, isRankStabilised } = adapter;
  const modules = linearModules(options.base);
  const chosen = modules.filter(({ name }) => layers.has(name));
  const keyOf = (module: string) => `${KEY_PREFIX}${options.layout === 'legacy' ? module : moduleName(module)}`;
  const alphaOf = ({ rank, scale }: LoraLayer) => rounded(scale * (isRankStabilised ? Math.sqrt(rank) : rank));
  const rank = mostCommon([...layers.values()].map((layer) => layer.rank));
  const alpha = mostCommon([...layers.values()].map(alphaOf));
  const differing = (of: (layer: LoraLayer) => number, usual: number) =>
    Object.fromEntries([...layers].flatMap(([name, layer]) => (of(layer) === usual ? [] : [[endOf(name), of(layer)]])));
  await mkdir(dir, { recursive: true });
  await writeSafetensors(
    join(dir, ADAPTER_WEIGHTS),
    chosen.flatMap(({ name }) => {
      const { a, b } = loraNames(name);
      return [a, b].map((matrix) => {
        const tensor = adapter.find(matrix)!;
        return { name: `${keyOf(name)}${matrix.slice(name.length)}`, shape: tensor.shape, load: () => tensor };
      });
    }),
    { dtype: options.dtype ?? 'float32' },
  );
  await writeJson(join(dir, ADAPTER_CONFIG), {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: options.baseName,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: [...layers.values()][0]?.dropout ?? 0,
    target_modules: spellTargets(chosen, modules),
    rank_pattern: differing((layer) => layer.rank, rank),
    alpha_pattern: differing(alphaOf, alpha),
    use_rslora: isRankStabilised,
    use_dora: false,
    bias: 'none',
    modules_to_save: null,
    fan_in_fan_out: false,
    init_lora_weights: true,
    inference_mode: true,
    layers_pattern: null,
    layers_to_transform: null,
    revision: null,
  });
}

/** The part of a name that all layouts share, as a pattern. */
function endOf(name: string): string {
  return name.replace(/^(?:model|visual)\./, '').replaceAll('.', '\\.');
}

/** Without the last digits, which a product of a quotient gets wrong. */
function rounded(value: number): number {
  return Number(value.toPrecision(12));
}

function mostCommon(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0];
}
