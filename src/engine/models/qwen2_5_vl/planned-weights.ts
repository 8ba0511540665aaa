/** The weights of a model folder as an estimate of memory needs them: how many and how they are held, but no values. */
import { loraLayer, loraParameters, moduleOf } from '../../adapters/lora.ts';
import { type ModelFolder, openModelFolder } from '../../adapters/model-folder.ts';
import { linearModules, selectModules } from '../../adapters/target-modules.ts';
import type { LoraLayer, WeightLayout } from '../../nn/model-graph.ts';
import type { StoredParameter } from '../../optim/parameter-store.ts';
import { BYTES_PER_ELEMENT, type DType, sizeOf } from '../../tensor.ts';
import type { FloatDType } from '../../weights/convert.ts';
import { HOST_TYPE } from '../../weights/mapped-weights.ts';
import { defaultExecution } from './execution.ts';
import type { ModelFacts } from './memory-peaks.ts';
import type { Training } from './open-training-model.ts';
import { trainedParameter } from './training-model.ts';

/** What an estimate needs of weights; `ModelWeights` has it too. */
export interface WeightFacts extends WeightLayout {
  /** Of weights that are not trained, as they are held. */
  readonly frozenBytes: number;
  readonly trained: { readonly parameters: readonly StoredParameter[] };
}

/**
 * @param training what would be trained; null for a model that only answers
 * @throws ADAPTER_TARGET_UNKNOWN
 */
export function plannedWeights({ base, adapter }: ModelFolder, training: Training | null): WeightFacts {
  const { parameters } = base;
  const isMerged = training?.kind === 'full';
  const layers = isMerged ? new Map<string, LoraLayer>() : adapterLayers({ base, adapter }, training);
  const isTrained = ({ tower }: (typeof parameters)[number]) => training?.kind === 'full' && training.towers[tower];
  const trained = isMerged
    ? parameters.filter(isTrained).map(trainedParameter)
    : loraParameters(linearModules(parameters), layers);
  const isMapped = defaultExecution(base.config) === 'layered';
  const storedType = (name: string): FloatDType =>
    isMapped && !(isMerged && adapter?.layers.has(moduleOf(name))) ? HOST_TYPE[base.locate(name).dtype]! : 'float32';
  const types = new Map<string, DType>();
  let frozenBytes = 0;
  for (const parameter of parameters) {
    const { name, shape } = parameter;
    types.set(name, isTrained(parameter) ? 'float32' : storedType(name));
    if (!isTrained(parameter)) frozenBytes += sizeOf(shape) * BYTES_PER_ELEMENT[types.get(name)!];
  }
  const isAnswering = training === null;
  for (const { name, shape } of isMerged ? [] : trained) {
    types.set(name, isAnswering ? adapter!.find(name)!.dtype : 'float32');
    if (isAnswering) frozenBytes += sizeOf(shape) * BYTES_PER_ELEMENT[types.get(name)!];
  }
  return {
    frozenBytes,
    trained: { parameters: isAnswering ? [] : trained },
    dtypeOf: (name) => types.get(name) ?? 'float32',
    adapterOf: (module) => layers.get(module),
  };
}

/** A model of which nothing is read but the headers of its files. */
export function plannedModel(dir: string, training: Training | null): ModelFacts {
  const folder = openModelFolder(dir);
  const { config } = folder.base;
  return { config, execution: defaultExecution(config), weights: plannedWeights(folder, training) };
}

/** Layers with an adapter beside them: a new one, or that of the folder. */
function adapterLayers({ base, adapter }: ModelFolder, training: Training | null): ReadonlyMap<string, LoraLayer> {
  if (training?.kind !== 'lora') return adapter?.layers ?? new Map();
  const modules = linearModules(base.parameters).filter(({ tower }) => training.towers[tower]);
  const layer = loraLayer(training.settings);
  return new Map(selectModules(modules, training.targetModules).map(({ name }) => [name, layer]));
}
