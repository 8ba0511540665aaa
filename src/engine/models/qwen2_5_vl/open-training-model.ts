/** A model folder ready for training, and back: written with the folder's tokenizer files, or as an adapter of its base. */
import { Fr1Error } from '../../../errors/fr1-error.ts';
import {
  type Adapter,
  type LoraSettings,
  loraParameters,
  mergedTensor,
  moduleOf,
  startAdapter,
} from '../../adapters/lora.ts';
import { type ModelFolder, openModelFolder, saveAdapted } from '../../adapters/model-folder.ts';
import { type LinearModule, linearModules, selectModules, type TargetModules } from '../../adapters/target-modules.ts';
import type { LoraLayer } from '../../nn/model-graph.ts';
import { ParameterStore } from '../../optim/parameter-store.ts';
import type { SessionSource } from '../../program.ts';
import type { Provider } from '../../session/runtime.ts';
import { type HostTensor, sizeOf } from '../../tensor.ts';
import { type Checkpoint, saveCheckpoint } from '../../weights/checkpoint.ts';
import { type FloatDType, toFloat32 } from '../../weights/convert.ts';
import { JoinedWeights, MemoryWeights, ModelWeights } from '../../weights/model-weights.ts';
import { defaultExecution, type Execution } from './execution.ts';
import { frozenWeights } from './frozen-weights.ts';
import type { ParameterSpec } from './parameters.ts';
import { plannedWeights } from './planned-weights.ts';
import { openProcessor, type Processor } from './processor.ts';
import { requireMemory } from './require-memory.ts';
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

/** Weight, gradient and two moments in float32. */
const TRAINED_BYTES = 16;

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
  options: { readonly temperature?: number } = {},
): Promise<OpenedTrainingModel> {
  const folder = openModelFolder(dir);
  const processor = await openProcessor(folder.base.dir);
  const { base } = folder;
  if (!source.memory) requireStateMemory(folder, training);
  const made = (weights: ModelWeights) =>
    new TrainingModel(source, base.config, weights, defaultExecution(base.config), options.temperature);
  if (training.kind === 'full') {
    const weights = wholeWeights(base, training.towers, folder.adapter, source.provider);
    const tensors = base.parameters.map(({ name, shape }) => ({ name, shape, load: () => weights.tensor(name) }));
    return {
      model: made(weights),
      processor,
      save: async (to, dtype) => {
        await weights.trained.pull();
        await saveCheckpoint(to, { config: base.rawConfig, tensors, dtype, copyFrom: base.dir });
      },
    };
  }
  const start = training.kind === 'continue' ? continuedAdapter(folder, dir) : newAdapter(folder, dir, training);
  const weights = adaptedWeights(base, start, defaultExecution(base.config), source.provider);
  const adapter: Adapter = { ...start, find: (name) => weights.trained.find(name) };
  return {
    model: made(weights),
    processor,
    save: async (to, dtype) => {
      await weights.trained.pull();
      await saveAdapted(to, base, adapter, { dtype });
    },
  };
}

/** Refuses a training whose weights and optimiser alone would not fit, before any of them is read. */
function requireStateMemory(folder: ModelFolder, training: Training): void {
  const { frozenBytes, trained } = plannedWeights(folder, training);
  const trainedWeights = TRAINED_BYTES * trained.parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  requireMemory(
    'this training',
    {
      process: 0,
      frozenWeights: frozenBytes,
      otherWeights: 0,
      trainedWeights,
      images: 0,
      batch: 0,
      activations: 0,
      cache: 0,
      total: frozenBytes + trainedWeights,
    },
    { trainedWeights: 'train an adapter (adapter: { kind: lora }), or fewer parts under trainable' },
  );
}

/** The adapter is trained, its base is not. */
export function adaptedWeights(
  base: Checkpoint,
  { layers, find }: Adapter,
  execution: Execution = defaultExecution(base.config),
  provider: Provider = 'cpu',
): ModelWeights {
  const store = new ParameterStore(loraParameters(linearModules(base.parameters), layers));
  for (const { name } of store.parameters) toFloat32(find(name)!, store.tensor(name).data);
  const names = base.parameters.map(({ name }) => name);
  return new ModelWeights(store, frozenWeights(base, names, execution, provider), layers);
}

/** All weights of the given parts are trained; those of layers with an adapter begin as the sum of both. */
export function wholeWeights(
  base: Checkpoint,
  towers: Towers = { vision: true, projector: true, text: true },
  adapter: Adapter | null = null,
  provider: Provider = 'cpu',
): ModelWeights {
  const layers = adapter?.layers ?? new Map<string, LoraLayer>();
  const start = ({ name, shape }: ParameterSpec, into?: Float32Array): HostTensor<'float32'> => {
    if (!layers.has(moduleOf(name))) return base.readFloat32(name, into);
    const merged = mergedTensor(name, (wanted) => adapter!.find(wanted) ?? base.read(wanted), layers);
    return { dtype: 'float32', shape, data: toFloat32(merged, into) };
  };
  const trained = base.parameters.filter(({ tower }) => towers[tower]);
  const frozen = base.parameters.filter(({ tower }) => !towers[tower]);
  const store = new ParameterStore(trained.map(trainedParameter));
  for (const parameter of trained) start(parameter, store.tensor(parameter.name).data);
  const [merged, plain] = [true, false].map((isMerged) =>
    frozen.filter(({ name }) => layers.has(moduleOf(name)) === isMerged),
  );
  const rest = new JoinedWeights(
    frozenWeights(
      base,
      plain!.map(({ name }) => name),
      defaultExecution(base.config),
      provider,
    ),
    new MemoryWeights(merged!.map((parameter) => [parameter.name, start(parameter)])),
  );
  return new ModelWeights(store, rest);
}

function continuedAdapter({ adapter }: ModelFolder, dir: string): Adapter {
  if (adapter) return adapter;
  throw new Fr1Error('ADAPTER_UNREADABLE', `${dir} has no adapter that training could continue`, {
    hint: 'set `adapter.kind` to lora for a new adapter',
  });
}

function newAdapter(folder: ModelFolder, dir: string, training: Extract<Training, { kind: 'lora' }>): Adapter {
  return startAdapter(adaptedModules(folder, dir, training), training.settings, training.seed);
}

/** Layers that get a new adapter. */
function adaptedModules(
  { base, adapter }: ModelFolder,
  dir: string,
  { towers, targetModules }: Extract<Training, { kind: 'lora' }>,
): LinearModule[] {
  if (adapter) {
    throw new Fr1Error('ADAPTER_UNREADABLE', `${dir} has an adapter already`, {
      hint: 'set `adapter.kind` to continue to train it on, or merge it first with a stage `uses: export`',
    });
  }
  const modules = linearModules(base.parameters).filter(({ tower }) => towers[tower]);
  return selectModules(modules, targetModules);
}

/**
 * Whether a model folder has the layers, or the adapter, that a training asks for; reads no weights.
 *
 * @throws ADAPTER_UNREADABLE, ADAPTER_MISMATCH, ADAPTER_TARGET_UNKNOWN, and what opening the folder throws
 */
export function requireAdapter(dir: string, training: Training): void {
  const folder = openModelFolder(dir);
  if (training.kind === 'continue') continuedAdapter(folder, dir);
  if (training.kind === 'lora') adaptedModules(folder, dir, training);
}
