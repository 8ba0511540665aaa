/** The switches of the method that training reads, as these options set them. */
import { listSwitches, type MethodSwitches, methodSwitches } from '../../src/methods/presets.ts';
import type { TapoOptions } from './options.ts';
import { type ResolvedSettings, resolveSettings } from './settings.ts';

type Images = Pick<ResolvedSettings, 'views' | 'positiveConditioning' | 'loss'>;

/** Those that training with these options reads, and how answers about other images are trained on, for the record of the run. */
export function usedSwitches(options: TapoOptions): Record<string, string> {
  const settings = resolveSettings(options);
  const { views, positiveConditioning, loss } = settings;
  const names = new Set<keyof MethodSwitches>([
    ...(['whenNoneInformative', 'firstStepLearningRate', 'rolloutSeeds', 'rewardRule', 'lossNormalisation'] as const),
    ...(views.positive === 'none' ? (['groupsWithoutPositive'] as const) : []),
    ...(scoresOtherImages(settings) ? (['viewLayout'] as const) : []),
  ]);
  const used = listSwitches(switchesOf(options)).filter(({ name }) => names.has(name));
  return {
    ...Object.fromEntries(used.map(({ name, value }) => [name, value])),
    ...(views.positive !== 'none' && { positiveConditioning }),
    ...(usesNegative(loss) && { negativeGradient: String(loss.negativeBranch === 'trained') }),
  };
}

/** Whether an image is scored that may differ from the anchor in shape, as those with noise or holes do not. */
export function scoresOtherImages({ views, positiveConditioning, loss }: Images): boolean {
  const scoresPositive = views.positive === 'same-class' && positiveConditioning === 'own';
  return scoresPositive || (views.negative === 'other-class' && usesNegative(loss));
}

function usesNegative({ negativeKl, negativeEntropy }: ResolvedSettings['loss']): boolean {
  return negativeKl !== undefined || negativeEntropy !== undefined;
}

export function switchesOf(options: TapoOptions): MethodSwitches {
  const { whenNoneInformative, firstStepLearningRate, rolloutSeeds, rewardRule, lossNormalisation } = options;
  const { groupsWithoutPositive, viewLayout } = options;
  return methodSwitches(options.set, {
    ...(whenNoneInformative && { whenNoneInformative }),
    ...(firstStepLearningRate && { firstStepLearningRate }),
    ...(rolloutSeeds && { rolloutSeeds }),
    ...(rewardRule && { rewardRule }),
    ...(lossNormalisation && { lossNormalisation }),
    ...(groupsWithoutPositive && { groupsWithoutPositive }),
    ...(viewLayout && { viewLayout }),
  });
}
