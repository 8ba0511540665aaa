/** What training needs to go on after a crash: weights, moments and counters, in one file that is replaced atomically. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { openSafetensors, writeSafetensors } from '../weights/safetensors.ts';
import type { AdamW } from './adamw.ts';
import type { ParameterStore } from './parameter-store.ts';

const FILE = 'train-state.safetensors';

/** Counters of a recipe, e.g. `{ step: 40 }`; JSON values only. */
export type Counters = Readonly<Record<string, unknown>>;

export async function saveTrainState(
  dir: string,
  store: ParameterStore,
  optimizer: AdamW,
  counters: Counters,
): Promise<void> {
  await store.pull();
  await optimizer.pull();
  const flat = (name: string, data: Float32Array) => ({
    name,
    shape: [data.length],
    load: () => ({ dtype: 'float32', shape: [data.length], data }) as const,
  });
  await writeSafetensors(
    join(dir, FILE),
    [flat('weights', store.flat), flat('first_moment', optimizer.m), flat('second_moment', optimizer.v)],
    {
      metadata: {
        counters: JSON.stringify({
          ...counters,
          updates: optimizer.steps,
          updatesWithImages: optimizer.stepsWithImages,
        }),
      },
    },
  );
}

/**
 * Fills store and optimiser from the last saved state.
 *
 * @returns the counters, or null when there is no state
 * @throws CHECKPOINT_MISMATCH when the state belongs to a model of another size
 */
export async function loadTrainState(dir: string, store: ParameterStore, optimizer: AdamW): Promise<Counters | null> {
  const path = join(dir, FILE);
  if (!existsSync(path)) return null;
  const file = openSafetensors(path);
  const [size] = file.info('weights').shape;
  if (size !== store.flat.length) {
    throw new Fr1Error(
      'CHECKPOINT_MISMATCH',
      `${path} holds ${size} trained weights, the model has ${store.flat.length}`,
    );
  }
  file.readFloat32('weights', store.flat);
  file.readFloat32('first_moment', optimizer.m);
  file.readFloat32('second_moment', optimizer.v);
  const {
    updates,
    updatesWithImages = updates,
    ...counters
  } = JSON.parse(file.metadata['counters'] ?? '{}') as { updates: number; updatesWithImages?: number };
  optimizer.steps = updates;
  optimizer.stepsWithImages = updatesWithImages;
  return counters;
}
