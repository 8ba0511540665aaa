/** `fr1 new checkpoint`: a model folder with random weights, to try a size before its weights are there. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseConfig } from '../engine/models/qwen2_5_vl/config.ts';
import { randomWeightSources } from '../engine/models/qwen2_5_vl/initialise.ts';
import { sizeOf } from '../engine/tensor.ts';
import { saveCheckpoint } from '../engine/weights/checkpoint.ts';
import type { FloatDType } from '../engine/weights/convert.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { type CliIo, shortPath, writeLines } from './io.ts';

export interface NewCheckpointFlags {
  readonly config: string;
  readonly dtype: FloatDType;
  readonly seed: number;
  readonly maxShardBytes: number;
}

export async function newCheckpointCommand(out: string, flags: NewCheckpointFlags, io: CliIo): Promise<number> {
  const folder = resolve(io.cwd, out);
  if (existsSync(folder)) {
    throw new Fr1Error('CLI_ARGUMENTS', `${out} exists already`, { hint: 'name a folder that does not exist' });
  }
  const configPath = resolve(io.cwd, flags.config);
  const raw = readConfig(configPath, flags.config);
  const config = parseConfig(raw, flags.config);
  const tensors = randomWeightSources(config, flags.seed);
  await saveCheckpoint(folder, {
    config: raw,
    tensors,
    dtype: flags.dtype,
    copyFrom: dirname(configPath),
    maxShardBytes: flags.maxShardBytes,
  });
  const weights = tensors.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  writeLines(io.stdout, [
    `wrote ${shortPath(io)(folder)}: ${tensors.length} tensors, ${weights.toLocaleString('en')} random weights in ${flags.dtype}, seed ${flags.seed}`,
    ...(existsSync(resolve(folder, 'tokenizer.json'))
      ? []
      : [
          `no tokenizer.json lies beside ${flags.config}: copy the model's tokenizer and processor files into the folder`,
        ]),
  ]);
  return 0;
}

function readConfig(path: string, named: string): Record<string, unknown> {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Fr1Error('CHECKPOINT_UNREADABLE', `${named} cannot be read as JSON: ${why}`, { cause });
  }
}
