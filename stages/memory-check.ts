/** The preflight of stages that train: whether this machine can hold the model, its gradients and its moments. */
import { totalmem } from 'node:os';
import { type AdapterChoice, trainingOf } from '../src/engine/adapters/choice.ts';
import type { Towers } from '../src/engine/models/qwen2_5_vl/open-training-model.ts';
import { BYTES_PER_TRAINED, trainingMemory } from '../src/engine/models/qwen2_5_vl/training-memory.ts';
import { Fr1Error } from '../src/errors/fr1-error.ts';
import type { CheckContext } from '../src/run/stage-api.ts';

const GIB = 1024 ** 3;

interface TrainedOptions {
  readonly model: { readonly path: string } | null;
  readonly adapter: AdapterChoice;
  readonly trainable: Towers;
}

/**
 * Reports a problem where training takes more memory than the machine has. A model that an earlier stage makes is not
 * looked at; what a step computes is estimated when it runs.
 */
export function checkTrainingMemory(
  { model, adapter, trainable }: TrainedOptions,
  context: Pick<CheckContext, 'problem'>,
  available: number = machineMemory(),
): void {
  if (model === null) return;
  const needs = (choice: AdapterChoice) => trainingMemory(model.path, trainingOf(choice, trainable, 0));
  const { bytes, trained } = needs(adapter);
  const gib = (count: number) => `${(count / GIB).toFixed(count < 10 * GIB ? 1 : 0)} GiB`;
  const words = `${(trained / 1e6).toFixed(trained < 1e8 ? 1 : 0)} million weights to train: at least ${gib(bytes)} of memory`;
  if (bytes <= available) return;
  const small = adapter.kind === 'full' ? needs({ kind: 'lora' }).bytes : Number.POSITIVE_INFINITY;
  context.problem(
    new Fr1Error('DEVICE_MEMORY', `${words}, and this machine has ${gib(available)}`, {
      hint:
        small <= available
          ? `adapter: { kind: lora } takes at least ${gib(small)}`
          : 'a smaller model would fit: pipelines/quickstart.yaml trains one in 4 GiB',
    }),
  );
}

/** What a training leaves on the disk: trained weights with both moments to go on from, and the new model with its base. */
export function trainingDisk({ model, adapter, trainable }: TrainedOptions, weights: number): number {
  if (model === null) return 0;
  const { bytes, trained } = trainingMemory(model.path, trainingOf(adapter, trainable, 0));
  // Beside an adapter the base stays as it is stored, which is what memory holds of it.
  const output = adapter.kind === 'full' ? weights * 4 : bytes - trained * BYTES_PER_TRAINED + trained * 4;
  return trained * 3 * 4 + output;
}

/** Bytes that this process may use. */
function machineMemory(): number {
  const limit = process.constrainedMemory?.() ?? 0;
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
