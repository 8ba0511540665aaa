/** How many groups of how many answers a step makes, and in how many updates it learns from them. */
import type { TapoOptions } from './options.ts';
import type { ResolvedSettings } from './settings.ts';
import { switchesOf } from './switches.ts';

export interface Grouping {
  readonly groupsPerStep: number;
  /** Answers of a group, about both images where there is a positive one. */
  readonly answersPerGroup: number;
  /** Of a pass. */
  readonly updatesPerStep: number;
}

/**
 * Fine-R1's code counts two images to a group even where there is no positive one (Q22): the group then has n answers instead
 * of 2n, and both the groups of a step and its updates are twice as many.
 */
export function groupingOf(
  options: TapoOptions,
  settings: Pick<ResolvedSettings, 'views' | 'rollouts' | 'groupsPerStep' | 'updatesPerStep'>,
): Grouping {
  const { views, rollouts, groupsPerStep, updatesPerStep } = settings;
  if (views.positive !== 'none') return { groupsPerStep, answersPerGroup: 2 * rollouts, updatesPerStep };
  return switchesOf(options).groupsWithoutPositive === 'halved'
    ? { groupsPerStep: 2 * groupsPerStep, answersPerGroup: rollouts, updatesPerStep: 2 * updatesPerStep }
    : { groupsPerStep, answersPerGroup: options.groupSize ?? 2 * rollouts, updatesPerStep };
}
