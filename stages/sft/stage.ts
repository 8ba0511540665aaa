/** Supervised fine-tuning on chats: the first stage of Fine-R1, and how a model learns a task's form. */
import { strayAdapterSettings } from '../../src/engine/adapters/choice.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage, type OptionProblem } from '../../src/run/stage-api.ts';
import type { SftOptions } from './options.ts';
import { resolveSettings } from './settings.ts';

export const sftStage = defineStage<SftOptions>({
  kind: 'sft',
  summary: 'Fine-tunes a model on chats about images.',
  version: 3,
  schema: loadStageSchema(import.meta.url),
  outputs: { model: { type: 'checkpoint', description: 'the fine-tuned model with the tokenizer of the first' } },
  metrics: ['loss', 'finalLoss', 'steps', 'validationLoss'],
  cosmeticOptions: ['saveEvery'],
  switches: (options) => ({ lossNormalisation: resolveSettings(options).lossNormalisation }),
  settings(options) {
    const { lossNormalisation: _, length, ...settings } = resolveSettings(options);
    return { ...settings, ...length };
  },
  resources: () => ({ device: true }),
  validate,
  async check(context) {
    const { checkSft } = await import('./check.ts');
    await checkSft(context);
  },
  async run(context) {
    const { runSft } = await import('./run.ts');
    return runSft(context);
  },
});

function validate(options: SftOptions): OptionProblem[] {
  const problems: OptionProblem[] = [];
  const settings = resolveSettings(options);
  const { minPixels, maxPixels } = settings;
  if (options.epochs !== undefined && options.steps !== undefined) {
    problems.push({ pointer: '/steps', message: 'either epochs or steps may be given, not both' });
  } else if (settings.length === null) {
    problems.push({
      pointer: '',
      message: 'neither epochs nor steps is given',
      hint: 'only the presets fine-r1-3b and fine-r1-7b say how long to train',
    });
  }
  for (const key of strayAdapterSettings(options.adapter)) {
    problems.push({
      pointer: `/adapter/${key}`,
      message: `${key} only counts where adapter.kind is lora`,
      hint: 'an adapter that is continued keeps its own',
    });
  }
  if (options.keep === 'best' && options.validation === undefined) {
    problems.push({ pointer: '/keep', message: 'keep: best needs validation, chats to measure on' });
  }
  if (!Object.values(options.trainable).includes(true)) {
    problems.push({ pointer: '/trainable', message: 'nothing is trained: vision, projector and text are all false' });
  }
  if (minPixels !== null && maxPixels !== null && minPixels > maxPixels) {
    const pointer = options.minPixels === undefined ? '/maxPixels' : '/minPixels';
    problems.push({ pointer, message: `minPixels ${minPixels} is above maxPixels ${maxPixels}` });
  }
  return problems;
}
