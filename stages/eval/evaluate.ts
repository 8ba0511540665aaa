/**
 * The evaluation itself, for any model that takes a prompt with an image and gives token ids.
 *
 * Outputs are kept in the state folder batch by batch. Batches always begin at the same items, so that an evaluation
 * that was cut off repeats at most one batch and ends with the same predictions.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { readEvalData } from '../../src/artifacts/eval-data.ts';
import { type SplitPrediction, writePredictions } from '../../src/artifacts/predictions.ts';
import type { EvalRow, EvaluationInfo, MetricsFile } from '../../src/artifacts/types.ts';
import type { Completion, GenerationRequest, Generator, SamplingOptions } from '../../src/engine/generate/types.ts';
import { RandomStream } from '../../src/engine/random.ts';
import { isTurnDue, takeTurn } from '../../src/engine/turn.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { accuracyMetrics, percentText } from '../../src/methods/accuracies.ts';
import { scoreClosedWorld } from '../../src/methods/closed-world.ts';
import { scoreOpenWorld } from '../../src/methods/open-world.ts';
import { orderOptions, promptOf, renderPrompt } from '../../src/methods/prompts.ts';
import type { Estimate } from '../../src/methods/statistics.ts';
import type { ReportTable, StageContext, StageResult } from '../../src/run/stage-api.ts';
import type { EvalOptions } from './options.ts';
import { type FinishedOutput, OutputLog } from './output-log.ts';

/** A model as the evaluation uses it. */
export interface EvaluatedModel {
  /** The chat of one user turn, the image before the text, up to where the answer begins. `image` is the file's bytes. */
  encode(prompt: string, image: Uint8Array): Promise<Pick<GenerationRequest, 'inputIds' | 'images'>>;
  /** Text of the ids without special tokens. */
  decode(tokenIds: readonly number[]): string;
  readonly stopTokenIds: readonly number[];
  readonly bannedTokenIds: readonly number[];
  /** How the model answers where the options do not say. */
  readonly sampling: Pick<SamplingOptions, 'temperature' | 'topP' | 'topK' | 'repetitionPenalty'>;
  readonly generator: Generator;
}

type Mode = EvalOptions['modes'][number];

/** One question that the model is asked. */
interface TestItem {
  readonly split: string;
  readonly mode: Mode;
  readonly superCategory: string;
  readonly row: EvalRow;
  /** Absolute path. */
  readonly imageFile: string;
  /** In the order in which the prompt shows them. */
  readonly options: readonly string[];
  readonly prompt: string;
}

/**
 * Asks the model every question of every test set in every mode, scores the answers, and fills the outputs
 * `predictions` and `metrics`.
 *
 * @throws DATA_UNREADABLE, DATA_ROW_INVALID for faulty test data
 * @throws IMAGE_UNREADABLE naming the row of a broken image
 */
export async function evaluate(context: StageContext<EvalOptions>, model: EvaluatedModel): Promise<StageResult> {
  const { items, splits } = await planItems(context.options);
  const outputs = await generateOutputs(context, model, items);
  const rows: SplitPrediction[] = [];
  for (const [index, item] of items.entries()) {
    rows.push(scored(item, outputs[index]!, context.options));
    if (isTurnDue()) await takeTurn();
  }
  warnOfCutOutputs(context, rows);

  const metrics = await accuracyMetrics(rows);
  await writePredictions(context.outputs['predictions']!, { info: evaluationInfo(context, model, splits), rows });
  const file: MetricsFile = { version: 1, metrics };
  await writeFile(path.join(context.outputs['metrics']!, 'metrics.json'), `${JSON.stringify(file, null, 2)}\n`);
  return { metrics, tables: [accuracyTable(metrics, Object.keys(context.options.data), context.options.modes)] };
}

