/** Looks at the models, and at the image, the options and the scoring of every test item, before anything is asked. */
import path from 'node:path';
import { readEvalData } from '../../src/artifacts/eval-data.ts';
import type { EvalRow } from '../../src/artifacts/types.ts';
import { requireTextModel } from '../../src/engine/embedding/missing-files.ts';
import { loadImage } from '../../src/engine/image/load-image.ts';
import { checkModel, weightsText } from '../../src/engine/models/qwen2_5_vl/check-model.ts';
import { withPixelBudget } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import { processImage } from '../../src/engine/models/qwen2_5_vl/image-processor.ts';
import { plannedModel } from '../../src/engine/models/qwen2_5_vl/planned-weights.ts';
import { aboutImage } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { scoreClosedWorld } from '../../src/methods/closed-world.ts';
import { promptOf, renderPrompt } from '../../src/methods/prompts.ts';
import { checkRows } from '../../src/run/check-rows.ts';
import type { CheckContext } from '../../src/run/stage-api.ts';
import type { Asked } from '../memory.ts';
import { checkMemory } from '../memory-check.ts';
import { defaultBatchSize } from './batch-size.ts';
import { importOutputs, listsOfResults } from './imported-outputs.ts';
import { planItems, readTestSets } from './items.ts';
import { answeringPlan, EVAL_KNOBS } from './memory.ts';
import type { EvalOptions } from './options.ts';
import { originOfAnswers } from './origin.ts';
import { rulesOf } from './rules.ts';

export async function checkEval(context: CheckContext<EvalOptions>): Promise<void> {
  const { model, data, prompts, modes } = context.options;
  const { minPixels, maxPixels } = rulesOf(context.options as EvalOptions);
  const pixels = { minPixels: minPixels ?? undefined, maxPixels: maxPixels ?? undefined };
  const asked: Asked[] = [];
  const checked = model && (await checkModel(model.path));
  if (checked) context.found(weightsText(checked.weights));
  checkSimilarity(context);
  await checkAnswers(context);
  for (const [split, artifact] of Object.entries(data ?? {})) {
    if (!artifact) continue;
    const { rows } = await readEvalData(artifact.path);
    let longest = 0;
    const isRight = await checkRows(context, rows, `items of ${split}`, async (row) => {
      const place = `${path.join(artifact.path, 'rows.jsonl')}: row "${row.id}"`;
      if (modes.includes('closed') && row.options.length > 0) checkScoring(row, place);
      const image = await loadImage(path.join(artifact.path, row.image));
      if (!checked) return;
      const processed = processImage(image, withPixelBudget(checked.processor.images, pixels));
      for (const mode of modes) {
        const text = renderPrompt(promptOf(prompts, mode), { question: row.question, options: row.options });
        asked.push({ text, image: path.join(artifact.path, row.image) });
        const messages = [{ role: 'user' as const, content: aboutImage(text) }];
        const { inputIds } = checked.processor.encodeChat(messages, [processed], { addGenerationPrompt: true });
        longest = Math.max(longest, inputIds.length);
      }
    });
    const sizes = longest === 0 ? '' : ` with prompts of at most ${longest} tokens`;
    if (isRight) context.found(`${rows.length} items of ${split}${sizes}`);
  }
  if (!model || !checked || asked.length === 0) return;
  const options = context.options as EvalOptions;
  const settings = withPixelBudget(checked.processor.images, pixels);
  const planned = plannedModel(model.path, null);
  const size = {
    batchSize: options.batchSize ?? defaultBatchSize(context.provider),
    maxNewTokens: options.maxNewTokens,
  };
  const plan = await answeringPlan(planned, asked, size, checked.processor, settings);
  checkMemory(context, 'this evaluation', plan, EVAL_KNOBS);
}

/** That answers given elsewhere fit their questions; nothing where either is still to be made. */
async function checkAnswers(context: CheckContext<EvalOptions>): Promise<void> {
  const { outputs, lists, data } = context.options;
  if (!outputs || lists === null || Object.values(data ?? {}).includes(null)) return;
  const options = context.options as EvalOptions;
  const warn = (message: string) => context.found(message);
  const sets =
    options.data === undefined
      ? await listsOfResults(outputs, options.lists!, options.modes, warn)
      : await readTestSets(options);
  const { asked } = await originOfAnswers(outputs, options.modes, options.optionSeed);
  const { items } = planItems(sets, options, asked);
  await importOutputs(outputs, items, sets);
  context.found(`${items.length} answers to ${sets.length} test sets`);
}

/** The model of texts is asked last, after hours of answers: what it lacks is told first. */
function checkSimilarity({ options: { similarity }, found, problem }: CheckContext<EvalOptions>): void {
  const { model, hub } = similarity ?? {};
  if (hub !== undefined) found(`similarities by ${hub}, which the first use fetches from the Hugging Face hub`);
  if (!model) return;
  try {
    requireTextModel(model.path, 'Xenova/siglip-base-patch16-256');
    found('the text model of similarities');
  } catch (error) {
    problem(error as Fr1Error);
  }
}

/** The label counts as right; the other options do not, at least by the strict score. */
function checkScoring({ label, options }: EvalRow, place: string): void {
  const scoreOf = (answer: string) => scoreClosedWorld({ output: `<answer>${answer}</answer>`, label, options });
  if (!scoreOf(label).strictlyCorrect) {
    throw new Fr1Error('DATA_ROW_INVALID', `${place}: the answer "${label}" does not count, although it is the label`, {
      hint: 'the label must be one of the options, once, as plain text',
    });
  }
  const wrong = options.find((option) => option !== label && scoreOf(option).strictlyCorrect);
  if (wrong !== undefined) {
    throw new Fr1Error('DATA_ROW_INVALID', `${place}: the wrong option "${wrong}" counts as "${label}"`);
  }
}
