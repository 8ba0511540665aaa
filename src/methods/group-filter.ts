/**
 * Which groups of responses teach anything: a group that is all right or all wrong has no advantages.
 *
 * @see Yu et al. 2025, arXiv:2503.14476, dynamic sampling
 */

export interface GroupFilter {
  /** Bounds of the mean accuracy of a group, both exclusive. */
  readonly above: number;
  readonly below: number;
  /**
   * What happens when no group of a generation batch passes. `keep-all` is the reference behaviour: groups without
   * advantages then still feel the terms that need none.
   */
  readonly whenNoneInformative: 'drop' | 'keep-all';
}

export const DEFAULT_GROUP_FILTER: GroupFilter = { above: 0.01, below: 0.99, whenNoneInformative: 'drop' };

/** Indices, ascending, of the groups that are kept. `accuracies` holds the mean accuracy of each group. */
export function informativeGroups(accuracies: ArrayLike<number>, filter: GroupFilter = DEFAULT_GROUP_FILTER): number[] {
  const all = Array.from({ length: accuracies.length }, (_, index) => index);
  const informative = all.filter((index) => accuracies[index]! > filter.above && accuracies[index]! < filter.below);
  return informative.length === 0 && filter.whenNoneInformative === 'keep-all' ? all : informative;
}
