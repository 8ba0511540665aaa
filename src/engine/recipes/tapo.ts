/**
 * TAPO: reinforcement learning over triplets. For each drawn question the policy answers about the anchor and about
 * another image of the same class; groups with right and wrong answers teach; the answers' likelihood under an image of
 * another class, which it should not explain as well, enters the loss.
 *
 * A step: draw questions -> roll out -> reward -> keep informative groups -> advantages -> log-probabilities under the
 * negative image and under the old policy -> `updatesPerStep` AdamW updates.
 *
 * Each departure has the number of the quirk of the released code that it repeats or mends; docs/divergence.md lists all.
 * Departures from the paper, which the released code makes too:
 *   Q2   answers about the positive image are trained on that image (`positiveConditioning: anchor` follows the paper)
 *   Q14  the divergence from the negative image uses the ratio negative / own
 *   Q15  own entropy is lowered
 *   Q16  no gradient passes through the negative image, and its entropy is a reported constant, unless the loss has
 *        `negativeBranch: trained`
 * Departures from the released code:
 *   Q7   the first step has the full learning rate (`zeroFirstStep` repeats the code)
 *   Q17  one mean over an update's tokens (`lossNormalisation: micro` repeats the code's mean of means over four answers each,
 *        whatever is computed at once)
 *   Q18  at most `maxDraws` draws a step; then the step trains on what was kept, or is skipped with a warning
 *   Q19  what happens to a draw without any informative group is the caller's `informative`
 *   Q20  later draws of a step take only as many questions as are likely missing, unless `questionsPerDraw` is given as in the
 *        code; a surplus is dropped as there
 *   Q21  every request has noise of its own (`sharedNoise` repeats the code)
 *   Q22  without a positive image the group is 2n answers about the anchor, with no other halving (the caller's `groupSize`,
 *        `groupsPerStep` and `updatesPerStep` repeat the code)
 *   Q23  inputs are built for each image on its own, so grids may differ (`viewLayout: anchor` repeats the code)
 *   Q29  reported terms cover whole updates
 * and without a number:
 *   a    AdamW has float32 moments instead of bfloat16 with Kahan summation
 *   b    the groups of a step are shuffled before they are cut into updates, where the code balances token counts over GPUs
 *   c    weight decay acts on matrices only, where the code's acts on norms and biases too
 *   d    likelihoods in the loss are those of the model's `temperature` over the whole vocabulary, whatever top-p, top-k and banned
 *        ids were in sampling, as in the code. `rolloutDifference` reports the gap
 *   e    ids of padded vocabulary and of all image and video tokens are banned outright; the code lowers one by 100
 *   f    an update whose gradient is not finite is skipped and counted as in the code, but after `MOST_SKIPPED` of them in a
 *        row training ends, since nothing would ever change again
 *   g    what a token mask keeps is decided in a forward pass of its own, without dropout
 *
 * Knows no file but its state, no text and no reward rule.
 *
 * @see Fine-R1, arXiv:2602.07605, section 4.3; DAPO, arXiv:2503.14476; NoisyRollout, arXiv:2504.13055, whose answers about a
 *   noisy positive image are trained on the anchor; PAPO, arXiv:2507.06448, whose negative image is the anchor with holes
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import type { Completion, Generator, ImagePatches, SamplingOptions } from '../generate/types.ts';
import { needsNegative, type TapoTerms, tapoLossGraph } from '../loss/tapo.ts';
import { type Batch, buildBatch } from '../models/qwen2_5_vl/batch.ts';
import type { TrainingModel } from '../models/qwen2_5_vl/training-model.ts';
import type { AdamW } from '../optim/adamw.ts';
import type { GradientSum } from '../optim/gradients.ts';
import { type Schedule, scheduleFactor } from '../optim/schedule.ts';
import { type Counters, loadTrainState, saveTrainState } from '../optim/train-state.ts';
import { RandomStream } from '../random.ts';
import { packRows, tokensOf } from './prompt-rows.ts';
import {
  chunksOf,
  inMicroBatches,
  lossInputs,
  type Span,
  spansOf,
  type TrainedRow,
  type Trajectory,
  type Unit,
  weightsOf,
} from './tapo-inputs.ts';
import { inLayoutOf } from './view-layout.ts';

/** A question about one image, in tokens. */
export interface Prompt {
  readonly inputIds: Int32Array;
  readonly images: readonly ImagePatches[];
  /** Shapes that positions are taken from where these are not the images' own. */
  readonly grids?: readonly ImagePatches['grid'][];
}

