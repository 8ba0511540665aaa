/**
 * The two sets of switches: `sound`, the default, and `reference`, which repeats what Fine-R1's released code does even
 * where that is a flaw. A run records every switch in its manifest, so that a figure tells under which rules it was made.
 */

/** Each switch with what its values mean. */
export interface MethodSwitches {
  /** Order of the options in a closed-world prompt; as shipped, the right one always comes first. */
  readonly optionOrder: 'shuffled' | 'as-shipped';
  /** Where the super-category word of the relative similarity comes from. */
  readonly standardFrom: 'super-category' | 'path';
  /** What open-world scoring searches when an output has no answer. */
  readonly openFallback: 'none' | 'whole-output';
  /** What a car label of at most two words is compared as. */
  readonly emptyCarLabel: 'whole-label' | 'matches-anything';
  /** What happens to a generation batch in which no group has both right and wrong responses. */
  readonly whenNoneInformative: 'drop' | 'keep-all';
  /** Whether the first rollout step trains with a learning rate of 0 when there is no warm-up. */
  readonly firstStepLearningRate: 'scheduled' | 'zero';
  /** Whether every rollout has a noise stream of its own or shares that of its place in the group. */
  readonly rolloutSeeds: 'independent' | 'shared';
  /** When an answer is rewarded as right: it is the label, or contains it somewhere, however many others it names. */
  readonly rewardRule: 'exact' | 'containment';
  /** Whether the loss is one mean over an optimiser step or the mean of the means of its micro-batches. */
  readonly lossNormalisation: 'step' | 'micro';
  /**
   * What becomes of groups where no positive image takes part: as many answers as with one, or half as many in twice the groups
   * with twice the updates.
   */
  readonly groupsWithoutPositive: 'whole' | 'halved';
  /** Whose tokens and positions a positive or negative image is scored in: those of its own size or the anchor's. */
  readonly viewLayout: 'own' | 'anchor';
}

export type MethodSet = 'sound' | 'reference';

export const METHOD_SETS = {
  sound: {
    optionOrder: 'shuffled',
    standardFrom: 'super-category',
    openFallback: 'none',
    emptyCarLabel: 'whole-label',
    whenNoneInformative: 'drop',
    firstStepLearningRate: 'scheduled',
    rolloutSeeds: 'independent',
    rewardRule: 'exact',
    lossNormalisation: 'step',
    groupsWithoutPositive: 'whole',
    viewLayout: 'own',
  },
  reference: {
    optionOrder: 'as-shipped',
    standardFrom: 'path',
    openFallback: 'whole-output',
    emptyCarLabel: 'matches-anything',
    whenNoneInformative: 'keep-all',
    firstStepLearningRate: 'zero',
    rolloutSeeds: 'shared',
    rewardRule: 'containment',
    lossNormalisation: 'micro',
    groupsWithoutPositive: 'halved',
    viewLayout: 'anchor',
  },
} as const satisfies Record<MethodSet, MethodSwitches>;

/** A set with single switches changed. */
export function methodSwitches(set: MethodSet, changes: Partial<MethodSwitches> = {}): MethodSwitches {
  return { ...METHOD_SETS[set], ...changes };
}

export interface ListedSwitch {
  readonly name: keyof MethodSwitches;
  readonly value: string;
  /** The sets whose value this is; none for a value of neither. */
  readonly sets: readonly MethodSet[];
}

/** Every switch with its value, by name, for a manifest. */
export function listSwitches(switches: MethodSwitches): ListedSwitch[] {
  const names = Object.keys(METHOD_SETS.sound).sort() as (keyof MethodSwitches)[];
  const sets = Object.keys(METHOD_SETS) as MethodSet[];
  return names.map((name) => ({
    name,
    value: switches[name],
    sets: sets.filter((set) => METHOD_SETS[set][name] === switches[name]),
  }));
}
