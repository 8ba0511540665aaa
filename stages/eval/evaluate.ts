/**
 * The evaluation itself, for any model that takes a prompt with an image and gives token ids.
 *
 * Outputs are kept in the state folder batch by batch. Batches always begin at the same items, so that an evaluation
 * that was cut off repeats at most one batch and ends with the same predictions.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type SplitPrediction, writePredictions } from '../../src/artifacts/predictions.ts';
import { RowLog } from '../../src/artifacts/row-log.ts';
import type { EvaluationInfo, MetricsFile } from '../../src/artifacts/types.ts';
import { openTextEmbedder } from '../../src/engine/embedding/text-embedder.ts';
import type { Completion, GenerationRequest, Generator, SamplingOptions } from '../../src/engine/generate/types.ts';
import type { MemoryPlan } from '../../src/engine/models/qwen2_5_vl/estimate.ts';
import { RandomStream } from '../../src/engine/random.ts';
import { isTurnDue, takeTurn } from '../../src/engine/turn.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { accuracyMetrics, percentText } from '../../src/methods/accuracies.ts';
import { scoreClosedWorld } from '../../src/methods/closed-world.ts';
import { scoreOpenWorld } from '../../src/methods/open-world.ts';
import type { Estimate } from '../../src/methods/statistics.ts';
import type { ReportTable, StageContext, StageResult } from '../../src/run/stage-api.ts';
import { type Asked, requireStageMemory } from '../memory.ts';
import { defaultBatchSize, holdsEnough } from './batch-size.ts';
import { type FinishedOutput, finishedOutputOf } from './finished-output.ts';
import { importOutputs, listsOfResults } from './imported-outputs.ts';
import { type Mode, planItems, readTestSets, type TestItem } from './items.ts';
import { type AnsweringSize, EVAL_KNOBS } from './memory.ts';
import type { EvalOptions } from './options.ts';
import { type Origin, originOfAnswers, originOfModel } from './origin.ts';
import { type EvaluationRules, rulesOf } from './rules.ts';
import { type ComparedTexts, withSimilarities } from './similarity.ts';

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
  /** What its files ask for besides and it does not do, e.g. `num_beams 4`. */
  readonly ignoredSampling: readonly string[];
  readonly generator: Generator;
  /** What answering questions takes; absent for a model whose memory is not the host's. */
  memoryPlan?(questions: readonly Asked[], size: AnsweringSize): Promise<MemoryPlan>;
}

/**
 * Asks the model every question of every test set in every mode, or takes the answers that are given, scores them, and
 * fills the outputs `predictions` and `metrics`.
 *
 * @param model null where answers are given
 * @throws DATA_UNREADABLE, DATA_ROW_INVALID for faulty test data
 * @throws IMAGE_UNREADABLE naming the row of a broken image
 */
export async function evaluate(
  context: StageContext<EvalOptions>,
  model: EvaluatedModel | null,
  openEmbedder: typeof openTextEmbedder = openTextEmbedder,
): Promise<StageResult> {
  const { options, signal } = context;
  const rules = rulesOf(options);
  const sets =
    options.data === undefined
      ? await listsOfResults(options.outputs!, options.lists!, options.modes, (message) => context.warn(message))
      : await readTestSets(options);
  const modes = options.modes.filter((mode) => sets.some((set) => (set.modes ?? options.modes).includes(mode)));
  const origin = model
    ? originOfModel(options, modes, rules, decoding(options, model))
    : await originOfAnswers(options.outputs!, modes, options.optionSeed);
  const { items, splits } = planItems(sets, { ...options, modes }, origin.asked);
  const outputs = model
    ? await generateOutputs(context, model, items)
    : await importOutputs(options.outputs!, items, sets);
  let rows: SplitPrediction[] = [];
  for (const [index, item] of items.entries()) {
    rows.push(scored(item, outputs[index]!, rules));
    if (isTurnDue()) await takeTurn();
  }
  if (model) warnOfCutOutputs(context, rows);
  let embedderName: string | null = null;
  if (options.similarity) {
    await using embedder = await openEmbedder(options.similarity);
    embedderName = embedder.name;
    const textsOf = (index: number) => comparedTexts(items[index]!, outputs[index]!, rules);
    rows = await withSimilarities(rows, textsOf, embedder, signal, (done, total) =>
      context.progress({ done, total, unit: 'texts', note: 'similarity' }),
    );
  }

  const metrics = await accuracyMetrics(rows);
  const info = evaluationInfo(context, origin, rules, splits, embedderName);
  await writePredictions(context.outputs['predictions']!, { info, rows });
  const file: MetricsFile = { version: 1, metrics };
  await writeFile(path.join(context.outputs['metrics']!, 'metrics.json'), `${JSON.stringify(file, null, 2)}\n`);
  const tables = [
    accuracyTable(
      metrics,
      splits.map(({ name }) => name),
      modes,
    ),
  ];
  return { metrics, tables };
}

