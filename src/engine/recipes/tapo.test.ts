/** The loop on a model of a few thousand random weights, with a reward for token ids that needs no language. */

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixture } from '../../../test/helpers/fixtures.ts';
import { bareSource } from '../../../test/helpers/session-source.ts';
import { temporaryFolder } from '../../../test/helpers/temporary-folder.ts';
import { groupNormalisedAdvantages } from '../../methods/advantages.ts';
import { DEFAULT_GROUP_FILTER, informativeGroups } from '../../methods/group-filter.ts';
import { keptTokens } from '../../methods/tapo-loss.ts';
import { PLAIN_SAMPLING } from '../generate/plain-sampling.ts';
import type { Generator, ImagePatches } from '../generate/types.ts';
import { parseConfig } from '../models/qwen2_5_vl/config.ts';
import { createGenerator } from '../models/qwen2_5_vl/generator.ts';
import { initialiseWeights } from '../models/qwen2_5_vl/initialise.ts';
import { TrainingModel } from '../models/qwen2_5_vl/training-model.ts';
import { AdamW } from '../optim/adamw.ts';
import { RandomStream } from '../random.ts';
import { openRuntime } from '../session/open-runtime.ts';
import type { Runtime } from '../session/runtime.ts';
import {
  type Prompt,
  type Question,
  type ReferencePolicy,
  type TapoOptions,
  type TapoReport,
  type TapoTask,
  trainTapo,
} from './tapo.ts';

const config = parseConfig(JSON.parse(readFileSync(fixture('tokenizer_tiny', 'config.json'), 'utf8')));
/** A third of the vocabulary ends an answer, so that lengths differ. */
const STOPS = Array.from({ length: 100 }, (_, i) => 200 + i);
/** Ids that the toy reward likes. */
const LIKED = 150;

let runtime: Runtime;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

function picture(name: string, grid: ImagePatches['grid']): ImagePatches {
  const stream = new RandomStream('picture', name);
  return { grid, pixels: Float32Array.from({ length: grid[1] * grid[2] * 1176 }, () => stream.normal()) };
}

function promptAbout(name: string, grid: ImagePatches['grid'] = [1, 4, 4]): Prompt {
  const units = new Array<number>((grid[1] * grid[2]) / 4).fill(config.imageTokenId);
  const inputIds = Int32Array.of(5, config.visionStartTokenId, ...units, config.visionEndTokenId, 9, 10);
  return { inputIds, images: [picture(name, grid)] };
}

function taskOf(changes: Partial<TapoTask> & { hasPositive?: boolean; hasNegative?: boolean } = {}): TapoTask {
  const { hasPositive = true, hasNegative = true, ...rest } = changes;
  return {
    size: 5,
    question: async (index) => ({
      id: `q${index}`,
      anchor: promptAbout(`anchor ${index}`),
      positive: hasPositive ? promptAbout(`positive ${index}`) : null,
      negative: hasNegative ? promptAbout(`negative ${index}`) : null,
    }),
    reward: (_, tokenIds) => {
      const accuracy = tokenIds[0]! < LIKED ? 1 : 0;
      return { accuracy, format: 1, overall: 0.9 * accuracy + 0.1 };
    },
    advantages: (groups) =>
      groups.map(({ rewards }) => groupNormalisedAdvantages(rewards, new Array<number>(rewards.length).fill(0))),
    informative: (accuracies) => informativeGroups(accuracies),
    ...rest,
  };
}

/** Trains on every group. */
const keepAll = () => taskOf({ informative: (accuracies) => accuracies.map((_, index) => index) });

const SAMPLING = {
  maxNewTokens: 6,
  ...PLAIN_SAMPLING,
  stopTokenIds: STOPS,
  bannedTokenIds: [config.imageTokenId],
};

const LOSS = {
  clipLow: 0.2,
  clipHigh: 0.28,
  dualClip: 3,
  negativeKl: { coefficient: 0.05, estimator: 'k3' },
  ownEntropy: { coefficient: 0.03 },
} as const;

