/** Merges the adapter into the model, or leaves it beside it, and writes the folder. */
import { mergedTensor } from '../../src/engine/adapters/lora.ts';
import { type ModelFolder, openModelFolder, saveAdapted } from '../../src/engine/adapters/model-folder.ts';
import { takeTurn } from '../../src/engine/turn.ts';
import { saveCheckpoint } from '../../src/engine/weights/checkpoint.ts';
import { type FloatDType, toFloat32 } from '../../src/engine/weights/convert.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import type { StageContext, StageResult } from '../../src/run/stage-api.ts';
import type { ExportOptions } from './options.ts';

export async function runExport(context: StageContext<ExportOptions>): Promise<StageResult> {
  const { options, signal } = context;
  const target = context.outputs['model']!;
  const folder = openModelFolder(options.model.path, options.adapter?.path);
  if (options.merge) {
    const dtype = options.dtype ?? storedDType(folder);
    context.log(`${folder.adapter ? `merging ${folder.adapter.layers.size} layers, ` : ''}writing ${dtype}`);
    await saveMerged(target, folder, dtype, options.maxShardBytes, (done, total) => {
      signal.throwIfAborted();
      context.progress({ done, total, unit: 'weights' });
    });
    return {};
  }
  const { base, adapter } = folder;
  if (!adapter) {
    throw new Fr1Error('ADAPTER_UNREADABLE', `${options.model.path} has no adapter that could stay beside it`, {
      hint: 'give one under `adapter`, or leave `merge` out',
    });
  }
  await saveAdapted(target, base, adapter, { dtype: options.dtype ?? 'float32', layout: options.adapterKeys });
  return {};
}

/** Writes one weight after the other; two of them are in memory at once. */
async function saveMerged(
  target: string,
  { base, adapter }: ModelFolder,
  dtype: FloatDType,
  maxShardBytes: number,
  onWeight: (done: number, total: number) => void,
): Promise<void> {
  const layers = adapter?.layers ?? new Map();
  const find = (name: string) => adapter?.find(name) ?? base.read(name);
  let done = 0;
  await saveCheckpoint(target, {
    config: base.rawConfig,
    tensors: base.parameters.map(({ name, shape }) => ({
      name,
      shape,
      async load() {
        onWeight(++done, base.parameters.length);
        await takeTurn();
        const tensor = mergedTensor(name, find, layers);
        // The file's own type goes through unchanged; others are narrowed from float32.
        if (tensor.dtype === dtype) return tensor;
        const data = toFloat32(tensor);
        if (dtype === 'float16') requireHalfRange(name, data);
        return { dtype: 'float32', shape, data };
      },
    })),
    dtype,
    maxShardBytes,
    copyFrom: base.dir,
  });
}

/** Least value that float16 rounds to infinity. */
const HALF_OVERFLOW = 65_520;

/** @throws CHECKPOINT_WRITE_FAILED */
function requireHalfRange(name: string, data: Float32Array): void {
  const beyond = data.find((value) => Math.abs(value) >= HALF_OVERFLOW);
  if (beyond === undefined) return;
  throw new Fr1Error('CHECKPOINT_WRITE_FAILED', `${name} has a weight of ${beyond}, which float16 cannot hold`, {
    hint: 'write bfloat16 or float32',
  });
}

const STORED: Readonly<Record<string, FloatDType>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' };

/** The element type that all weights of the base have, else float32. */
function storedDType({ base }: ModelFolder): FloatDType {
  const types = [...new Set(base.parameters.map(({ name }) => base.locate(name).dtype))];
  return (types.length === 1 && STORED[types[0]!]) || 'float32';
}
