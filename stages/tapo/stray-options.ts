/** Options that say something about a view or a rule which takes no part: most often another option was meant. */
import type { OptionProblem } from '../../src/run/stage-api.ts';
import type { TapoOptions } from './options.ts';
import type { ResolvedSettings } from './settings.ts';
import { scoresOtherImages } from './switches.ts';

export function strayOptions(options: TapoOptions, settings: ResolvedSettings): OptionProblem[] {
  const { negativeKl, negativeEntropy, positiveConditioning, rewardRule, reward } = options;
  const { groupsWithoutPositive, viewLayout } = options;
  const { views } = settings;
  const coefficient = typeof negativeKl === 'object' ? negativeKl?.coefficient : negativeKl;
  const strays: readonly (readonly [pointer: string, isStray: boolean, counts: string])[] = [
    ['/negativeKl', !!coefficient && views.negative === 'none', 'with a negative view'],
    ['/negativeEntropy', !!negativeEntropy && views.negative === 'none', 'with a negative view'],
    [
      '/views/maskedShare',
      options.views?.maskedShare !== undefined && views.negative !== 'masked',
      'where views.negative is masked',
    ],
    ['/views/noise', options.views?.noise !== undefined && views.positive !== 'noise', 'where views.positive is noise'],
    ['/positiveConditioning', positiveConditioning !== undefined && views.positive === 'none', 'with a positive view'],
    [
      '/groupsWithoutPositive',
      groupsWithoutPositive !== undefined && views.positive !== 'none',
      'where views.positive is none',
    ],
    [
      '/viewLayout',
      viewLayout !== undefined && !scoresOtherImages(settings),
      'where another image than the anchor is scored',
    ],
    ['/rewardRule', rewardRule !== undefined && reward.function !== undefined, 'without a reward function'],
  ];
  return strays
    .filter(([, isStray]) => isStray)
    .map(([pointer, , counts]) => ({
      pointer,
      message: `${pointer.split('/').at(-1)} only counts ${counts}`,
      hint:
        pointer === '/rewardRule'
          ? 'the function decides alone what is right'
          : `positive is ${views.positive} and negative ${views.negative} here; remove the option, or change the views`,
    }));
}