async function train(
  changes: Partial<TapoOptions> = {},
  task: TapoTask = taskOf(),
  onStep: (report: TapoReport) => void = () => {},
  reference: ReferencePolicy | null = null,
) {
  const source = bareSource(runtime);
  const { temperature } = changes.sampling ?? SAMPLING;
  const model = new TrainingModel(source, config, undefined, undefined, temperature);
  initialiseWeights(model.store, config, 3);
  const optimizer = await AdamW.create(source, model.store, { weightDecay: 0.01 });
  const generator = createGenerator(source, config, model.weights);
  let answers = 0;
  const counting: Generator = {
    ...generator,
    async generate(...request) {
      const completions = await generator.generate(...request);
      answers += completions.flat().length;
      return completions;
    },
  };
  const reports: TapoReport[] = [];
  const warnings: string[] = [];
  const options: TapoOptions = {
    seed: 1,
    totalSteps: 3,
    groupsPerStep: 4,
    rollouts: 3,
    sampling: SAMPLING,
    sharedNoise: false,
    maxDraws: 3,
    updatesPerStep: 2,
    loss: LOSS,
    lossNormalisation: 'step',
    learningRate: 3e-3,
    schedule: { kind: 'constant' },
    zeroFirstStep: false,
    maxGradNorm: 1,
    microBatchTokens: 200,
    saveEvery: 100,
    stateDir: await temporaryFolder(),
    ...changes,
  };
  try {
    const events = {
      onStep: (report: TapoReport) => {
        reports.push(report);
        onStep(report);
      },
      onWarning: (message: string) => warnings.push(message),
    };
    const summary = await trainTapo(model, optimizer, counting, task, options, events, reference);
    return { reports, warnings, summary, answers, weights: model.store.flat.slice() };
  } finally {
    await generator.release();
    await model.release();
    await optimizer.release();
  }
}

const known = new Map<string, Promise<Float32Array>>();

/** Weights of a run without changes, made once. */
function commonWeights(totalSteps: number, learningRate: number): Promise<Float32Array> {
  const key = `${totalSteps} ${learningRate}`;
  const weights = known.get(key) ?? train({ totalSteps, learningRate }).then((run) => run.weights);
  known.set(key, weights);
  return weights;
}

const answersOf = ({ reports }: { readonly reports: readonly TapoReport[] }) =>
  reports.map(({ drawn }) => drawn.map(({ question, rollouts }) => ({ id: question.id, rollouts })));

const largestDifference = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

