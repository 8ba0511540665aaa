/** The switches of the method that training reads, as these options set them. */
import { listSwitches, type MethodSwitches, methodSwitches } from '../../src/methods/presets.ts';
import type { TapoOptions } from './options.ts';
import { resolveSettings } from './settings.ts';

export const USED_SWITCHES: ReadonlySet<keyof MethodSwitches> = new Set<keyof MethodSwitches>([
  'whenNoneInformative',
  'firstStepLearningRate',
  'rolloutSeeds',
  'rewardRule',
  'lossNormalisation',
]);

/** Those that training reads, and the image that answers about the positive are trained on, for the record of the run. */
export function usedSwitches(options: TapoOptions): Record<string, string> {
  const used = listSwitches(switchesOf(options)).filter(({ name }) => USED_SWITCHES.has(name));
  const { views, positiveConditioning, loss } = resolveSettings(options);
  return {
    ...Object.fromEntries(used.map(({ name, value }) => [name, value])),
    ...(views.positive !== 'none' && { positiveConditioning }),
    ...((loss.negativeKl || loss.negativeEntropy) && { negativeGradient: String(loss.negativeBranch === 'trained') }),
  };
}

export function switchesOf(options: TapoOptions): MethodSwitches {
  const { whenNoneInformative, firstStepLearningRate, rolloutSeeds, rewardRule, lossNormalisation } = options;
  return methodSwitches(options.set, {
    ...(whenNoneInformative && { whenNoneInformative }),
    ...(firstStepLearningRate && { firstStepLearningRate }),
    ...(rolloutSeeds && { rolloutSeeds }),
    ...(rewardRule && { rewardRule }),
    ...(lossNormalisation && { lossNormalisation }),
  });
}
