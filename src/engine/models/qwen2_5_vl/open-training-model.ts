/** A model folder ready for training, and back: weights in float32, written with the folder's tokenizer files. */
import type { SessionSource } from '../../program.ts';
import { openCheckpoint, saveCheckpoint } from '../../weights/checkpoint.ts';
import type { FloatDType } from '../../weights/convert.ts';
import { openProcessor, type Processor } from './processor.ts';
import { type TrainableTowers, TrainingModel } from './training-model.ts';

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
  towers: TrainableTowers,
): Promise<OpenedTrainingModel> {
  const checkpoint = openCheckpoint(checkpointDir);
  const processor = await openProcessor(checkpointDir);
  const model = new TrainingModel(source, checkpoint.config, towers);
  for (const { name } of checkpoint.parameters) checkpoint.readFloat32(name, model.store.tensor(name).data);
  return {
    model,
    processor,
    save: (dir, dtype) =>
      saveCheckpoint(dir, {
        config: checkpoint.rawConfig,
        tensors: model.store.parameters.map(({ name, shape }) => ({
          name,
          shape,
          load: () => model.store.tensor(name),
        })),
        dtype,
        copyFrom: checkpointDir,
      }),
  };
}
