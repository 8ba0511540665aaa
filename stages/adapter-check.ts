/** The preflight of stages that train: whether the model has the layers, or the adapter, that are asked for. */
import { type AdapterChoice, trainingOf } from '../src/engine/adapters/choice.ts';
import { requireAdapter, type Towers } from '../src/engine/models/qwen2_5_vl/open-training-model.ts';
import type { CheckContext } from '../src/run/stage-api.ts';

interface TrainedOptions {
  readonly model: { readonly path: string } | null;
  readonly adapter: AdapterChoice;
  readonly trainable: Towers;
}

/** Reports where training would refuse its adapter; a model that an earlier stage makes is not looked at. @returns whether all is well */
export function checkAdapter(
  { model, adapter, trainable }: TrainedOptions,
  context: Pick<CheckContext, 'problem'>,
): boolean {
  if (model === null) return true;
  try {
    requireAdapter(model.path, trainingOf(adapter, trainable, 0));
    return true;
  } catch (error) {
    context.problem(error as Error);
    return false;
  }
}
