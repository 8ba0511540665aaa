/** Looks at the model, and at the images, prompt and reward of every triplet, before anything is trained. */
import path from 'node:path';
import type { TripletRow } from '../../src/artifacts/types.ts';
import { trainingOf } from '../../src/engine/adapters/choice.ts';
import { checkModel, weightsText } from '../../src/engine/models/qwen2_5_vl/check-model.ts';
import { ImageCache } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import { plannedModel } from '../../src/engine/models/qwen2_5_vl/planned-weights.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { type RewardRule, scoreResponse } from '../../src/methods/reward.ts';
import { checkRows } from '../../src/run/check-rows.ts';
import type { CheckContext } from '../../src/run/stage-api.ts';
import { checkAdapter } from '../adapter-check.ts';
import { checkMemory, checkTrainingMemory, trainingDisk } from '../memory-check.ts';
import { TAPO_KNOBS, tapoPlan } from './memory.ts';
import type { TapoOptions } from './options.ts';
import { type QuestionMaker, questionOf, readTriplets } from './questions.ts';
import { loadRewardFunction, openRewardFunction } from './reward-function.ts';
import { pixelBudget, resolveSettings, stepsFor } from './settings.ts';
import { switchesOf } from './switches.ts';

const CACHE_BYTES = 64 * 2 ** 20;

export async function checkTapo(context: CheckContext<TapoOptions>): Promise<void> {
  const { model, data, prompt, reward } = context.options;
  const settings = resolveSettings(context.options as TapoOptions);
  const { rewardRule: rule, viewLayout } = switchesOf(context.options as TapoOptions);
  const checked = model && (await checkModel(model.path));
  let hasRoom = true;
  if (checked) {
    context.found(weightsText(checked.weights));
    checkAdapter(context.options);
    hasRoom = checkTrainingMemory(context.options, context);
    context.needsDisk(trainingDisk(context.options, checked.weights));
  }
  if (!data) {
    if (reward.function) await loadRewardFunction(reward.function.path);
    return;
  }
  const { rows } = await readTriplets(data.path);
  if (reward.function) await openRewardFunction(reward.function.path, rows[0]!);
  let maker: QuestionMaker | undefined;
  if (checked) {
    const { processor } = checked;
    const images = new ImageCache(processor.images, { budget: pixelBudget(settings), maxBytes: CACHE_BYTES });
    maker = { folder: data.path, prompt, settings, viewLayout, processor, images, seed: 0, totalSteps: 1 };
  }
  let longest = 0;
  let ambiguous = 0;
  const isRight = await checkRows(context, rows, 'triplets', async (row) => {
    if (reward.function === undefined && rewardsNegative(row, data.path, rule)) ambiguous++;
    if (maker === undefined) return;
    const { anchor } = await questionOf(row, { step: 0, place: 0 }, maker);
    longest = Math.max(longest, anchor.inputIds.length);
  });
  if (!isRight) return;
  const prompts = maker === undefined ? '' : `, prompts of at most ${longest} tokens`;
  context.found(
    `${rows.length} triplets${prompts}, ${reward.function ? 'the first rewarded by your function' : rewardText(ambiguous)}`,
  );
  if (!model || maker === undefined || !hasRoom) return;
  const options = context.options as TapoOptions;
  const planned = plannedModel(model.path, trainingOf(options.adapter, options.trainable, 0));
  const drawing = { ...maker, totalSteps: stepsFor(settings, rows.length) };
  const plan = await tapoPlan(planned, model.path, rows, options, settings, drawing);
  checkMemory(context, 'this training', plan, TAPO_KNOBS);
}

function rewardText(ambiguous: number): string {
  if (ambiguous === 0) return 'each rewarded for its label alone';
  return `${ambiguous} of them also rewarded for the label of their negative, which holds their own (rewardRule: exact tells them apart)`;
}

/**
 * Whether the label of the negative image earns the reward too, as by containment where the one label is part of the other.
 *
 * @throws DATA_ROW_INVALID where the right answer does not earn it
 */
function rewardsNegative({ id, label, negativeLabel }: TripletRow, folder: string, rule: RewardRule): boolean {
  const accuracyOf = (answer: string) =>
    scoreResponse(`<think>x</think><answer>${answer}</answer>`, label, 0, rule).accuracy;
  if (accuracyOf(label) !== 1) {
    const place = `${path.join(folder, 'rows.jsonl')}: row "${id}"`;
    throw new Fr1Error(
      'DATA_ROW_INVALID',
      `${place}: the answer "${label}" is not rewarded, although it is the label`,
      { hint: 'a label is plain text without tags' },
    );
  }
  return negativeLabel !== undefined && accuracyOf(negativeLabel) !== 0;
}
