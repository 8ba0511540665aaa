/** The options of the stage with those of the preset where they are not given, as the recipe takes them. */
import type { PixelBudget } from '../../src/engine/models/qwen2_5_vl/image-processor.ts';
import type { LossTerms } from '../../src/engine/recipes/tapo.ts';
import { groupNormalisedAdvantages, leaveOneOutAdvantages, whitenedAdvantages } from '../../src/methods/advantages.ts';
import type { GroupFilter } from '../../src/methods/group-filter.ts';
import {
  MASKED_SHARE,
  NOISE_ANNEALING,
  type NoiseAnnealing,
  stepsOfEpochs,
  TAPO_PRESETS,
  type TapoSettings,
} from '../../src/methods/tapo-presets.ts';
import type { TapoOptions } from './options.ts';

export interface ResolvedSettings extends Omit<TapoSettings, 'negativeKl' | 'referenceKl' | 'epochs'> {
  readonly maskedShare: number;
  readonly noise: NoiseAnnealing;
  /** Terms with coefficient 0 or null are absent, and so are those on a negative image that takes no part. */
  readonly loss: LossTerms;
  /** What the negative divergence falls to, as a factor, and after which share of training. */
  readonly fading: { readonly to: number; readonly share: number } | null;
  /** Share of an answer's tokens that the negative divergence counts. */
  readonly keptShare: number;
  readonly imitateAbove: number;
  readonly length: { readonly steps: number } | { readonly epochs: number } | null;
}

export function resolveSettings(options: TapoOptions): ResolvedSettings {
  const preset: TapoSettings = TAPO_PRESETS[options.preset];
  const given = <Name extends keyof TapoOptions & keyof TapoSettings>(name: Name) =>
    (options[name] === undefined ? preset[name] : options[name]) as TapoSettings[Name];
  const views = {
    positive: options.views?.positive ?? preset.views.positive,
    negative: options.views?.negative ?? preset.views.negative,
  };
  const scalars = {
    clipLow: given('clipLow'),
    clipHigh: given('clipHigh'),
    dualClip: given('dualClip'),
    ownEntropy: given('ownEntropy'),
    negativeEntropy: given('negativeEntropy'),
  };
  const epochs = options.epochs ?? preset.epochs;
  const filter = options.filter === undefined ? preset.filter : options.filter;
  return {
    ...scalars,
    views,
    positiveConditioning: given('positiveConditioning'),
    advantages: given('advantages'),
    filter,
    lossAveraging: given('lossAveraging'),
    groupsPerStep: given('groupsPerStep'),
    questionsPerDraw: given('questionsPerDraw'),
    rollouts: given('rollouts'),
    updatesPerStep: given('updatesPerStep'),
    temperature: given('temperature'),
    topP: given('topP'),
    maxNewTokens: given('maxNewTokens'),
    learningRate: given('learningRate'),
    weightDecay: given('weightDecay'),
    minPixels: given('minPixels'),
    maxPixels: given('maxPixels'),
    maskedShare: options.views?.maskedShare ?? MASKED_SHARE,
    noise: { ...NOISE_ANNEALING, ...options.views?.noise },
    loss: lossTerms(options, preset, scalars, views.negative !== 'none'),
    fading: fadingOf(options.negativeKl),
    keptShare: typeof options.negativeKl === 'object' ? (options.negativeKl?.topShare ?? 1) : 1,
    imitateAbove: typeof options.imitation === 'object' ? (options.imitation?.accuracyAbove ?? 0.1) : 0.1,
    length: options.steps !== undefined ? { steps: options.steps } : epochs === null ? null : { epochs },
  };
}

/** What the options that a preset may fill come to, by their names, for the record of a run; switches are told by themselves. */
export function filledOptions(options: TapoOptions): Readonly<Record<string, unknown>> {
  const { loss, length, fading, maskedShare, noise, keptShare, imitateAbove, positiveConditioning, ...filled } =
    resolveSettings(options);
  const divergenceOf = (term: TapoSettings['referenceKl'] | undefined) =>
    term ? { coefficient: term.coefficient, estimator: term.estimator } : null;
  return {
    ...filled,
    negativeKl: divergenceOf(loss.negativeKl),
    negativeEntropy: loss.negativeEntropy?.coefficient ?? null,
    ownEntropy: loss.ownEntropy?.coefficient ?? null,
    referenceKl: divergenceOf(loss.referenceKl),
    ...length,
  };
}

