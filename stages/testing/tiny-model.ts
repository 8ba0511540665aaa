/** A randomly initialised model of a few thousand weights, coloured squares to show it, and a lease without a pool. */
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import { parseConfig } from '../../src/engine/models/qwen2_5_vl/config.ts';
import { initialiseWeights } from '../../src/engine/models/qwen2_5_vl/initialise.ts';
import { TrainingModel } from '../../src/engine/models/qwen2_5_vl/training-model.ts';
import type { Runtime } from '../../src/engine/session/runtime.ts';
import { saveCheckpoint } from '../../src/engine/weights/checkpoint.ts';
import type { Lease } from '../../src/pool/lease.ts';
import { fixture } from '../../test/helpers/fixtures.ts';
import { bareSource } from '../../test/helpers/session-source.ts';

/** Fills a model folder; its tokenizer is that of test/fixtures/tokenizer_tiny. */
export async function writeTinyModel(runtime: Runtime, folder: string, seed = 1): Promise<void> {
  const files = fixture('tokenizer_tiny');
  const rawConfig = JSON.parse(readFileSync(path.join(files, 'config.json'), 'utf8')) as Record<string, unknown>;
  const { config, store } = new TrainingModel(bareSource(runtime), parseConfig(rawConfig));
  initialiseWeights(store, config, seed);
  await saveCheckpoint(folder, {
    config: rawConfig,
    tensors: store.parameters.map(({ name, shape }) => ({ name, shape, load: () => store.tensor(name) })),
    copyFrom: files,
  });
}

/** Writes a square PNG of one colour with some noise. */
export async function writeSquare(file: string, colour: readonly [number, number, number], side = 56): Promise<void> {
  await writeRectangle(file, colour, side, side);
}

export async function writeRectangle(
  file: string,
  colour: readonly [number, number, number],
  width: number,
  height: number,
): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const raw = Uint8Array.from({ length: width * height * 3 }, (_, at) => colour[at % 3]! + ((at * 37) % 11));
  await sharp(raw, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(file);
}

export function leaseOf(runtime: Runtime): Lease {
  const source = bareSource(runtime);
  return {
    device: { id: 'cpu', provider: source.provider, description: 'test', threads: 1 },
    runtime,
    memory: undefined,
    session: source.session,
    async [Symbol.asyncDispose]() {},
  };
}