async function generateOutputs(
  context: StageContext<EvalOptions>,
  model: EvaluatedModel,
  items: readonly TestItem[],
): Promise<readonly FinishedOutput[]> {
  const batchSize = context.options.batchSize ?? defaultBatchSize(context.lease.device.provider);
  const log = await RowLog.open(context.state, items.map(itemKey), batchSize, finishedOutputOf);
  if (log.rows.length > 0) context.log(`continuing after ${log.rows.length} of ${items.length} answers`);
  const rules = rulesOf(context.options);
  const sampling = samplingOptions(context.options, model);
  const { temperature, topP, topK, repetitionPenalty } = sampling;
  context.log(
    `decoding: temperature ${temperature}, top-p ${topP}, top-k ${topK || 'all'}, repetition penalty ${repetitionPenalty}; ` +
      `${batchSize} items at a time`,
  );
  if (model.ignoredSampling.length > 0) {
    context.warn(`generation_config.json of the model asks for ${model.ignoredSampling.join(', ')}, which is not done`);
  }
  const tally = new RunningTally(rules);
  log.rows.forEach((output, index) => {
    tally.add(items[index]!, output);
  });

  if (log.rows.length < items.length && model.memoryPlan) {
    const questions = items.slice(log.rows.length).map(({ prompt, imageFile }) => ({ text: prompt, image: imageFile }));
    const plan = await model.memoryPlan(questions, { batchSize, maxNewTokens: context.options.maxNewTokens });
    requireStageMemory(context, 'this evaluation', plan, EVAL_KNOBS);
  }
  while (log.rows.length < items.length) {
    context.signal.throwIfAborted();
    const from = log.rows.length;
    // No batch goes past a multiple of batchSize, where a run that is continued begins: its batches are then the same.
    const end = from - (from % batchSize) + batchSize;
    const requests: GenerationRequest[] = [];
    for (const item of items.slice(from, end)) {
      requests.push(await encodeItem(item, model, context.seed));
      if (holdsEnough(requests.flatMap(({ images }) => images))) break;
    }
    const batch = items.slice(from, from + requests.length);
    const completions = await model.generator.generate(requests, sampling, {
      signal: context.signal,
      onProgress: (done) => context.progress({ done: from + done, total: items.length, unit: 'answers' }),
    });
    const outputs = completions.map((samples) => finishedOutput(samples[0]!, model));
    await log.append(outputs);
    batch.forEach((item, index) => {
      tally.add(item, outputs[index]!);
    });
    context.progress({ done: log.rows.length, total: items.length, unit: 'answers', note: tally.note() });
  }
  return log.rows;
}

function itemKey({ split, mode, row }: TestItem): string {
  return `${split}/${mode}/${row.id}`;
}

/** The model's own settings, and what the options say instead; the released evaluation is greedy but keeps the penalty. */
function decoding(options: EvalOptions, { sampling }: EvaluatedModel): EvaluatedModel['sampling'] {
  return {
    temperature: options.temperature ?? (options.set === 'reference' ? 0 : sampling.temperature),
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

function scored(item: TestItem, { output, finishReason }: FinishedOutput, rules: EvaluationRules): SplitPrediction {
  const { split, mode, row, options } = item;
  const common = { id: row.id, split, mode, label: row.label };
  if (mode === 'closed') {
    const { answer, correct, strictlyCorrect, isOption } = scoreClosedWorld({ output, label: row.label, options });
    return { ...common, options, output, answer, correct, strictlyCorrect, isOption, finishReason };
  }
  const { answer, correct, strictlyCorrect } = openScore(item, output, rules);
  return { ...common, output, answer, correct, strictlyCorrect, finishReason };
}

function openScore({ row, superCategory }: TestItem, output: string, rules: EvaluationRules) {
  const standardFrom =
    rules.standardFrom === 'path'
      ? ({ kind: 'path', imagePath: row.sourcePath ?? row.image } as const)
      : ({ kind: 'super-category', word: superCategory } as const);
  return scoreOpenWorld(
    { output, label: row.label, standardFrom },
    { fallback: rules.openFallback, emptyCarLabel: rules.emptyCarLabel },
  );
}

/** What the similarity of an open-world answer is about. */
function comparedTexts(item: TestItem, { output }: FinishedOutput, rules: EvaluationRules): ComparedTexts | null {
  if (item.mode !== 'open') return null;
  const { comparedText, standardWord } = openScore(item, output, rules);
  return { text: comparedText, label: item.row.label, standardWord };
}

/** Accuracy so far of the test set and mode that were last added to. */
class RunningTally {
  readonly #rules: EvaluationRules;
  #name = '';
  #right = 0;
  #asked = 0;

  constructor(rules: EvaluationRules) {
    this.#rules = rules;
  }

  add(item: TestItem, output: FinishedOutput): void {
    const name = `${item.split} ${item.mode}`;
    if (name !== this.#name) {
      this.#name = name;
      this.#right = 0;
      this.#asked = 0;
    }
    this.#asked++;
    if (scored(item, output, this.#rules).correct) this.#right++;
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
  { options, seed }: StageContext<EvalOptions>,
  { asked, model }: Origin,
  { standardFrom, openFallback, emptyCarLabel }: EvaluationRules,
  splits: EvaluationInfo['splits'],
  similarity: string | null,
): EvaluationInfo {
  return {
    version: 1,
    rules: { set: options.set, ...asked, similarity, standardFrom, openFallback, emptyCarLabel },
    splits,
    model,
    seed,
  };
}

function accuracyTable(
  metrics: Readonly<Record<string, Estimate>>,
  splits: readonly string[],
  modes: readonly Mode[],
): ReportTable {
  const cell = (name: string) => (metrics[name] ? percentText(metrics[name]) : '');
  const rows = splits.map((split) => [split, ...modes.map((mode) => cell(`${split}_${mode}`))]);
  if (splits.length > 1) rows.push(['mean', ...modes.map(cell)]);
  return {
    title: 'Accuracy, % [95 % interval]',
    columns: ['test set', ...modes],
    rows,
    notes: [
      ...modes.map((mode) => `strict, ${mode}: ${percentText(metrics[`${mode}_strict`]!)}`),
      ...(metrics['closed_outside']
        ? [`closed answers that are no option: ${percentText(metrics['closed_outside'])}`]
        : []),
      ...(metrics['similarity'] ? [`relative similarity x 100, open: ${percentText(metrics['similarity'])}`] : []),
    ],
  };
}