/** Images are read as by the trainer of Fine-R1's second stage. */
export function pixelBudget({ minPixels, maxPixels }: Pick<ResolvedSettings, 'minPixels' | 'maxPixels'>): PixelBudget {
  return { minPixels: minPixels ?? undefined, maxPixels: maxPixels ?? undefined };
}
const NOT_GIVEN: { readonly clip?: number; readonly topShare?: number } = {};

function lossTerms(
  options: TapoOptions,
  preset: TapoSettings,
  {
    clipLow,
    clipHigh,
    dualClip,
    ownEntropy,
    negativeEntropy,
  }: Pick<TapoSettings, 'clipLow' | 'clipHigh' | 'dualClip' | 'ownEntropy' | 'negativeEntropy'>,
  hasNegative: boolean,
): LossTerms {
  const negativeKl = divergence(options.negativeKl, preset.negativeKl);
  const referenceKl = divergence(options.referenceKl, preset.referenceKl);
  const { clip, topShare } = typeof options.negativeKl === 'object' ? (options.negativeKl ?? NOT_GIVEN) : NOT_GIVEN;
  const imitation = typeof options.imitation === 'object' ? options.imitation?.coefficient : options.imitation;
  return {
    clipLow,
    clipHigh,
    dualClip,
    ...(hasNegative &&
      negativeKl && {
        negativeKl: {
          ...negativeKl,
          ...(clip !== undefined && { clip }),
          ...(topShare !== undefined && { isMasked: true }),
        },
      }),
    ...(hasNegative && options.negativeGradient && { negativeBranch: 'trained' as const }),
    ...(hasNegative && negativeEntropy && { negativeEntropy: { coefficient: negativeEntropy } }),
    ...(ownEntropy && { ownEntropy: { coefficient: ownEntropy } }),
    ...(referenceKl && { referenceKl }),
    ...(imitation && { imitation: { coefficient: imitation } }),
  };
}

/** A number takes the estimator of the preset, or k3; coefficient 0 is no term. */
function divergence(
  option: TapoOptions['referenceKl'],
  preset: TapoSettings['referenceKl'],
): TapoSettings['referenceKl'] {
  const chosen = option === undefined ? preset : option;
  const term =
    typeof chosen === 'number' ? { coefficient: chosen, estimator: preset?.estimator ?? ('k3' as const) } : chosen;
  return term && term.coefficient > 0 ? { coefficient: term.coefficient, estimator: term.estimator } : null;
}

function fadingOf(option: TapoOptions['negativeKl']): ResolvedSettings['fading'] {
  if (option === null || typeof option !== 'object' || option.fadeTo === undefined || option.coefficient === 0)
    return null;
  return { to: option.fadeTo / option.coefficient, share: option.fadeShare };
}

/** Rewards and lengths by group -> advantages by group. */
export function advantagesOf(
  groups: readonly { readonly rewards: readonly number[]; readonly lengths: readonly number[] }[],
  estimator: TapoSettings['advantages'],
): Float64Array[] {
  const rewards = groups.flatMap((group) => group.rewards);
  const members = groups.flatMap((group, i) => group.rewards.map(() => i));
  const lengths = groups.flatMap((group) => group.lengths);
  const all = flatAdvantages(estimator, rewards, members, lengths);
  let at = 0;
  return groups.map((group) => all.slice(at, (at += group.rewards.length)));
}

function flatAdvantages(
  estimator: TapoSettings['advantages'],
  rewards: readonly number[],
  members: readonly number[],
  lengths: readonly number[],
): Float64Array {
  switch (estimator) {
    case 'group':
      return groupNormalisedAdvantages(rewards, members);
    case 'leave-one-out':
      return leaveOneOutAdvantages(rewards, members);
    case 'reinforce++':
      return whitenedAdvantages(rewards, lengths);
    default:
      return estimator satisfies never;
  }
}

/** The filter of groups, of which none keeps every group. */
export function filterOf(
  settings: Pick<TapoSettings, 'filter'>,
  whenNoneInformative: GroupFilter['whenNoneInformative'],
): GroupFilter {
  const bounds = settings.filter ?? { above: Number.NEGATIVE_INFINITY, below: Number.POSITIVE_INFINITY };
  return { ...bounds, whenNoneInformative };
}

/** Steps of the whole training. */
export function stepsFor({ length, groupsPerStep }: ResolvedSettings, rows: number): number {
  if (length === null) throw new TypeError('validate() lets no such options through');
  return 'steps' in length ? length.steps : stepsOfEpochs(length.epochs, rows, groupsPerStep);
}
