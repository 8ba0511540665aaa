/** A model folder ready for training, and back: written with the folder's tokenizer files, or as an adapter of its base. */
import { Fr1Error } from '../../../errors/fr1-error.ts';
import { initialiseLora, type LoraSettings, loraLayer, loraParameters, mergedTensor } from '../../adapters/lora.ts';
import { type ModelFolder, openModelFolder, saveAdapted } from '../../adapters/model-folder.ts';
import type { Adapter } from '../../adapters/peft.ts';
import { type LinearModule, linearModules, selectModules, type TargetModules } from '../../adapters/target-modules.ts';
import { ParameterStore } from '../../optim/parameter-store.ts';
import type { SessionSource } from '../../program.ts';
import { saveCheckpoint } from '../../weights/checkpoint.ts';
import { type FloatDType, toFloat32 } from '../../weights/convert.ts';
import { MemoryWeights, ModelWeights } from '../../weights/model-weights.ts';
import type { ParameterSpec } from './parameters.ts';
import { openProcessor, type Processor } from './processor.ts';
import { TrainingModel, trainedParameter } from './training-model.ts';

/** Parts of a model. */
export type Towers = Readonly<Record<ParameterSpec['tower'], boolean>>;

/** What of a model is trained. */
export type Training =
  /** All weights of these parts; an adapter of the folder is merged first. */
  | { readonly kind: 'full'; readonly towers: Towers }
  /** A new adapter on linear layers of these parts. */
  | {
      readonly kind: 'lora';
      readonly towers: Towers;
      readonly settings: LoraSettings;
      readonly targetModules: TargetModules;
      /** Decides the first values of the adapter. */
      readonly seed: number;
    }
  /** The adapter of the folder. */
  | { readonly kind: 'continue' };

export interface OpenedTrainingModel {
  readonly model: TrainingModel;
  readonly processor: Processor;
  /** Writes the model as it is now; `dtype` is that of the trained weights. @throws CHECKPOINT_WRITE_FAILED */
  save(dir: string, dtype: FloatDType): Promise<void>;
}

/**
 * @throws CHECKPOINT_UNREADABLE, CHECKPOINT_MISMATCH, MODEL_CONFIG_INVALID, TOKENIZER_INVALID
 * @throws ADAPTER_UNREADABLE, ADAPTER_MISMATCH, ADAPTER_TARGET_UNKNOWN
 */
export async function openTrainingModel(
  source: SessionSource,
  dir: string,
  training: Training,
): Promise<OpenedTrainingModel> {
  const folder = openModelFolder(dir);
  const processor = await openProcessor(folder.base.dir);
  if (training.kind === 'full') return openWhole(source, folder, processor, training.towers);
  const { base } = folder;
  const { layers, isRankStabilised, store } =
    training.kind === 'continue' ? continuedAdapter(folder, dir) : newAdapter(folder, dir, training);
  const frozen = new MemoryWeights(base.parameters.map(({ name }) => [name, base.readFloat32(name)]));
  const model = new TrainingModel(source, base.config, new ModelWeights(store, frozen, layers));
  const adapter: Adapter = { layers, isRankStabilised, find: (name) => store.find(name) };
  return { model, processor, save: (to, dtype) => saveAdapted(to, base, adapter, dtype) };
}

function openWhole(
  source: SessionSource,
  { base, adapter }: ModelFolder,
  processor: Processor,
  towers: Towers,
): OpenedTrainingModel {
  const layers = adapter?.layers ?? new Map();
  const start = ({ name }: ParameterSpec, into?: Float32Array) => {
    if (!layers.has(name.replace(/\.weight$/, ''))) return base.readFloat32(name, into);
    const find = (wanted: string) => adapter!.find(wanted) ?? base.read(wanted);
    const data = toFloat32(mergedTensor({ name }, find, layers), into);
    return { dtype: 'float32', shape: base.locate(name).shape, data } as const;
  };
  const trained = base.parameters.filter(({ tower }) => towers[tower]);
  const frozen = base.parameters.filter(({ tower }) => !towers[tower]);
  const store = new ParameterStore(trained.map(trainedParameter));
  for (const parameter of trained) start(parameter, store.tensor(parameter.name).data);
  const rest = new MemoryWeights(frozen.map((parameter) => [parameter.name, start(parameter)]));
  const weights = new ModelWeights(store, rest);
  return {
    model: new TrainingModel(source, base.config, weights),
    processor,
    save: (to, dtype) =>
      saveCheckpoint(to, {
        config: base.rawConfig,
        tensors: base.parameters.map(({ name, shape }) => ({ name, shape, load: () => weights.tensor(name) })),
        dtype,
        copyFrom: base.dir,
      }),
  };
}

type TrainedAdapter = Pick<Adapter, 'layers' | 'isRankStabilised'> & { readonly store: ParameterStore };

function continuedAdapter({ base, adapter }: ModelFolder, dir: string): TrainedAdapter {
  if (!adapter) {
    throw new Fr1Error('ADAPTER_UNREADABLE', `${dir} has no adapter that training could continue`, {
      hint: 'set `adapter.kind` to lora for a new adapter',
    });
  }
  const { layers, isRankStabilised } = adapter;
  const store = new ParameterStore(loraParameters(linearModules(base.parameters), layers));
  for (const { name } of store.parameters) toFloat32(adapter.find(name)!, store.tensor(name).data);
  return { layers, isRankStabilised, store };
}

function newAdapter(
  { base, adapter }: ModelFolder,
  dir: string,
  { towers, settings, targetModules, seed }: Extract<Training, { kind: 'lora' }>,
): TrainedAdapter {
  if (adapter) {
    throw new Fr1Error('ADAPTER_UNREADABLE', `${dir} has an adapter already`, {
      hint: 'set `adapter.kind` to continue to train it on, or merge it first with a stage `uses: export`',
    });
  }
  const modules: LinearModule[] = linearModules(base.parameters).filter(({ tower }) => towers[tower]);
  const chosen = selectModules(modules, targetModules);
  const layers = new Map(chosen.map(({ name }) => [name, loraLayer(settings)]));
  const store = new ParameterStore(loraParameters(chosen, layers));
  initialiseLora(store, seed);
  return { layers, isRankStabilised: settings.isRankStabilised, store };
}