async function planItems(options: EvalOptions): Promise<{ items: TestItem[]; splits: EvaluationInfo['splits'] }> {
  const items: TestItem[] = [];
  const splits: EvaluationInfo['splits'][number][] = [];
  for (const [split, artifact] of Object.entries(options.data)) {
    const { info, rows } = await readEvalData(artifact.path);
    const chosen = chooseRows(rows, split, options);
    if (chosen.length === 0) throw new Fr1Error('DATA_UNREADABLE', `the test set "${split}" has no rows`);
    splits.push({ name: split, data: artifact.digest, superCategory: info.superCategory, items: chosen.length });
    for (const mode of options.modes) {
      for (const row of chosen) {
        const shown =
          mode === 'closed' ? orderOptions(row.options, options.optionOrder, options.optionSeed, row.id) : [];
        items.push({
          split,
          mode,
          superCategory: info.superCategory,
          row,
          imageFile: path.join(artifact.path, row.image),
          options: shown,
          prompt: renderPrompt(promptOf(options.prompts, mode), { question: row.question, options: shown }),
        });
      }
    }
  }
  return { items, splits };
}

/** All rows, or a random choice of `limit` in file order: test files are often sorted by class. */
function chooseRows(rows: readonly EvalRow[], split: string, { limit, optionSeed }: EvalOptions): readonly EvalRow[] {
  if (limit === undefined || limit >= rows.length) return rows;
  const indices = new RandomStream(optionSeed, 'limit', split).shuffled(rows.map((_, index) => index));
  return indices
    .slice(0, limit)
    .sort((a, b) => a - b)
    .map((index) => rows[index]!);
}

async function generateOutputs(
  context: StageContext<EvalOptions>,
  model: EvaluatedModel,
  items: readonly TestItem[],
): Promise<readonly FinishedOutput[]> {
  const { batchSize } = context.options;
  const log = await OutputLog.open(context.state, items.map(itemKey), batchSize);
  if (log.outputs.length > 0) context.log(`continuing after ${log.outputs.length} of ${items.length} answers`);
  const sampling = samplingOptions(context.options, model);
  const { temperature, topP, topK, repetitionPenalty } = sampling;
  context.log(
    `decoding: temperature ${temperature}, top-p ${topP}, top-k ${topK || 'all'}, repetition penalty ${repetitionPenalty}`,
  );
  const tally = new RunningTally(context.options);
  log.outputs.forEach((output, index) => {
    tally.add(items[index]!, output);
  });

  while (log.outputs.length < items.length) {
    context.signal.throwIfAborted();
    const from = log.outputs.length;
    const batch = items.slice(from, from + batchSize);
    const requests: GenerationRequest[] = [];
    for (const item of batch) requests.push(await encodeItem(item, model, context.seed));
    const completions = await model.generator.generate(requests, sampling, {
      signal: context.signal,
      onProgress: (done) => context.progress({ done: from + done, total: items.length, unit: 'answers' }),
    });
    const outputs = completions.map((samples) => finishedOutput(samples[0]!, model));
    await log.append(outputs);
    batch.forEach((item, index) => {
      tally.add(item, outputs[index]!);
    });
    context.progress({ done: log.outputs.length, total: items.length, unit: 'answers', note: tally.note() });
  }
  return log.outputs;
}

function itemKey({ split, mode, row }: TestItem): string {
  return `${split}/${mode}/${row.id}`;
}

/** The model's own settings, and what the options say instead. */
function decoding(options: EvalOptions, { sampling }: EvaluatedModel): EvaluatedModel['sampling'] {
  return {
    temperature: options.temperature ?? sampling.temperature,
    topP: options.topP ?? sampling.topP,
    topK: options.topK ?? sampling.topK,
    repetitionPenalty: options.repetitionPenalty ?? sampling.repetitionPenalty,
  };
}

function samplingOptions(options: EvalOptions, model: EvaluatedModel): SamplingOptions {
  return {
    maxNewTokens: options.maxNewTokens,
    ...decoding(options, model),
    stopTokenIds: model.stopTokenIds,
    bannedTokenIds: model.bannedTokenIds,
    samplesPerRequest: 1,
  };
}

