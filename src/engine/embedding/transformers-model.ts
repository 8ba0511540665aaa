/** Loading of models of transformers.js, from a folder or from the Hugging Face hub, in float32 on the CPU. */
import path from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';

/** Either a folder or a model of the hub. */
export interface ModelChoice {
  readonly model?: { readonly path: string; readonly digest: string } | undefined;
  readonly hub?: string | undefined;
  /** Branch, tag or commit of the hub's model. */
  readonly revision: string;
}

export interface ChosenModel {
  /** By which transformers.js finds it. */
  readonly name: string;
  /** What is recorded beside results: `name@digest`, `name@revision`. */
  readonly record: string;
  readonly options: {
    readonly dtype: 'fp32';
    readonly device: 'cpu';
    readonly revision: string;
    readonly local_files_only: boolean;
    readonly session_options?: { readonly intraOpNumThreads: number };
  };
}

/** A tensor of transformers.js. */
export interface Tensor {
  readonly dims: readonly number[];
  readonly data: ArrayLike<number | bigint>;
}

/** @param threads that onnxruntime may use. @default all */
export async function chosenModel(choice: ModelChoice, threads?: number): Promise<ChosenModel> {
  const { env } = await import('@huggingface/transformers');
  const local = choice.model?.path;
  if (local) env.localModelPath = path.dirname(local);
  const name = local ? path.basename(local) : choice.hub!;
  return {
    name,
    record: `${name}@${choice.model?.digest ?? choice.revision}`,
    options: {
      dtype: 'fp32',
      device: 'cpu',
      revision: choice.revision,
      local_files_only: local !== undefined,
      ...(threads !== undefined && { session_options: { intraOpNumThreads: threads } }),
    },
  };
}

/** What the user is told when such a model cannot be loaded. */
export function unloadable(what: string, choice: ModelChoice, localHint: string, cause: unknown): Fr1Error {
  const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
  const name = choice.model?.path ?? choice.hub;
  return new Fr1Error('CHECKPOINT_UNREADABLE', `the ${what} ${name} cannot be loaded: ${reason}`, {
    hint: choice.model ? localHint : 'is the network there, and does the model have ONNX files?',
    cause,
  });
}

/** The rows of [rows, width], each scaled to length 1. */
export function unitRows({ dims, data }: Tensor): Float32Array[] {
  const width = dims.at(-1)!;
  return Array.from({ length: dims[0]! }, (_, row) =>
    normalised(Float32Array.from({ length: width }, (_, i) => Number(data[row * width + i]))),
  );
}

export function normalised(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
}

/** The vector itself. @throws SCORES_NOT_FINITE when it holds what is no number */
export function finiteVector(vector: Float32Array, model: string): Float32Array {
  if (vector.every(Number.isFinite)) return vector;
  throw new Fr1Error('SCORES_NOT_FINITE', `the model ${model} gives vectors that are not numbers`);
}