/** A row of triplets, ready for the model. */
export interface Question {
  readonly id: string;
  readonly anchor: Prompt;
  /** null: both halves of the group answer about the anchor. */
  readonly positive: Prompt | null;
  /** null where the loss has no term on it. */
  readonly negative: Prompt | null;
}

export interface Score {
  readonly overall: number;
  readonly accuracy: number;
  readonly format: number;
  /** Further parts of the reward, for the log. */
  readonly parts?: Readonly<Record<string, number>>;
}

/** When a question is drawn: what images change at random depends on nothing else. */
export interface Draw {
  /** From 0. */
  readonly step: number;
  /** Number of questions drawn before this one since training began. */
  readonly place: number;
}

/** What advantages are computed from, for one group. */
export interface GroupRewards {
  /** [N] */
  readonly rewards: readonly number[];
  /** [N] tokens of the answers. */
  readonly lengths: readonly number[];
}

/** Log-probabilities of a batch's targets [N] under a model that is not trained. */
export interface ReferencePolicy {
  logProbs(batch: Batch, signal?: AbortSignal): Promise<Float32Array>;
}

/** What is learnt, with the rules of the method. */
export interface TapoTask<Q extends Question = Question> {
  /** Number of questions. */
  readonly size: number;
  question(index: number, draw: Draw): Promise<Q>;
  reward(question: Q, tokenIds: readonly number[]): Score | Promise<Score>;
  /** The groups that a step trains on -> for each the advantages of its answers. */
  advantages(groups: readonly GroupRewards[]): readonly ArrayLike<number>[];
  /**
   * Log-probabilities of an answer's tokens on its own and on the negative image -> 1 for those that the negative divergence
   * counts, 0 for the others. Needed where that term is masked.
   */
  negativeKlMask?(own: ArrayLike<number>, negative: ArrayLike<number>): ArrayLike<number>;
  /** Mean accuracies of the groups of a draw -> indices, ascending, of those that are kept. */
  informative(accuracies: readonly number[]): readonly number[];
}

export interface TapoOptions {
  readonly seed: number;
  readonly totalSteps: number;
  readonly groupsPerStep: number;
  /** Answers about each image of a group. */
  readonly rollouts: number;
  /** Answers per group where there is no positive image. @default 2 * rollouts */
  readonly groupSize?: number;
  readonly sampling: Omit<SamplingOptions, 'samplesPerRequest'>;
  readonly sharedNoise: boolean;
  /** Questions of every draw; at first those of a step and then as many as are likely missing, where it is not given. */
  readonly questionsPerDraw?: number;
  readonly maxDraws: number;
  readonly updatesPerStep: number;
  /** Times that a step goes over its groups, with `updatesPerStep` updates each. @default 1 */
  readonly passes?: number;
  readonly loss: LossTerms;
  /** `step`: one mean over an update. `micro`: the mean of the means over `answersPerMean` answers each. */
  readonly lossNormalisation: 'micro' | 'step';
  /** @default 4 */
  readonly answersPerMean?: number;
  /** Mean over all tokens, or mean over answers of each one's mean; entropies are token means always. @default 'token' */
  readonly lossAveraging?: 'token' | 'sequence';
  /** Which image answers about the positive one are trained on. @default 'own' */
  readonly positiveConditioning?: 'own' | 'anchor';
  /** Tokens and positions in which positive and negative images are scored; `anchor` needs as many. @default 'own' */
  readonly viewLayout?: 'own' | 'anchor';
  /** The negative divergence and both entropies fade linearly to this factor over so many steps. */
  readonly fading?: { readonly to: number; readonly steps: number };
  /** Answers with a greater accuracy are imitated, where the loss has that term. @default 0.1 */
  readonly imitateAbove?: number;
  readonly learningRate: number;
  /** Counts steps, not updates. */
  readonly schedule: Schedule;
  /** Learning rate 0 in the first step. */
  readonly zeroFirstStep: boolean;
  readonly maxGradNorm: number;
  /** Most tokens, padding included, that a micro-batch holds; a single longer answer still makes one. */
  readonly microBatchTokens: number;
  readonly saveEvery: number;
  readonly stateDir: string;
  readonly signal?: AbortSignal;
}

