/** Triplet-augmented policy optimisation: the second stage of Fine-R1. The algorithm is src/engine/recipes/tapo.ts. */
import { strayAdapterSettings } from '../../src/engine/adapters/choice.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage, type OptionProblem } from '../../src/run/stage-api.ts';
import type { TapoOptions } from './options.ts';
import { filledOptions, resolveSettings } from './settings.ts';
import { strayOptions } from './stray-options.ts';
import { switchesOf, usedSwitches } from './switches.ts';

export const tapoStage = defineStage<TapoOptions>({
  kind: 'tapo',
  summary: 'Trains a model by reinforcement on triplets of images.',
  version: 7,
  schema: loadStageSchema(import.meta.url),
  outputs: {
    model: { type: 'checkpoint', description: 'the trained model with the tokenizer of the first' },
    samples: { type: 'rollouts', description: 'answers of the first groups of every step with their rewards' },
  },
  metrics: ['reward', 'accuracy', 'format', 'firstReward', 'keptShare', 'skippedSteps', 'skippedUpdates'],
  cosmeticOptions: ['saveEvery'],
  switches: usedSwitches,
  settings: filledOptions,
  emptyOutputs: ({ sampleGroups }): { samples?: string } =>
    sampleGroups === 0 ? { samples: 'sampleGroups is 0' } : {},
  resources: () => ({ device: true }),
  validate,
  async check(context) {
    const { checkTapo } = await import('./check.ts');
    await checkTapo(context);
  },
  async run(context) {
    const { runTapo } = await import('./run.ts');
    return runTapo(context);
  },
});

function validate(options: TapoOptions): OptionProblem[] {
  const { groupSize } = options;
  const settings = resolveSettings(options);
  const { minPixels, maxPixels } = settings;
  const isHalved = settings.views.positive === 'none' && switchesOf(options).groupsWithoutPositive === 'halved';
  const problems = strayOptions(options, settings);
  for (const key of strayAdapterSettings(options.adapter)) {
    problems.push({
      pointer: `/adapter/${key}`,
      message: `${key} only counts where adapter.kind is lora`,
      hint: 'an adapter that is continued keeps its own',
    });
  }
  if (!Object.values(options.trainable).includes(true)) {
    problems.push({ pointer: '/trainable', message: 'nothing is trained: vision, projector and text are all false' });
  }
  if (options.steps !== undefined && options.epochs !== undefined) {
    problems.push({ pointer: '/epochs', message: 'either steps or epochs may be given, not both' });
  } else if (settings.length === null) {
    problems.push({
      pointer: '',
      message: 'neither steps nor epochs is given',
      hint: 'only the presets fine-r1-3b and fine-r1-7b say how long to train',
    });
  }
  if (groupSize !== undefined && settings.views.positive !== 'none') {
    problems.push({
      pointer: '/groupSize',
      message: 'groupSize only counts where views.positive is none',
      hint: 'with a positive image a group has 2 * rollouts answers',
    });
  }
  if (groupSize !== undefined && isHalved) {
    problems.push({
      pointer: '/groupSize',
      message: 'groupSize only counts where groupsWithoutPositive is whole',
      hint: 'a halved group has `rollouts` answers',
    });
  }
  if (isHalved && settings.rollouts < 2) {
    problems.push({
      pointer: '/rollouts',
      message: 'a group of one answer teaches nothing',
      hint: 'a halved group has `rollouts` answers; groupsWithoutPositive: whole makes it twice as large',
    });
  }
  if (minPixels !== null && maxPixels !== null && minPixels > maxPixels) {
    const pointer = options.minPixels === undefined ? '/maxPixels' : '/minPixels';
    problems.push({ pointer, message: `minPixels ${minPixels} is above maxPixels ${maxPixels}` });
  }
  const { negativeKl, negativeEntropy } = settings.loss;
  if (options.negativeGradient && !negativeKl && !negativeEntropy) {
    problems.push({
      pointer: '/negativeGradient',
      message: 'negativeGradient means nothing without a term on the negative image',
      hint: 'give negativeKl or negativeEntropy a coefficient, and views.negative an image',
    });
  }
  if (settings.filter && settings.filter.above >= settings.filter.below) {
    problems.push({ pointer: '/filter', message: 'no mean accuracy is above `above` and below `below`' });
  }
  return problems;
}
