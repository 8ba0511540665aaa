/**
 * TAPO: reinforcement learning over triplets. For each drawn question the policy answers about the anchor and about
 * another image of the same class; groups with right and wrong answers teach; the answers' likelihood under an image of
 * another class, which it should not explain as well, enters the loss.
 *
 * A step: draw questions -> roll out -> reward -> keep informative groups -> advantages -> log-probabilities under the
 * negative image and under the old policy -> `updatesPerStep` AdamW updates.
 *
 * Each departure has the number of the quirk of the released code that it repeats or mends.
 * Departures from the paper, which the released code makes too:
 *   Q2   answers about the positive image are trained on that image, not on the anchor
 *   Q14  the divergence from the negative image uses the ratio negative / own
 *   Q15  own entropy is lowered
 *   Q16  no gradient passes through the negative image; its entropy is a reported constant
 * Departures from the released code:
 *   Q7   the first step has the full learning rate (`zeroFirstStep` repeats the code)
 *   Q17  one mean over an update's tokens (`lossNormalisation: micro` repeats the code's mean of means, though its
 *        micro-batches hold whole groups within a token budget, not four sequences)
 *   Q18  at most `maxDraws` draws a step; then the step trains on what was kept, or is skipped with a warning
 *   Q19  what happens to a draw without any informative group is the caller's `informative`
 *   Q20  later draws of a step take only as many questions as are likely missing; a surplus is dropped as in the code
 *   Q21  every request has noise of its own (`sharedNoise` repeats the code)
 *   Q22  without a positive image the group is 2n answers about the anchor, with no other halving
 *   Q23  inputs are built for each image on its own, so grids may differ
 *   Q29  reported terms cover whole updates
 *   and: AdamW has float32 moments instead of bfloat16 with Kahan summation; the groups of a step are shuffled before they
 *   are cut into updates, where the code balances token counts over GPUs
 *
 * Knows no file but its state, no text and no reward rule.
 *
 * @see Fine-R1, arXiv:2602.07605, section 4.3; DAPO, arXiv:2503.14476
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import type { Completion, Generator, ImagePatches, SamplingOptions } from '../generate/types.ts';
import { needsNegative, type TapoTerms, tapoLossGraph } from '../loss/tapo.ts';
import { type Batch, buildBatch } from '../models/qwen2_5_vl/batch.ts';
import type { TrainingModel } from '../models/qwen2_5_vl/training-model.ts';
import type { AdamW } from '../optim/adamw.ts';
import { accumulate, clipGlobalNorm } from '../optim/gradients.ts';
import { type Schedule, scheduleFactor } from '../optim/schedule.ts';
import { type Counters, loadTrainState, saveTrainState } from '../optim/train-state.ts';
import { RandomStream } from '../random.ts';
import { float32, type HostTensor } from '../tensor.ts';

/** A question about one image, in tokens. */
export interface Prompt {
  readonly inputIds: Int32Array;
  readonly images: readonly ImagePatches[];
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
}