/** The loss's terms without what the recipe itself decides. */
export type LossTerms = Omit<TapoTerms, 'oldPolicy' | 'isFading' | 'rolloutDifference'>;

export interface Rollout {
  readonly view: 'anchor' | 'positive';
  readonly tokenIds: readonly number[];
  /** Of the tokens as they were sampled; null when the generator does not tell. */
  readonly logProbs: readonly number[] | null;
  readonly finishReason: Completion['finishReason'];
}

export interface ScoredRollout extends Rollout {
  readonly score: Score;
}

/** A question with its answers, before it is known whether it teaches. */
export interface Group<Q extends Question = Question> {
  readonly question: Q;
  readonly rollouts: readonly ScoredRollout[];
}

export interface TapoReport<Q extends Question = Question> {
  /** From 1. */
  readonly step: number;
  /** All groups drawn in the step. */
  readonly drawn: readonly Group<Q>[];
  readonly keptGroups: number;
  /** Means over all drawn rollouts. */
  readonly score: Score;
  /** Over all steps up to this one. */
  readonly summary: TapoSummary;
  readonly learningRate: number;
  /** null for a step without informative groups: nothing was updated. */
  readonly update: UpdateReport | null;
  readonly generationMs: number;
  readonly trainingMs: number;
}

/** Means over the updates of a step. */
export interface UpdateReport {
  readonly loss: number;
  readonly gradNorm: number;
  /** Terms of the loss before their coefficients, and diagnostics. */
  readonly terms: Readonly<Record<string, number>>;
  /** Tokens that were trained on. */
  readonly tokens: number;
  /** Updates left out because their gradient was not finite; the means are over the others. */
  readonly skipped: number;
  readonly made: number;
}

/** Running figures, the same after a resume. */
export interface TapoSummary {
  /** Of the first step. */
  readonly first: Score | null;
  /** Of the last steps, at most ten. */
  readonly recent: readonly Score[];
  readonly drawnGroups: number;
  readonly keptGroups: number;
  readonly skippedSteps: number;
  /** Updates left out because their gradient was not finite, and those of them since the last one that was made. */
  readonly skippedUpdates: number;
  readonly skippedInARow: number;
}

export interface TapoEvents<Q extends Question> {
  onResume?(steps: number): void;
  /** What a step is doing, for a live display. */
  onActivity?(step: number, activity: string): void;
  onStep(report: TapoReport<Q>): void | Promise<void>;
  onWarning(message: string): void;
}

const RECENT = 10;

/** Updates in a row without a finite gradient after which training gives up. */
export const MOST_SKIPPED = 10;

/**
 * @param generator over the model's live weights
 * @param reference needed by the term `referenceKl`
 * @throws TRAINING_DIVERGED when no gradient has been finite for a while
 */