async function encodeItem(item: TestItem, model: EvaluatedModel, seed: number): Promise<GenerationRequest> {
  try {
    const encoded = await model.encode(item.prompt, await readFile(item.imageFile));
    return { ...encoded, seed: new RandomStream(seed, 'eval', itemKey(item)).uint32() };
  } catch (cause) {
    const { code, hint } = cause instanceof Fr1Error ? cause : { code: 'IMAGE_UNREADABLE' as const, hint: undefined };
    const place = `test set "${item.split}", row "${item.row.id}" (${item.imageFile})`;
    throw new Fr1Error(code, `${place}: ${(cause as Error).message}`, { hint, cause });
  }
}

function finishedOutput({ tokenIds, finishReason }: Completion, model: EvaluatedModel): FinishedOutput {
  return { output: model.decode(tokenIds), finishReason };
}

function scored(item: TestItem, { output, finishReason }: FinishedOutput, options: EvalOptions): SplitPrediction {
  const { split, mode, row } = item;
  const score = mode === 'closed' ? closedScore(item, output) : openScore(item, output, options);
  return {
    id: row.id,
    split,
    mode,
    label: row.label,
    ...(mode === 'closed' && { options: item.options }),
    output,
    answer: score.answer,
    correct: score.correct,
    strictlyCorrect: score.strictlyCorrect,
    finishReason,
  };
}

function closedScore({ row, options }: TestItem, output: string) {
  return scoreClosedWorld({ output, label: row.label, options });
}

function openScore({ row, superCategory }: TestItem, output: string, options: EvalOptions) {
  const standardFrom =
    options.standardFrom === 'path'
      ? ({ kind: 'path', imagePath: row.image } as const)
      : ({ kind: 'super-category', word: superCategory } as const);
  return scoreOpenWorld(
    { output, label: row.label, standardFrom },
    { fallback: options.openFallback, emptyCarLabel: options.emptyCarLabel },
  );
}

/** Accuracy so far of the test set and mode that were last added to. */
class RunningTally {
  readonly #options: EvalOptions;
  #name = '';
  #right = 0;
  #asked = 0;

  constructor(options: EvalOptions) {
    this.#options = options;
  }

  add(item: TestItem, output: FinishedOutput): void {
    const name = `${item.split} ${item.mode}`;
    if (name !== this.#name) {
      this.#name = name;
      this.#right = 0;
      this.#asked = 0;
    }
    this.#asked++;
    if (scored(item, output, this.#options).correct) this.#right++;
  }

  note(): string {
    return `${this.#name} ${((100 * this.#right) / this.#asked).toFixed(1)} %`;
  }
}

function warnOfCutOutputs(context: StageContext<EvalOptions>, rows: readonly SplitPrediction[]): void {
  const cut = rows.filter((row) => row.finishReason === 'length').length;
  if (cut === 0) return;
  const limit = context.options.maxNewTokens;
  context.warn(`${cut} of ${rows.length} outputs were cut off at ${limit} tokens (maxNewTokens)`);
}

function evaluationInfo(
  context: StageContext<EvalOptions>,
  model: EvaluatedModel,
  splits: EvaluationInfo['splits'],
): EvaluationInfo {
  const { options, seed } = context;
  return {
    version: 1,
    rules: {
      prompts: Object.fromEntries(options.modes.map((mode) => [mode, promptOf(options.prompts, mode)])),
      optionOrder: options.optionOrder,
      optionSeed: options.optionSeed,
      standardFrom: options.standardFrom,
      openFallback: options.openFallback,
      emptyCarLabel: options.emptyCarLabel,
      maxNewTokens: options.maxNewTokens,
      ...decoding(options, model),
    },
    splits,
    model: options.model.digest,
    seed,
  };
}

function accuracyTable(
  metrics: Readonly<Record<string, Estimate>>,
  splits: readonly string[],
  modes: readonly Mode[],
): ReportTable {
  const rows = splits.map((split) => [split, ...modes.map((mode) => percentText(metrics[`${split}_${mode}`]!))]);
  if (splits.length > 1) rows.push(['mean', ...modes.map((mode) => percentText(metrics[mode]!))]);
  return {
    title: 'Accuracy, % [95 % interval]',
    columns: ['test set', ...modes],
    rows,
    notes: modes.map((mode) => `strict, ${mode}: ${percentText(metrics[`${mode}_strict`]!)}`),
  };
}
