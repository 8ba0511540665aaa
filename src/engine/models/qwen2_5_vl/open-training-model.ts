/** A model folder ready for training, and back: weights in float32, written with the folder's tokenizer files. */

import { ParameterStore } from '../../optim/parameter-store.ts';
import type { SessionSource } from '../../program.ts';
import { type Checkpoint, openCheckpoint, saveCheckpoint } from '../../weights/checkpoint.ts';
import type { FloatDType } from '../../weights/convert.ts';
import { MemoryWeights, ModelWeights } from '../../weights/model-weights.ts';
import type { ParameterSpec } from './parameters.ts';
import { openProcessor, type Processor } from './processor.ts';
import { TrainingModel, trainedParameter } from './training-model.ts';

/** Which parts of the model are trained. */
export type TrainedTowers = Readonly<Record<ParameterSpec['tower'], boolean>>;

export interface OpenedTrainingModel {
  readonly model: TrainingModel;
  readonly processor: Processor;
  /** Writes the weights as they are now, as a model folder. @throws CHECKPOINT_WRITE_FAILED */
  save(dir: string, dtype: FloatDType): Promise<void>;
}

/** @throws CHECKPOINT_UNREADABLE, CHECKPOINT_MISMATCH, MODEL_CONFIG_INVALID, TOKENIZER_INVALID */
export async function openTrainingModel(
  source: SessionSource,
  checkpointDir: string,
  towers: TrainedTowers,
): Promise<OpenedTrainingModel> {
  const checkpoint = openCheckpoint(checkpointDir);
  const processor = await openProcessor(checkpointDir);
  const weights = readWeights(checkpoint, towers);
  const model = new TrainingModel(source, checkpoint.config, weights);
  return {
    model,
    processor,
    save: (dir, dtype) =>
      saveCheckpoint(dir, {
        config: checkpoint.rawConfig,
        tensors: checkpoint.parameters.map(({ name, shape }) => ({
          name,
          shape,
          load: () => weights.tensor(name),
        })),
        dtype,
        copyFrom: checkpointDir,
      }),
  };
}

function readWeights(checkpoint: Checkpoint, towers: TrainedTowers): ModelWeights {
  const trained = checkpoint.parameters.filter(({ tower }) => towers[tower]);
  const frozen = checkpoint.parameters.filter(({ tower }) => !towers[tower]);
  const store = new ParameterStore(trained.map(trainedParameter));
  for (const { name } of trained) checkpoint.readFloat32(name, store.tensor(name).data);
  return new ModelWeights(store, new MemoryWeights(frozen.map(({ name }) => [name, checkpoint.readFloat32(name)])));
}