export async function trainTapo<Q extends Question>(
  model: TrainingModel,
  optimizer: AdamW,
  generator: Generator,
  task: TapoTask<Q>,
  options: TapoOptions,
  events: TapoEvents<Q>,
  reference: ReferencePolicy | null = null,
): Promise<TapoSummary> {
  const { totalSteps, stateDir, signal } = options;
  const saved = readCounters(await loadTrainState(stateDir, model.store, optimizer));
  let { step: first, draws, summary } = saved ?? { step: 0, draws: 0, summary: NOTHING_YET };
  if (saved) events.onResume?.(first);
  const { groupsPerStep, questionsPerDraw } = options;
  const drawSize = questionsPerDraw === undefined ? 1 : Math.min(groupsPerStep, questionsPerDraw);
  const order = new QuestionOrder(task.size, options.seed, drawSize);
  const trainer = new Trainer(model, optimizer, await model.gradientSum(), task, options, reference);

  for (let step = first; step < totalSteps; step++) {
    signal?.throwIfAborted();
    const say = (activity: string) => events.onActivity?.(step + 1, activity);
    const started = performance.now();
    const rolled = await rollOut(generator, task, options, order, { step, draws }, say);
    draws = rolled.draws;
    const generated = performance.now();
    if (rolled.kept.length === 0) {
      events.onWarning(
        `step ${step + 1} is skipped: none of ${rolled.drawn.length} groups had both right and wrong answers`,
      );
    }
    const factor = options.zeroFirstStep && step === 0 ? 0 : scheduleFactor(options.schedule, step, totalSteps);
    const learningRate = options.learningRate * factor;
    const update = rolled.kept.length === 0 ? null : await trainer.step(step, rolled.kept, learningRate, say);
    if (update && update.skipped > 0) {
      events.onWarning(`step ${step + 1}: ${update.skipped} updates are left out: their gradients are not finite`);
    }
    const score = meanScore(rolled.drawn);
    summary = {
      first: summary.first ?? score,
      recent: [...summary.recent, score].slice(-RECENT),
      drawnGroups: summary.drawnGroups + rolled.drawn.length,
      keptGroups: summary.keptGroups + rolled.kept.length,
      skippedSteps: summary.skippedSteps + (update ? 0 : 1),
      skippedUpdates: summary.skippedUpdates + (update?.skipped ?? 0),
      skippedInARow: update === null ? summary.skippedInARow : skippedInARow(summary, update),
    };
    if (summary.skippedInARow >= MOST_SKIPPED) {
      throw new Fr1Error('TRAINING_DIVERGED', `${summary.skippedInARow} updates in a row had no finite gradient`, {
        hint: 'lower learningRate',
      });
    }
    await events.onStep({
      step: step + 1,
      drawn: rolled.drawn,
      keptGroups: rolled.kept.length,
      score,
      summary,
      learningRate,
      update,
      generationMs: generated - started,
      trainingMs: performance.now() - generated,
    });
    if ((step + 1) % options.saveEvery === 0 && step + 1 < totalSteps) {
      await saveTrainState(stateDir, model.store, optimizer, { step: step + 1, draws, summary });
    }
  }
  return summary;
}

const NOTHING_YET: TapoSummary = {
  first: null,
  recent: [],
  drawnGroups: 0,
  keptGroups: 0,
  skippedSteps: 0,
  skippedUpdates: 0,
  skippedInARow: 0,
};

/** A step whose updates were all left out continues the row; any other begins it anew. */
function skippedInARow(before: TapoSummary, { skipped, made }: UpdateReport): number {
  return made === 0 ? before.skippedInARow + skipped : 0;
}

function readCounters(counters: Counters | null) {
  return counters as { readonly step: number; readonly draws: number; readonly summary: TapoSummary } | null;
}

/**
 * Questions in an order of its own for every pass over them; place k is the k-th question ever drawn. With draws of a fixed size, a
 * pass ends with the last whole draw, so that no draw has a question twice.
 */
class QuestionOrder {
  readonly #size: number;
  /** Questions of a pass. */
  readonly #length: number;
  readonly #seed: number;
  #pass = -1;
  #order: readonly number[] = [];

