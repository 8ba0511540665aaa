/** The preflight of stages that compute: whether this machine can hold the model, its gradients, and what a step needs. */
import { type AdapterChoice, trainingOf } from '../src/engine/adapters/choice.ts';
import { openModelFolder } from '../src/engine/adapters/model-folder.ts';
import { estimateMemory, type MemoryPlan } from '../src/engine/models/qwen2_5_vl/estimate.ts';
import type { Towers, Training } from '../src/engine/models/qwen2_5_vl/open-training-model.ts';
import { plannedWeights } from '../src/engine/models/qwen2_5_vl/planned-weights.ts';
import {
  gibibytes,
  type MemoryKnobs,
  memoryProblem,
  usableMemory,
} from '../src/engine/models/qwen2_5_vl/require-memory.ts';
import { sizeOf } from '../src/engine/tensor.ts';
import { Fr1Error } from '../src/errors/fr1-error.ts';
import type { CheckContext } from '../src/run/stage-api.ts';

/** Weight, gradient, that of a micro-batch and two moments in float32. */
const BYTES_PER_TRAINED = 5 * 4;

interface TrainedOptions {
  readonly model: { readonly path: string } | null;
  readonly adapter: AdapterChoice;
  readonly trainable: Towers;
}

/**
 * Reports a problem where weights, gradients and moments alone take more memory than the machine has; nothing of devices with
 * memory of their own. A model that an earlier stage makes is not looked at.
 *
 * @returns whether there is enough
 */
export function checkTrainingMemory(
  { model, adapter, trainable }: TrainedOptions,
  context: Pick<CheckContext, 'problem' | 'provider'>,
  available: number = usableMemory(),
): boolean {
  if (model === null || context.provider !== 'cpu') return true;
  const needs = (choice: AdapterChoice) => trainingBytes(model.path, trainingOf(choice, trainable, 0));
  const { bytes, trained } = needs(adapter);
  if (bytes <= available) return true;
  const words = `${(trained / 1e6).toFixed(trained < 1e8 ? 1 : 0)} million weights to train: at least ${gibibytes(bytes)} of memory`;
  const small = adapter.kind === 'full' ? needs({ kind: 'lora' }).bytes : Number.POSITIVE_INFINITY;
  context.problem(
    new Fr1Error('DEVICE_MEMORY', `${words}, and this machine has ${gibibytes(available)}`, {
      hint:
        small <= available
          ? `adapter: { kind: lora } takes at least ${gibibytes(small)}`
          : 'a smaller model would fit: pipelines/quickstart.yaml trains one in 4 GiB',
    }),
  );
  return false;
}

/** Bytes of all weights with what training keeps for each, and the number of those that are trained. */
export function trainingBytes(dir: string, training: Training): { readonly bytes: number; readonly trained: number } {
  const weights = plannedWeights(openModelFolder(dir), training);
  const trained = weights.trained.parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  return { bytes: weights.frozenBytes + BYTES_PER_TRAINED * trained, trained };
}

/** What a training leaves on the disk: trained weights with both moments to go on from, and the new model with its base. */
export function trainingDisk({ model, adapter, trainable }: TrainedOptions, weights: number): number {
  if (model === null) return 0;
  const { trained } = trainingBytes(model.path, trainingOf(adapter, trainable, 0));
  const { base } = openModelFolder(model.path);
  const stored = base.parameters.reduce((sum, { name }) => sum + base.locate(name).byteLength, 0);
  return trained * 3 * 4 + (adapter.kind === 'full' ? weights * 4 : stored + trained * 4);
}

/** Tells what a stage would take on the CPU, and reports a problem where that does not fit; nothing of other devices. */
export function checkMemory(
  context: Pick<CheckContext, 'problem' | 'found' | 'provider'>,
  what: string,
  plan: MemoryPlan,
  knobs: MemoryKnobs,
): void {
  if (context.provider !== 'cpu') return;
  const estimate = estimateMemory(plan);
  const problem = memoryProblem(what, estimate, knobs);
  if (problem) context.problem(problem);
  else context.found(`takes about ${gibibytes(estimate.total)} of memory on the CPU`);
}