describe('trainTapo()', () => {
  it('raises the reward', async () => {
    const { summary, reports } = await train({ totalSteps: 30, updatesPerStep: 1, learningRate: 3e-3 });
    const recent = summary.recent.map(({ accuracy }) => accuracy);
    const late = recent.reduce((sum, accuracy) => sum + accuracy, 0) / recent.length;
    expect(late).toBeGreaterThan(summary.first!.accuracy + 0.15);
    expect(reports[0]!.drawn[0]!.rollouts.map(({ view }) => view)).toEqual([
      ...['anchor', 'anchor', 'anchor'],
      ...['positive', 'positive', 'positive'],
    ]);
  });

  it('ends with the same bytes after an abort and a resume', async () => {
    const whole = await train({ totalSteps: 4, saveEvery: 2 });
    const stateDir = await temporaryFolder();
    const abort = new AbortController();
    const cut = train({ totalSteps: 4, saveEvery: 2, stateDir, signal: abort.signal }, taskOf(), ({ step }) => {
      if (step === 3) abort.abort(new Error('stopped'));
    });
    await expect(cut).rejects.toThrow('stopped');
    const rest = await train({ totalSteps: 4, saveEvery: 2, stateDir });
    expect(rest.reports.map(({ step }) => step)).toEqual([3, 4]);
    expect(answersOf(rest)).toEqual(answersOf(whole).slice(2));
    expect(rest.weights).toEqual(whole.weights);
    expect(rest.summary).toEqual(whole.summary);
  });

  it.each(['step', 'micro'] as const)('does not depend on what is computed at once (%s)', async (lossNormalisation) => {
    const updateOf = async (changes: Partial<TapoOptions>) => {
      const { reports } = await train({ totalSteps: 1, updatesPerStep: 1, lossNormalisation, ...changes });
      return reports[0]!.update!;
    };
    const few = await updateOf({ microBatchTokens: 4000 });
    const many = await updateOf({ microBatchTokens: 20 });
    expect(Math.abs(few.gradNorm / many.gradNorm - 1)).toBeLessThan(1e-5);
    expect(Math.abs(few.loss - many.loss)).toBeLessThan(1e-5);
    for (const [name, value] of Object.entries(few.terms)) {
      expect(Math.abs(value - many.terms[name]!), name).toBeLessThan(1e-5);
    }
  });

  it('Q17: takes one mean, or the mean of the means over four answers each as the released code', async () => {
    const policyOf = async (lossNormalisation: 'step' | 'micro') => {
      const { reports } = await train({ totalSteps: 1, updatesPerStep: 1, maxDraws: 1, lossNormalisation }, keepAll());
      return reports[0]!;
    };
    const [step, micro] = [await policyOf('step'), await policyOf('micro')];
    // In the only update of a step the ratio is 1, so that a token's loss is the advantage of its answer.
    const groups = new RandomStream(1, 'tapo-updates', 0).shuffled(step.drawn);
    const answers = groups.flatMap(({ rollouts }) => {
      const rewards = rollouts.map(({ score }) => score.overall);
      const advantages = groupNormalisedAdvantages(rewards, new Array<number>(rewards.length).fill(0));
      return rollouts.map(({ tokenIds }, i) => ({ length: tokenIds.length, loss: -advantages[i]! }));
    });
    const meanOf = (part: typeof answers) =>
      part.reduce((sum, { length, loss }) => sum + length * loss, 0) /
      part.reduce((sum, { length }) => sum + length, 0);
    const fours = Array.from({ length: answers.length / 4 }, (_, i) => answers.slice(4 * i, 4 * i + 4));
    const meanOfMeans = fours.reduce((sum, four) => sum + meanOf(four), 0) / fours.length;
    expect(answers).toHaveLength(24);
    expect(step.update!.terms['policy']).toBeCloseTo(meanOf(answers), 5);
    expect(micro.update!.terms['policy']).toBeCloseTo(meanOfMeans, 5);
    expect(Math.abs(meanOfMeans - meanOf(answers))).toBeGreaterThan(1e-3);
  });

  it('Q16: trains through the negative image where asked, with the same loss', async () => {
    const loss = { ...LOSS, negativeEntropy: { coefficient: 0.1 } };
    const fixed = await train({ totalSteps: 1, updatesPerStep: 1, loss });
    const through = await train({ totalSteps: 1, updatesPerStep: 1, loss: { ...loss, negativeBranch: 'trained' } });
    const [one, other] = [fixed.reports[0]!.update!, through.reports[0]!.update!];
    expect(Math.abs(one.loss - other.loss)).toBeLessThan(1e-5);
    for (const [name, value] of Object.entries(one.terms)) {
      expect(Math.abs(value - other.terms[name]!), name).toBeLessThan(1e-5);
    }
    expect(Math.abs(one.gradNorm / other.gradNorm - 1)).toBeGreaterThan(1e-3);
    expect(largestDifference(fixed.weights, through.weights)).toBeGreaterThan(1e-4);
    const tight = await train({
      totalSteps: 1,
      updatesPerStep: 1,
      microBatchTokens: 20,
      loss: { ...loss, negativeBranch: 'trained' },
    });
    expect(Math.abs(tight.reports[0]!.update!.gradNorm / other.gradNorm - 1)).toBeLessThan(1e-5);
  });

  it.each(['fed', 'trained'] as const)(
    'counts only the tokens that the mask keeps (negative branch %s)',
    async (branch) => {
      const lossOf = (isMasked: boolean) => ({
        ...LOSS,
        negativeBranch: branch,
        negativeKl: { ...LOSS.negativeKl, isMasked },
      });
      const termOf = async (isMasked: boolean, negativeKlMask: TapoTask['negativeKlMask']) => {
        const task = taskOf({ ...(negativeKlMask && { negativeKlMask }) });
        const { reports } = await train({ totalSteps: 1, updatesPerStep: 1, loss: lossOf(isMasked) }, task);
        return reports[0]!.update!.terms['negativeKl']!;
      };
      const all = await termOf(false, undefined);
      expect(await termOf(true, (own) => new Float64Array(own.length).fill(1))).toBeCloseTo(all, 6);
      expect(await termOf(true, (own) => new Float64Array(own.length))).toBe(0);
      const some = await termOf(true, (own, negative) => keptTokens(own, negative, { estimator: 'k3', topShare: 0.4 }));
      expect(some).toBeGreaterThan(all / 2);
      expect(some).toBeLessThan(all);
    },
  );

  it('goes over its groups again where asked', async () => {
    const { reports } = await train({ totalSteps: 1, updatesPerStep: 2, passes: 3 });
    expect(reports[0]!.update!.made).toBe(6);
    expect(reports[0]!.update!.terms['approximateKl']).not.toBe(0);
  });

  const { negativeKl: _negativeKl, ...withoutKl } = LOSS;
  const { ownEntropy: _ownEntropy, ...withoutEntropy } = LOSS;
  it.each<[string, Partial<TapoOptions>, TapoTask]>([
    ['the negative divergence', { loss: withoutKl }, taskOf({ hasNegative: false })],
    ['the entropy', { loss: withoutEntropy }, taskOf()],
    ['the positive image', {}, taskOf({ hasPositive: false })],
    ['the size of a group', { groupSize: 4 }, taskOf({ hasPositive: false })],
    ['independent noise', { sharedNoise: true }, taskOf()],
    ['the number of updates', { updatesPerStep: 1 }, taskOf()],
    ['the rate of the first step', { zeroFirstStep: true }, taskOf()],
    ['the clip', { loss: { ...LOSS, clipHigh: 0.001, clipLow: 0.001 }, totalSteps: 1, learningRate: 0.03 }, taskOf()],
    ['the seed', { seed: 2 }, taskOf()],
  ])('gives other weights without %s', async (_, changes, task) => {
    const { totalSteps = 2, learningRate = 3e-3 } = changes;
    const common = await commonWeights(totalSteps, learningRate);
    const changed = await train({ totalSteps, ...changes }, task);
    expect(largestDifference(common, changed.weights)).toBeGreaterThan(1e-4);
  });

  it('gives the same weights with the entropy under the negative image, which has no gradient', async () => {
    const common = await train({ totalSteps: 1 });
    const changed = await train({ totalSteps: 1, loss: { ...LOSS, negativeEntropy: { coefficient: 0.5 } } });
    expect(largestDifference(common.weights, changed.weights)).toBeLessThan(1e-6);
    expect(changed.reports[0]!.update!.terms['negativeEntropy']).toBeGreaterThan(1);
    expect(changed.reports[0]!.update!.loss).toBeGreaterThan(common.reports[0]!.update!.loss + 0.5);
  });

  it('reports a ratio of 1 in the only update of a step, and drift in later ones', async () => {
    const one = await train({ totalSteps: 1, updatesPerStep: 1 });
    const two = await train({ totalSteps: 1, updatesPerStep: 2, learningRate: 0.02 });
    expect(one.reports[0]!.update!.terms).toMatchObject({ clippedShare: 0, dualClippedShare: 0 });
    expect(Math.abs(one.reports[0]!.update!.terms['approximateKl']!)).toBe(0);
    expect(two.reports[0]!.update!.terms['approximateKl']).not.toBe(0);
    expect(two.reports[0]!.update!.terms['clippedShare']).toBeGreaterThan(0);
  });

  it('Q18: skips a step that finds no informative group, after as many draws as it may take', async () => {
    const allRight = taskOf({ reward: () => ({ accuracy: 1, format: 1, overall: 1 }) });
    const { reports, warnings, summary, weights } = await train({ totalSteps: 2 }, allRight);
    expect(reports.map(({ drawn, keptGroups, update }) => [drawn.length, keptGroups, update])).toEqual([
      [12, 0, null],
      [12, 0, null],
    ]);
    expect(warnings).toHaveLength(2);
    expect(summary).toMatchObject({ drawnGroups: 24, keptGroups: 0, skippedSteps: 2 });
    const fresh = new TrainingModel(bareSource(runtime), config);
    initialiseWeights(fresh.store, config, 3);
    expect(weights).toEqual(fresh.store.flat);
  });

  it('Q19: drops a draw without an informative group, or keeps the whole of it as the released code', async () => {
    // By draws of two: nothing to learn, then one group of two, then both.
    const accuracies = [1, 1, 0.5, 1, 0.5, 0.5, 1, 0.5];
    const stepWith = async (whenNoneInformative: 'drop' | 'keep-all', questionsPerDraw?: number) => {
      let drawn = 0;
      const informative = ({ length }: readonly number[]) => {
        const own = accuracies.slice(drawn, (drawn += length));
        return informativeGroups(own, { ...DEFAULT_GROUP_FILTER, whenNoneInformative });
      };
      const changes = { totalSteps: 1, maxDraws: 3, ...(questionsPerDraw && { questionsPerDraw }) };
      const { reports } = await train(changes, taskOf({ informative }));
      return { drawn: reports[0]!.drawn.length, kept: reports[0]!.keptGroups };
    };
    expect(await stepWith('drop', 2)).toEqual({ drawn: 6, kept: 3 });
    expect(await stepWith('keep-all', 2)).toEqual({ drawn: 6, kept: 4 });
    // In a draw of four one group teaches, so that there is nothing to keep for want of better.
    expect(await stepWith('keep-all')).toEqual({ drawn: 8, kept: 4 });
    expect(await stepWith('drop')).toEqual({ drawn: 8, kept: 4 });
  });

  it('draws again until the step has its groups, and shows every question once a pass', async () => {
    // The first draw of four keeps one; two thirds of what follows is missing still.
    let calls = 0;
    const task = taskOf({ informative: (accuracies) => (calls++ === 0 ? [0] : accuracies.map((_, index) => index)) });
    const { reports } = await train({ totalSteps: 1 }, task);
    const ids = reports[0]!.drawn.map(({ question }: { question: Question }) => question.id);
    expect(ids).toHaveLength(8);
    expect([...ids.slice(0, 5)].sort()).toEqual(['q0', 'q1', 'q2', 'q3', 'q4']);
    expect(reports[0]!.keptGroups).toBe(4);
    const seen = new Set(reports[0]!.drawn.flatMap(({ rollouts }) => rollouts.map(({ tokenIds }) => tokenIds.join())));
    expect(seen.size).toBeGreaterThan(40);
  });

  it('has no question twice in a draw of a fixed size, and leaves out what does not fill one in a pass', async () => {
    const none = taskOf({ informative: () => [] });
    const idsOf = async (questionsPerDraw?: number) => {
      const sized = questionsPerDraw && { questionsPerDraw };
      const { reports } = await train({ totalSteps: 1, groupsPerStep: 3, maxDraws: 4, ...sized }, none);
      return reports[0]!.drawn.map(({ question }: { question: Question }) => question.id);
    };
    const differing = (ids: readonly string[], from: number, to: number) => new Set(ids.slice(from, to)).size;
    const fixed = await idsOf(2);
    // Passes of four out of five questions.
    expect([0, 4].map((from) => differing(fixed, from, from + 4))).toEqual([4, 4]);
    const free = await idsOf();
    expect([0, 5].map((from) => differing(free, from, from + 5))).toEqual([5, 5]);
  });

  it('leaves out and counts an update whose gradient is not finite', async () => {
    let steps = 0;
    const usual = taskOf();
    const task = taskOf({
      advantages: (groups) =>
        usual.advantages(groups).map((values) => Array.from(values, (value) => (steps === 1 ? Number.NaN : value))),
    });
    const { reports, warnings, summary } = await train({ totalSteps: 3, updatesPerStep: 1 }, task, () => {
      steps++;
    });
    expect(reports.map(({ update }) => update!.skipped)).toEqual([0, 1, 0]);
    expect(Number.isFinite(reports[2]!.update!.loss)).toBe(true);
    expect(warnings).toEqual(['step 2: 1 updates are left out: their gradients are not finite']);
    expect(summary).toMatchObject({ skippedUpdates: 1, skippedInARow: 0 });
  });

  it('stops when gradients are not finite again and again', async () => {
    const task = taskOf({ advantages: (groups) => groups.map(({ rewards }) => rewards.map(() => Number.NaN)) });
    await expect(train({ totalSteps: 20 }, task)).rejects.toMatchObject({
      code: 'TRAINING_DIVERGED',
      message: '10 updates in a row had no finite gradient',
    });
  });

  it('Q2: trains answers about the positive image on it as the released code, or on the anchor as the paper', async () => {
    const own = await train({ totalSteps: 1, updatesPerStep: 1 });
    const anchor = await train({ totalSteps: 1, updatesPerStep: 1, positiveConditioning: 'anchor' });
    expect(answersOf(anchor)).toEqual(answersOf(own));
    expect(largestDifference(own.weights, anchor.weights)).toBeGreaterThan(1e-4);
    const [near, far] = [own, anchor].map(({ reports }) => reports[0]!.update!.terms['rolloutDifference']!);
    expect(far).toBeGreaterThan(10 * near!);
  });

  it('samples with the likelihoods that it trains with at any temperature, up to what is banned', async () => {
    const free = await train({ totalSteps: 1, sampling: { ...SAMPLING, bannedTokenIds: [] } });
    const banned = await train({ totalSteps: 1, sampling: { ...SAMPLING, bannedTokenIds: STOPS.slice(0, 50) } });
    expect(free.reports[0]!.update!.terms['rolloutDifference']).toBeLessThan(1e-5);
    const cool = await train({ totalSteps: 1, sampling: { ...SAMPLING, bannedTokenIds: [], temperature: 0.6 } });
    expect(cool.reports[0]!.update!.terms['rolloutDifference']).toBeLessThan(1e-5);
    expect(banned.reports[0]!.update!.terms['rolloutDifference']).toBeGreaterThan(1e-3);
  });

  it('fades the negative divergence and the entropy out', async () => {
    const { negativeKl: _kl, ownEntropy: _entropy, ...policyOnly } = LOSS;
    const steady = await train({ totalSteps: 2 });
    const fading = { to: 0, steps: 1 };
    const faded = await train({ totalSteps: 2, fading });
    // The first step has the whole terms, the second none of them.
    expect(faded.reports[0]!.update!.loss).toBeCloseTo(steady.reports[0]!.update!.loss, 6);
    const { loss, terms } = faded.reports[1]!.update!;
    expect(loss).toBeCloseTo(terms['policy']!, 5);
    expect(Object.keys(terms)).toContain('negativeKl');
    const without = await train({ totalSteps: 1, loss: policyOnly });
    expect(without.reports[0]!.update!.loss).not.toBeCloseTo(steady.reports[0]!.update!.loss, 4);
  });

  it('Q13: takes the divergence from a reference policy, which is 0 at first', async () => {
    const source = bareSource(runtime);
    const reference = new TrainingModel(source, config);
    initialiseWeights(reference.store, config, 3);
    const loss = { ...LOSS, referenceKl: { coefficient: 0.5, estimator: 'k3' as const } };
    try {
      const { reports } = await train({ totalSteps: 3, loss, updatesPerStep: 1 }, taskOf(), () => {}, reference);
      const divergences = reports.map(({ update }) => update!.terms['referenceKl']!);
      expect(Math.abs(divergences[0]!)).toBeLessThan(1e-6);
      expect(divergences[2]!).toBeGreaterThan(1e-6);
    } finally {
      await reference.release();
    }
  });

  it('imitates right answers alone, and averages over answers where asked', async () => {
    const imitation = { ...LOSS, imitation: { coefficient: 0.1 } };
    const some = await train({ totalSteps: 1, updatesPerStep: 1, loss: imitation });
    const none = await train({ totalSteps: 1, updatesPerStep: 1, loss: imitation, imitateAbove: 2 });
    expect(some.reports[0]!.update!.terms['imitation']).toBeGreaterThan(0.5);
    expect(none.reports[0]!.update!.terms['imitation']).toBe(0);
    const token = await train({ totalSteps: 1, updatesPerStep: 1 });
    const sequence = await train({ totalSteps: 1, updatesPerStep: 1, lossAveraging: 'sequence' });
    expect(Math.abs(token.reports[0]!.update!.loss - sequence.reports[0]!.update!.loss)).toBeGreaterThan(1e-4);
    // One mean does not depend on micro-batches.
    const split = await train({ totalSteps: 1, updatesPerStep: 1, lossAveraging: 'sequence', microBatchTokens: 20 });
    expect(split.reports[0]!.update!.loss).toBeCloseTo(sequence.reports[0]!.update!.loss, 5);
  });

  it('Q7: trains in the first step, or not as the released code', async () => {
    const fresh = new TrainingModel(bareSource(runtime), config);
    initialiseWeights(fresh.store, config, 3);
    const sound = await train({ totalSteps: 1 });
    const reference = await train({ totalSteps: 1, zeroFirstStep: true });
    expect(largestDifference(sound.weights, fresh.store.flat)).toBeGreaterThan(1e-3);
    expect(reference.weights).toEqual(fresh.store.flat);
    expect(reference.reports[0]!.learningRate).toBe(0);
  });

  it('Q9: generates for its steps alone, where the released code always answers a benchmark after the last one', async () => {
    /** Answers in all of the released loop: 8 to each item of a validation, of which one follows the last step at any interval. */
    const released = (
      ofSteps: number,
      { steps, every, items }: Readonly<Record<'steps' | 'every' | 'items', number>>,
    ) => {
      const between = every > 0 ? Math.floor((steps - 1) / every) : 0;
      return ofSteps + 8 * items * (between + 1);
    };
    const { reports, answers } = await train({ totalSteps: 2 });
    const ofSteps = reports.flatMap(({ drawn }) => drawn.flatMap(({ rollouts }) => rollouts)).length;
    expect(answers).toBe(ofSteps);
    expect(released(ofSteps, { steps: 2, every: -1, items: 100 })).toBe(ofSteps + 800);
  });

  it('Q21: answers a question anew when it comes again, or alike as the released code', async () => {
    // Every step shows all questions; the weights hardly move.
    const still = { totalSteps: 2, groupsPerStep: 5, maxDraws: 1, learningRate: 1e-12 };
    const answersBy = async (sharedNoise: boolean) => {
      const run = await train({ ...still, sharedNoise }, taskOf({ informative: (groups) => groups.map((_, i) => i) }));
      return run.reports.map(({ drawn }) =>
        Object.fromEntries(
          drawn.map(({ question, rollouts }) => [question.id, rollouts.map(({ tokenIds }) => tokenIds)]),
        ),
      );
    };
    const [first, second] = await answersBy(true);
    expect(Object.keys(first!)).toHaveLength(5);
    expect(second).toEqual(first);
    const [one, two] = await answersBy(false);
    for (const id of Object.keys(one!)) expect(two![id]).not.toEqual(one![id]);
  });

  it('Q29: rewards once and reports whole updates, where the released code rewards twice and reports the last four answers', async () => {
    let rewards = 0;
    const usual = keepAll();
    const counting = taskOf({
      informative: usual.informative,
      reward: (question, ids) => {
        rewards++;
        return usual.reward(question, ids);
      },
    });
    const sampling = { ...SAMPLING, bannedTokenIds: [] };
    const { reports } = await train({ totalSteps: 1, updatesPerStep: 1, maxDraws: 1, sampling }, counting);
    const { drawn, update } = reports[0]!;
    // In the only update of a step the policy is the one that sampled.
    const groups = new RandomStream(1, 'tapo-updates', 0).shuffled(drawn);
    const answers = groups.flatMap(({ rollouts }) => rollouts.map(({ logProbs }) => logProbs!));
    const surprise = (part: typeof answers) => {
      const tokens = part.flat();
      return -tokens.reduce((sum, value) => sum + value, 0) / tokens.length;
    };
    const released = { rewards: 2 * answers.length, ownEntropy: surprise(answers.slice(-4)) };
    expect(rewards).toBe(answers.length);
    expect(released.rewards).toBe(48);
    expect(update!.terms['ownEntropy']).toBeCloseTo(surprise(answers), 4);
    expect(Math.abs(released.ownEntropy - surprise(answers))).toBeGreaterThan(0.01);
  });

  it('Q22: makes groups of twice the rollouts without a positive image, or half of that in more updates as the released code', async () => {
    const all = (accuracies: readonly number[]) => accuracies.map((_, i) => i);
    const stepOf = async (hasPositive: boolean, changes: Partial<TapoOptions> = {}) => {
      const options = { totalSteps: 1, groupsPerStep: 4, maxDraws: 1, ...changes };
      const { reports } = await train(options, taskOf({ informative: all, hasPositive }));
      const { drawn, update } = reports[0]!;
      return { sizes: drawn.map(({ rollouts }) => rollouts.length), updates: update!.made };
    };
    const whole = { sizes: [6, 6, 6, 6], updates: 2 };
    expect(await stepOf(true)).toEqual(whole);
    expect(await stepOf(false)).toEqual(whole);
    const halved = await stepOf(false, { groupSize: 3, groupsPerStep: 8, updatesPerStep: 4 });
    expect(halved).toEqual({ sizes: new Array(8).fill(3), updates: 4 });
  });

  describe('Q23: in the own layout of an image, or that of the anchor as the released code', () => {
    /** Anchors of 4 x 4 patches; the other images have the grid, of own layout. */
    const shapes = (grid: ImagePatches['grid']) =>
      taskOf({
        question: async (index) => ({
          id: `q${index}`,
          anchor: promptAbout(`anchor ${index}`),
          positive: promptAbout(`positive ${index}`, grid),
          negative: promptAbout(`negative ${index}`, grid),
        }),
        informative: (accuracies) => accuracies.map((_, i) => i),
      });
    const free = { ...SAMPLING, bannedTokenIds: [] };
    const step = { totalSteps: 1, updatesPerStep: 1, maxDraws: 1, sampling: free };
    const both = async (grid: ImagePatches['grid'], changes: Partial<TapoOptions> = {}) => {
      const own = await train({ ...step, ...changes }, shapes(grid));
      const anchor = await train({ ...step, ...changes, viewLayout: 'anchor' }, shapes(grid));
      expect(answersOf(anchor)).toEqual(answersOf(own));
      return [own, anchor].map(({ reports, weights }) => ({ terms: reports[0]!.update!.terms, weights }));
    };

    it('is the same where shapes are equal', async () => {
      const [own, anchor] = await both([1, 4, 4]);
      expect(anchor!.weights).toEqual(own!.weights);
    });

    it('scores answers otherwise than they were sampled in another shape with as many tokens', async () => {
      const [own, anchor] = await both([1, 2, 8]);
      expect(own!.terms['rolloutDifference']).toBeLessThan(1e-5);
      expect(anchor!.terms['rolloutDifference']).toBeGreaterThan(1e-3);
      expect(largestDifference(own!.weights, anchor!.weights)).toBeGreaterThan(1e-4);
    });

    it('concerns only the negative image where answers are trained on the anchor', async () => {
      const [own, anchor] = await both([1, 2, 8], { positiveConditioning: 'anchor' });
      expect(anchor!.terms['policy']).toBe(own!.terms['policy']);
      expect(Math.abs(anchor!.terms['negativeKl']! - own!.terms['negativeKl']!)).toBeGreaterThan(1e-5);
    });

    it('cannot score another number of tokens', async () => {
      const shown = shapes([1, 4, 8]);
      await expect(train({ ...step, viewLayout: 'anchor' }, shown)).rejects.toThrow('does not fit the layout');
      await expect(train(step, shown)).resolves.toBeDefined();
    });
  });
});