  constructor(size: number, seed: number, drawSize = 1) {
    this.#size = size;
    this.#length = drawSize > size ? size : size - (size % drawSize);
    this.#seed = seed;
  }

  at(place: number): number {
    const pass = Math.floor(place / this.#length);
    if (pass !== this.#pass) {
      const indices = Array.from({ length: this.#size }, (_, index) => index);
      this.#order = new RandomStream(this.#seed, 'tapo-order', pass).shuffled(indices);
      this.#pass = pass;
    }
    return this.#order[place % this.#length]!;
  }
}

/** Draws and answers questions until a step has its groups, or has drawn often enough. */
async function rollOut<Q extends Question>(
  generator: Generator,
  task: TapoTask<Q>,
  options: TapoOptions,
  order: QuestionOrder,
  { step, draws: firstPlace }: { readonly step: number; readonly draws: number },
  say: (activity: string) => void,
): Promise<{ drawn: Group<Q>[]; kept: Group<Q>[]; draws: number }> {
  const { groupsPerStep, questionsPerDraw } = options;
  const drawn: Group<Q>[] = [];
  const kept: Group<Q>[] = [];
  let place = firstPlace;
  for (let draw = 0; draw < options.maxDraws && kept.length < groupsPerStep; draw++) {
    const missing = groupsPerStep - kept.length;
    const likely = draw === 0 ? groupsPerStep : Math.ceil((missing * drawn.length) / Math.max(1, kept.length));
    const count = Math.min(groupsPerStep, questionsPerDraw ?? likely);
    const places = Array.from({ length: count }, (_, i) => place + i);
    place += count;
    const groups = await answer(generator, task, options, order, step, places, (done, total) =>
      say(`${draw === 0 ? '' : `draw ${draw + 1}, `}${done}/${total} answers`),
    );
    drawn.push(...groups);
    const chosen = task.informative(groups.map(({ rollouts }) => mean(rollouts.map(({ score }) => score.accuracy))));
    kept.push(...chosen.map((index) => groups[index]!));
  }
  return { drawn, kept: kept.slice(0, groupsPerStep), draws: place };
}

/** The groups of one draw: for every question the answers about the anchor, then those about the positive image. */
async function answer<Q extends Question>(
  generator: Generator,
  task: TapoTask<Q>,
  options: TapoOptions,
  order: QuestionOrder,
  step: number,
  places: readonly number[],
  onProgress: (done: number, total: number) => void,
): Promise<Group<Q>[]> {
  const { seed, signal, sharedNoise, rollouts: n } = options;
  const questions: Q[] = [];
  for (const place of places) questions.push(await task.question(order.at(place), { step, place }));
  const asked = questions.flatMap((question, i) =>
    viewsOf(question).map(({ view, prompt }) => ({
      question: i,
      view,
      // NOTE: the place is part of the key, so that a question that is drawn twice in a step is answered anew.
      request: {
        ...prompt,
        seed: sharedNoise
          ? seed
          : new RandomStream(seed, 'rollout', step, places[i]!, question.id, view).integer(2 ** 53),
      },
    })),
  );
  const hasPositive = questions.some(({ positive }) => positive !== null);
  const completions = await generator.generate(
    asked.map(({ request }) => request),
    { ...options.sampling, samplesPerRequest: hasPositive ? n : (options.groupSize ?? 2 * n) },
    { signal, onProgress },
  );
  const groups = questions.map((question) => ({ question, rollouts: [] as ScoredRollout[] }));
  for (const [i, { question, view }] of asked.entries()) {
    const group = groups[question]!;
    for (const { tokenIds, finishReason, logProbs } of completions[i]!) {
      const score = await task.reward(group.question, tokenIds);
      group.rollouts.push({ view, tokenIds, logProbs, finishReason, score });
    }
  }
  return groups;
}

function viewsOf(question: Question): { readonly view: Rollout['view']; readonly prompt: Prompt }[] {
  const anchor = { view: 'anchor', prompt: question.anchor } as const;
  return question.positive ? [anchor, { view: 'positive', prompt: question.positive }] : [anchor];
}

interface UpdateSettings {
  /** From 0. */
  readonly step: number;
  /** Of the step, from 0. */
  readonly update: number;
  readonly oldPolicy: 'fed' | 'current';
  readonly learningRate: number;
  /** Factor on the terms that fade; null where none does. */
  readonly fading: number | null;
}

type Rules = Pick<TapoTask, 'advantages' | 'negativeKlMask'>;

/** The updates that follow the rollouts of a step. */
class Trainer {
  readonly #model: TrainingModel;
  readonly #optimizer: AdamW;
  readonly #options: TapoOptions;
  readonly #rules: Rules;
  readonly #reference: ReferencePolicy | null;
  readonly #gradients: GradientSum;

  constructor(
    model: TrainingModel,
    optimizer: AdamW,
    gradients: GradientSum,
    rules: Rules,
    options: TapoOptions,
    reference: ReferencePolicy | null,
  ) {
    this.#model = model;
    this.#optimizer = optimizer;
    this.#gradients = gradients;
    this.#rules = rules;
    this.#options = options;
    this.#reference = reference;
  }

  async step<Q extends Question>(
    step: number,
    groups: readonly Group<Q>[],
    learningRate: number,
    say: (activity: string) => void,
  ): Promise<UpdateReport> {
    const { seed, updatesPerStep, passes = 1, loss } = this.#options;
    const shuffled = new RandomStream(seed, 'tapo-updates', step).shuffled(groups);
    const advantages = this.#rules.advantages(
      shuffled.map(({ rollouts }) => ({
        rewards: rollouts.map(({ score }) => score.overall),
        lengths: rollouts.map(({ tokenIds }) => tokenIds.length),
      })),
    );
    const members = shuffled.map((group, i) => ({ group, trajectories: this.#trajectories(group, advantages[i]!) }));
    const parts = splitEvenly(members, updatesPerStep);
    const updates = parts.map((part) =>
      part.flatMap(({ group, trajectories }) => this.#unitsOf(group.question, trajectories)),
    );
    const own = updates.flat().map(([row]): Unit => [row]);
    // These constants come from policies before the first update, so they are taken before it.
    if (needsNegative(loss) && loss.negativeBranch !== 'trained') {
      say('negative images');
      const about = members.flatMap(({ group, trajectories }) =>
        packRows(this.#negativeOf(group.question), trajectories, this.#rowSize()).map((row): Unit => [row]),
      );
      await this.#readLogProbs(about, 'negative');
    }
    if (loss.referenceKl) {
      say('reference policy');
      await this.#readLogProbs(own, 'reference');
    }
    const count = passes * updates.length;
    const oldPolicy = count === 1 ? 'current' : 'fed';
    if (oldPolicy === 'fed') {
      say('old policy');
      await this.#readLogProbs(own, 'old');
    }
    const reports: UpdateReport[] = [];
    const fading = this.#fadingAt(step);
    for (let update = 0; update < count; update++) {
      say(`update ${update + 1}/${count}`);
      const units = updates[update % updates.length]!;
      reports.push(await this.#update(units, { step, update, oldPolicy, learningRate, fading }));
    }
    return meanReport(reports);
  }

  #trajectories({ rollouts }: Group, advantages: ArrayLike<number>): Trajectory[] {
    const { imitateAbove = 0.1 } = this.#options;
    return rollouts.map(({ view, tokenIds, logProbs, score }, i) => ({
      view,
      tokenIds,
      sampled: logProbs,
      advantage: advantages[i]!,
      isImitated: score.accuracy > imitateAbove,
    }));
  }

  /** The answers to a question in rows, each with its twin about the negative image where that is trained through. */
  #unitsOf(question: Question, trajectories: readonly Trajectory[]): Unit[] {
    return this.#trainedOn(question).flatMap(({ view, prompt }) => {
      const own = trajectories.filter((trajectory) => view === 'all' || trajectory.view === view);
      return packRows(prompt, own, this.#rowSize()).map((row): Unit => {
        if (this.#options.loss.negativeBranch !== 'trained') return [row];
        const negative = this.#negativeOf(question);
        const length = negative.inputIds.length - 1 + tokensOf(row.trajectories);
        return [row, { prompt: negative, trajectories: row.trajectories, length, isNegative: true }];
      });
    });
  }

  /** A row with a twin has half of the room. */
  #rowSize(): RowSize {
    const { microBatchTokens, loss } = this.#options;
    const width = this.#model.config.text.hiddenSize;
    return { maxTokens: loss.negativeBranch === 'trained' ? microBatchTokens / 2 : microBatchTokens, width };
  }

  /** The prompts that a question's answers are trained on, each with the answers that belong to it. */
  #trainedOn(question: Question): { readonly view: Rollout['view'] | 'all'; readonly prompt: Prompt }[] {
    return this.#options.positiveConditioning === 'anchor'
      ? [{ view: 'all', prompt: question.anchor }]
      : viewsOf(question).map(({ view, prompt }) => ({ view, prompt: this.#scored(question, prompt) }));
  }

  #negativeOf(question: Question): Prompt {
    const { id, negative } = question;
    if (negative === null)
      throw new TypeError(`the loss has a term on the negative image, but question ${id} has none`);
    return this.#scored(question, negative);
  }

  /** A prompt about any image of the question as it is scored. */
  #scored({ anchor }: Question, prompt: Prompt): Prompt {
    return this.#options.viewLayout === 'anchor' && prompt !== anchor ? inLayoutOf(anchor, prompt) : prompt;
  }

  /** Factor on the terms that fade, or null where none does. */
  #fadingAt(step: number): number | null {
    const { fading } = this.#options;
    return fading ? 1 + (fading.to - 1) * Math.min(1, step / fading.steps) : null;
  }

  /** Notes, for every answer of the rows, the log-probabilities of its tokens under the present or reference weights. */
  async #readLogProbs(units: readonly Unit[], as: 'old' | 'negative' | 'reference'): Promise<void> {
    const { microBatchTokens, signal } = this.#options;
    const policy = as === 'reference' ? this.#reference : this.#model;
    if (policy === null) throw new TypeError('the loss has a term on a reference policy, but there is none');
    for (const rows of inMicroBatches(units, microBatchTokens)) {
      const logProbs = await policy.logProbs(this.#batchOf(rows), signal);
      for (const { trajectory, start, length } of spansOf(rows)) {
        trajectory[as] = logProbs.slice(start, start + length);
      }
    }
  }

  /** Notes which tokens the negative divergence counts, by what the present weights say of both images. */
  async #readMask(rows: readonly TrainedRow[], batch: Batch): Promise<void> {
    const { negativeKlMask } = this.#rules;
    if (negativeKlMask === undefined) throw new TypeError('the loss has a token mask, but no rule says what it keeps');
    const logProbs = await this.#model.logProbs(batch, this.#options.signal);
    const valuesOf = ({ start, length }: Span) => logProbs.subarray(start, start + length);
    const spans = spansOf(rows);
    const negatives = new Map(spans.filter(({ isNegative }) => isNegative).map((span) => [span.trajectory, span]));
    for (const span of spans.filter(({ isNegative }) => !isNegative)) {
      const { trajectory } = span;
      const twin = negatives.get(trajectory);
      trajectory.kept = negativeKlMask(valuesOf(span), twin ? valuesOf(twin) : trajectory.negative!);
    }
  }

  async #update(
    units: readonly Unit[],
    { step, update, oldPolicy, learningRate, fading }: UpdateSettings,
  ): Promise<UpdateReport> {
    const { seed, loss: settings, lossNormalisation, lossAveraging = 'token', answersPerMean = 4 } = this.#options;
    const { microBatchTokens, maxGradNorm, signal } = this.#options;
    const all = units.flatMap(([{ trajectories }]) => trajectories);
    const rolloutDifference = all.every(({ sampled }) => sampled !== null);
    const terms: TapoTerms = { ...settings, oldPolicy, isFading: fading !== null, rolloutDifference };
    const loss = tapoLossGraph(terms);
    const weights = weightsOf(lossNormalisation === 'step' ? [all] : chunksOf(all, answersPerMean), lossAveraging);
    const sums: Record<string, number> = {};
    let total = 0;
    this.#gradients.clear();
    for (const [i, rows] of inMicroBatches(units, microBatchTokens).entries()) {
      const batch = this.#batchOf(rows);
      if (terms.negativeKl?.isMasked) await this.#readMask(rows, batch);
      const inputs = lossInputs(rows, terms, weights, fading ?? 1);
      const noise = [seed, 'dropout', step, update, i];
      const result = await this.#gradients.add((into) =>
        this.#model.lossAndGradients(batch, loss, inputs, into, { noise, signal }),
      );
      total += result.loss;
      for (const [name, value] of Object.entries(result.terms)) sums[name] = (sums[name] ?? 0) + Number(value.data[0]);
    }
    const gradNorm = await this.#gradients.clip(maxGradNorm);
    const isUsable = Number.isFinite(gradNorm);
    if (isUsable) await this.#optimizer.step(this.#gradients.value, learningRate, { signal });
    return {
      loss: total,
      gradNorm,
      terms: sums,
      tokens: tokensOf(all),
      skipped: isUsable ? 0 : 1,
      made: isUsable ? 1 : 0,
    };
  }

  /** An image that several rows show is read once. */
  #batchOf(rows: readonly TrainedRow[]): Batch {
    const places = new Map<ImagePatches, number>();
    const placeOf = (image: ImagePatches) => {
      const place = places.get(image) ?? places.size;
      places.set(image, place);
      return place;
    };
    const laidOut = rows.map(({ prompt, trajectories }) => ({
      prefix: prompt.inputIds,
      images: prompt.images.map(placeOf),
      ...(prompt.grids && { grids: prompt.grids }),
      branches: trajectories.map(({ tokenIds }) => ({ ids: tokenIds })),
    }));
    return buildBatch(this.#model.config, laidOut, [...places.keys()]);
  }
}

