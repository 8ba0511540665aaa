/** `eval`: closed- and open-world accuracy of a Qwen2.5-VL checkpoint. */
import { defineEvalStage } from './definition.ts';

export const evalStage = defineEvalStage(async (source, checkpointFolder, settings) => {
  const { openCheckpoint } = await import('./open-checkpoint.ts');
  return openCheckpoint(source, checkpointFolder, settings);
});
