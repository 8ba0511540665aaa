/** Before anything is trained: whether the model has the layers, or the adapter, that are asked for. */
import { type AdapterChoice, trainingOf } from '../src/engine/adapters/choice.ts';
import { requireAdapter, type Towers } from '../src/engine/models/qwen2_5_vl/open-training-model.ts';
import { Fr1Error } from '../src/errors/fr1-error.ts';

interface TrainedOptions {
  readonly model: { readonly path: string } | null;
  readonly adapter: AdapterChoice;
  readonly trainable: Towers;
}

/**
 * A model that an earlier stage makes is not looked at.
 *
 * @throws ADAPTER_UNREADABLE, ADAPTER_MISMATCH, ADAPTER_TARGET_UNKNOWN where training would refuse its adapter
 */
export function checkAdapter({ model, adapter, trainable }: TrainedOptions): void {
  if (model === null) return;
  try {
    requireAdapter(model.path, trainingOf(adapter, trainable, 0));
  } catch (cause) {
    if (!(cause instanceof Fr1Error) || cause.code !== 'ADAPTER_TARGET_UNKNOWN') throw cause;
    const { code, message, hint, pointer } = cause;
    throw new Fr1Error(code, message, { hint, cause, pointer: `/adapter/targetModules${pointer}` });
  }
}