interface RowSize {
  /** Most tokens of a row, unless a single answer has more. */
  readonly maxTokens: number;
  /** Of the model. */
  readonly width: number;
}

/** Consecutive parts whose sizes differ by at most one; fewer where there are fewer items. */
function splitEvenly<T>(items: readonly T[], parts: number): T[][] {
  const count = Math.min(parts, items.length);
  return Array.from({ length: count }, (_, i) =>
    items.slice(Math.floor((i * items.length) / count), Math.floor(((i + 1) * items.length) / count)),
  );
}

/** Over the updates that were made; over all where none was. */
function meanReport(reports: readonly UpdateReport[]): UpdateReport {
  const made = reports.filter((report) => report.made > 0);
  const shown = made.length > 0 ? made : reports;
  const names = Object.keys(shown[0]!.terms);
  return {
    loss: mean(shown.map(({ loss }) => loss)),
    gradNorm: mean(shown.map(({ gradNorm }) => gradNorm)),
    terms: Object.fromEntries(names.map((name) => [name, mean(shown.map(({ terms }) => terms[name]!))])),
    tokens: reports.reduce((sum, { tokens }) => sum + tokens, 0),
    skipped: reports.length - made.length,
    made: made.length,
  };
}

/** Over all answers of the groups. */
function meanScore(groups: readonly Group[]): Score {
  const scores = groups.flatMap(({ rollouts }) => rollouts.map(({ score }) => score));
  return {
    overall: mean(scores.map(({ overall }) => overall)),
    accuracy: mean(scores.map(({ accuracy }) => accuracy)),
    format: mean(scores.map(({ format }) => format)),
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