/** What is learnt, with the rules of the method. */
export interface TapoTask<Q extends Question = Question> {
  /** Number of questions. */
  readonly size: number;
  question(index: number): Promise<Q>;
  reward(question: Q, tokenIds: readonly number[]): Score;
  /** [N] rewards of a group -> [N] advantages. */
  advantages(rewards: readonly number[]): ArrayLike<number>;
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
  readonly maxDraws: number;
  readonly updatesPerStep: number;
  readonly loss: Omit<TapoTerms, 'oldPolicy'>;
  readonly lossNormalisation: 'micro' | 'step';
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

export interface Rollout {
  readonly view: 'anchor' | 'positive';
  readonly tokenIds: readonly number[];
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
}

export interface TapoEvents<Q extends Question> {
  onResume?(steps: number): void;
  /** What a step is doing, for a live display. */
  onActivity?(step: number, activity: string): void;
  onStep(report: TapoReport<Q>): void | Promise<void>;
  onWarning(message: string): void;
}

const RECENT = 10;

/**
 * @param generator over the model's live weights
 * @throws TRAINING_DIVERGED when a gradient is not finite
 */
export async function trainTapo<Q extends Question>(
  model: TrainingModel,
  optimizer: AdamW,
  generator: Generator,
  task: TapoTask<Q>,
  options: TapoOptions,
  events: TapoEvents<Q>,
): Promise<TapoSummary> {
  const { totalSteps, stateDir, signal } = options;
  const saved = readCounters(await loadTrainState(stateDir, model.store, optimizer));
  let { step: first, draws, summary } = saved ?? { step: 0, draws: 0, summary: NOTHING_YET };
  if (saved) events.onResume?.(first);
  const order = new QuestionOrder(task.size, options.seed);
  const trainer = new Trainer(model, optimizer, options);

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
    const update =
      rolled.kept.length === 0 ? null : await trainer.step(step, rolled.kept, task.advantages, learningRate, say);
    const score = meanScore(rolled.drawn);
    summary = {
      first: summary.first ?? score,
      recent: [...summary.recent, score].slice(-RECENT),
      drawnGroups: summary.drawnGroups + rolled.drawn.length,
      keptGroups: summary.keptGroups + rolled.kept.length,
      skippedSteps: summary.skippedSteps + (update ? 0 : 1),
    };
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

const NOTHING_YET: TapoSummary = { first: null, recent: [], drawnGroups: 0, keptGroups: 0, skippedSteps: 0 };

function readCounters(counters: Counters | null) {
  return counters as { readonly step: number; readonly draws: number; readonly summary: TapoSummary } | null;
}

/** Questions in an order of its own for every pass over them; place k is the k-th question ever drawn. */
class QuestionOrder {
  readonly #size: number;
  readonly #seed: number;
  #pass = -1;
  #order: readonly number[] = [];

  constructor(size: number, seed: number) {
    this.#size = size;
    this.#seed = seed;
  }

  at(place: number): number {
    const pass = Math.floor(place / this.#size);
    if (pass !== this.#pass) {
      const indices = Array.from({ length: this.#size }, (_, index) => index);
      this.#order = new RandomStream(this.#seed, 'tapo-order', pass).shuffled(indices);
      this.#pass = pass;
    }
    return this.#order[place % this.#size]!;
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
  const { groupsPerStep } = options;
  const drawn: Group<Q>[] = [];
  const kept: Group<Q>[] = [];
  let place = firstPlace;
  for (let draw = 0; draw < options.maxDraws && kept.length < groupsPerStep; draw++) {
    const missing = groupsPerStep - kept.length;
    const count =
      draw === 0
        ? groupsPerStep
        : Math.min(groupsPerStep, Math.ceil((missing * drawn.length) / Math.max(1, kept.length)));
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
  for (const place of places) questions.push(await task.question(order.at(place)));
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
  asked.forEach(({ question, view }, i) => {
    const group = groups[question]!;
    for (const { tokenIds, finishReason } of completions[i]!) {
      group.rollouts.push({ view, tokenIds, finishReason, score: task.reward(group.question, tokenIds) });
    }
  });
  return groups;
}

function viewsOf(question: Question): { readonly view: Rollout['view']; readonly prompt: Prompt }[] {
  const anchor = { view: 'anchor', prompt: question.anchor } as const;
  return question.positive ? [anchor, { view: 'positive', prompt: question.positive }] : [anchor];
}

/** An answer as it is trained on. */
interface Trajectory {
  readonly view: Rollout['view'];
  readonly tokenIds: readonly number[];
  readonly advantage: number;
  /** [tokens] under the policy that sampled, on the answer's own image; absent when a single update follows. */
  old?: Float32Array;
  /** [tokens] under the policy that sampled, on the negative image. */
  negative?: Float32Array;
}

/** Answers that share a prompt, as the branches of a row. */
interface PromptRow {
  readonly prompt: Prompt;
  readonly trajectories: readonly Trajectory[];
  /** Tokens of the row. */
  readonly length: number;
}

/** Rows that are computed together. */
type MicroBatch = readonly PromptRow[];

/** The updates that follow the rollouts of a step. */
class Trainer {
  readonly #model: TrainingModel;
  readonly #optimizer: AdamW;
  readonly #options: TapoOptions;
  readonly #gradients: Float32Array;
  readonly #part: Float32Array;

  constructor(model: TrainingModel, optimizer: AdamW, options: TapoOptions) {
    this.#model = model;
    this.#optimizer = optimizer;
    this.#options = options;
    this.#gradients = model.store.buffer();
    this.#part = model.store.buffer();
  }

  async step<Q extends Question>(
    step: number,
    groups: readonly Group<Q>[],
    advantagesOf: TapoTask<Q>['advantages'],
    learningRate: number,
    say: (activity: string) => void,
  ): Promise<UpdateReport> {
    const { seed, updatesPerStep } = this.#options;
    const size = { maxTokens: this.#options.microBatchTokens, width: this.#model.config.text.hiddenSize };
    const shuffled = new RandomStream(seed, 'tapo-updates', step).shuffled(groups);
    const updates: PromptRow[][] = [];
    const negatives: PromptRow[] = [];
    for (const part of splitEvenly(shuffled, updatesPerStep)) {
      const rows: PromptRow[] = [];
      for (const { question, rollouts } of part) {
        const advantages = advantagesOf(rollouts.map(({ score }) => score.overall));
        const trajectories = rollouts.map(
          ({ view, tokenIds }, i): Trajectory => ({ view, tokenIds, advantage: advantages[i]! }),
        );
        for (const { view, prompt } of viewsOf(question)) {
          const own = trajectories.filter((trajectory) => trajectory.view === view);
          rows.push(...packRows(prompt, own, size));
        }
        if (question.negative) negatives.push(...packRows(question.negative, trajectories, size));
      }
      updates.push(rows);
    }
    // Both constants come from the policy that sampled, so they are taken before the first update.
    if (needsNegative(this.#options.loss)) {
      say('negative images');
      await this.#readLogProbs(negatives, 'negative');
    }
    const oldPolicy = updates.length === 1 ? 'current' : 'fed';
    if (oldPolicy === 'fed') {
      say('old policy');
      await this.#readLogProbs(updates.flat(), 'old');
    }
    const reports: UpdateReport[] = [];
    for (const [i, rows] of updates.entries()) {
      say(`update ${i + 1}/${updates.length}`);
      reports.push(await this.#update(step, i, rows, oldPolicy, learningRate));
    }
    return meanReport(reports);
  }

  /** Notes, for every answer of the rows, the log-probabilities of its tokens under the present weights. */
  async #readLogProbs(rows: readonly PromptRow[], as: 'old' | 'negative'): Promise<void> {
    for (const part of microBatches(rows, this.#options.microBatchTokens, true)) {
      const logProbs = await this.#model.logProbs(this.#batchOf(part), this.#options.signal);
      let at = 0;
      for (const trajectory of part.flatMap(({ trajectories }) => trajectories)) {
        trajectory[as] = logProbs.slice(at, at + trajectory.tokenIds.length);
        at += trajectory.tokenIds.length;
      }
    }
  }

  async #update(
    step: number,
    update: number,
    rows: readonly PromptRow[],
    oldPolicy: 'fed' | 'current',
    learningRate: number,
  ): Promise<UpdateReport> {
    const { seed, loss: settings, lossNormalisation, microBatchTokens, maxGradNorm, signal } = this.#options;
    const isStep = lossNormalisation === 'step';
    const loss = tapoLossGraph({ ...settings, oldPolicy });
    const parts = microBatches(rows, microBatchTokens, isStep);
    const tokens = rows.reduce((sum, { trajectories }) => sum + tokensOf(trajectories), 0);
    const terms: Record<string, number> = {};
    let total = 0;
    for (const [i, part] of parts.entries()) {
      const trajectories = part.flatMap((row) => row.trajectories);
      const weight = isStep ? 1 / tokens : 1 / (tokensOf(trajectories) * parts.length);
      const into = i === 0 ? this.#gradients : this.#part;
      const inputs = lossInputs(trajectories, weight, settings, oldPolicy);
      const noise = [seed, 'dropout', step, update, i];
      const result = await this.#model.lossAndGradients(this.#batchOf(part), loss, inputs, into, { noise, signal });
      if (i > 0) accumulate(this.#gradients, this.#part);
      total += result.loss;
      for (const [name, value] of Object.entries(result.terms)) {
        terms[name] = (terms[name] ?? 0) + Number(value.data[0]);
      }
    }
    const gradNorm = clipGlobalNorm(this.#gradients, maxGradNorm);
    if (!Number.isFinite(gradNorm)) {
      throw new Fr1Error('TRAINING_DIVERGED', `the gradient of step ${step + 1} is ${gradNorm}, its loss ${total}`, {
        hint: 'lower learningRate',
      });
    }
    await this.#optimizer.step(this.#gradients, learningRate, signal);
    return { loss: total, gradNorm, terms, tokens };
  }

  /** An image that several rows show is read once. */
  #batchOf(rows: MicroBatch): Batch {
    const places = new Map<ImagePatches, number>();
    const placeOf = (image: ImagePatches) => {
      const place = places.get(image) ?? places.size;
      places.set(image, place);
      return place;
    };
    const laidOut = rows.map(({ prompt, trajectories }) => ({
      prefix: prompt.inputIds,
      images: prompt.images.map(placeOf),
      branches: trajectories.map(({ tokenIds }) => ({ ids: tokenIds })),
    }));
    return buildBatch(this.#model.config, laidOut, [...places.keys()]);
  }
}

/** Feeds of the loss, token by token in the order of the answers. All tokens up to the end token count. */
function lossInputs(
  trajectories: readonly Trajectory[],
  weight: number,
  loss: TapoTerms,
  oldPolicy: 'fed' | 'current',
): Record<string, HostTensor> {
  const count = tokensOf(trajectories);
  const perToken = (write: (to: Float32Array, trajectory: Trajectory) => void) => {
    const values = new Float32Array(count);
    let at = 0;
    for (const trajectory of trajectories) {
      write(values.subarray(at, at + trajectory.tokenIds.length), trajectory);
      at += trajectory.tokenIds.length;
    }
    return float32([count], values);
  };
  const weights = float32([count], new Float32Array(count).fill(weight));
  return {
    advantages: perToken((to, { advantage }) => to.fill(advantage)),
    weight: weights,
    token_weight: weights,
    ...(oldPolicy === 'fed' && { old_log_probs: perToken((to, { old }) => to.set(old!)) }),
    ...(needsNegative(loss) && { negative_log_probs: perToken((to, { negative }) => to.set(negative!)) }),
  };
}

/**
 * Rows for all answers to a prompt, none with more than `maxTokens` unless a single answer has.
 *
 * A row of k branches of length L after a prefix of P tokens saves k - 1 prefixes, but its attention grows with
 * (P + kL)^2. With some 12 C^2 multiplications per token and 2 C per pair of tokens in a layer of width C, the cost per
 * answer is least at kL = sqrt(P^2 + 6 C P).
 */
function packRows(
  prompt: Prompt,
  trajectories: readonly Trajectory[],
  { maxTokens, width }: { readonly maxTokens: number; readonly width: number },
): PromptRow[] {
  const shared = prompt.inputIds.length - 1;
  const total = tokensOf(trajectories);
  const best = Math.sqrt(shared ** 2 + 6 * width * shared);
  const target = total / Math.max(1, Math.round(total / best));
  const rows: { prompt: Prompt; trajectories: Trajectory[]; length: number }[] = [];
  for (const trajectory of trajectories) {
    const own = trajectory.tokenIds.length;
    const row = rows.at(-1);
    if (row && row.length + own <= maxTokens && row.length - shared + own / 2 <= target) {
      row.trajectories.push(trajectory);
      row.length += own;
    } else rows.push({ prompt, trajectories: [trajectory], length: shared + own });
  }
  return rows;
}

/** Rows in parts of at most `maxTokens`, padding included; sorted by length where the split does not matter. */
function microBatches(rows: readonly PromptRow[], maxTokens: number, isSorted: boolean): MicroBatch[] {
  const ordered = isSorted ? [...rows].sort((a, b) => a.length - b.length) : rows;
  const parts: PromptRow[][] = [];
  let longest = 0;
  for (const row of ordered) {
    const part = parts.at(-1);
    const width = Math.max(longest, row.length);
    if (part && width * (part.length + 1) <= maxTokens) {
      part.push(row);
      longest = width;
    } else {
      parts.push([row]);
      longest = row.length;
    }
  }
  return parts;
}

/** Consecutive parts whose sizes differ by at most one; fewer where there are fewer items. */
function splitEvenly<T>(items: readonly T[], parts: number): T[][] {
  const count = Math.min(parts, items.length);
  return Array.from({ length: count }, (_, i) =>
    items.slice(Math.floor((i * items.length) / count), Math.floor(((i + 1) * items.length) / count)),
  );
}

function tokensOf(trajectories: readonly Trajectory[]): number {
  return trajectories.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0);
}

function meanReport(reports: readonly UpdateReport[]): UpdateReport {
  const names = Object.keys(reports[0]!.terms);
  return {
    loss: mean(reports.map(({ loss }) => loss)),
    gradNorm: mean(reports.map(({ gradNorm }) => gradNorm)),
    terms: Object.fromEntries(names.map((name) => [name, mean(reports.map(({ terms }) => terms[name]!))])),
    tokens: reports.reduce((sum, { tokens }) => sum + tokens, 0),
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
