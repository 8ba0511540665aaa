/** What a run of the stage tells: its settings, curves, and samples of answers for reading. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { writeJsonLines } from '../../src/artifacts/json-lines.ts';
import { linkImages } from '../../src/artifacts/rows.ts';
import type { Rollout, TapoReport } from '../../src/engine/recipes/tapo.ts';
import { rewardHacks } from '../../src/methods/reward.ts';
import type { StageContext } from '../../src/run/stage-api.ts';
import { imageSizes } from '../image-sizes.ts';
import type { Grouping } from './grouping.ts';
import type { TapoOptions } from './options.ts';
import type { TripletQuestion } from './questions.ts';
import { type ResolvedSettings, resolveSettings } from './settings.ts';
import { usedSwitches } from './switches.ts';

type Report = TapoReport<TripletQuestion>;

/** Folder of the state that keeps samples step by step. */
const SAMPLE_FOLDER = 'rollouts';

export function describeRun(
  context: StageContext<TapoOptions>,
  settings: ResolvedSettings,
  grouping: Grouping,
  { weights, rows, totalSteps }: { readonly weights: number; readonly rows: number; readonly totalSteps: number },
): void {
  const { options } = context;
  const { views, loss } = settings;
  const { groupsPerStep, answersPerGroup } = grouping;
  context.log(
    `${weights} weights to train, ${rows} triplets, ${totalSteps} steps of ${groupsPerStep} groups of ${answersPerGroup} answers`,
  );
  context.log(
    `preset ${options.preset}: positive ${views.positive}, trained on ${settings.positiveConditioning}; negative ` +
      `${views.negative}; advantages ${settings.advantages}; mean per ${settings.lossAveraging}`,
  );
  const names = ['negativeKl', 'negativeEntropy', 'ownEntropy', 'referenceKl', 'imitation'] as const;
  const terms = names.flatMap((name) => {
    const term = loss[name];
    return term ? [`${name} ${term.coefficient}`] : [];
  });
  const through = loss.negativeBranch === 'trained' ? '; the negative image is trained through' : '';
  context.log(`terms beside the policy's: ${terms.join(', ') || 'none'}${through}`);
  const { schedule, warmupSteps, maxGradNorm, topK } = options;
  const { questionsPerDraw } = settings;
  const draw =
    questionsPerDraw === null
      ? 'as many questions a draw as are missing'
      : `${Math.min(groupsPerStep, questionsPerDraw)} questions a draw`;
  context.log(
    `sampling: ${settings.rollouts} answers an image, temperature ${settings.temperature}, top-p ${settings.topP}, top-k ${topK || 'all'}, ` +
      `${settings.maxNewTokens} tokens; ${draw}; ${imageSizes(settings)}`,
  );
  context.log(
    `updates: ${grouping.updatesPerStep} a step, learning rate ${settings.learningRate} ${schedule} after ${warmupSteps} steps, weight decay ` +
      `${settings.weightDecay}, gradient norm ${maxGradNorm}; ratios from ${1 - settings.clipLow} to ${1 + settings.clipHigh}, ${settings.dualClip} ` +
      `for worse answers; groups ${settings.filter ? `above ${settings.filter.above} and below ${settings.filter.below}` : 'of any accuracy'}`,
  );
  const used = Object.entries(usedSwitches(options)).map(([name, value]) => `${name} ${value}`);
  context.log(`switches: ${used.join(', ')}`);
}

export function curveValues(
  report: Report,
  text: (tokenIds: readonly number[]) => string,
  classes: readonly string[],
): Record<string, number> {
  const rollouts = report.drawn.flatMap(({ rollouts }) => rollouts);
  const lengths = rollouts.map(({ tokenIds }) => tokenIds.length);
  const generated = lengths.reduce((sum, length) => sum + length, 0);
  const cut = rollouts.filter(({ finishReason }) => finishReason === 'length').length;
  const hacks = rollouts.map(({ tokenIds }) => rewardHacks(text(tokenIds), classes));
  const several = hacks.filter(({ labelsInAnswer }) => labelsInAnswer > 1).length;
  return {
    reward: report.score.overall,
    accuracy: report.score.accuracy,
    format: report.score.format,
    ...viewAccuracies(rollouts),
    ...rewardParts(rollouts),
    responseTokens: generated / rollouts.length,
    longestResponseTokens: lengths.reduce((most, length) => Math.max(most, length), 0),
    cutShare: cut / rollouts.length,
    severalLabelsShare: several / rollouts.length,
    answerCharacters: hacks.reduce((sum, { answerLength }) => sum + answerLength, 0) / rollouts.length,
    drawnGroups: report.drawn.length,
    keptGroups: report.keptGroups,
    learningRate: report.learningRate,
    generatedTokensPerSecond: (1000 * generated) / report.generationMs,
    ...(report.update && {
      loss: report.update.loss,
      gradNorm: report.update.gradNorm,
      skippedUpdates: report.update.skipped,
      trainedTokensPerSecond: (1000 * report.update.tokens) / report.trainingMs,
      ...report.update.terms,
    }),
  };
}

type Scored = Report['drawn'][number]['rollouts'][number];

/** Accuracies by image, where answers are about two. */
function viewAccuracies(rollouts: readonly Scored[]): Record<string, number> {
  const of = (view: Rollout['view']) => {
    const own = rollouts.filter((rollout) => rollout.view === view);
    return own.reduce((sum, { score }) => sum + score.accuracy, 0) / own.length;
  };
  if (!rollouts.some(({ view }) => view === 'positive')) return {};
  return { accuracyAnchor: of('anchor'), accuracyPositive: of('positive') };
}

/** Means of the parts that a reward function of the user names. */
function rewardParts(rollouts: readonly Scored[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { score } of rollouts) {
    for (const [name, value] of Object.entries(score.parts ?? {})) {
      sums[`reward_${name}`] = (sums[`reward_${name}`] ?? 0) + value / rollouts.length;
    }
  }
  return sums;
}

/** Joins the samples of all steps into one file of the output, beside the images that they are about. */
export async function gatherSamples(context: StageContext<TapoOptions>): Promise<void> {
  const folder = path.join(context.state, SAMPLE_FOLDER);
  const names = existsSync(folder) ? (await readdir(folder)).sort() : [];
  const parts = await Promise.all(names.map((name) => readFile(path.join(folder, name), 'utf8')));
  const output = context.outputs['samples']!;
  const lines = parts.join('');
  await writeFile(path.join(output, 'rollouts.jsonl'), lines);
  const images = lines
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { image: string }).image);
  await linkImages(context.options.data.path, output, images, context.signal);
}

/** Writes answers of the step's first groups; a step that is repeated after a crash writes the same again. */
export async function keepSamples(
  context: StageContext<TapoOptions>,
  report: Report,
  text: (tokenIds: readonly number[]) => string,
): Promise<void> {
  const groups = report.drawn.slice(0, context.options.sampleGroups);
  if (groups.length === 0) return;
  const isOtherImage = resolveSettings(context.options).views.positive === 'same-class';
  const lines = groups.flatMap(({ question: { row }, rollouts }) =>
    rollouts.map(({ view, tokenIds, score, finishReason }) => ({
      step: report.step,
      row: row.id,
      view,
      image: view === 'positive' && isOtherImage ? row.positive : row.anchor,
      label: row.label,
      output: text(tokenIds),
      finishReason,
      ...score,
    })),
  );
  const folder = path.join(context.state, SAMPLE_FOLDER);
  await mkdir(folder, { recursive: true });
  await writeJsonLines(path.join(folder, `step-${String(report.step).padStart(6, '0')}.jsonl`), lines);
}
