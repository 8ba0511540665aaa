/**
 * Hugging Face model folders: config.json with one model.safetensors, or several listed in
 * model.safetensors.index.json. Weights are addressed by their canonical names (parameters.ts), whatever layout the
 * files use, and are read one at a time.
 */
import { existsSync, statSync } from 'node:fs';
import { constants, copyFile, mkdir, readdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { isRecord, parseConfig, type Qwen25VLConfig } from '../models/qwen2_5_vl/config.ts';
import { canonicalName, type ParameterSpec, parameterSpecs } from '../models/qwen2_5_vl/parameters.ts';
import type { HostTensor } from '../tensor.ts';
import type { FloatDType } from './convert.ts';
import { messageOf, readJsonObject, writeJson } from './json-file.ts';
import {
  compareText,
  isSameTensor,
  openSafetensors,
  type SafetensorsFile,
  type StoredTensor,
  storedBytes,
  syncFolder,
  type TensorInfo,
  type TensorSource,
  writeSafetensors,
} from './safetensors.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
/** Names that this module writes weights under; files of an earlier save with these names are stale. */
const WEIGHT_FILE = /^model(-\d{5}-of-\d{5})?\.safetensors$/;

/** Files beside the weights that make a folder usable: tokenizer, chat template, image processor, generation. */
export const COMPANION_FILES = [
  'generation_config.json',
  'preprocessor_config.json',
  'processor_config.json',
  'video_preprocessor_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'vocab.json',
  'merges.txt',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.json',
  'chat_template.jinja',
] as const;

export interface Checkpoint {
  /** Absolute path of the folder. */
  readonly dir: string;
  readonly config: Qwen25VLConfig;
  /** config.json as it is, for saving a descendant. */
  readonly rawConfig: Readonly<Record<string, unknown>>;
  readonly parameters: readonly ParameterSpec[];
  /** Tensors in the files that a model with a tied head does not use. */
  readonly ignored: readonly string[];
  /** Where a parameter's bytes are, so that a runtime can map them. @throws TENSOR_UNKNOWN */
  locate(name: string): TensorInfo & { readonly file: string };
  /** The parameter as stored. @throws TENSOR_UNKNOWN */
  read(name: string): HostTensor;
  /** The parameter widened to float32. @throws TENSOR_UNKNOWN */
  readFloat32(name: string, into?: Float32Array): HostTensor<'float32'>;
}

/**
 * Opens a model folder and checks names and shapes of all weights against config.json; no weight is read.
 *
 * @throws CHECKPOINT_UNREADABLE for a missing folder, config or weight file
 * @throws MODEL_CONFIG_INVALID, SAFETENSORS_INVALID, SAFETENSORS_TRUNCATED
 * @throws CHECKPOINT_MISMATCH listing every missing, unexpected and mis-shaped weight
 */
export function openCheckpoint(dir: string): Checkpoint {
  const folder = resolve(dir);
  if (!existsSync(folder) || !statSync(folder).isDirectory()) {
    throw new Fr1Error('CHECKPOINT_UNREADABLE', `there is no model folder ${folder}`);
  }
  const configPath = join(folder, 'config.json');
  const rawConfig = readJsonObject(configPath);
  const config = parseConfig(rawConfig, configPath);
  const parameters = parameterSpecs(config);

  const stored = collectTensors(openWeightFiles(folder));
  const ignored: string[] = [];
  const head = config.tieWordEmbeddings && stored.get(HEAD);
  if (head) {
    requireTied(folder, head, stored.get(EMBEDDINGS));
    stored.delete(HEAD);
    ignored.push(HEAD);
  }
  checkTensors(
    folder,
    parameters,
    [...stored].map(([name, { file, storedName }]) => ({ name, ...file.info(storedName) })),
  );

  function find(name: string): StoredTensor {
    const found = stored.get(name);
    if (found === undefined) throw new Fr1Error('TENSOR_UNKNOWN', `${folder} has no weight "${name}"`);
    return found;
  }
  return {
    dir: folder,
    config,
    rawConfig,
    parameters,
    ignored,
    locate(name) {
      const { file, storedName } = find(name);
      return { ...file.info(storedName), file: file.path };
    },
    read(name) {
      const { file, storedName } = find(name);
      return file.read(storedName);
    },
    readFloat32(name, into) {
      const { file, storedName } = find(name);
      return file.readFloat32(storedName, into);
    },
  };
}

const HEAD = 'lm_head.weight';
const EMBEDDINGS = 'model.embed_tokens.weight';

/** @throws CHECKPOINT_MISMATCH when a head that shall be the embedding table has other values; libraries disagree on which counts */
function requireTied(folder: string, head: StoredTensor, embeddings: StoredTensor | undefined): void {
  if (embeddings === undefined || isSameTensor(head, embeddings)) return;
  throw new Fr1Error(
    'CHECKPOINT_MISMATCH',
    `${folder}: config.json ties the output head to the token embeddings, but ${HEAD} has other values than ${EMBEDDINGS}`,
    { hint: 'set tie_word_embeddings to false in config.json to use the head, or remove it from the weights' },
  );
}

/** The weight files of a folder, checked against the index where there is one. */
function openWeightFiles(folder: string): SafetensorsFile[] {
  const single = join(folder, SINGLE);
  if (existsSync(single)) return [openSafetensors(single)];
  const indexPath = join(folder, INDEX);
  if (!existsSync(indexPath)) {
    throw new Fr1Error('CHECKPOINT_UNREADABLE', `${folder} has neither ${SINGLE} nor ${INDEX}`, {
      hint: 'weights in other formats (.bin, .pth, GGUF) are not read; save the model as safetensors',
    });
  }
  const map = readJsonObject(indexPath)['weight_map'];
  if (!isRecord(map)) throw new Fr1Error('CHECKPOINT_UNREADABLE', `${indexPath} has no weight_map`);
  const files = new Map<string, SafetensorsFile>();
  const absent: string[] = [];
  for (const name of [...new Set(Object.values(map))].sort()) {
    if (typeof name !== 'string' || name !== name.replace(/[\\/]/g, '') || !name.endsWith('.safetensors')) {
      throw new Fr1Error(
        'CHECKPOINT_UNREADABLE',
        `${indexPath} names ${JSON.stringify(name)} as a weight file, which is no file name of this folder`,
      );
    }
    if (existsSync(join(folder, name))) files.set(name, openSafetensors(join(folder, name)));
    else absent.push(`  ${name}`);
  }
  if (absent.length > 0) {
    throw new Fr1Error('CHECKPOINT_UNREADABLE', `${folder} lacks files that ${INDEX} lists:\n${shorten(absent)}`, {
      hint: 'the download or copy did not finish; fetch the model again',
    });
  }
  const misplaced: string[] = [];
  for (const [tensor, name] of Object.entries(map)) {
    if (!files.get(name as string)!.has(tensor)) misplaced.push(`  ${tensor} is not in ${name}`);
  }
  for (const [name, file] of files) {
    for (const tensor of file.names) {
      if (map[tensor] !== name) misplaced.push(`  ${tensor} is in ${name}, but not listed there`);
    }
  }
  if (misplaced.length > 0) {
    throw new Fr1Error(
      'CHECKPOINT_MISMATCH',
      `${indexPath} and the files that it lists disagree:\n${shorten(misplaced)}`,
    );
  }
  return [...files.values()];
}

function collectTensors(files: readonly SafetensorsFile[]): Map<string, StoredTensor> {
  const stored = new Map<string, StoredTensor>();
  for (const file of files) {
    for (const storedName of file.names) {
      const name = canonicalName(storedName);
      const other = stored.get(name);
      if (other !== undefined) {
        throw new Fr1Error(
          'CHECKPOINT_MISMATCH',
          `"${storedName}" of ${file.path} and "${other.storedName}" of ${other.file.path} are the same weight`,
        );
      }
      stored.set(name, { file, storedName });
    }
  }
  return stored;
}

/** @throws CHECKPOINT_MISMATCH listing every difference between the tensors and the parameters of the model */
function checkTensors(
  where: string,
  parameters: readonly ParameterSpec[],
  tensors: readonly { readonly name: string; readonly shape: readonly number[]; readonly dtype?: string }[],
): void {
  const found = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const known = new Set(parameters.map(({ name }) => name));
  const missing: string[] = [];
  const misshaped: string[] = [];
  const mistyped: string[] = [];
  for (const { name, shape } of parameters) {
    const tensor = found.get(name);
    if (tensor === undefined) {
      missing.push(`  ${name} [${shape.join(', ')}] is missing`);
    } else if (tensor.shape.length !== shape.length || tensor.shape.some((dim, axis) => dim !== shape[axis])) {
      misshaped.push(`  ${name} is [${tensor.shape.join(', ')}], expected [${shape.join(', ')}]`);
    } else if (tensor.dtype !== undefined && !['F32', 'F16', 'BF16'].includes(tensor.dtype)) {
      mistyped.push(`  ${name} has dtype ${tensor.dtype}, expected F32, F16 or BF16`);
    }
  }
  const unexpected = tensors
    .filter(({ name }) => !known.has(name))
    .map(({ name, shape }) => `  ${name} [${shape.join(', ')}] is unexpected`);
  const groups = [misshaped, missing, unexpected, mistyped];
  if (groups.every((group) => group.length === 0)) return;
  throw new Fr1Error(
    'CHECKPOINT_MISMATCH',
    `the weights of ${where} are not those of its config.json:\n${groups
      .filter((group) => group.length > 0)
      .map(shorten)
      .join('\n')}`,
    {
      hint:
        mistyped.length > 0
          ? 'quantised weights and those in double precision are not read: save the model as bfloat16, float16 or float32'
          : 'config.json and the weights come from different models, or a file of the folder was replaced',
    },
  );
}

/** Enough lines to understand a problem; a wrong width touches every layer of a model. */
function shorten(lines: readonly string[]): string {
  const shown = 8;
  if (lines.length <= shown) return lines.join('\n');
  return `${lines.slice(0, shown).join('\n')}\n  ... and ${lines.length - shown} more like these`;
}

/** Absolute paths of the files that make up a model folder: weights, their index, config.json and its companions. */
export function checkpointFiles({ dir, parameters, locate }: Checkpoint): string[] {
  const weights = new Set(parameters.map(({ name }) => locate(name).file));
  const beside = [INDEX, ...COMPANION_FILES, 'config.json'].map((name) => join(dir, name));
  return [...weights, ...beside.filter((file) => existsSync(file))];
}

export interface SaveOptions {
  /** config.json of the model; only its dtype entries are changed, to what is written. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Every parameter of the model, by canonical name. */
  readonly tensors: Iterable<TensorSource>;
  /** @default 'float32' */
  readonly dtype?: FloatDType;
  /** Folder whose tokenizer, processor and generation files are copied. */
  readonly copyFrom?: string;
  /** Weights above this size are split over several files. @default 5e9 */
  readonly maxShardBytes?: number;
}

/**
 * Writes a model folder that transformers, vLLM and {@link openCheckpoint} load. Same tensors, same bytes.
 * config.json is written last, so that a folder with one is whole.
 *
 * @throws CHECKPOINT_MISMATCH when the tensors are not those of the config
 * @throws CHECKPOINT_WRITE_FAILED
 */
export async function saveCheckpoint(dir: string, options: SaveOptions): Promise<void> {
  const folder = resolve(dir);
  const dtype = options.dtype ?? 'float32';
  const tensors = [...options.tensors].sort((a, b) => compareText(a.name, b.name));
  checkTensors(`the model to be saved in ${folder}`, parameterSpecs(parseConfig(options.config)), tensors);

  try {
    await mkdir(folder, { recursive: true });
    await rm(join(folder, 'config.json'), { force: true });
    const written = await writeWeights(folder, tensors, dtype, options.maxShardBytes ?? 5e9);
    for (const name of await readdir(folder)) {
      if ((WEIGHT_FILE.test(name) || name === INDEX) && !written.has(name)) await rm(join(folder, name));
    }
    if (options.copyFrom !== undefined && resolve(options.copyFrom) !== folder) {
      await copyCompanions(resolve(options.copyFrom), folder);
    }
    await writeJson(join(folder, 'config.json'), withDType(options.config, dtype));
    await syncFolder(folder);
  } catch (cause) {
    if (cause instanceof Fr1Error) throw cause;
    throw new Fr1Error('CHECKPOINT_WRITE_FAILED', `${folder} cannot be written: ${messageOf(cause)}`, { cause });
  }
}

/** Writes one file, or shards and their index; returns the names of the files. */
async function writeWeights(
  folder: string,
  sorted: readonly TensorSource[],
  dtype: FloatDType,
  maxShardBytes: number,
): Promise<Set<string>> {
  const shards: TensorSource[][] = [];
  let shardBytes = 0;
  let totalBytes = 0;
  for (const tensor of sorted) {
    const bytes = storedBytes(tensor.shape, dtype);
    const shard = shards[shards.length - 1];
    if (shard === undefined || shardBytes + bytes > maxShardBytes) {
      shards.push([tensor]);
      shardBytes = bytes;
    } else {
      shard.push(tensor);
      shardBytes += bytes;
    }
    totalBytes += bytes;
  }
  if (shards.length === 1) {
    await writeSafetensors(join(folder, SINGLE), shards[0]!, { dtype });
    return new Set([SINGLE]);
  }
  const pad = (value: number) => String(value).padStart(5, '0');
  const weightMap: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const name = `model-${pad(i + 1)}-of-${pad(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, name), shard, { dtype });
    for (const tensor of shard) weightMap[tensor.name] = name;
  }
  await writeJson(join(folder, INDEX), { metadata: { total_size: totalBytes }, weight_map: weightMap });
  return new Set([INDEX, ...Object.values(weightMap)]);
}

async function copyCompanions(from: string, to: string): Promise<void> {
  for (const name of COMPANION_FILES) {
    if (existsSync(join(from, name))) await copyFile(join(from, name), join(to, name), constants.COPYFILE_FICLONE);
  }
}

/** transformers loads weights in the dtype that the config names, so it must name the one on disk. */
function withDType(config: Readonly<Record<string, unknown>>, dtype: FloatDType): Record<string, unknown> {
  const copy: Record<string, unknown> = { ...config };
  for (const key of ['dtype', 'torch_dtype']) if (key in copy) copy[key] = dtype;
  if (!('dtype' in copy) && !('torch_dtype' in copy)) copy['torch_dtype'] = dtype;
  for (const key of ['text_config', 'vision_config']) {
    const part = copy[key];
    if (!isRecord(part)) continue;
    copy[key] = {
      ...part,
      ...('dtype' in part ? { dtype } : {}),
      ...('torch_dtype' in part ? { torch_dtype: dtype } : {}),
    };
  }
  return copy;
}
